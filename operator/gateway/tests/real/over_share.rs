//! Who wants more memory than a workspace's share has left hears of it at once, and nobody else does.

use super::harness::{Caller, Served, eventually};
use super::stage::{SHOP_TOKEN, stage};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const NEIGHBOUR_TOKEN: &str = "over-share-neighbour";
const ALL: &[(&str, &str)] = &[("DATASOURCES:APPEND", "*")];
const PATH: &str = "/v0/events?name=sales&wait=true";

/// A client that has sent a record that does not end.
async fn endless_record(served: &Served) -> TcpStream {
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SHOP_TOKEN}\r\nContent-Length: 100000000\r\n\r\n{{\"city\": \""
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let part = "x".repeat(100_000);
    client.write_all(part.as_bytes()).await.unwrap();
    client
}

fn held(served: &Served) -> u64 {
    served.counter("aviary_gateway_memory_held_bytes{use=\"rows\"}")
}

#[tokio::test]
async fn who_is_over_is_told_at_once_and_the_neighbour_is_served() {
    let served = stage()
        .gateway(|args| args.insert_memory = Some("4Mi".parse().unwrap()))
        .await;
    let shop = &stage().shop;
    let index = served.gateway.index();
    shop.publish_as(index, "neighbour", &shop.published, NEIGHBOUR_TOKEN, ALL);
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(endless_record(&served).await);
    }
    eventually("the share is used up", async || held(&served) > 5 << 18).await;
    let own = Caller::new(served.address, SHOP_TOKEN);
    let neighbour = Caller::new(served.address, NEIGHBOUR_TOKEN);
    let asked = Instant::now();
    let (refused, served_one) = tokio::join!(
        own.post(PATH, "{\"id\": 1}\n"),
        neighbour.events("sales", "{\"id\": 1, \"city\": \"next door\"}\n"),
    );
    // Ten seconds is how long a body under way waits for more.
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(served_one, (1, 0));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "memory_in_use"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.header("retry-after"), "2");
}
