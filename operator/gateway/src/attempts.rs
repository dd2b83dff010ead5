//! Failed logins, by origin. Whoever tries one unknown token after the other is soon told to
//! wait, and what he tries meanwhile is not even looked at.
//!
//! Many people may share an origin, an office or a proxy. So tokens that have worked from
//! there go on working, and the same wrong token again and again, which is a program that
//! nobody has told of the new one, is no attempt to find another.

use crate::error::ApiError;
use crate::error_code::ErrorCode;
use crate::origin::Origin;
use crate::token_value::TokenHash;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Origins that are remembered. Beyond, those are forgotten from which no token has worked.
const MOST_ORIGINS: usize = 8192;
/// How many are looked at to find one that can be forgotten.
const SAMPLE: usize = 8;
/// Tokens that are remembered of an origin, good ones and bad ones.
const MOST_TOKENS: usize = 16;
/// Seconds of failures that may come at once.
const BURST: u32 = 10;
/// So many times as often, the same wrong token may be tried.
const REPEATED: u32 = 10;

/// The failed logins of all origins.
pub(crate) struct Attempts {
    /// Failures per second of one origin; none are counted if this is 0.
    per_second: u32,
    origins: Mutex<HashMap<Origin, Tried>>,
}

/// What was tried from one origin.
struct Tried {
    last: Instant,
    good: Recent,
    bad: Recent,
    attempts: Allowance,
    repetitions: Allowance,
}

/// Starts of the hashes of the last few tokens.
#[derive(Default)]
struct Recent {
    tokens: Vec<u64>,
    next: usize,
}

/// Failures that may come at a steady rate, and for some seconds at once.
struct Allowance {
    used_until: Instant,
}

impl Attempts {
    /// So many failures per second of one origin, or any number if it is 0.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            origins: Mutex::default(),
        }
    }

    /// Looks a token up, unless too many have failed from this origin.
    pub(crate) fn look_up<T>(
        &self,
        origin: Origin,
        token: &TokenHash,
        find: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        if self.per_second == 0 {
            return Ok(find());
        }
        self.look_up_at(Instant::now(), origin, token.start(), find)
    }

    fn look_up_at<T>(
        &self,
        now: Instant,
        origin: Origin,
        token: u64,
        find: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if origins.len() >= MOST_ORIGINS && !origins.contains_key(&origin) {
            forget_one(&mut origins);
        }
        let tried = origins.entry(origin).or_insert_with(|| Tried::new(now));
        tried.last = now;
        let is_new = !tried.good.has(token) && !tried.bad.has(token);
        if is_new {
            tried.attempts.check(now)?;
        }
        let found = find();
        if found.is_some() {
            tried.good.add(token);
        } else if is_new {
            tried.bad.add(token);
            tried.attempts.take(now, self.per_second);
        } else {
            let rate = self.per_second.saturating_mul(REPEATED);
            tried.repetitions.check(now)?;
            tried.repetitions.take(now, rate);
        }
        Ok(found)
    }
}

/// The one of a few that is missed least: nothing good came from it, and nothing lately.
fn forget_one(origins: &mut HashMap<Origin, Tried>) {
    let sample = origins.iter().take(SAMPLE);
    let least = sample.min_by_key(|(_, tried)| (!tried.good.tokens.is_empty(), tried.last));
    if let Some(origin) = least.map(|(origin, _)| *origin) {
        origins.remove(&origin);
    }
}

impl Tried {
    fn new(now: Instant) -> Self {
        Self {
            last: now,
            good: Recent::default(),
            bad: Recent::default(),
            attempts: Allowance { used_until: now },
            repetitions: Allowance { used_until: now },
        }
    }
}

impl Recent {
    fn has(&self, token: u64) -> bool {
        self.tokens.contains(&token)
    }

    /// Adds a token, in the place of the oldest if there are too many.
    fn add(&mut self, token: u64) {
        if self.has(token) {
            return;
        }
        if self.tokens.len() < MOST_TOKENS {
            self.tokens.push(token);
        } else {
            self.tokens[self.next] = token;
            self.next = (self.next + 1) % MOST_TOKENS;
        }
    }
}

impl Allowance {
    /// Refuses who has none left.
    fn check(&self, now: Instant) -> Result<(), ApiError> {
        let next = now + Duration::from_secs(BURST.into());
        if self.used_until < next {
            return Ok(());
        }
        let wait = self.used_until.saturating_duration_since(next);
        let message =
            "too many unknown tokens came from this address: send none but those you were given";
        Err(ApiError::new(ErrorCode::TooManyAttempts, message).retry_after(wait))
    }

    fn take(&mut self, now: Instant, per_second: u32) {
        self.used_until = self.used_until.max(now) + Duration::from_secs(1) / per_second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 5;
    const ALLOWED: u64 = (RATE * BURST) as u64;

    fn office() -> Origin {
        Origin::of([192, 0, 2, 1].into())
    }

    /// Whether it was looked at, and known.
    fn try_token(attempts: &Attempts, now: Instant, token: u64, known: bool) -> Option<bool> {
        let found = attempts.look_up_at(now, office(), token, || known.then_some(()));
        found.ok().map(|found| found.is_some())
    }

    #[test]
    fn tokens_are_not_looked_at_after_too_many_wrong_ones() {
        let (attempts, now) = (Attempts::new(RATE), Instant::now());
        assert_eq!(try_token(&attempts, now, 1, true), Some(true));
        for wrong in 0..ALLOWED {
            assert_eq!(try_token(&attempts, now, 1000 + wrong, false), Some(false));
        }
        assert_eq!(try_token(&attempts, now, 2, true), None);
        // Whoever has worked here is not held back.
        assert_eq!(try_token(&attempts, now, 1, true), Some(true));
        // Others are elsewhere, and here again after a moment.
        let elsewhere = Origin::of([192, 0, 2, 2].into());
        let found = attempts.look_up_at(now, elsewhere, 2, || Some(()));
        assert!(found.is_ok_and(|found| found.is_some()));
        let later = now + Duration::from_secs(1);
        assert_eq!(try_token(&attempts, later, 2, true), Some(true));
    }

    #[test]
    fn the_same_wrong_token_holds_nobody_else_up() {
        let (attempts, now) = (Attempts::new(RATE), Instant::now());
        let allowed = ALLOWED * u64::from(REPEATED);
        for _ in 0..=allowed {
            assert_eq!(try_token(&attempts, now, 9, false), Some(false));
        }
        assert_eq!(try_token(&attempts, now, 9, false), None);
        assert_eq!(try_token(&attempts, now, 2, true), Some(true));
        // It may become a right one.
        assert_eq!(try_token(&attempts, now, 9, true), Some(true));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_who_have_worked() {
        let (attempts, now) = (Attempts::new(RATE), Instant::now());
        assert_eq!(try_token(&attempts, now, 1, true), Some(true));
        for network in 0..20_000_u32 {
            let origin =
                Origin::of(std::net::Ipv6Addr::from_bits(u128::from(network) << 64).into());
            let later = now + Duration::from_secs(1);
            let _ = attempts.look_up_at(later, origin, u64::from(network), || None::<()>);
        }
        let origins = attempts.origins.lock().unwrap();
        assert_eq!(origins.len(), MOST_ORIGINS);
        assert!(origins[&office()].good.has(1));
    }
}
