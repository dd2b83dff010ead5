//! A server that says what a test wrote down for it, and then nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What ClickHouse answers to an INSERT of one row.
pub(crate) const STORED: &str = "HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {\"written_rows\":\"1\"}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

/// What a script says to a request.
pub(crate) enum Reply {
    /// This, and then nothing more.
    Say(Vec<u8>),
    /// This, and then the connection is closed.
    Close(Vec<u8>),
    /// What a server answers that is not ClickHouse, and knows nothing of queries and their ids.
    Foreign,
    /// Nothing, and from now on nothing to the question whether it is up either, until it is asked
    /// something else.
    Freeze,
}

/// An exception as ClickHouse answers it.
pub(crate) fn exception(code: i32) -> Reply {
    let text = format!("Code: {code}. DB::Exception: As the test wants it. (A_NAME)\n");
    let head = format!(
        "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    Reply::Close((head + &text).into())
}

/// A good answer with this body.
pub(crate) fn answer(body: &str) -> Reply {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-ClickHouse-Format: None\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Reply::Close((head + body).into())
}

/// A server that answers when it is asked whether it is up, and all else by its script.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    told: Arc<Told>,
}

/// What such a server was told.
#[derive(Default)]
struct Told {
    asked: AtomicUsize,
    is_frozen: AtomicBool,
}

impl Scripted {
    /// `script` gives the answer to each request by its number, counted from 0, and its text; the id of
    /// the query is put into a head that has ClickHouse's.
    pub(crate) async fn start(
        script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Told::default());
        let (noted, script) = (Arc::clone(&told), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (told, script) = (Arc::clone(&noted), Arc::clone(&script));
                tokio::spawn(async move {
                    let _ = serve(socket, &told, &*script).await;
                });
            }
        });
        Self { address, told }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came, but for those after its health.
    pub(crate) fn asked(&self) -> usize {
        self.told.asked.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut socket: TcpStream,
    told: &Told,
    script: &(impl Fn(usize, &str) -> Reply + Sync),
) -> std::io::Result<()> {
    let request = read(&mut socket).await?;
    let text = String::from_utf8_lossy(&request);
    let reply = if text.starts_with("GET /ping") {
        if told.is_frozen.load(Ordering::SeqCst) {
            Reply::Freeze
        } else {
            Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nOk.\n".into())
        }
    } else {
        let number = told.asked.fetch_add(1, Ordering::SeqCst);
        let reply = script(number, &text);
        let is_frozen = matches!(reply, Reply::Freeze);
        told.is_frozen.store(is_frozen, Ordering::SeqCst);
        reply
    };
    match reply {
        Reply::Close(bytes) => return socket.write_all(&with_query_id(bytes, &request)).await,
        Reply::Say(bytes) => socket.write_all(&with_query_id(bytes, &request)).await?,
        Reply::Foreign => {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
            return socket.write_all(answer).await;
        }
        Reply::Freeze => {}
    }
    // Until the other side closes.
    let _ = socket.read(&mut [0; 1]).await;
    Ok(())
}

/// The answer with the header by which a gateway knows ClickHouse, if it has others of its kind.
fn with_query_id(answer: Vec<u8>, request: &[u8]) -> Vec<u8> {
    if !String::from_utf8_lossy(&answer).contains("X-ClickHouse-") {
        return answer;
    }
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
