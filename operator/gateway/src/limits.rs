//! What a workspace may use of a gateway: requests per second, queries and uploads at once.

use crate::error::{ApiError, RateState};
use crate::error_code::ErrorCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A query that finds no room waits this long for one before it is refused: long
/// enough for a burst of short queries, too short to hide an overload.
const QUEUEING: Duration = Duration::from_millis(100);

/// Requests per second, with bursts of twice as many.
pub(crate) struct RequestRate {
    per_second: u32,
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl RequestRate {
    pub(crate) fn new(per_second: u32) -> Self {
        let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST));
        Self {
            per_second,
            limiter: RateLimiter::direct(quota),
            clock: DefaultClock::default(),
        }
    }

    pub(crate) fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Takes one request out of the budget.
    pub(crate) fn admit(&self) -> Result<(), ApiError> {
        let Err(refusal) = self.limiter.check() else {
            return Ok(());
        };
        let wait = refusal.wait_time_from(self.clock.now());
        let limit = self.per_second;
        let message = format!(
            "more than {limit} requests per second: the workspace's limits.requestsPerSecond"
        );
        let error = ApiError::new(ErrorCode::RateLimited, message);
        Err(error.retry_after(wait).rate(RateState {
            limit,
            reset: wait + BURST_REFILL,
        }))
    }
}

const BURST: NonZeroU32 = NonZeroU32::new(2).unwrap();
const BURST_REFILL: Duration = Duration::from_secs(2);

/// Queries that run at once.
pub(crate) struct QuerySlots {
    count: u32,
    slots: Arc<Semaphore>,
}

impl QuerySlots {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            count,
            slots: Arc::new(Semaphore::new(count as usize)),
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Waits a moment for room. The slot is held until the permit is dropped.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = tokio::time::timeout(QUEUEING, Arc::clone(&self.slots).acquire_owned());
        if let Ok(Ok(permit)) = waiting.await {
            return Ok(permit);
        }
        let count = self.count;
        let message =
            format!("{count} queries run already: the workspace's limits.concurrentQueries");
        Err(ApiError::new(ErrorCode::TooManyQueries, message).retry_after(Duration::from_secs(1)))
    }
}

/// Uploads that run at once.
pub(crate) struct UploadSlots(Arc<Semaphore>);

impl UploadSlots {
    pub(crate) fn new(count: u32) -> Self {
        Self(Arc::new(Semaphore::new(count as usize)))
    }

    /// The slot is held until the permit is dropped.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let message =
                "the workspace has as many uploads under way as the gateway takes at once";
            ApiError::new(ErrorCode::TooManyUploads, message).retry_after(Duration::from_secs(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_twice_the_rate_is_admitted() {
        let rate = RequestRate::new(5);
        assert!((0..10).all(|_| rate.admit().is_ok()));
        assert_eq!(rate.admit().unwrap_err().code(), ErrorCode::RateLimited);
    }

    #[tokio::test]
    async fn a_slot_is_free_again_when_its_query_ends() {
        let slots = QuerySlots::new(1);
        let first = slots.admit().await.unwrap();
        assert_eq!(
            slots.admit().await.unwrap_err().code(),
            ErrorCode::TooManyQueries
        );
        drop(first);
        assert!(slots.admit().await.is_ok());
    }

    #[test]
    fn one_upload_too_many_is_refused_at_once() {
        let slots = UploadSlots::new(1);
        let first = slots.admit().unwrap();
        let refused = slots.admit().unwrap_err();
        assert_eq!(refused.code(), ErrorCode::TooManyUploads);
        drop(first);
        assert!(slots.admit().is_ok());
    }
}
