//! Which statements ask about users and their rights, and whether about more users than they name.
//!
//! Answers come from libchdb's system tables, which know users as they were
//! when it opened. Only freshness depends on this file: what somebody may do
//! is decided elsewhere.

use crate::sql::lexer::Kind;
use crate::sql::statement::Statement;

/// The tables of `system` that tell of users and their rights.
const TABLES: [&str; 16] = [
    "users",
    "roles",
    "grants",
    "role_grants",
    "current_roles",
    "enabled_roles",
    "settings_profiles",
    "settings_profile_elements",
    "row_policies",
    "masking_policies",
    "quotas",
    "quota_limits",
    "quota_usage",
    "quotas_usage",
    "user_directories",
    "privileges",
];

/// Table functions that reach tables by name or pattern.
const REACHING: [&str; 6] = [
    "merge",
    "remote",
    "remoteSecure",
    "cluster",
    "clusterAllReplicas",
    "loop",
];

/// What `SHOW` can show of access control.
const SHOWN: [&str; 12] = [
    "GRANTS", "ACCESS", "USER", "USERS", "ROLE", "ROLES", "PROFILE", "PROFILES", "POLICY",
    "POLICIES", "QUOTA", "QUOTAS",
];

/// What ends a `WHERE`.
const CLAUSES: [&str; 13] = [
    "GROUP",
    "ORDER",
    "LIMIT",
    "HAVING",
    "SETTINGS",
    "FORMAT",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "QUALIFY",
    "WINDOW",
    "OFFSET",
    "FETCH",
];

/// Whether the statement asks about access at all.
pub(super) fn asks(statement: &Statement<'_>, database: &str) -> bool {
    asks_in_words(statement) || !access_tables(statement, database).is_empty()
}

/// Whether the statement asks about users whom it does not name.
pub(super) fn asks_at_large(statement: &Statement<'_>, database: &str) -> bool {
    asks_in_words(statement)
        || access_tables(statement, database)
            .into_iter()
            .any(|table| !table.is_limited(statement))
}

/// By `SHOW`, `CHECK GRANT`, or a function that may reach any table.
fn asks_in_words(statement: &Statement<'_>) -> bool {
    let shows = statement.is(0, "SHOW") && SHOWN.iter().any(|word| statement.mentions(word));
    let reaches = || {
        let called = |index| {
            statement.is_symbol(index + 1, b'(')
                && REACHING.iter().any(|name| statement.is(index, name))
        };
        (0..statement.tokens.len()).any(called)
            && memchr::memmem::find(&statement.text.to_ascii_lowercase(), b"system").is_some()
    };
    shows || statement.are(0, &["CHECK", "GRANT"]) || reaches()
}

/// A table of access control in a statement: `[system.]name`.
struct AccessTable {
    start: usize,
    end: usize,
    /// Its column with the names of users, if it has one.
    user_column: Option<&'static str>,
}

fn access_tables(statement: &Statement<'_>, database: &str) -> Vec<AccessTable> {
    let is_system = |name: &str| name.eq_ignore_ascii_case("system");
    let mut found = Vec::new();
    for index in 0..statement.tokens.len() {
        let Some(name) = statement.name(index) else {
            continue;
        };
        let Some(table) = TABLES
            .iter()
            .find(|table| table.eq_ignore_ascii_case(&name))
        else {
            continue;
        };
        let qualified = index >= 2 && statement.is_symbol(index - 1, b'.');
        let start = if qualified { index - 2 } else { index };
        let of_system = if qualified {
            statement.name(start).is_some_and(|name| is_system(&name))
        } else {
            is_system(database)
        };
        if of_system {
            found.push(AccessTable {
                start,
                end: index + 1,
                user_column: match *table {
                    "users" => Some("name"),
                    "grants" | "role_grants" | "settings_profile_elements" => Some("user_name"),
                    _ => None,
                },
            });
        }
    }
    found
}

impl AccessTable {
    /// Whether only rows of users can come of it whose names stand in the
    /// statement: `WHERE name IN ('a', 'b')`, perhaps among other conditions
    /// that all must hold, or a join on a table for which that is true.
    fn is_limited(&self, statement: &Statement<'_>) -> bool {
        let Some(user_column) = self.user_column else {
            return false;
        };
        let before = |word: &str| self.start > 0 && statement.is(self.start - 1, word);
        let (alias, after) = self.alias(statement);
        if before("JOIN") {
            return alias
                .and_then(|alias| joined_to(statement, after, &alias))
                .is_some_and(|(other, after)| {
                    ["name", "user_name"]
                        .iter()
                        .any(|column| limits(statement, after, Some(&other), column))
                });
        }
        before("FROM") && limits(statement, after, alias.as_deref(), user_column)
    }

    /// The name it goes by in its query, and where the text goes on.
    fn alias(&self, statement: &Statement<'_>) -> (Option<String>, usize) {
        let at = self.end + usize::from(statement.is(self.end, "AS"));
        let named = at > self.end
            || statement
                .tokens
                .get(at)
                .is_some_and(|token| matches!(token.kind, Kind::Word | Kind::Quoted))
                && !["WHERE", "INNER", "LEFT", "JOIN"]
                    .iter()
                    .chain(&CLAUSES)
                    .any(|word| statement.is(at, word));
        if named {
            (statement.name(at), at + 1)
        } else {
            (None, self.end)
        }
    }
}

/// For `ON this.key = other.key WHERE` at `at`: the other one, and where `WHERE` is.
fn joined_to(statement: &Statement<'_>, at: usize, alias: &str) -> Option<(String, usize)> {
    const KEYS: [&str; 4] = ["name", "user_name", "profile_name", "inherit_profile"];
    let column = |at: usize| {
        let key = statement.name(at + 2)?;
        (statement.is_symbol(at + 1, b'.') && KEYS.contains(&key.as_str()))
            .then(|| statement.name(at))?
    };
    if !statement.is(at, "ON")
        || !statement.is_symbol(at + 4, b'=')
        || !statement.is(at + 8, "WHERE")
    {
        return None;
    }
    let (left, right) = (column(at + 1)?, column(at + 5)?);
    let other = if left == alias { right } else { left };
    Some((other, at + 8))
}

/// Whether the `WHERE` of the query that goes on at `from` lets only named
/// users pass in this column.
fn limits(statement: &Statement<'_>, from: usize, alias: Option<&str>, column: &str) -> bool {
    let rest = rest_of_query(statement, from);
    let at = |words: &[&str]| {
        rest.iter()
            .position(|index| words.iter().any(|word| statement.is(*index, word)))
    };
    let Some(start) = at(&["WHERE"]) else {
        return false;
    };
    let end = at(&CLAUSES).unwrap_or(rest.len());
    let (tables, condition) = (&rest[..start], rest.get(start + 1..end).unwrap_or_default());
    // Beside another table, a name without an alias may be a column of that.
    let alone = !tables
        .iter()
        .any(|index| statement.is(*index, "JOIN") || statement.is_symbol(*index, b','));
    let other_than_and = condition.iter().any(|index| {
        statement.is_symbol(*index, b'?')
            || ["OR", "BETWEEN", "CASE"]
                .iter()
                .any(|word| statement.is(*index, word))
    });
    !other_than_and
        && condition
            .split(|index| statement.is(*index, "AND"))
            .any(|part| {
                names_users(statement, part, column, |qualifier| {
                    if qualifier.is_some() {
                        qualifier == alias
                    } else {
                        alone
                    }
                })
            })
}

/// The tokens from `from` to the end of its query that are in no parentheses,
/// opening ones included.
fn rest_of_query(statement: &Statement<'_>, from: usize) -> Vec<usize> {
    let mut depth = 0_i32;
    let mut found = Vec::new();
    for index in from..statement.tokens.len() {
        if depth == 0 {
            found.push(index);
        }
        match statement.tokens[index].kind {
            Kind::Symbol(b'(' | b'[' | b'{') => depth += 1,
            Kind::Symbol(b')' | b']' | b'}') => depth -= 1,
            _ => {}
        }
        if depth < 0 || (depth == 0 && statement.is(index, "UNION")) {
            found.pop();
            break;
        }
    }
    found
}

/// Whether this is `[qualifier.]column IN ('a', 'b')` or `[qualifier.]column = 'a'`.
fn names_users(
    statement: &Statement<'_>,
    part: &[usize],
    column: &str,
    may_qualify: impl Fn(Option<&str>) -> bool,
) -> bool {
    let (Some(&first), Some(&last)) = (part.first(), part.last()) else {
        return false;
    };
    let qualifier = statement
        .is_symbol(first + 1, b'.')
        .then(|| statement.name(first))
        .flatten();
    let at = if qualifier.is_some() {
        first + 2
    } else {
        first
    };
    if statement.name(at).as_deref() != Some(column) || !may_qualify(qualifier.as_deref()) {
        return false;
    }
    let is_string = |index: usize| {
        statement
            .tokens
            .get(index)
            .is_some_and(|token| token.kind == Kind::String)
    };
    let equals = statement.is_symbol(at + 1, b'=') && is_string(at + 2) && last == at + 2;
    // Of what is in parentheses, a part has the opening one only.
    let listed = statement.is(at + 1, "IN") && statement.is_symbol(at + 2, b'(') && last == at + 2;
    let literals = || {
        (at + 3..)
            .step_by(2)
            .take_while(|index| is_string(*index))
            .map(|index| index + 1)
            .find(|index| !statement.is_symbol(*index, b','))
            .is_some_and(|index| statement.is_symbol(index, b')'))
    };
    equals || (listed && literals())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The query by which the operator observes a workspace, word for word.
    const OBSERVE: &str = include_str!("../../tests/observe.sql");

    #[test]
    fn questions_about_named_users_are_known() {
        let database = "default";
        for (text, at_large) in [
            (OBSERVE, false),
            ("SELECT count() FROM t WHERE user_name = 'grants'", false),
            ("SELECT user, role, grants FROM d.users", false),
            ("SELECT name FROM system.tables", false),
            ("SELECT name FROM System.`Users`", true),
            ("SELECT * FROM system.users WHERE name = 'a'", false),
            (
                "SELECT * FROM system.users WHERE name IN ('a', 'b') AND 1 ORDER BY name",
                false,
            ),
            (
                "SELECT * FROM system.users u WHERE x(1 OR 2) AND u.name IN ('a')",
                false,
            ),
            ("SELECT * FROM system.users u WHERE v.name IN ('a')", true),
            ("SELECT * FROM system.users WHERE name IN ('a') OR 1", true),
            ("SELECT * FROM system.users WHERE NOT name IN ('a')", true),
            ("SELECT * FROM system.users WHERE name NOT IN ('a')", true),
            ("SELECT * FROM system.users WHERE name IN ('a') = 0", true),
            (
                "SELECT * FROM system.users WHERE CASE WHEN 1 AND name = 'a' AND 1 THEN 0 END",
                true,
            ),
            (
                "SELECT * FROM system.users WHERE [0 AND name = 'a' AND 1][1] = 0",
                true,
            ),
            (
                "SELECT * FROM system.users WHERE name IN (SELECT 'a')",
                true,
            ),
            (
                "SELECT * FROM system.users WHERE name IN ('a', lower('B'))",
                true,
            ),
            (
                "SELECT * FROM system.users WHERE name = {name:String}",
                true,
            ),
            (
                "SELECT * FROM system.users UNION ALL SELECT * FROM t WHERE name = 'a'",
                true,
            ),
            (
                "SELECT (SELECT count() FROM system.users) FROM t WHERE name = 'a'",
                true,
            ),
            (
                "SELECT * FROM system.users, system.grants WHERE name = 'a'",
                true,
            ),
            ("SELECT * FROM system.grants WHERE name = 'a'", true),
            ("SELECT * FROM system.roles WHERE name = 'a'", true),
            (
                "SELECT * FROM system.users u JOIN system.grants g ON u.name = g.user_name WHERE u.name = 'a'",
                false,
            ),
            (
                "SELECT * FROM system.users u JOIN system.grants g ON u.name != g.user_name WHERE u.name = 'a'",
                true,
            ),
            (
                "SELECT * FROM system.users u JOIN t ON 1 WHERE name = 'a'",
                true,
            ),
            ("SELECT * FROM merge('system', 'users')", true),
            ("SELECT * FROM merge('d', 'users')", false),
            ("SHOW GRANTS", true),
            ("SHOW CREATE TABLE t", false),
            ("SHOW CREATE USER u", true),
            ("CHECK GRANT SELECT ON a.b", true),
        ] {
            let statement = Statement::new(text.as_bytes());
            assert_eq!(asks_at_large(&statement, database), at_large, "{text}");
        }
        assert!(asks(&Statement::new(OBSERVE.as_bytes()), database));
        assert!(!asks(&Statement::new(b"SELECT user FROM t"), database));
    }

    #[test]
    fn in_the_database_system_names_stand_alone() {
        let asks = |text: &str| asks_at_large(&Statement::new(text.as_bytes()), "system");
        assert!(asks("SELECT * FROM users"));
        assert!(!asks("SELECT * FROM users WHERE name = 'a'"));
        assert!(!asks("SELECT * FROM d.users"));
    }
}
