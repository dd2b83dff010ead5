//! One replica of the operator works, the others stand by: leader election on a Lease.
//!
//! Own code rather than a library because of what it must not cost and must not trust: a leader
//! sends one request every third of the lease and nothing else, a standby watches and so takes
//! over the moment a lease is released, and nobody compares another machine's clock with its own.

#[cfg(test)]
mod tests;

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

/// How long one request about the lease may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between attempts that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// What identifies a candidate and its lease.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) namespace: String,
    pub(crate) lease: String,
    pub(crate) identity: String,
    pub(crate) duration: Duration,
}

/// Whether this replica leads: `true` once it does, `false` again when it has lost or given up the lease.
pub(crate) struct Leadership {
    leads: watch::Receiver<bool>,
}

impl Leadership {
    /// For a lone replica: it leads from the start.
    pub(crate) fn unchallenged() -> Self {
        Self {
            leads: watch::channel(true).1,
        }
    }

    /// Waits until this replica leads.
    pub(crate) async fn acquired(&mut self) {
        if self.leads.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica, which leads, does not any more.
    pub(crate) async fn lost(&mut self) {
        loop {
            if !*self.leads.borrow_and_update() {
                return;
            }
            // The sender of an unchallenged leader is gone from the start.
            if self.leads.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Stands for election until `stop`, then gives the lease back.
pub(crate) fn stand(
    client: Client,
    candidate: Candidate,
    stop: CancellationToken,
) -> (Leadership, tokio::task::JoinHandle<()>) {
    let (sender, leads) = watch::channel(false);
    let campaign = tokio::spawn(async move {
        let api = Api::namespaced(client, &candidate.namespace);
        campaign(&api, &candidate, &sender, &stop).await;
    });
    (Leadership { leads }, campaign)
}

async fn campaign(
    api: &Api<Lease>,
    candidate: &Candidate,
    leads: &watch::Sender<bool>,
    stop: &CancellationToken,
) {
    let Some(held) = acquire(api, candidate, stop).await else {
        return;
    };
    tracing::info!(
        lease = candidate.lease,
        identity = candidate.identity,
        "leading"
    );
    leads.send_replace(true);
    let held = hold(api, candidate, held, stop).await;
    leads.send_replace(false);
    match held {
        Some(lease) => release(api, candidate, lease).await,
        None => tracing::error!(lease = candidate.lease, "lost the lease"),
    }
}

/// Waits for the lease to be free and takes it; `None` on a stop.
async fn acquire(
    api: &Api<Lease>,
    candidate: &Candidate,
    stop: &CancellationToken,
) -> Option<Lease> {
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
        look_again = match seen.evaluate(&candidate.identity, Instant::now()) {
            Decision::Unknown => None,
            Decision::HeldUntil(expiry) => Some(expiry),
            Decision::Free => match take(api, candidate, seen.lease()).await {
                Ok(lease) => return Some(lease),
                // Somebody was faster; the watch will say who.
                Err(error) if error.is_conflict() => None,
                Err(error) => {
                    tracing::warn!(lease = candidate.lease, %error, "could not take the lease yet");
                    Some(Instant::now() + RETRY_PAUSE)
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
            within_deadline(api.create(&PostParams::default(), &lease)).await
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Renews the lease until `stop`, when it is returned; `None` when it was lost.
async fn hold(
    api: &Api<Lease>,
    candidate: &Candidate,
    mut held: Lease,
    stop: &CancellationToken,
) -> Option<Lease> {
    let mut renewed = Instant::now();
    let mut pause = candidate.duration / 3;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Some(held),
            () = tokio::time::sleep(pause) => {}
        }
        let started = Instant::now();
        match renew(api, candidate, &mut held).await {
            Ok(()) => {
                renewed = started;
                pause = candidate.duration / 3;
            }
            Err(LeaseError::Taken) => return None,
            // Others take the lease only when its whole duration has passed since its renewal.
            Err(error) if renewed.elapsed() + REQUEST_DEADLINE > candidate.duration => {
                tracing::error!(lease = candidate.lease, %error, "could not renew the lease in time");
                return None;
            }
            Err(error) => {
                tracing::warn!(lease = candidate.lease, %error, "could not renew the lease yet");
                pause = RETRY_PAUSE;
            }
        }
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
            let found = within_deadline(api.get_opt(&candidate.lease)).await?;
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
    spec.lease_duration_seconds = Some(candidate.duration.as_secs() as i32);
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Writes the lease, which fails when anybody else has written it since it was read.
async fn replace(
    api: &Api<Lease>,
    candidate: &Candidate,
    lease: &Lease,
) -> Result<Lease, LeaseError> {
    within_deadline(api.replace(&candidate.lease, &PostParams::default(), lease)).await
}

async fn within_deadline<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, LeaseError> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| LeaseError::Api(Box::new(error))),
        Err(_) => Err(LeaseError::Timeout),
    }
}

/// Why a request about the lease failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("no answer within {} s", REQUEST_DEADLINE.as_secs())]
    Timeout,
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
