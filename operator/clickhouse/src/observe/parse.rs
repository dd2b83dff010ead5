//! Takes definitions apart that ClickHouse gives as text: engine clauses, codecs and
//! the head of a view. The texts are ClickHouse's own formatting, so tokens are all
//! that must be understood.

use aviary_plan::catalog::TableEngine;
use aviary_sql::scanner::{Scanner, TokenKind, find_outside, list_items};
use std::collections::BTreeMap;

/// An engine with its arguments, and the TTL and settings of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EngineClauses {
    pub(super) engine: TableEngine,
    pub(super) ttl: Option<String>,
    pub(super) settings: BTreeMap<String, String>,
}

/// Reads `ReplacingMergeTree(v) PARTITION BY a ORDER BY b TTL c SETTINGS d = 1`.
pub(super) fn engine(text: &str) -> Option<EngineClauses> {
    const CLAUSES: [&str; 7] = [
        " PARTITION BY ",
        " PRIMARY KEY ",
        " ORDER BY ",
        " SAMPLE BY ",
        " TTL ",
        " SETTINGS ",
        " COMMENT ",
    ];
    let mut starts: Vec<(usize, &str)> = CLAUSES
        .iter()
        .filter_map(|clause| Some((find_outside(text, clause)?, *clause)))
        .collect();
    starts.sort_unstable();
    let head_end = starts.first().map_or(text.len(), |(at, _)| *at);
    let body_of = |wanted: &str| {
        let index = starts.iter().position(|(_, clause)| *clause == wanted)?;
        let start = starts[index].0 + wanted.len();
        let end = starts.get(index + 1).map_or(text.len(), |(at, _)| *at);
        Some(&text[start..end])
    };
    Some(EngineClauses {
        engine: engine_head(&text[..head_end])?,
        ttl: body_of(" TTL ").map(str::to_owned),
        settings: body_of(" SETTINGS ").map(settings).unwrap_or_default(),
    })
}

/// Reads `a = 1, b = 'c'`.
fn settings(text: &str) -> BTreeMap<String, String> {
    let pairs = list_items(text).into_iter();
    let pairs = pairs.filter_map(|item| item.split_once(" = "));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn engine_head(head: &str) -> Option<TableEngine> {
    let (name, arguments) = match head.split_once('(') {
        Some((name, rest)) => (name, list_items(rest.strip_suffix(')')?)),
        None => (head, Vec::new()),
    };
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let name = name.trim().trim_matches('`');
    let Some(family) = name.strip_prefix("Replicated") else {
        return Some(TableEngine {
            family: name.to_owned(),
            arguments,
            replication_path: None,
        });
    };
    let mut arguments = arguments.into_iter();
    let path = arguments.next().unwrap_or_default();
    Some(TableEngine {
        family: family.to_owned(),
        arguments: arguments.skip(1).collect(),
        replication_path: Some(path.trim_matches('\'').to_owned()),
    })
}

/// Reads `CODEC(Delta(4), LZ4)`.
pub(super) fn codec(text: &str) -> String {
    text.strip_prefix("CODEC(")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_default()
        .to_owned()
}

/// What a view's definition says before its query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ViewHead {
    target: Vec<String>,
    pub(super) definer: Option<String>,
}

impl ViewHead {
    /// The target's name, with its database if that is another.
    pub(super) fn target_in(&self, database: &str) -> String {
        match self.target.as_slice() {
            [own, name] if own == database => name.clone(),
            parts => parts.join("."),
        }
    }
}

/// Reads `CREATE MATERIALIZED VIEW a.b TO a.c (...) DEFINER = d SQL SECURITY DEFINER ...`.
pub(super) fn view_head(text: &str) -> Option<ViewHead> {
    let rest = text.strip_prefix("CREATE MATERIALIZED VIEW ")?;
    let (_, rest) = dotted_name(rest)?;
    let rest = rest.trim_start().strip_prefix("TO ")?;
    let (target, rest) = dotted_name(rest)?;
    // The words cannot come earlier than the definer: columns are in brackets.
    let head = &rest[..find_outside(rest, " AS ").unwrap_or(rest.len())];
    let definer = find_outside(head, DEFINER)
        .and_then(|at| dotted_name(&head[at + DEFINER.len()..]))
        .map(|(name, _)| name.join("."));
    Some(ViewHead { target, definer })
}

const DEFINER: &str = "DEFINER = ";

/// Reads `` a.`b` `` and gives what follows.
fn dotted_name(text: &str) -> Option<(Vec<String>, &str)> {
    let mut tokens = Scanner::new(text);
    let mut parts = Vec::new();
    loop {
        let part = tokens.next()?;
        parts.push(part.name(text)?);
        match tokens.next().map(|token| token.kind) {
            Some(TokenKind::Symbol('.')) => {}
            _ => return Some((parts, &text[part.end..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_come_apart() {
        let clauses = engine(
            "ReplacingMergeTree(v) PARTITION BY toYYYYMM(d) ORDER BY (a, c) TTL toDateTime(d) + toIntervalMonth(3) WHERE c = ' SETTINGS ' SETTINGS index_granularity = 8192, storage_policy = 'a, b'",
        )
        .unwrap();
        assert_eq!(clauses.engine.family, "ReplacingMergeTree");
        assert_eq!(clauses.engine.arguments, ["v"]);
        assert_eq!(
            clauses.ttl.as_deref(),
            Some("toDateTime(d) + toIntervalMonth(3) WHERE c = ' SETTINGS '")
        );
        let settings = [("index_granularity", "8192"), ("storage_policy", "'a, b'")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(clauses.settings, BTreeMap::from(settings));
        let clauses = engine("`Null`").unwrap();
        assert_eq!(clauses.engine.family, "Null");
        assert_eq!(clauses.ttl, None);
    }

    #[test]
    fn replication_is_set_apart() {
        let clauses = engine(
            "ReplicatedSummingMergeTree('/clickhouse/a/{shard}', '{replica}', (x, y)) ORDER BY a SETTINGS index_granularity = 8192",
        )
        .unwrap();
        assert_eq!(
            clauses.engine,
            TableEngine {
                family: "SummingMergeTree".to_owned(),
                arguments: vec!["(x, y)".to_owned()],
                replication_path: Some("/clickhouse/a/{shard}".to_owned()),
            }
        );
    }

    #[test]
    fn view_heads_come_apart() {
        let text = "CREATE MATERIALIZED VIEW `a-b`.d__ingest TO `a-b`.d (`x` Tuple(`TO` Int8)) DEFINER = `a-b__writer` SQL SECURITY DEFINER COMMENT 'DEFINER = x' AS SELECT 1 AS x FROM t";
        let head = view_head(text).unwrap();
        assert_eq!(head.target_in("a-b"), "d");
        assert_eq!(head.target_in("other"), "a-b.d");
        assert_eq!(head.definer.as_deref(), Some("a-b__writer"));
        let text = "CREATE MATERIALIZED VIEW a.b TO a.c AS SELECT 1";
        assert_eq!(view_head(text).unwrap().definer, None);
    }
}
