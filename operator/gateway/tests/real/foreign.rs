//! What is at a replica's address and is not ClickHouse: nothing of it reaches a client, however much
//! it looks like ClickHouse. Whoever can write an address into a cluster could read with the gateway
//! what only the gateway reaches.

use super::harness::{Answer, Caller, Served};
use super::stage::stage;
use reqwest::Method;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ALL: &[(&str, &str)] = &[("PIPES:READ", "*"), ("DATASOURCES:APPEND", "*")];
/// What only the gateway reaches.
const SECRET: &str = "hunter2-of-a-neighbour";
/// On every answer of a ClickHouse, the same for years.
const STATIC_HEADERS: &str = "X-ClickHouse-Server-Display-Name: clickhouse-0\r\nX-ClickHouse-Format: JSON\r\nX-ClickHouse-Timezone: UTC\r\nX-ClickHouse-Summary: {\"written_rows\":\"1\"}\r\n";

/// What is at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Imitation {
    /// A page.
    Page,
    /// An answer of a ClickHouse to somebody else's query.
    FixedQueryId,
    /// Everything of the request as the body.
    Echo,
    /// Another address, which has the secret.
    Redirect,
    /// An error that says too much.
    Error,
    /// The same, with ClickHouse's number of an exception.
    Exception,
    /// The same with the status of a good answer.
    GoodException,
}

const IMITATIONS: [Imitation; 7] = [
    Imitation::Page,
    Imitation::FixedQueryId,
    Imitation::Echo,
    Imitation::Redirect,
    Imitation::Error,
    Imitation::Exception,
    Imitation::GoodException,
];

/// A server that is up, and is not ClickHouse.
struct Foreign {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Foreign {
    async fn start(imitation: Imitation, elsewhere: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let _ = serve(socket, imitation, elsewhere, &count).await;
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut socket: TcpStream,
    imitation: Imitation,
    elsewhere: SocketAddr,
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut request = vec![0; 64 * 1024];
    loop {
        let length = socket.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let answer = if request.starts_with("GET /ping") {
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nOk.\n".to_owned()
        } else {
            asked.fetch_add(1, Ordering::SeqCst);
            answer(imitation, &request, elsewhere)
        };
        socket.write_all(answer.as_bytes()).await?;
    }
}

fn answer(imitation: Imitation, request: &str, elsewhere: SocketAddr) -> String {
    let row = format!("{{\"password\": \"{SECRET}\"}}\n");
    let exception = format!("Code: 395. DB::Exception: {SECRET}. (X) (version 26.7)\n");
    let (status, headers, body) = match imitation {
        Imitation::Page => ("200 OK", String::new(), row),
        Imitation::FixedQueryId => {
            let id = "X-ClickHouse-Query-Id: 0198c0de-0000-7000-8000-000000000000\r\n";
            ("200 OK", format!("{STATIC_HEADERS}{id}"), row)
        }
        Imitation::Echo => (
            "200 OK",
            STATIC_HEADERS.to_owned(),
            format!("{request}{SECRET}"),
        ),
        Imitation::Redirect => (
            "307 Temporary Redirect",
            format!("Location: http://{elsewhere}/{SECRET}\r\n"),
            row,
        ),
        Imitation::Error => (
            "500 Internal Server Error",
            STATIC_HEADERS.to_owned(),
            exception,
        ),
        Imitation::Exception | Imitation::GoodException => {
            let status = match imitation {
                Imitation::Exception => "500 Internal Server Error",
                _ => "200 OK",
            };
            let code = "X-ClickHouse-Exception-Code: 395\r\n";
            (status, format!("{STATIC_HEADERS}{code}"), exception)
        }
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}X-Secret: {SECRET}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Somebody whose workspace is at these replicas.
fn caller(served: &Served, name: &str, replicas: Vec<String>) -> Caller {
    let shop = &stage().shop;
    let mut published = shop.published.clone();
    published.replica_urls = replicas;
    shop.publish_as(served.gateway.index(), name, &published, name, ALL);
    Caller::new(served.address, name)
}

fn says_nothing_foreign(imitation: Imitation, answer: &Answer) {
    let shown = format!("{} {:?}", answer.text(), answer.headers);
    for word in [SECRET, "DB::Exception", "Basic ", "x-secret"] {
        assert!(!shown.contains(word), "{imitation:?}: {shown}");
    }
}

#[tokio::test]
async fn nothing_of_what_is_not_clickhouse_reaches_a_client() {
    let served = stage()
        .gateway(|args| args.insert_repeat = "200ms".parse().unwrap())
        .await;
    let bait = Foreign::start(Imitation::Page, ([127, 0, 0, 1], 1).into()).await;
    for imitation in IMITATIONS {
        let foreign = Foreign::start(imitation, bait.address).await;
        let name = format!("{imitation:?}").to_lowercase();
        let caller = caller(&served, &name, vec![foreign.url()]);
        for format in ["json", "ndjson", "csv", "parquet"] {
            let answer = caller
                .get(&format!("/v0/pipes/echo.{format}?needed=1"))
                .await;
            assert!(answer.status >= 500, "{imitation:?}: {}", answer.text());
            says_nothing_foreign(imitation, &answer);
        }
        let stored = caller.request(Method::POST, "/v0/events?name=sales&wait=true");
        let answer = Answer::of(stored.body("{\"id\": 1}\n")).await;
        assert_eq!(answer.status, 503, "{imitation:?}: {}", answer.text());
        says_nothing_foreign(imitation, &answer);
        assert!(foreign.asked() >= 5, "{imitation:?}");
    }
    assert_eq!(bait.asked(), 0, "a redirect was followed");
    let counted = "aviary_gateway_upstream_errors_total{reason=\"foreign\"}";
    assert!(served.counter(counted) > 0);
}

#[tokio::test]
async fn who_reads_is_served_by_the_replica_that_is_clickhouse() {
    let served = stage().gateway(|_| {}).await;
    for imitation in [Imitation::FixedQueryId, Imitation::Exception] {
        let foreign = Foreign::start(imitation, ([127, 0, 0, 1], 1).into()).await;
        let replicas = vec![foreign.url(), stage().admin().url()];
        let caller = caller(&served, &format!("mixed-{imitation:?}"), replicas);
        for _ in 0..8 {
            let answer = caller.get("/v0/pipes/echo.json?needed=1").await;
            assert_eq!(answer.status, 200, "{imitation:?}: {}", answer.text());
            assert_eq!(answer.json()["data"][0]["needed"], 1);
        }
        assert!(foreign.asked() > 0, "{imitation:?}");
    }
}

#[tokio::test]
async fn a_login_that_clickhouse_refuses_is_told_in_words_of_the_gateway() {
    let served = stage().gateway(|_| {}).await;
    let shop = &stage().shop;
    let mut published = shop.published.clone();
    published.database = "dropped-meanwhile".to_owned();
    let index = served.gateway.index();
    shop.publish_as(index, "gone", &published, "gone", ALL);
    let gone = Caller::new(served.address, "gone");
    let answer = gone.get("/v0/pipes/echo.json?needed=1").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "clickhouse_unavailable"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-db-exception-code"), "81");
    assert!(!answer.text().contains("dropped-meanwhile"));
}
