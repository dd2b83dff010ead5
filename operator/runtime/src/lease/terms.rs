//! The times of a lease, all derived from how long it lasts, so that every length that is
//! permitted leaves the same room.

use std::time::{Duration, Instant};

/// How much earlier than others start a holder stops at least.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// When a lease is renewed, how long that may take, and when its holder stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Others take the lease when they have seen no renewal for this long.
    pub(super) duration: Duration,
    /// How long after its last renewal its holder stops. That is less than its duration, for what
    /// was sent last is still on its way and clocks differ.
    pub(super) usable: Duration,
    /// Pause after a renewal that went well.
    pub(super) renewal: Duration,
    /// Pause after an attempt that failed.
    pub(super) retry: Duration,
    /// How long one request about the lease may take.
    pub(super) request: Duration,
}

impl Terms {
    /// The shortest lease: shorter ones would be lost to one slow request.
    pub const SHORTEST: Duration = Duration::from_secs(6);

    /// The terms of a lease that lasts so long. The API keeps whole seconds, so all count by them.
    pub fn new(duration: Duration) -> Self {
        let duration = Duration::from_secs(duration.max(Self::SHORTEST).as_secs());
        Self {
            duration,
            usable: duration.saturating_sub(LEAST_MARGIN.max(duration / 10)),
            renewal: duration / 3,
            retry: (duration / 30).min(Duration::from_secs(2)),
            request: (duration / 8).min(Duration::from_secs(5)),
        }
    }

    /// Until when its holder may act if the last renewal that the API server took was sent at
    /// this time. Others saw it later than that, and count from when they saw it.
    pub(super) fn end(&self, sent: Instant) -> Instant {
        sent + self.usable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a renewal can take at most: it conflicts with one whose answer was lost.
    const REQUESTS_OF_A_RENEWAL: u32 = 3;

    #[test]
    fn every_permitted_length_leaves_room() {
        for seconds in 6..=3_600 {
            let Terms {
                duration,
                usable,
                renewal,
                retry,
                request,
            } = Terms::new(Duration::from_secs(seconds));
            assert!(usable + LEAST_MARGIN <= duration, "{seconds} s: margin");
            // A renewal that goes the longest way still comes in time,
            let longest = renewal + request * REQUESTS_OF_A_RENEWAL;
            assert!(longest < usable, "{seconds} s: one renewal");
            // and so does the third after two that got no answer.
            let third = renewal + (request + retry) * 2 + request;
            assert!(third <= usable, "{seconds} s: three attempts");
        }
    }

    #[test]
    fn parts_of_seconds_do_not_count() {
        let terms = Terms::new(Duration::from_millis(7_900));
        assert_eq!(terms, Terms::new(Duration::from_secs(7)));
        assert_eq!(Terms::new(Duration::ZERO).duration, Terms::SHORTEST);
    }

    proptest! {
        /// Whatever a renewal waits on its way to the API server, and the news of it on its way to
        /// a standby: the standby takes the lease after its holder has stopped.
        #[test]
        fn holders_stop_before_others_take_over(
            seconds in 6_u64..600,
            renewals in prop::collection::vec((1_u64..400_000, 0_u64..400_000, 0_u64..400_000), 1..8),
        ) {
            let terms = Terms::new(Duration::from_secs(seconds));
            let start = Instant::now();
            let mut sent = start;
            let mut standby = super::super::Seen::default();
            let mut seen = start;
            for (number, (pause, way, news)) in renewals.into_iter().enumerate() {
                sent += Duration::from_millis(pause);
                // A version is seen after it was written, and versions in their order.
                seen = seen.max(sent + Duration::from_millis(way + news));
                let lease = super::super::tests::lease_of("holder", seconds, number as i64);
                standby.look(Some(lease), seen);
                let until = terms.end(sent) + LEAST_MARGIN / 2;
                prop_assert_ne!(standby.evaluate("standby", until), super::super::Decision::Free);
            }
        }
    }
}
