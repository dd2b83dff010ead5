//! Takes definitions apart that ClickHouse gives as text: engine clauses, lists of
//! keys, codecs and the head of a view. The texts are ClickHouse's own formatting,
//! so strings, quoted names and brackets are all that must be understood.

use aviary_plan::catalog::TableEngine;
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
    let outside = outside_of_brackets(text);
    let clause_at = |clause: &str| {
        text.match_indices(clause)
            .map(|(at, _)| at)
            .find(|at| outside[*at])
    };
    let mut starts: Vec<(usize, &str)> = CLAUSES
        .iter()
        .filter_map(|clause| Some((clause_at(clause)?, *clause)))
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
    let each = list(text);
    let pairs = each.iter().filter_map(|item| item.split_once(" = "));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn engine_head(head: &str) -> Option<TableEngine> {
    let (name, arguments) = match head.split_once('(') {
        Some((name, rest)) => (name, list(rest.strip_suffix(')')?)),
        None => (head, Vec::new()),
    };
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

/// Reads `a, f(b, c)`.
pub(super) fn list(text: &str) -> Vec<String> {
    let outside = outside_of_brackets(text);
    let mut items = Vec::new();
    let mut start = 0;
    for (at, character) in text.char_indices() {
        if character == ',' && outside[at] {
            items.push(text[start..at].trim().to_owned());
            start = at + 1;
        }
    }
    items.push(text[start..].trim().to_owned());
    items.retain(|item| !item.is_empty());
    items
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
    let outside = outside_of_brackets(rest);
    let end = rest
        .match_indices(" AS ")
        .map(|(at, _)| at)
        .find(|at| outside[*at])
        .unwrap_or(rest.len());
    let definer = rest[..end]
        .match_indices("DEFINER = ")
        .find(|(at, _)| outside[*at])
        .and_then(|(at, word)| dotted_name(&rest[at + word.len()..]))
        .map(|(name, _)| name.join("."));
    Some(ViewHead { target, definer })
}

/// Reads `` a.`b` `` and gives what follows.
fn dotted_name(text: &str) -> Option<(Vec<String>, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = name(rest)?;
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None => return Some((parts, after)),
        }
    }
}

fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('`') else {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '`' => return Some((value, &quoted[at + 1..])),
            other => value.push(other),
        }
    }
    None
}

/// For each byte whether it stands outside of brackets, strings and quoted names.
fn outside_of_brackets(text: &str) -> Vec<bool> {
    let mut outside = Vec::with_capacity(text.len());
    let mut depth = 0usize;
    let mut quote: Option<u8> = None;
    let mut escaped = false;
    for byte in text.bytes() {
        if let Some(open) = quote {
            outside.push(false);
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == open {
                quote = None;
            }
            continue;
        }
        match byte {
            b'\'' | b'`' | b'"' => quote = Some(byte),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        outside.push(depth == 0 && quote.is_none());
    }
    outside
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

    #[test]
    fn lists_come_apart() {
        assert_eq!(
            list("a, f(b, 'c, d'), `e, f`"),
            ["a", "f(b, 'c, d')", "`e, f`"]
        );
        assert!(list("").is_empty());
    }
}
