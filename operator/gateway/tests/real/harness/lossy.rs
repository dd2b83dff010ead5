//! A way to ClickHouse on which answers are lost: what was asked is done, and nobody hears of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes everything on, but for some answers.
pub(crate) struct Lossy {
    pub(crate) address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
}

impl Lossy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let losing = Arc::clone(&to_lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let losing = Arc::clone(&losing);
                tokio::spawn(async move {
                    let _ = pass(client, target, &losing).await;
                });
            }
        });
        Self { address, to_lose }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Loses the next answers to INSERTs.
    pub(crate) fn lose(&self, answers: usize) {
        self.to_lose.store(answers, Ordering::SeqCst);
    }

    /// Answers that are still to be lost.
    pub(crate) fn left(&self) -> usize {
        self.to_lose.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut client: TcpStream,
    target: SocketAddr,
    to_lose: &AtomicUsize,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    let (mut request, mut answer) = (vec![0; 65536], vec![0; 65536]);
    let mut inserts = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                if request.starts_with(b"POST ") || request.starts_with(b"GET ") {
                    inserts = request.starts_with(b"POST /?query=INSERT");
                }
                server.write_all(&request[..count]).await?;
            }
            read = server.read(&mut answer) => {
                let count = read?;
                let less = |left: usize| left.checked_sub(1);
                if count == 0 || inserts && to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                    return Ok(());
                }
                client.write_all(&answer[..count]).await?;
            }
        }
    }
}
