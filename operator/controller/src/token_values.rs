//! Who has which token value. A value belongs to the workspace that published it first, for as
//! long as that workspace exists, also after its token has another one: clients that still send
//! the old value must never reach another tenant. Pure.

use aviary_crds::Scope;
use aviary_crds::published::{FormerValue, PublishedToken, ValueClaim, WorkspaceAccess};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Former values that are kept for a workspace; the longest given up go first.
const MOST_FORMER: usize = 500;

/// A token whose Secret holds a value.
#[derive(Clone, Debug)]
pub(crate) struct GivenToken {
    /// Name of the `AccessToken`.
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) sha256: String,
    pub(crate) scopes: Vec<Scope>,
}

/// Which tokens open the workspace.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Settled {
    /// By name.
    pub(crate) tokens: Vec<PublishedToken>,
    pub(crate) former_values: Vec<FormerValue>,
    /// Names of those whose value is somebody else's.
    pub(crate) taken: Vec<String>,
}

/// Decides which of the tokens may have their values. `known` is what the workspace's Secret
/// holds, `others` tells the least claim that another workspace has to a value.
pub(crate) fn settle(
    known: Option<&WorkspaceAccess>,
    secret: &str,
    mut given: Vec<GivenToken>,
    others: impl Fn(&str) -> Option<ValueClaim>,
    now: Timestamp,
) -> Settled {
    let known_tokens = known.map_or(&[][..], |known| &known.tokens);
    let since: BTreeMap<&str, Timestamp> = known
        .into_iter()
        .flat_map(WorkspaceAccess::claimed_values)
        .collect();
    let is_another_s = |sha256: &str| {
        let own = since.get(sha256).map(|since| ValueClaim {
            since: *since,
            secret: secret.to_owned(),
        });
        others(sha256).is_some_and(|other| own.is_none_or(|own| other < own))
    };
    // Of two in this workspace, too, who has the value keeps it; else the older gets it.
    given.sort_by_cached_key(|token| {
        let has_it = known_tokens
            .iter()
            .any(|known| known.name == token.name && known.sha256 == token.sha256);
        (!has_it, token.created, token.name.clone())
    });
    let mut settled = Settled::default();
    let mut used = BTreeSet::new();
    for token in given {
        if is_another_s(&token.sha256) || !used.insert(token.sha256.clone()) {
            settled.taken.push(token.name);
            continue;
        }
        settled.tokens.push(PublishedToken {
            since: match since.get(token.sha256.as_str()) {
                // Published by an operator that did not note it yet.
                Some(since) if *since == Timestamp::UNIX_EPOCH => token.created,
                Some(since) => *since,
                None => now,
            },
            name: token.name,
            sha256: token.sha256,
            scopes: token.scopes,
        });
    }
    settled.tokens.sort_by(|a, b| a.name.cmp(&b.name));
    let given_up = known.into_iter().flat_map(|known| {
        let newly = known.tokens.iter().map(|token| FormerValue {
            sha256: token.sha256.clone(),
            since: token.since,
        });
        known.former_values.iter().cloned().chain(newly)
    });
    settled.former_values = given_up
        .filter(|value| !used.contains(&value.sha256) && !is_another_s(&value.sha256))
        .collect();
    let surplus = settled.former_values.len().saturating_sub(MOST_FORMER);
    settled.former_values.drain(..surplus);
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use aviary_crds::published::ClickHouseUser;

    const MINE: &str = "aviary-workspace-mine";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A token made at a second, with a value.
    fn given(name: &str, created: i64, value: &str) -> GivenToken {
        GivenToken {
            name: name.to_owned(),
            created: at(created),
            sha256: value.to_owned(),
            scopes: Vec::new(),
        }
    }

    /// The document after a pass that was settled so.
    fn document(settled: &Settled) -> WorkspaceAccess {
        let user = |name: &str| ClickHouseUser {
            name: name.to_owned(),
            password: String::new().into(),
        };
        WorkspaceAccess {
            namespace: "shop".to_owned(),
            workspace: "orders".to_owned(),
            reader: user("reader"),
            writer: user("writer"),
            tokens: settled.tokens.clone(),
            former_values: settled.former_values.clone(),
            estate: None,
        }
    }

    fn nobody(_: &str) -> Option<ValueClaim> {
        None
    }

    /// Another workspace has every value since this second.
    fn another(since: i64) -> impl Fn(&str) -> Option<ValueClaim> {
        move |_| {
            Some(ValueClaim {
                since: at(since),
                secret: "aviary-workspace-a".to_owned(),
            })
        }
    }

    fn names(settled: &Settled) -> Vec<&str> {
        settled.tokens.iter().map(|token| &*token.name).collect()
    }

    #[test]
    fn a_newcomer_gets_no_value_that_another_workspace_has() {
        // Whatever the times: the other has it and this one does not.
        let settled = settle(None, MINE, vec![given("t", 1, "v")], another(50), at(10));
        assert_eq!(
            (names(&settled), &*settled.taken),
            (vec![], &["t".to_owned()][..])
        );
        assert_eq!(settled.former_values, []);
    }

    #[test]
    fn who_had_it_first_keeps_it_and_the_pass_after_changes_nothing() {
        let first = settle(None, MINE, vec![given("t", 1, "v")], nobody, at(10));
        assert_eq!(first.tokens[0].since, at(10));
        let known = document(&first);
        for others in [20, 10] {
            let again = settle(
                Some(&known),
                MINE,
                vec![given("t", 1, "v")],
                |value| another(others)(value).filter(|_| others > 10),
                at(99),
            );
            assert_eq!(again, first);
        }
        // Two were published in one moment: the later one has to go.
        let lost = settle(
            Some(&known),
            MINE,
            vec![given("t", 1, "v")],
            another(9),
            at(99),
        );
        assert_eq!(
            (&*lost.taken, lost.former_values),
            (&["t".to_owned()][..], vec![])
        );
    }

    #[test]
    fn a_value_that_was_rotated_away_stays_with_the_workspace() {
        let first = settle(None, MINE, vec![given("t", 1, "v")], nobody, at(10));
        let known = document(&first);
        let rotated = settle(Some(&known), MINE, vec![given("t", 1, "w")], nobody, at(20));
        assert_eq!(
            rotated.former_values,
            [FormerValue {
                sha256: "v".to_owned(),
                since: at(10)
            }]
        );
        // Without its token, too.
        let known = document(&rotated);
        let deleted = settle(Some(&known), MINE, Vec::new(), nobody, at(30));
        let former: Vec<&str> = deleted
            .former_values
            .iter()
            .map(|one| &*one.sha256)
            .collect();
        assert_eq!(former, ["v", "w"]);
        // And back: it is as old as it was.
        let known = document(&deleted);
        let back = settle(
            Some(&known),
            MINE,
            vec![given("t", 35, "v")],
            another(15),
            at(40),
        );
        assert_eq!((back.tokens[0].since, back.taken), (at(10), vec![]));
    }

    #[test]
    fn of_two_in_one_workspace_who_has_it_keeps_it() {
        let both = || vec![given("a-thief", 1, "v"), given("victim", 1, "v")];
        let first = settle(None, MINE, vec![given("victim", 1, "v")], nobody, at(10));
        let known = document(&first);
        let settled = settle(Some(&known), MINE, both(), nobody, at(20));
        assert_eq!(
            (names(&settled), &*settled.taken),
            (vec!["victim"], &["a-thief".to_owned()][..])
        );
        // Of two newcomers it is the older, and once it has gone the other.
        let newcomers = vec![given("a", 2, "v"), given("b", 1, "v")];
        let settled = settle(None, MINE, newcomers, nobody, at(20));
        assert_eq!(names(&settled), ["b"]);
        let known = document(&settled);
        let settled = settle(Some(&known), MINE, vec![given("a", 2, "v")], nobody, at(30));
        assert_eq!(
            (names(&settled), settled.tokens[0].since),
            (vec!["a"], at(20))
        );
    }

    #[test]
    fn what_was_published_without_a_time_is_as_old_as_its_token() {
        let first = settle(
            None,
            MINE,
            vec![given("t", 5, "v")],
            nobody,
            Timestamp::UNIX_EPOCH,
        );
        let noted = settle(
            Some(&document(&first)),
            MINE,
            vec![given("t", 5, "v")],
            nobody,
            at(99),
        );
        assert_eq!(noted.tokens[0].since, at(5));
    }

    #[test]
    fn former_values_are_bounded() {
        let mut known = document(&Settled::default());
        known.former_values = (0..MOST_FORMER + 10)
            .map(|number| FormerValue {
                sha256: number.to_string(),
                since: at(1),
            })
            .collect();
        let settled = settle(Some(&known), MINE, Vec::new(), nobody, at(2));
        assert_eq!(settled.former_values.len(), MOST_FORMER);
        assert_eq!(settled.former_values[0].sha256, "10");
    }
}
