//! Makes the Secrets of tokens beside the passes, so that a webhook that hangs or refuses in one
//! tenant's namespace holds up nothing but the tokens it is about.

use crate::dispatch::Requests;
use crate::names::ObjectName;
use crate::workspace::findings::Fault;
use aviary_crds::conditions::Reason;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a pass waits for Secrets that are being made.
const PATIENCE: Duration = Duration::from_millis(500);
/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// How the making of each token's Secret goes, by the token's uid; what went well is forgotten.
#[derive(Clone)]
pub(crate) struct Issuer {
    workspaces: Requests<ObjectName>,
    longest_pause: Duration,
    tokens: Arc<Mutex<HashMap<String, Issue>>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Issue {
    is_under_way: bool,
    failure: Option<(Fault, Instant)>,
    failures: u32,
}

impl Issuer {
    /// `workspaces` is asked when there is news of one.
    pub(crate) fn new(workspaces: Requests<ObjectName>, longest_pause: Duration) -> Self {
        Self {
            workspaces,
            longest_pause,
            tokens: Arc::default(),
            news: Arc::default(),
        }
    }

    /// Has a token's Secret made, unless that is under way or failed a moment ago.
    pub(crate) fn issue(
        &self,
        uid: &str,
        workspace: &ObjectName,
        make: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) {
        let now = Instant::now();
        {
            let mut tokens = self.lock();
            let issue = tokens.entry(uid.to_owned()).or_default();
            let waits = issue.failure.as_ref().is_some_and(|(_, due)| now < *due);
            if issue.is_under_way || waits {
                return;
            }
            issue.is_under_way = true;
        }
        let (issuer, workspace) = (self.clone(), workspace.clone());
        let mut under_way = UnderWay {
            issuer: self.clone(),
            uid: uid.to_owned(),
            result: Err(Fault::new(
                Reason::Unknown,
                "the making of its Secret ended by itself, which is a fault of the operator",
            )),
        };
        tokio::spawn(async move {
            under_way.result = make.await;
            drop(under_way);
            issuer.workspaces.request(workspace);
        });
    }

    /// Why a token's Secret could not be made when it was tried last.
    pub(crate) fn failure(&self, uid: &str) -> Option<Fault> {
        let tokens = self.lock();
        let (fault, _) = tokens.get(uid)?.failure.as_ref()?;
        Some(fault.clone())
    }

    /// Waits a moment for what is being made for these tokens.
    pub(crate) async fn settle(&self, uids: &[&str]) {
        let settled = async {
            loop {
                let mut news = pin!(self.news.notified());
                news.as_mut().enable();
                if !self.is_open(uids) {
                    return;
                }
                news.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, settled).await;
    }

    fn is_open(&self, uids: &[&str]) -> bool {
        let tokens = self.lock();
        let mut issues = uids.iter().filter_map(|uid| tokens.get(*uid));
        issues.any(|issue| issue.is_under_way)
    }

    /// The token has its Secret, or is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut tokens = self.lock();
        if tokens.get(uid).is_some_and(|issue| !issue.is_under_way) {
            tokens.remove(uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Issue>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Secret that is being made; says how that went when it is dropped, also by a panic.
struct UnderWay {
    issuer: Issuer,
    uid: String,
    result: Result<(), Fault>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let longest = self.issuer.longest_pause;
        let mut tokens = self.issuer.lock();
        match std::mem::replace(&mut self.result, Ok(())) {
            Ok(()) => {
                tokens.remove(&self.uid);
            }
            Err(fault) => {
                let issue = tokens.entry(self.uid.clone()).or_default();
                let doubled = 2_u32.saturating_pow(issue.failures.min(20));
                let pause = FIRST_PAUSE.saturating_mul(doubled).min(longest);
                issue.is_under_way = false;
                issue.failures = issue.failures.saturating_add(1);
                issue.failure = Some((fault, Instant::now() + pause));
            }
        }
        drop(tokens);
        self.issuer.news.notify_waiters();
    }
}
