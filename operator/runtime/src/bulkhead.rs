//! How many requests to the Kubernetes API run at once, and whose. A webhook, which can make requests
//! hang, is about some kind in some namespaces: what hangs takes up bulkheads of its own kind and
//! namespace, and in the end nobody else's.

use crate::keyed::Keyed;
use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests at once: enough to be fast, few enough to be polite.
const AT_ONCE: usize = 16;
/// Requests at once that are of one compartment.
const OF_ONE_COMPARTMENT: usize = 8;
/// A request that takes longer counts in its own compartment only.
const QUICK: Duration = Duration::from_millis(250);

/// What a request is about: those of one compartment wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compartment {
    /// The kind of object.
    pub kind: Cow<'static, str>,
    /// The object's namespace; empty for what has none.
    pub namespace: String,
    /// No webhook is asked about what is only read.
    pub is_change: bool,
}

/// Bounds requests at once, in all and of each compartment.
#[derive(Clone)]
pub struct Bulkheads {
    all: Arc<Semaphore>,
    compartments: Arc<Keyed<Compartment, Semaphore>>,
}

impl Default for Bulkheads {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE)),
            compartments: Arc::default(),
        }
    }
}

impl Bulkheads {
    /// Runs a request when there is a place for it.
    pub async fn run<T>(&self, compartment: Compartment, request: impl Future<Output = T>) -> T {
        // Semaphores are never closed; were they, a request would only lack its bound.
        let compartment = self
            .compartments
            .get(compartment, || Semaphore::new(OF_ONE_COMPARTMENT));
        let _own = compartment.acquire().await.ok();
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

    fn secrets_of(namespace: &str) -> Compartment {
        Compartment {
            kind: "Secret".into(),
            namespace: namespace.to_owned(),
            is_change: true,
        }
    }

    /// Begins as many requests as there may be of each of these namespaces, and some more; none of
    /// them is ever answered.
    async fn hang(bulkheads: &Bulkheads, namespaces: &[&'static str]) {
        for namespace in namespaces.iter().copied() {
            for _ in 0..OF_ONE_COMPARTMENT * 2 {
                let bulkheads = bulkheads.clone();
                tokio::spawn(async move {
                    bulkheads.run(secrets_of(namespace), pending::<()>()).await;
                });
            }
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn what_hangs_in_one_namespace_is_waited_for_there_alone() {
        let bulkheads = Bulkheads::default();
        hang(&bulkheads, &["broken"]).await;
        let at_once = |compartment| bulkheads.run(compartment, ready(())).now_or_never();
        assert_eq!(at_once(secrets_of("well")), Some(()));
        let pipes = Compartment {
            kind: "Pipe".into(),
            ..secrets_of("broken")
        };
        assert_eq!(at_once(pipes), Some(()));
        assert_eq!(at_once(secrets_of("broken")), None);
    }

    #[tokio::test]
    async fn many_that_hang_hold_others_up_for_a_moment_only() {
        let bulkheads = Bulkheads::default();
        hang(&bulkheads, &["broken", "broken-too", "and-this"]).await;
        let well = bulkheads.run(secrets_of("well"), ready(()));
        let in_time = tokio::time::timeout(Duration::from_secs(30), well);
        assert_eq!(in_time.await, Ok(()));
    }
}
