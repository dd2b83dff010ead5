//! Asks each replica of a cluster for its health at a fixed rate, in a task of its own, so that one
//! that hangs is known to hang and keeps nobody from hearing of the others. What is done with the
//! answers does not slow the asking down.

use aviary_clickhouse::{Category, ClickHouseError, Health, Replica};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// The answer to a probe.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Healthy(Health),
    Failed { category: Category, message: String },
}

impl Answer {
    fn is_silence(&self) -> bool {
        matches!(self, Self::Failed { category, .. } if *category == Category::Silent)
    }

    /// Whether the login was refused.
    pub(crate) fn is_about_credentials(&self) -> bool {
        matches!(self, Self::Failed { category, .. } if *category == Category::Credentials)
    }
}

/// What was heard of a replica last.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    state: Mutex<LastAnswer>,
    /// Woken when the replica falls silent.
    silence: Notify,
}

#[derive(Clone, Debug, Default)]
struct LastAnswer {
    last: Option<Answer>,
    /// How it was when it last told. A replica that refuses is not away, and is in what state it
    /// was; one that is silent is in none.
    health: Option<Health>,
}

impl Pulse {
    /// The last answer, if there was one yet.
    pub(crate) fn last(&self) -> Option<Answer> {
        self.lock().last.clone()
    }

    /// Whether the last probe went unanswered. What was never probed may be tried.
    pub(crate) fn is_down(&self) -> bool {
        self.lock().last.as_ref().is_some_and(Answer::is_silence)
    }

    /// Waits until the replica is known to be silent.
    pub(crate) async fn until_down(&self) {
        loop {
            let mut silence = pin!(self.silence.notified());
            silence.as_mut().enable();
            if self.is_down() {
                return;
            }
            silence.await;
        }
    }

    /// Shows its health, none where it does not answer; shows nothing where nothing is known.
    pub(crate) fn show_health(&self, show: impl FnOnce(Option<&Health>)) {
        let state = self.lock();
        let is_down = state.last.as_ref().is_some_and(Answer::is_silence);
        if is_down || state.health.is_some() {
            show(state.health.as_ref());
        }
    }

    /// Takes in an answer. Tells whether the replica can be worked with again.
    pub(crate) fn take_in(&self, answer: Answer) -> bool {
        let state = &mut *self.lock();
        let is_back = match (&state.last, &answer) {
            (Some(Answer::Failed { .. }), Answer::Healthy(_)) => true,
            (Some(last), now) => last.is_silence() && !now.is_silence(),
            (None, _) => false,
        };
        match &answer {
            Answer::Healthy(health) => state.health = Some(health.clone()),
            silence if silence.is_silence() => state.health = None,
            Answer::Failed { .. } => {}
        }
        let was_silent = state.last.as_ref().is_some_and(Answer::is_silence);
        let is_silent = answer.is_silence();
        state.last = Some(answer);
        if is_silent && !was_silent {
            self.silence.notify_waiters();
        }
        is_back
    }

    fn lock(&self) -> MutexGuard<'_, LastAnswer> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a replica may take to tell of its health.
const DEADLINE: Duration = Duration::from_secs(10);

/// Probes a replica for as long as this runs, and tells of each answer whether the replica can be
/// worked with again.
pub(crate) async fn keep_probing(
    replica: &Replica,
    pulse: &Pulse,
    interval: Duration,
    tell: impl Fn(bool),
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let probed = async {
            ticks.tick().await;
            if pulse.is_down() {
                // Not longer than an interval, so that its return is noticed within one.
                ask(replica, DEADLINE.min(interval)).await
            } else {
                ask_again(replica).await
            }
        };
        let answer = tokio::select! {
            answer = probed => answer,
            // Who works with it has noticed before.
            () = pulse.silence.notified() => {
                tell(false);
                continue;
            }
        };
        let answer = match answer {
            Ok(health) => Answer::Healthy(health),
            Err(error) => failed(&error),
        };
        tell(pulse.take_in(answer));
    }
}

fn failed(error: &ClickHouseError) -> Answer {
    Answer::Failed {
        category: error.category(),
        message: error.without_replica(),
    }
}

/// How long a replica that somebody waits for is left in peace between two signs of life.
const PEACE: Duration = Duration::from_secs(1);
/// How long it may take to give one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Waits until the replica is silent, and looks for itself: for whoever is at work with it and has
/// to get on. Everybody else knows it from then on, until a probe is answered.
pub(crate) async fn until_silent(replica: &Replica, pulse: &Pulse) {
    let looking = async {
        loop {
            tokio::time::sleep(PEACE).await;
            if !replica.is_there(SIGN_OF_LIFE).await {
                break;
            }
        }
        pulse.take_in(failed(&ClickHouseError::TimedOut {
            replica: replica.name().to_owned(),
            deadline: SIGN_OF_LIFE,
        }));
    };
    tokio::select! {
        () = looking => {}
        () = pulse.until_down() => {}
    }
}

/// A replica that is silent or cannot answer once may be busy with something long; it is asked
/// again before everybody is told that it is away.
async fn ask_again(replica: &Replica) -> Result<Health, ClickHouseError> {
    match ask(replica, DEADLINE).await {
        Err(error) if error.is_transient() => ask(replica, DEADLINE).await,
        answer => answer,
    }
}

async fn ask(replica: &Replica, deadline: Duration) -> Result<Health, ClickHouseError> {
    let in_time = tokio::time::timeout(deadline, replica.probe()).await;
    in_time.unwrap_or_else(|_| {
        Err(ClickHouseError::TimedOut {
            replica: replica.name().to_owned(),
            deadline: DEADLINE,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::silent_replica;
    use rstest::rstest;

    fn healthy() -> Answer {
        Answer::Healthy(Health {
            version: "26.7.2".to_owned(),
            disks: Vec::new(),
            replication: None,
        })
    }

    fn failed(category: Category) -> Answer {
        let message = "why".to_owned();
        Answer::Failed { category, message }
    }

    fn silent() -> Answer {
        failed(Category::Silent)
    }

    fn refusing() -> Answer {
        failed(Category::Credentials)
    }

    #[rstest]
    #[case::silence(healthy(), silent(), true, false)]
    #[case::a_refusal_is_an_answer(healthy(), refusing(), false, false)]
    #[case::it_answers_again(silent(), refusing(), false, true)]
    #[case::it_is_well_again(silent(), healthy(), false, true)]
    #[case::it_takes_the_login_again(refusing(), healthy(), false, true)]
    #[case::it_goes_on(healthy(), healthy(), false, false)]
    fn only_a_replica_that_says_nothing_is_down(
        #[case] before: Answer,
        #[case] now: Answer,
        #[case] is_down: bool,
        #[case] is_back: bool,
    ) {
        let pulse = Pulse::default();
        let shown = || {
            let mut shown = None;
            pulse.show_health(|health| shown = Some(health.is_some()));
            shown
        };
        assert!(!pulse.is_down() && shown().is_none());
        assert!(!pulse.take_in(before.clone()));
        assert_eq!(pulse.take_in(now.clone()), is_back);
        assert_eq!(pulse.is_down(), is_down);
        let told = [before, now]
            .iter()
            .any(|it| matches!(it, Answer::Healthy(_)));
        let expected = (is_down || told).then_some(!is_down);
        assert_eq!(shown(), expected);
    }

    #[tokio::test]
    async fn what_others_have_found_silent_is_told_before_the_probe_is_over() {
        let (_listener, connected) = silent_replica().await;
        let (replica, pulse) = (&connected.replica, &*connected.pulse);
        let told = Notify::new();
        let probing = keep_probing(replica, pulse, DEADLINE * 60, |_| told.notify_one());
        let finding = async {
            tokio::task::yield_now().await;
            pulse.take_in(silent());
            told.notified().await;
        };
        let in_time = tokio::time::timeout(DEADLINE / 2, async {
            tokio::select! {
                () = probing => {}
                () = finding => {}
            }
        });
        in_time.await.unwrap();
    }
}
