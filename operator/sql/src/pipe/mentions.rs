//! Names in a pipe's nodes, looked at as text: where they are used, which are given, and
//! which are near to one that nobody knows. ClickHouse speaks of the composed statement,
//! and a person of the nodes that it was composed of.

use super::node::Node;
use crate::Template;
use crate::scanner::{Token, TokenKind};
use crate::template::{OutlineItem, line_and_column, outline};
use std::collections::BTreeSet;
use std::fmt;

/// How many near names are worth showing.
const MOST_NEAR: usize = 3;

/// Where something stands in a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The line in its text, counted from 1.
    pub line: usize,
    /// The column in that line, counted from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, line, column } = self;
        write!(formatter, "node `{node}`, line {line}, column {column}")
    }
}

/// Where nodes use a name, which may have dots in it; not where `AS` gives it to something.
pub fn places(nodes: &[Node<'_>], name: &str) -> Vec<Place> {
    let wanted: Vec<&str> = name.split('.').collect();
    let mut found = Vec::new();
    for node in nodes {
        for token in uses(node.sql, &wanted) {
            let (line, column) = line_and_column(node.sql, token.start);
            found.push(Place {
                node: node.name.to_owned(),
                line,
                column,
            });
        }
    }
    found
}

/// The first token of each use of a name.
fn uses(sql: &str, wanted: &[&str]) -> Vec<Token> {
    let tokens = sql_tokens(sql);
    let is_symbol = |index: usize, symbol| {
        tokens
            .get(index)
            .is_some_and(|token| token.kind == TokenKind::Symbol(symbol))
    };
    // A name of two parts is three tokens: the dot is one.
    let length = wanted.len() * 2 - 1;
    let begins_at = |start: usize| {
        let follows = |(part, wanted): (usize, &&str)| {
            let index = start + part * 2;
            let named = tokens.get(index).and_then(|token| token.name(sql));
            named.as_deref() == Some(*wanted) && (part == 0 || is_symbol(index - 1, '.'))
        };
        let is_part_of_a_longer_one =
            start > 0 && is_symbol(start - 1, '.') || is_symbol(start + length, '.');
        let is_given = start > 0 && tokens[start - 1].is_keyword(sql, "AS");
        !is_part_of_a_longer_one && !is_given && wanted.iter().enumerate().all(follows)
    };
    let starts = (0..tokens.len()).filter(|start| begins_at(*start));
    starts.map(|start| tokens[start]).collect()
}

/// The names that a node gives with `AS`.
pub fn given_names(sql: &str) -> BTreeSet<String> {
    let tokens = sql_tokens(sql);
    let pairs = tokens.windows(2);
    pairs
        .filter(|pair| pair[0].is_keyword(sql, "AS"))
        .filter_map(|pair| pair[1].name(sql))
        .collect()
}

/// The names without a database that a node reads from, in any of its renderings.
pub fn tables_read(sql: &str) -> BTreeSet<String> {
    let Ok(template) = Template::parse(sql) else {
        return BTreeSet::new();
    };
    let references = template.references();
    references.unqualified_names().map(str::to_owned).collect()
}

fn sql_tokens(sql: &str) -> Vec<Token> {
    let items = outline(sql).unwrap_or_default();
    let tokens = items.into_iter().filter_map(|item| match item {
        OutlineItem::Sql(token) => Some(token),
        OutlineItem::Marks { .. } => None,
    });
    tokens.collect()
}

/// The known names that are near to a name, the nearest first: a third of its letters at
/// most are others, missing, too many or exchanged.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter(|known| *known != name)
        .map(|known| (strsim::osa_distance(&wanted, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(MOST_NEAR);
    near.into_iter().map(|(_, known)| known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(name: &'a str, sql: &'a str) -> Node<'a> {
        Node { name, sql }
    }

    fn shown(nodes: &[Node<'_>], name: &str) -> Vec<String> {
        let places = places(nodes, name);
        places.iter().map(Place::to_string).collect()
    }

    #[test]
    fn a_name_is_found_where_it_is_used() {
        let nodes = [
            node(
                "days",
                "SELECT\n  makeDate(yeer, 1, 1) AS day -- yeer\nFROM flights",
            ),
            node(
                "top",
                "SELECT 'yeer', f.yeer, {{ Int32(yeer, 1) }} AS yeer, `yeer` FROM days f",
            ),
        ];
        assert_eq!(
            shown(&nodes, "yeer"),
            [
                "node `days`, line 2, column 12",
                "node `top`, line 1, column 54"
            ]
        );
        assert_eq!(shown(&nodes, "f.yeer"), ["node `top`, line 1, column 16"]);
        assert_eq!(shown(&nodes, "flights"), ["node `days`, line 3, column 6"]);
        assert!(shown(&nodes, "year").is_empty());
        assert!(shown(&[node("broken", "SELECT {{")], "x").is_empty());
    }

    #[test]
    fn names_that_nodes_give_and_read() {
        let sql = "WITH x AS (SELECT 1 AS one) SELECT a AS `b c` FROM t, x {% if defined(y) %}JOIN u USING a{% end %}";
        let given: Vec<String> = given_names(sql).into_iter().collect();
        assert_eq!(given, ["b c", "one"]);
        let read: Vec<String> = tables_read(sql).into_iter().collect();
        assert_eq!(read, ["t", "u"]);
    }

    #[test]
    fn few_letters_may_differ() {
        let known = ["year", "month", "carrier", "Year", "years", "yearly", "day"];
        for (name, near) in [
            ("yeer", &["Year", "year"][..]),
            ("mnoth", &["month"]),
            ("carier", &["carrier"]),
            ("dya", &["day"]),
            ("origin", &[]),
            ("YEAR", &["Year", "year", "years"]),
            ("", &[]),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
    }
}
