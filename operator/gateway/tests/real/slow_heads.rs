//! Clients that take their time with the head of a request, beside those that are only idle.

use super::stage::stage;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const HEAD: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ";

/// Sends a request on a connection that stays, and reads the start of its answer.
async fn ask(client: &mut TcpStream) -> String {
    let request = format!("{HEAD}0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Sends a byte at a time, until the gateway closes; how long that takes.
async fn dawdle(gateway: SocketAddr) -> Duration {
    let started = Instant::now();
    let (mut answers, mut requests) = TcpStream::connect(gateway).await.unwrap().into_split();
    let sending = async {
        for byte in HEAD.bytes().chain(std::iter::repeat(b'x')) {
            if requests.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = [0; 1];
    tokio::select! {
        () = sending => {}
        closed = answers.read(&mut answer) => assert!(matches!(closed, Ok(0) | Err(_))),
    }
    started.elapsed()
}

#[tokio::test]
async fn a_head_has_its_time_and_an_idle_connection_another() {
    let served = stage()
        .gateway(|args| args.header_timeout = "1s".parse().unwrap())
        .await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let answer = ask(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let took = timeout(Duration::from_secs(30), dawdle(served.address)).await;
    let took = took.expect("a head may take for ever");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    // It was idle for longer than a head may take.
    let answer = ask(&mut idle).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
