//! The references of statements, by the parser and by the scanner behind it.

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

/// References in one line: tables, `?` possible tables, `()` table functions.
fn shown(references: &References) -> String {
    let name = |table: &TableReference| match &table.database {
        Some(database) => format!("{database}.{}", table.name),
        None => table.name.clone(),
    };
    let tables = references.tables.iter().map(name);
    let possible = references
        .possible_tables
        .iter()
        .map(|table| format!("{}?", name(table)));
    let functions = references
        .table_functions
        .iter()
        .map(|function| format!("{function}()"));
    let all: Vec<_> = tables.chain(possible).chain(functions).collect();
    all.join(" ")
}

/// Statements that both ways of reading agree on.
const PLAIN: &[(&str, &str)] = &[
    ("SELECT 1", ""),
    ("SELECT * FROM flights", "flights"),
    ("SELECT * FROM d.flights FINAL", "d.flights"),
    ("SELECT * FROM `we``ird`.\"name\"", "we`ird.name"),
    ("FROM flights SELECT carrier", "flights"),
    ("SELECT 'FROM x' FROM a -- FROM b", "a"),
    (
        "SELECT * FROM a ASOF LEFT JOIN b USING (k, t) GLOBAL ANY JOIN d.c ON a.x = c.x",
        "a b d.c",
    ),
    ("SELECT * FROM t ARRAY JOIN arr AS z", "t"),
    (
        "SELECT * FROM t LEFT ARRAY JOIN arrayMap(x -> x + 1, arr) AS z",
        "t",
    ),
    (
        "SELECT (SELECT max(x) FROM a) FROM b WHERE y IN (SELECT z FROM c)",
        "a b c",
    ),
    ("SELECT * FROM (SELECT * FROM (SELECT * FROM a))", "a"),
    ("SELECT 1 FROM a UNION ALL SELECT 2 FROM b", "a b"),
    (
        "SELECT 1 FROM a INTERSECT SELECT 2 FROM b EXCEPT SELECT 3 FROM c",
        "a b c",
    ),
    ("WITH a AS (SELECT * FROM t) SELECT * FROM a", "t"),
    (
        "WITH a AS (SELECT * FROM t) SELECT 1 FROM a UNION ALL SELECT 2 FROM a",
        "t",
    ),
    (
        "WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b",
        "",
    ),
    ("WITH 5 AS a SELECT * FROM a", "a"),
    ("WITH (SELECT max(x) FROM t) AS m SELECT m FROM m", "m t"),
    (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r JOIN t USING n) SELECT * FROM r",
        "t",
    ),
    ("SELECT * FROM a, b AS x, c y, d.e WHERE f, g", "a b c d.e"),
    ("SELECT * FROM numbers(10)", "numbers()"),
    (
        "SELECT * FROM t JOIN generateRandom('x UInt8') AS r ON 1",
        "t generateRandom()",
    ),
    (
        "SELECT x IN flights FROM t WHERE y NOT IN d.other",
        "t flights? d.other?",
    ),
    ("WITH a AS (SELECT 1) SELECT x IN a FROM t", "t"),
    ("SELECT x IN (1, 2), y IN {p_y:Array(Int32)} FROM t", "t"),
    (
        "SELECT dictGet('d.x', 'a', k), dictGetOrDefault('y', 'a', k, 0) FROM t",
        "t y d.x",
    ),
    ("SELECT joinGet('j', 'v', k) FROM t", "j t"),
    (
        "SELECT {p_x:Int32}, x ? 1 : 2, t.1, x::String FROM t LIMIT 1 BY x LIMIT 5",
        "t",
    ),
    (
        "SELECT * FROM t SAMPLE 0.1 PREWHERE x WHERE y SETTINGS max_threads = 1",
        "t",
    ),
    (
        "SELECT * EXCEPT (a) REPLACE (b AS c) APPLY (sum) FROM t",
        "t",
    ),
    (
        "SELECT quantilesIf(0.5, 0.9)(x, y > 0) OVER (PARTITION BY z) FROM t",
        "t",
    ),
];

/// Statements where a name means different things in different places, which
/// only the parser tells apart.
const SCOPED: &[(&str, &str)] = &[
    ("WITH a AS (SELECT * FROM a) SELECT * FROM a", "a"),
    (
        "SELECT * FROM (WITH a AS (SELECT * FROM b) SELECT * FROM a) JOIN a USING x",
        "a b",
    ),
    (
        "WITH a AS (WITH b AS (SELECT * FROM c) SELECT * FROM b) SELECT * FROM a, b",
        "b c",
    ),
    ("SELECT * FROM view(SELECT * FROM t)", "t view()"),
    (
        "SELECT extract(YEAR FROM day), trim(BOTH ' ' FROM name) FROM t",
        "t",
    ),
    (
        "SELECT in(x, flights), dictGet(d.x, 'a', 1) FROM t",
        "t d.x flights?",
    ),
];

#[test]
fn the_parser_finds_references() {
    for (sql, expected) in PLAIN.iter().chain(SCOPED) {
        assert!(parse(sql).is_some(), "not understood: {sql}");
        assert_eq!(shown(&references(sql)), *expected, "{sql}");
    }
}

#[test]
fn the_scanner_finds_references() {
    for (sql, expected) in PLAIN {
        assert_eq!(shown(&by_keyword::references(sql)), *expected, "{sql}");
    }
}

#[test]
fn the_scanner_serves_what_the_parser_refuses() {
    for (sql, expected) in [
        ("SELECT x FROM both", "both"),
        ("SELECT x FROM leading, `final`", "final leading"),
        ("SELECT ?? FROM flights JOIN d.b WHERE ((", "flights d.b"),
        ("WITH a AS (SELECT x FROM both) SELECT x FROM a", "both"),
    ] {
        assert!(parse(sql).is_none(), "understood: {sql}");
        assert_eq!(shown(&references(sql)), expected, "{sql}");
    }
}

#[test]
fn names_that_a_statement_gives_are_known() {
    let names = |sql: &str| references(sql).own_names.into_iter().collect::<Vec<_>>();
    let sql = "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b), 5 AS c SELECT * FROM a";
    assert_eq!(names(sql), ["a", "b"]);
    assert_eq!(names(&format!("{sql} UNION ALL SELECT 2")), ["a", "b"]);
    assert!(names("SELECT a AS b FROM (SELECT 1) AS c").is_empty());
}

#[test]
fn deep_statements_end_in_an_answer() {
    for (opening, closing) in [
        ("(", ")"),
        ("(SELECT * FROM ", ")"),
        ("[", "]"),
        ("f(", ")"),
    ] {
        for depth in [100, 5_000] {
            let sql = format!(
                "SELECT * FROM t WHERE x IN {}1{}",
                opening.repeat(depth),
                closing.repeat(depth)
            );
            assert!(
                references(&sql)
                    .tables
                    .contains(&TableReference::unqualified("t"))
            );
        }
    }
}

proptest! {
    #[test]
    fn any_text_has_references(sql in any::<String>()) {
        references(&sql);
    }

    #[test]
    fn any_words_have_references(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "SELECT", "FROM", "JOIN", "WITH", "AS", "IN", "(", ")", ",", ".", "a", "b", "'x'",
                "UNION ALL", "ARRAY JOIN", "dictGet", "`", "'", "--", "\n", "1", "*", "=", "CASE",
                "WHEN", "->", "[", "]", "RECURSIVE", "FINAL", "{", "}", ":",
            ]),
            0..40,
        )
    ) {
        references(&words.join(" "));
    }
}
