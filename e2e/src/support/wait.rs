//! Waiting for something to become true, with a deadline and a reason.

use crate::cluster::shell;
use anyhow::{Context as _, Result};
use std::future::Future;
use std::time::Duration;

/// How long a condition may take on a busy two-core machine before it counts as never.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// Asks `probe` until it gives a value. It answers `Ok(Err(reason))` for "not
/// yet"; the last reason is in the error when the deadline passes.
pub async fn eventually<T, F, Fut>(what: &str, probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Result<T, String>>>,
{
    let waited = shell::wait_for(DEADLINE, probe).await;
    waited.with_context(|| what.to_owned())
}
