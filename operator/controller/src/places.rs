//! How many requests to the Kubernetes API run at once, and whose. A webhook, which can make requests
//! hang, is about some kind in some namespaces: what hangs takes up places of its own kind and
//! namespace, and in the end nobody else's.

use crate::keyed::Keyed;
use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests at once: enough to be fast, few enough to be polite.
const AT_ONCE: usize = 16;
/// Requests at once that are of one share.
const OF_ONE_SHARE: usize = 8;
/// A request that takes longer counts in its own share only.
const QUICK: Duration = Duration::from_millis(250);

/// What a request is about: those of one share wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    pub(crate) kind: Cow<'static, str>,
    pub(crate) namespace: String,
    /// No webhook is asked about what is only read.
    pub(crate) is_change: bool,
}

/// The places there are.
#[derive(Clone)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    shares: Arc<Keyed<Share, Semaphore>>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            shares: Arc::default(),
        }
    }

    /// Runs a request when there is a place for it.
    pub(crate) async fn run<T>(&self, share: Share, request: impl Future<Output = T>) -> T {
        // Semaphores are never closed; were they, a request would only lack its bound.
        let share = self.shares.get(share, || Semaphore::new(OF_ONE_SHARE));
        let _own = share.acquire().await.ok();
        let place = self.all.acquire().await.ok();
        let mut request = pin!(request);
        if let Ok(answer) = tokio::time::timeout(QUICK, &mut request).await {
            return answer;
        }
        drop(place);
        request.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::{pending, ready};

    fn secrets_of(namespace: &str) -> Share {
        Share {
            kind: "Secret".into(),
            namespace: namespace.to_owned(),
            is_change: true,
        }
    }

    /// Begins as many requests as there may be of each of these namespaces, and some more; none of
    /// them is ever answered.
    async fn hang(places: &Places, namespaces: &[&'static str]) {
        for namespace in namespaces.iter().copied() {
            for _ in 0..OF_ONE_SHARE * 2 {
                let places = places.clone();
                tokio::spawn(async move {
                    places.run(secrets_of(namespace), pending::<()>()).await;
                });
            }
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn what_hangs_in_one_namespace_is_waited_for_there_alone() {
        let places = Places::new();
        hang(&places, &["broken"]).await;
        let at_once = |share| places.run(share, ready(())).now_or_never();
        assert_eq!(at_once(secrets_of("well")), Some(()));
        let pipes = Share {
            kind: "Pipe".into(),
            ..secrets_of("broken")
        };
        assert_eq!(at_once(pipes), Some(()));
        assert_eq!(at_once(secrets_of("broken")), None);
    }

    #[tokio::test]
    async fn many_that_hang_hold_others_up_for_a_moment_only() {
        let places = Places::new();
        hang(&places, &["broken", "broken-too", "and-this"]).await;
        let well = places.run(secrets_of("well"), ready(()));
        let in_time = tokio::time::timeout(Duration::from_secs(30), well);
        assert_eq!(in_time.await, Ok(()));
    }
}
