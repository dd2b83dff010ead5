//! The threads that serve clients, each with a runtime of its own.
//!
//! A request waits for two sockets, the client's and ClickHouse's, and does little
//! between. A runtime that shares its tasks among threads wakes one thread from
//! another for each of these steps; here a connection stays on its thread, and so
//! do the connections to ClickHouse that its requests use.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// More threads than this would only wait for each other.
const MOST: usize = 32;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// How many there are: one a core.
fn count() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(MOST)
}

/// Which of them this thread is; threads that are none count as the first.
fn current() -> usize {
    CURRENT.get()
}

/// A value for each of them, far enough from each other that writing one slows down nobody
/// who reads or writes another.
pub(crate) struct PerWorker<T>(Box<[Apart<T>]>);

/// Processors fetch lines of 64 bytes, and some of them two at a time.
#[repr(align(128))]
struct Apart<T>(T);

impl<T> PerWorker<T> {
    /// Makes one for each.
    pub(crate) fn new(mut make: impl FnMut() -> T) -> Self {
        Self((0..count()).map(|_| Apart(make())).collect())
    }

    /// The one of this thread.
    pub(crate) fn own(&self) -> &T {
        &self.0[current() % self.0.len()].0
    }

    /// Those of all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Apart(value)| value)
    }
}

/// All of them. They end when this is dropped, with what they are doing.
pub(crate) struct Workers<P>(Vec<Worker<P>>);

struct Worker<P> {
    /// Connections that it is to take, and what comes with each.
    sockets: mpsc::UnboundedSender<(std::net::TcpStream, P)>,
    /// Connections that it has now.
    connections: Arc<AtomicUsize>,
}

impl<P: Send + 'static> Workers<P> {
    /// Starts them. Each takes its connections through `serve`.
    pub(crate) fn start<F>(
        serve: impl Fn((TcpStream, P)) -> F + Clone + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        (0..count())
            .map(|number| Worker::start(number, serve.clone()))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Gives a connection to the worker that has the fewest.
    pub(crate) fn take(&self, socket: TcpStream, peer: P) -> io::Result<()> {
        let socket = socket.into_std()?;
        let load = |worker: &&Worker<P>| worker.connections.load(Ordering::Relaxed);
        if let Some(worker) = self.0.iter().min_by_key(load) {
            worker.connections.fetch_add(1, Ordering::Relaxed);
            // A worker lives as long as its sender.
            let _ = worker.sockets.send((socket, peer));
        }
        Ok(())
    }
}

impl<P: Send + 'static> Worker<P> {
    fn start<F>(
        number: usize,
        serve: impl Fn((TcpStream, P)) -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (sockets, mut received) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::clone(&connections);
        let work = async move {
            while let Some((socket, peer)) = received.recv().await {
                let open = Open(Arc::clone(&open));
                match TcpStream::from_std(socket) {
                    Ok(socket) => {
                        let serving = serve((socket, peer));
                        tokio::spawn(async move {
                            serving.await;
                            drop(open);
                        });
                    }
                    Err(error) => tracing::warn!(%error, "take a connection over"),
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                CURRENT.set(number);
                runtime.block_on(work);
            })?;
        Ok(Self {
            sockets,
            connections,
        })
    }
}

/// Counts one connection until it ends, however it does.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn connections_are_shared_out_evenly() {
        let (served, mut seen) = mpsc::unbounded_channel();
        let workers = Workers::start(move |(socket, ()): (TcpStream, ())| {
            let served = served.clone();
            async move {
                let _ = served.send(current());
                // Open until the client goes.
                let _ = socket.readable().await;
            }
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..2 * count() {
            clients.push(TcpStream::connect(address).await.unwrap());
            workers
                .take(listener.accept().await.unwrap().0, ())
                .unwrap();
            *counts.entry(seen.recv().await.unwrap()).or_default() += 1;
        }
        assert_eq!(counts.len(), count());
        assert!(
            counts.values().all(|connections| *connections == 2),
            "{counts:?}"
        );
    }
}
