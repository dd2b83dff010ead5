//! One replica of the operator works, the others stand by: leader election on a Lease.
//!
//! Own code rather than a library because of what it must not cost and must not trust: a leader
//! sends one request every third of the lease and nothing else, a standby watches and so takes
//! over the moment a lease is released, and nobody compares another machine's clock with its own.
//!
//! A leader's time ends by the clock, not by what its campaign finds out: it may act until a
//! certain instant, and each renewal that the API server took moves that instant on. So a process
//! that was frozen, a request that hangs and a campaign that is gone all end in the same way.

mod terms;
#[cfg(test)]
mod tests;

pub use terms::Terms;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What identifies a candidate and its lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub lease: String,
    /// Who it is, unlike anybody else.
    pub identity: String,
    /// The lease's times.
    pub terms: Terms,
}

/// Whether this replica may act.
#[derive(Clone, Copy, Debug)]
enum Term {
    /// Not yet, or not any more.
    None,
    /// Until then, unless the lease is renewed.
    Until(Instant),
    /// For good: nobody else stands.
    Unlimited,
}

impl Term {
    fn holds(self, now: Instant) -> bool {
        match self {
            Self::None => false,
            Self::Until(end) => now < end,
            Self::Unlimited => true,
        }
    }
}

/// The right to change anything, asked for right before each change.
#[derive(Clone)]
pub struct Mandate(watch::Receiver<Term>);

impl Mandate {
    /// Whether this replica leads at this moment.
    pub fn holds(&self) -> bool {
        self.0.borrow().holds(Instant::now())
    }
}

/// The campaign ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("the task that stands for election ended by itself")]
pub struct CampaignEnded;

/// Whether this replica leads, to wait for.
pub struct Leadership {
    term: watch::Receiver<Term>,
    /// Of a lone replica, which has no campaign.
    _unlimited: Option<watch::Sender<Term>>,
}

impl Leadership {
    /// For a lone replica: it leads from the start.
    pub fn unchallenged() -> Self {
        let (sender, term) = watch::channel(Term::Unlimited);
        Self {
            term,
            _unlimited: Some(sender),
        }
    }

    /// What is asked before each change.
    pub fn mandate(&self) -> Mandate {
        Mandate(self.term.clone())
    }

    /// Waits until this replica leads.
    pub async fn acquired(&mut self) -> Result<(), CampaignEnded> {
        let leads = |term: &Term| term.holds(Instant::now());
        match self.term.wait_for(leads).await {
            Ok(_) => Ok(()),
            Err(_) => Err(CampaignEnded),
        }
    }

    /// Waits until this replica, which leads, does not any more.
    pub async fn lost(&mut self) {
        loop {
            let term = *self.term.borrow_and_update();
            if !term.holds(Instant::now()) {
                return;
            }
            let end = match term {
                Term::Until(end) => Some(end),
                Term::None | Term::Unlimited => None,
            };
            tokio::select! {
                () = until(end) => {}
                renewed = self.term.changed() => if renewed.is_err() {
                    return;
                },
            }
        }
    }
}

/// Stands for election until `stop`, then gives the lease back.
pub fn campaign(
    client: Client,
    candidate: Candidate,
    stop: CancellationToken,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let (sender, term) = watch::channel(Term::None);
    let running = tokio::spawn(async move {
        let api = Api::namespaced(client, &candidate.namespace);
        run_campaign(&api, &candidate, &sender, &stop).await;
    });
    let leadership = Leadership {
        term,
        _unlimited: None,
    };
    (leadership, running)
}

async fn run_campaign(
    api: &Api<Lease>,
    candidate: &Candidate,
    term: &watch::Sender<Term>,
    stop: &CancellationToken,
) {
    let Some((sent, held)) = acquire(api, candidate, stop).await else {
        return;
    };
    tracing::info!(
        lease = candidate.lease,
        identity = candidate.identity,
        "leading"
    );
    term.send_replace(Term::Until(candidate.terms.end(sent)));
    let held = hold(api, candidate, held, term, stop).await;
    term.send_replace(Term::None);
    match held {
        Some(lease) => release(api, candidate, lease).await,
        None => tracing::error!(lease = candidate.lease, "lost the lease"),
    }
}

/// Waits for the lease to be free and takes it; tells when that was asked for. `None` on a stop.
async fn acquire(
    api: &Api<Lease>,
    candidate: &Candidate,
    stop: &CancellationToken,
) -> Option<(Instant, Lease)> {
    let mut changes = pin!(watch_object(api.clone(), &candidate.lease).default_backoff());
    let mut seen = Seen::default();
    let mut look_again = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return None,
            change = changes.next() => match change {
                Some(Ok(lease)) => seen.look(lease, Instant::now()),
                Some(Err(error)) => tracing::warn!(lease = candidate.lease, %error, "could not watch the lease yet"),
                None => return None,
            },
            () = until(look_again) => {}
        }
        let sent = Instant::now();
        look_again = match seen.evaluate(&candidate.identity, sent) {
            Decision::Unknown => None,
            Decision::HeldUntil(expiry) => Some(expiry),
            Decision::Free => match take(api, candidate, seen.lease()).await {
                Ok(lease) => return Some((sent, lease)),
                // Somebody was faster; the watch will say who.
                Err(error) if error.is_conflict() => None,
                Err(error) => {
                    tracing::warn!(lease = candidate.lease, %error, "could not take the lease yet");
                    Some(Instant::now() + candidate.terms.retry)
                }
            },
        };
    }
}

async fn take(
    api: &Api<Lease>,
    candidate: &Candidate,
    free: Option<Lease>,
) -> Result<Lease, LeaseError> {
    let now = Timestamp::now();
    match free {
        Some(lease) => replace(api, candidate, &taken(lease, candidate, now)).await,
        None => {
            let lease = taken(new_lease(candidate), candidate, now);
            within_deadline(candidate, api.create(&PostParams::default(), &lease)).await
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Renews the lease until `stop`, when it is returned; `None` when somebody else has it. Whoever
/// cannot renew goes on trying: when his time is over is for [`Leadership::lost`] to say.
async fn hold(
    api: &Api<Lease>,
    candidate: &Candidate,
    mut held: Lease,
    term: &watch::Sender<Term>,
    stop: &CancellationToken,
) -> Option<Lease> {
    let terms = &candidate.terms;
    let mut pause = terms.renewal;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Some(held),
            () = tokio::time::sleep(pause) => {}
        }
        let sent = Instant::now();
        pause = match renew(api, candidate, &mut held).await {
            Ok(()) => {
                term.send_replace(Term::Until(terms.end(sent)));
                terms.renewal
            }
            Err(LeaseError::Taken) => return None,
            Err(error) => {
                tracing::warn!(lease = candidate.lease, %error, "could not renew the lease yet");
                terms.retry
            }
        };
    }
}

/// Renews the lease. A renewal whose answer was lost makes the next one conflict with itself:
/// only a lease in other hands, or none, is lost.
async fn renew(
    api: &Api<Lease>,
    candidate: &Candidate,
    held: &mut Lease,
) -> Result<(), LeaseError> {
    let renewed = taken(held.clone(), candidate, Timestamp::now());
    match replace(api, candidate, &renewed).await {
        Ok(lease) => *held = lease,
        Err(error) if error.is_conflict() => {
            let found = within_deadline(candidate, api.get_opt(&candidate.lease)).await?;
            *held = found
                .filter(|lease| holder(lease) == Some(&candidate.identity))
                .ok_or(LeaseError::Taken)?;
            let renewed = taken(held.clone(), candidate, Timestamp::now());
            *held = replace(api, candidate, &renewed).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Gives the lease back, so that a standby does not have to wait for its end.
async fn release(api: &Api<Lease>, candidate: &Candidate, mut lease: Lease) {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
    }
    match replace(api, candidate, &lease).await {
        Ok(_) => tracing::info!(lease = candidate.lease, "released the lease"),
        // Somebody else has it by now.
        Err(error) if error.is_conflict() => {
            tracing::debug!(lease = candidate.lease, %error, "there is no lease to release");
        }
        Err(error) => {
            tracing::warn!(lease = candidate.lease, %error, "could not release the lease");
        }
    }
}

/// What a candidate may do.
#[derive(Debug, PartialEq)]
enum Decision {
    /// The lease has not been seen yet.
    Unknown,
    /// Take it.
    Free,
    /// Somebody else has it at least until then.
    HeldUntil(Instant),
}

/// What was seen of the lease, and since when, by this machine's own clock.
#[derive(Default)]
struct Seen(Option<(Option<Lease>, Instant)>);

impl Seen {
    /// Takes in the lease as it is now. Its time counts from its last change.
    fn look(&mut self, lease: Option<Lease>, now: Instant) {
        let since = match &self.0 {
            Some((known, since)) if spec(known.as_ref()) == spec(lease.as_ref()) => *since,
            _ => now,
        };
        self.0 = Some((lease, since));
    }

    /// The lease as it was seen last, if there is one.
    fn lease(&self) -> Option<Lease> {
        self.0.as_ref().and_then(|(lease, _)| lease.clone())
    }

    /// The lease is free if nobody holds it, if this candidate does (after a restart), or if its
    /// holder has not renewed it for as long as it lasts.
    fn evaluate(&self, identity: &str, now: Instant) -> Decision {
        let Some((lease, since)) = &self.0 else {
            return Decision::Unknown;
        };
        let Some(holder) = lease.as_ref().and_then(holder) else {
            return Decision::Free;
        };
        let expiry = *since + duration(lease.as_ref());
        if holder == identity || now >= expiry {
            Decision::Free
        } else {
            Decision::HeldUntil(expiry)
        }
    }
}

fn spec(lease: Option<&Lease>) -> Option<&LeaseSpec> {
    lease.and_then(|lease| lease.spec.as_ref())
}

fn holder(lease: &Lease) -> Option<&String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_ref();
    holder.filter(|holder| !holder.is_empty())
}

fn duration(lease: Option<&Lease>) -> Duration {
    let seconds = spec(lease).and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.unwrap_or(0).max(0) as u64)
}

fn new_lease(candidate: &Candidate) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(candidate.lease.clone()),
            namespace: Some(candidate.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}

/// The lease in the hands of this candidate, from now on.
fn taken(mut lease: Lease, candidate: &Candidate, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(&candidate.identity) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        spec.acquire_time = Some(MicroTime(now));
    }
    spec.holder_identity = Some(candidate.identity.clone());
    spec.lease_duration_seconds = i32::try_from(candidate.terms.duration.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Writes the lease, which fails when anybody else has written it since it was read.
async fn replace(
    api: &Api<Lease>,
    candidate: &Candidate,
    lease: &Lease,
) -> Result<Lease, LeaseError> {
    let parameters = PostParams::default();
    within_deadline(candidate, api.replace(&candidate.lease, &parameters, lease)).await
}

async fn within_deadline<T>(
    candidate: &Candidate,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, LeaseError> {
    let deadline = candidate.terms.request;
    match tokio::time::timeout(deadline, request).await {
        Ok(answer) => answer.map_err(|error| LeaseError::Api(Box::new(error))),
        Err(_) => Err(LeaseError::Timeout(deadline)),
    }
}

/// Why a request about the lease failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("somebody else has taken it")]
    Taken,
    #[error(transparent)]
    Api(Box<kube::Error>),
}

impl LeaseError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error)
            if matches!(&**error, kube::Error::Api(status) if status.code == 409))
    }
}
