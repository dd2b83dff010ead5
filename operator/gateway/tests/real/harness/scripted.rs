//! A server that says what a test wrote down for it, and then nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What ClickHouse answers to an INSERT of one row.
pub(crate) const STORED: &str = "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {\"written_rows\":\"1\"}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

/// A server that answers when it is asked whether it is up, and all else by its script.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    /// `script` gives the answer to each request by its number, counted from 0; the id of the query
    /// is put into its head, if it has the start of one. A connection stays open after its answer, and nothing more is read from it.
    pub(crate) async fn start(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, script) = (Arc::clone(&asked), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (count, script) = (Arc::clone(&count), Arc::clone(&script));
                tokio::spawn(async move {
                    let _ = serve(socket, &count, &*script).await;
                });
            }
        });
        Self { address, asked }
    }

    /// How many requests came, but for those after its health.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut socket: TcpStream,
    count: &AtomicUsize,
    script: &(impl Fn(usize) -> Vec<u8> + Sync),
) -> std::io::Result<()> {
    let request = read(&mut socket).await?;
    if request.starts_with(b"GET /ping") {
        return socket
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nOk.\n")
            .await;
    }
    let number = count.fetch_add(1, Ordering::SeqCst);
    let answer = with_query_id(script(number), &request);
    socket.write_all(&answer).await?;
    // Until the other side closes.
    let _ = socket.read(&mut [0; 1]).await;
    Ok(())
}

/// The answer with the header by which a gateway knows ClickHouse.
fn with_query_id(answer: Vec<u8>, request: &[u8]) -> Vec<u8> {
    let status_line = answer.windows(2).position(|end| end == b"\r\n");
    let request = String::from_utf8_lossy(request);
    let query_id = request
        .split_once("query_id=")
        .and_then(|(_, rest)| rest.split(['&', ' ']).next());
    match (status_line, query_id) {
        (Some(end), Some(query_id)) => {
            let header = format!("\r\nX-ClickHouse-Query-Id: {query_id}");
            [&answer[..end], header.as_bytes(), &answer[end..]].concat()
        }
        _ => answer,
    }
}

/// A request with its body.
async fn read(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.parse().unwrap());
            let bytes_of_head = request.windows(4).position(|end| end == b"\r\n\r\n");
            if request.len() >= bytes_of_head.unwrap() + 4 + length {
                return Ok(request);
            }
        }
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(request);
        }
    }
}
