//! Makes the Secrets of tokens beside the passes, so that a webhook that hangs or refuses in one
//! tenant's namespace holds up nothing but the tokens it is about.

use crate::kubernetes::Kubernetes;
use crate::secrets::{TokenDecision, TokenSecret, decide_token, token_secret};
use crate::workspace::findings::Fault;
use crate::workspace::token_faults;
use aviary_crds::AccessToken;
use aviary_crds::conditions::Reason;
use aviary_plan::model::ValidAccessToken;
use aviary_runtime::ObjectName;
use aviary_runtime::dispatch::Requests;
use aviary_runtime::kubernetes::KubernetesError;
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

/// A Secret to be made, or to be completed, for a token.
pub(crate) struct Order {
    pub(crate) token: ValidAccessToken,
    pub(crate) object: Arc<AccessToken>,
    pub(crate) secret: ObjectName,
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
    pub(crate) fn issue(&self, kubernetes: &Kubernetes, workspace: &ObjectName, order: Order) {
        let now = Instant::now();
        let uid = order.token.uid.clone();
        {
            let mut tokens = self.lock();
            let issue = tokens.entry(uid.clone()).or_default();
            let waits = issue.failure.as_ref().is_some_and(|(_, due)| now < *due);
            if issue.is_under_way || waits {
                return;
            }
            issue.is_under_way = true;
        }
        let (issuer, workspace) = (self.clone(), workspace.clone());
        let kubernetes = kubernetes.clone();
        let mut under_way = UnderWay {
            issuer: self.clone(),
            uid,
            result: Err(Fault::new(
                Reason::Unknown,
                "the making of its Secret ended by itself, which is a fault of the operator",
            )),
        };
        tokio::spawn(async move {
            under_way.result = order.fill(&kubernetes).await;
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

impl Order {
    /// Makes the Secret, or gives it what it lacks. One that is somebody else's is left alone; the
    /// watch, which goes by a label, would never show it.
    async fn fill(&self, kubernetes: &Kubernetes) -> Result<(), Fault> {
        let name = &self.secret;
        let failed = |error: KubernetesError| self.fault(&error);
        let (mut secret, _) = token_secret(&self.object, name);
        let made = kubernetes.create_secret::<TokenSecret>(name, &secret).await;
        if made.map_err(failed)? {
            return Ok(());
        }
        // There is one: without the label that the watch goes by, or so new that it was not seen yet.
        let found = kubernetes.get_secret(name).await.map_err(failed)?;
        let found = found.as_ref().map(TokenSecret::from);
        match decide_token(&self.token.uid, found.as_ref()) {
            TokenDecision::Restore { keeps_value } => {
                if keeps_value {
                    secret.data = None;
                }
                let updated = kubernetes.update_secret(name, &secret).await;
                updated.map_err(failed)
            }
            TokenDecision::Conflict => Err(token_faults::foreign(&self.token)),
            TokenDecision::Create | TokenDecision::Use { .. } | TokenDecision::Weak => {
                if let Some(found) = found {
                    kubernetes.index().created(name, found);
                }
                Ok(())
            }
        }
    }

    fn fault(&self, error: &KubernetesError) -> Fault {
        let name = &self.secret;
        match error.refusal() {
            Some(why) => Fault::new(
                Reason::Invalid,
                format!("Kubernetes does not take Secret `{name}`: {why}"),
            ),
            None => Fault::new(
                Reason::DependencyNotReady,
                format!("Secret `{name}` cannot be made yet: {error}"),
            ),
        }
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
