//! Which pipe of a workspace is checked next, and what is known from the checks before. Pure.
//!
//! Two lanes, each with a few places. What was never tried goes first, the newest wish before
//! older ones, so that a change does not wait behind what is slow; what took too long there goes
//! on in the other lane, in turn.

use crate::workspace::findings::{Fault, waits_for_a_person};
use aviary_crds::published::ResultColumn;
use aviary_plan::model::Unknown;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// First tries of one workspace at once.
const FIRST_AT_ONCE: usize = 4;
/// Checks of one workspace that took too long at first, at once.
const LONG_AT_ONCE: usize = 2;
/// The pause before what may get better by itself is checked again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The SQL is right, and answers with these columns.
    Good(Vec<ResultColumn>),
    /// It is not, or nobody could say.
    Bad {
        fault: Fault,
        /// The reader could not log in: its password must be set again.
        reader_refused: bool,
        /// The name that ClickHouse does not know, if that is its complaint.
        unknown: Option<Unknown>,
    },
}

/// Where a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    First,
    Long,
}

/// A check under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    uid: String,
    wish: u64,
    pub(crate) lane: Lane,
}

/// The checks of a workspace. `Question` is what there is to ask about a pipe.
pub(crate) struct Agenda<Question> {
    /// By the pipe's uid.
    pipes: HashMap<String, Entry<Question>>,
    wishes: u64,
    first: usize,
    long: usize,
    /// The longest pause before anything bad is checked again.
    longest_pause: Duration,
}

struct Entry<Question> {
    revision: String,
    /// Counts up with each wish of the workspace, so that an answer to an older one is known.
    wish: u64,
    state: State<Question>,
    known: Option<(Verdict, Instant)>,
    /// How often in a row it was bad.
    bad: u32,
}

enum State<Question> {
    Idle,
    Waiting(Lane, Question),
    Running,
}

impl<Question> Agenda<Question> {
    pub(crate) fn new(longest_pause: Duration) -> Self {
        Self {
            pipes: HashMap::new(),
            wishes: 0,
            first: 0,
            long: 0,
            longest_pause,
        }
    }

    /// What is known of this revision of a pipe. Where that is nothing, or old, a check is wished
    /// for; what is old holds until that is over.
    pub(crate) fn consult(
        &mut self,
        uid: &str,
        revision: &str,
        now: Instant,
        question: impl FnOnce() -> Question,
    ) -> Option<Verdict> {
        let known = self.pipes.get_mut(uid).filter(|it| it.revision == revision);
        let (known, bad) = match known {
            Some(entry) => {
                let is_due = entry.known.as_ref().is_none_or(|(_, due)| *due <= now);
                if !is_due || !matches!(entry.state, State::Idle) {
                    return entry.known.as_ref().map(|(verdict, _)| verdict.clone());
                }
                (entry.known.take(), entry.bad)
            }
            None => (None, 0),
        };
        self.wishes += 1;
        let verdict = known.as_ref().map(|(verdict, _)| verdict.clone());
        let entry = Entry {
            revision: revision.to_owned(),
            wish: self.wishes,
            state: State::Waiting(Lane::First, question()),
            known,
            bad,
        };
        self.pipes.insert(uid.to_owned(), entry);
        verdict
    }

    /// How many checks were wished for, ever.
    pub(crate) fn wishes(&self) -> u64 {
        self.wishes
    }

    /// Whether a check that was wished for after so many others is not over yet.
    pub(crate) fn is_open_since(&self, wishes: u64) -> bool {
        let mut pipes = self.pipes.values();
        pipes.any(|it| it.wish > wishes && !matches!(it.state, State::Idle))
    }

    /// Whether the reader's password ought to be set again.
    pub(crate) fn reader_is_refused(&self, now: Instant) -> bool {
        let mut known = self.pipes.values().filter_map(|it| it.known.as_ref());
        known.any(|(verdict, due)| {
            let refused = matches!(
                verdict,
                Verdict::Bad {
                    reader_refused: true,
                    ..
                }
            );
            refused && *due <= now
        })
    }

    /// ClickHouse has changed: what was wrong may be right now.
    pub(crate) fn reconsider(&mut self, now: Instant) {
        for (verdict, due) in self.pipes.values_mut().filter_map(|it| it.known.as_mut()) {
            // A password that is set again and again would be a loop: that one waits its time.
            if matches!(
                verdict,
                Verdict::Bad {
                    reader_refused: false,
                    ..
                }
            ) {
                *due = now;
            }
        }
    }

    /// Forgets all pipes but these.
    pub(crate) fn retain(&mut self, uids: &BTreeSet<&str>) {
        self.pipes.retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Takes the check that is to be begun, if there is a place for one.
    pub(crate) fn start(&mut self) -> Option<(Ticket, Question)> {
        let first = (self.first < FIRST_AT_ONCE).then(|| {
            let waiting = self.waiting(Lane::First);
            waiting.max_by_key(|(_, wish)| *wish)
        });
        let long = || {
            let has_place = self.long < LONG_AT_ONCE;
            let waiting = self.waiting(Lane::Long).filter(|_| has_place);
            waiting.min_by_key(|(_, wish)| *wish)
        };
        let (uid, _) = first.flatten().or_else(long)?;
        let uid = uid.clone();
        let entry = self.pipes.get_mut(&uid)?;
        let State::Waiting(lane, question) = std::mem::replace(&mut entry.state, State::Running)
        else {
            return None;
        };
        let wish = entry.wish;
        *self.running(lane) += 1;
        Some((Ticket { uid, wish, lane }, question))
    }

    /// A first try has taken all its time: whether it may go on, in the other lane.
    pub(crate) fn overruns(&mut self, ticket: &mut Ticket) -> bool {
        if ticket.lane == Lane::Long || self.long >= LONG_AT_ONCE {
            return false;
        }
        self.first = self.first.saturating_sub(1);
        self.long += 1;
        ticket.lane = Lane::Long;
        true
    }

    /// A first try was broken off, and is to be made again in the other lane.
    pub(crate) fn put_back(&mut self, ticket: &Ticket, question: Question) {
        if let Some(entry) = self.leave(ticket) {
            entry.state = State::Waiting(Lane::Long, question);
        }
    }

    /// A check is over.
    pub(crate) fn finish(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant) {
        let longest = self.longest_pause;
        let Some(entry) = self.leave(ticket) else {
            return;
        };
        let pause = match &verdict {
            Verdict::Good(_) => None,
            Verdict::Bad { fault, .. } if waits_for_a_person(fault.reason) => Some(longest),
            Verdict::Bad { .. } => {
                let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(entry.bad.min(20)));
                Some(doubled.min(longest))
            }
        };
        entry.bad = match pause {
            Some(_) => entry.bad.saturating_add(1),
            None => 0,
        };
        entry.state = State::Idle;
        // What is good is so until the pipe changes.
        let due = now + pause.unwrap_or(FOR_GOOD);
        entry.known = Some((verdict, due));
    }

    /// Gives the ticket's place back; nothing if the pipe has changed since.
    fn leave(&mut self, ticket: &Ticket) -> Option<&mut Entry<Question>> {
        let running = self.running(ticket.lane);
        *running = running.saturating_sub(1);
        let entry = self.pipes.get_mut(&ticket.uid)?;
        (entry.wish == ticket.wish).then_some(entry)
    }

    fn running(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::First => &mut self.first,
            Lane::Long => &mut self.long,
        }
    }

    fn waiting(&self, lane: Lane) -> impl Iterator<Item = (&String, u64)> {
        self.pipes.iter().filter_map(move |(uid, entry)| {
            let waits = matches!(&entry.state, State::Waiting(its, _) if *its == lane);
            waits.then_some((uid, entry.wish))
        })
    }
}

/// As long as any process runs.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_crds::conditions::Reason;

    const RESYNC: Duration = Duration::from_mins(5);

    fn agenda() -> (Agenda<()>, Instant) {
        (Agenda::new(RESYNC), Instant::now())
    }

    fn bad(reason: Reason) -> Verdict {
        Verdict::Bad {
            fault: Fault::new(reason, "why"),
            reader_refused: false,
            unknown: None,
        }
    }

    fn wish(agenda: &mut Agenda<()>, uid: &str, now: Instant) -> Option<Verdict> {
        agenda.consult(uid, "1", now, || ())
    }

    fn started(agenda: &mut Agenda<()>) -> Vec<(String, Lane)> {
        let tickets = std::iter::from_fn(|| agenda.start());
        tickets
            .map(|(ticket, ())| (ticket.uid, ticket.lane))
            .collect()
    }

    #[test]
    fn a_change_does_not_wait_behind_slow_checks_of_others() {
        let (mut agenda, now) = agenda();
        for number in 0..100 {
            assert_eq!(wish(&mut agenda, &format!("slow{number}"), now), None);
        }
        let mut tickets: Vec<Ticket> = (0..4).map(|_| agenda.start().unwrap().0).collect();
        assert!(agenda.start().is_none());
        // Two go on in the other lane, for the third there is no place.
        assert!(agenda.overruns(&mut tickets[0]) && agenda.overruns(&mut tickets[1]));
        assert!(!agenda.overruns(&mut tickets[2]));
        wish(&mut agenda, "changed", now);
        let next = started(&mut agenda);
        assert_eq!(next[0], ("changed".to_owned(), Lane::First));
        assert_eq!(next.len(), 2);
        // The one that was broken off has its turn when all that are new have had theirs.
        agenda.put_back(&tickets[2], ());
        assert_eq!(started(&mut agenda).len(), 1);
        agenda.finish(&tickets[0], Verdict::Good(Vec::new()), now);
        let (next, ()) = agenda.start().unwrap();
        assert_eq!((next.uid, next.lane), (tickets[2].uid.clone(), Lane::Long));
    }

    #[test]
    fn every_pipe_is_tried_however_slow_all_are() {
        let (mut agenda, now) = agenda();
        for number in 0..50 {
            wish(&mut agenda, &number.to_string(), now);
        }
        let mut judged = BTreeSet::new();
        while let Some((ticket, ())) = agenda.start() {
            if ticket.lane == Lane::First {
                agenda.put_back(&ticket, ());
                continue;
            }
            agenda.finish(&ticket, Verdict::Good(Vec::new()), now);
            assert!(judged.insert(ticket.uid), "asked again");
        }
        assert_eq!(judged.len(), 50);
        assert!(!agenda.is_open_since(0));
    }

    #[test]
    fn nothing_is_asked_twice_while_nothing_changes() {
        let (mut agenda, now) = agenda();
        for (uid, verdict) in [
            ("good", Verdict::Good(Vec::new())),
            ("bad", bad(Reason::ClickHouseRefused)),
        ] {
            wish(&mut agenda, uid, now);
            let (ticket, ()) = agenda.start().unwrap();
            agenda.finish(&ticket, verdict.clone(), now);
            assert_eq!(wish(&mut agenda, uid, now), Some(verdict));
        }
        assert!(agenda.start().is_none());
        // What is bad is asked again on the timer, and when ClickHouse has changed.
        for later in [now + RESYNC, now] {
            agenda.reconsider(later);
            wish(&mut agenda, "good", later);
            assert!(wish(&mut agenda, "bad", later).is_some());
            let (ticket, ()) = agenda.start().unwrap();
            assert_eq!(ticket.uid, "bad");
            agenda.finish(&ticket, bad(Reason::ClickHouseRefused), later);
            assert!(agenda.start().is_none());
        }
    }

    #[test]
    fn what_may_get_better_is_asked_later_each_time() {
        let (mut agenda, mut now) = agenda();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            wish(&mut agenda, "p", now);
            let (ticket, ()) = agenda.start().unwrap();
            agenda.finish(&ticket, bad(Reason::ClickHouseBusy), now);
            let due = agenda.pipes["p"].known.as_ref().unwrap().1;
            pauses.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(pauses[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(pauses[11], RESYNC.as_millis());
    }

    #[test]
    fn an_answer_about_an_older_revision_says_nothing() {
        let (mut agenda, now) = agenda();
        wish(&mut agenda, "p", now);
        let (older, ()) = agenda.start().unwrap();
        agenda.consult("p", "2", now, || ());
        let (newer, ()) = agenda.start().unwrap();
        agenda.finish(&older, Verdict::Good(Vec::new()), now);
        assert_eq!(agenda.consult("p", "2", now, || ()), None);
        agenda.finish(&newer, bad(Reason::ClickHouseRefused), now);
        let known = agenda.consult("p", "2", now, || ());
        assert_eq!(known, Some(bad(Reason::ClickHouseRefused)));
        assert_eq!((agenda.first, agenda.long), (0, 0));
    }

    #[test]
    fn a_refused_password_is_set_again_in_its_time() {
        let (mut agenda, now) = agenda();
        wish(&mut agenda, "p", now);
        let (ticket, ()) = agenda.start().unwrap();
        let refused = Verdict::Bad {
            fault: Fault::new(Reason::DependencyNotReady, "why"),
            reader_refused: true,
            unknown: None,
        };
        agenda.finish(&ticket, refused, now);
        agenda.reconsider(now);
        assert!(!agenda.reader_is_refused(now));
        assert!(agenda.reader_is_refused(now + FIRST_PAUSE));
    }
}
