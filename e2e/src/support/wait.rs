//! Waiting for something to become true, with a deadline and a reason.

use anyhow::{Result, bail};
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take on a busy two-core machine before it counts as never.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How often a condition that cannot be watched is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks `probe` until it gives a value. It answers `Ok(Err(reason))` for "not
/// yet"; the last reason is in the error when the deadline passes.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Result<T, String>>>,
{
    let started = Instant::now();
    loop {
        let last = match probe().await? {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if started.elapsed() > DEADLINE {
            bail!(
                "{what}: not within {} s; last seen: {last}",
                DEADLINE.as_secs()
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
