//! Nodes put together into one statement.

use aviary_sql::{ComposeError, ComposeInput, Node, Template, compose, compose_with_pipes};
use pretty_assertions::assert_eq;

fn nodes<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Node<'a>> {
    pairs
        .iter()
        .map(|&(name, sql)| Node { name, sql })
        .collect()
}

/// Composes nodes, of which the last is the endpoint.
fn composed(pairs: &[(&str, &str)]) -> Result<String, ComposeError> {
    let endpoint = pairs.last().map_or("", |(name, _)| name);
    compose(&nodes(pairs), endpoint)
}

/// Composes nodes, of which the last is the endpoint, with pipes.
fn composed_with(pipes: &[(&str, &str)], pairs: &[(&str, &str)]) -> Result<String, ComposeError> {
    compose_with_pipes(ComposeInput {
        nodes: &nodes(pairs),
        pipes: &nodes(pipes),
        endpoint: pairs.last().map_or("", |(name, _)| name),
    })
}

fn message(result: Result<String, ComposeError>) -> String {
    match result {
        Ok(sql) => format!("no error: {sql}"),
        Err(error) => error.to_string(),
    }
}

macro_rules! golden {
    ($name:ident, $composed:expr) => {
        #[test]
        fn $name() {
            let sql = $composed.unwrap();
            Template::parse(&sql).unwrap();
            insta::assert_snapshot!(stringify!($name), sql);
        }
    };
}

golden!(
    chain,
    composed(&[
        (
            "filtered",
            "SELECT * FROM flights WHERE month = {{ Int32(month, 1) }} -- a comment"
        ),
        ("unused", "SELECT * FROM filtered"),
        (
            "named",
            "  SELECT f.*, a.name FROM filtered f JOIN airlines a USING carrier ;  "
        ),
        (
            "top",
            "SELECT name, count() AS flights FROM named GROUP BY name ORDER BY flights DESC LIMIT 5;;"
        ),
    ])
);
golden!(
    written_out_of_order,
    compose(
        &nodes(&[
            ("endpoint", "SELECT * FROM second"),
            ("second", "SELECT * FROM first JOIN other.first USING x"),
            ("first", "SELECT 1 AS x"),
        ]),
        "endpoint"
    )
);
golden!(
    own_with_is_merged,
    composed(&[
        ("a", "SELECT 1 AS x"),
        (
            "top",
            "/* why */ WITH /* so */ 5 AS y, b AS (SELECT x FROM a) SELECT x + y FROM b ORDER BY x"
        ),
    ])
);
golden!(
    own_recursive_with_is_merged,
    composed(&[
        ("a", "SELECT 3 AS x"),
        (
            "top",
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT x FROM a)) SELECT n FROM r"
        ),
    ])
);
golden!(
    parenthesised_union,
    composed(&[
        ("a", "SELECT 1 AS x"),
        ("top", "(SELECT x FROM a) UNION ALL (SELECT x + 1 FROM a)"),
    ])
);
golden!(
    endpoint_begins_with_a_choice,
    composed(&[
        ("a", "SELECT 1 AS x"),
        (
            "top",
            "{% if defined(y) %}WITH 1 AS z SELECT x + z FROM a{% else %}SELECT x FROM a{% end %}"
        ),
    ])
);
golden!(
    select_begins_with_a_choice,
    composed(&[
        ("a", "SELECT 1 AS x"),
        (
            "top",
            "{% if defined(y) %}SELECT x{% else %}SELECT x + 1{% end %} FROM a"
        ),
    ])
);
golden!(
    nodes_of_every_branch,
    composed(&[
        ("a", "SELECT 1 AS x"),
        ("b", "SELECT 2 AS x"),
        (
            "top",
            "SELECT x FROM {% if which == 'b' %}b{% else %}a{% end %}"
        ),
    ])
);
golden!(
    node_after_in,
    composed(&[
        ("wanted", "SELECT 1 AS x"),
        (
            "top",
            "SELECT count() FROM numbers(10) WHERE number IN wanted"
        ),
    ])
);
golden!(
    names_that_are_keywords,
    composed(&[("final", "SELECT 1 AS x"), ("top", "SELECT x FROM `final`"),])
);
golden!(
    alone,
    composed(&[("top", "% SELECT count() FROM flights -- all of them")])
);
golden!(
    other_pipes,
    composed_with(
        &[
            (
                "base",
                "WITH `inner` AS (\nSELECT 1 AS x\n)\nSELECT x FROM `inner`"
            ),
            ("left", "SELECT x FROM base"),
            ("right", "SELECT x + {{ Int32(step, 1) }} AS x FROM base"),
            ("unused", "this is no SQL {{"),
        ],
        &[
            ("both", "SELECT l.x AS l, r.x AS r FROM left l, right r"),
            ("top", "SELECT l + r FROM both"),
        ],
    )
);
golden!(
    one_name_given_in_several_places,
    composed_with(
        &[(
            "p",
            "WITH `filtered` AS (\nSELECT 1 AS x\n)\nSELECT x FROM filtered"
        )],
        &[
            (
                "filtered",
                "WITH inner AS (SELECT x + 1 AS x FROM p) SELECT x FROM inner"
            ),
            (
                "top",
                "WITH inner AS (SELECT x FROM filtered) SELECT p.x, inner.x FROM p, inner"
            ),
        ],
    )
);
golden!(
    node_named_like_a_pipe,
    composed_with(
        &[("base", "SELECT 1 AS x")],
        &[("base", "SELECT 2 AS x"), ("top", "SELECT x FROM base")],
    )
);

#[test]
fn refusals_name_the_node_and_the_place() {
    for (pairs, expected) in [
        (
            &[("a b", "SELECT 1")][..],
            "`a b` cannot name a node: use letters, digits and underscores, beginning with a letter or underscore",
        ),
        (
            &[("a", "SELECT 1"), ("a", "SELECT 2")],
            "two nodes are named `a`",
        ),
        (
            &[("a", "SELECT\n  {{ x }}")],
            "node `a`, line 2, column 6: `x` has no type (write `{{ String(x) }}`, or another type)",
        ),
        (
            &[
                ("a", "SELECT {{ Int8(x) }} AS x"),
                ("b", "SELECT {{ Int16(x) }} FROM a"),
            ],
            "the nodes together: `x` is Int16 here and Int8 at line 2, column 11 (a parameter has one type: convert it in SQL where another is needed)",
        ),
        (&[("a", "-- nothing")], "node `a` is empty: write a SELECT"),
        (&[("a", " ; ")], "node `a` is empty: write a SELECT"),
        (
            &[("a", "{% if defined(x) %}SELECT 1{% end %}")],
            "node `a` is empty: write a SELECT",
        ),
        (
            &[("a", "-- x\n INSERT INTO t SELECT 1")],
            "node `a`, line 2, column 2: expected SELECT or WITH, found `INSERT`",
        ),
        (
            &[("a", "(DROP TABLE t)")],
            "node `a`, line 1, column 1: expected SELECT or WITH, found `DROP`",
        ),
        (
            &[(
                "a",
                "{% if defined(x) %}SELECT 1{% else %}SYSTEM RELOAD CONFIG{% end %}",
            )],
            "node `a`, line 1, column 1: expected SELECT or WITH, found `SYSTEM`",
        ),
        (
            &[("a", "SELECT ';'; SELECT 2")],
            "node `a`, line 1, column 11: one statement only: remove what follows the `;`",
        ),
        (
            &[("a", "SELECT 1; {% if defined(x) %}SELECT 2{% end %}")],
            "node `a`, line 1, column 9: one statement only: remove what follows the `;`",
        ),
        (
            &[("a", "SELECT 1 FORMAT JSON")],
            "node `a`: remove FORMAT: the format of an answer is the request's choice, as in /v0/pipes/name.json",
        ),
        (
            &[(
                "a",
                "SELECT * FROM t WHERE (x) format CSV SETTINGS max_threads = 1",
            )],
            "node `a`: remove FORMAT: the format of an answer is the request's choice, as in /v0/pipes/name.json",
        ),
        (
            &[("a", "SELECT 1 INTO OUTFILE 'x'")],
            "node `a`: remove INTO OUTFILE: the format of an answer is the request's choice, as in /v0/pipes/name.json",
        ),
        (
            &[("a", "SELECT * FROM a")],
            "these read each other in a circle: a -> a; to read a table of a node's name, rename the node",
        ),
        (
            &[
                ("a", "SELECT * FROM c"),
                ("b", "SELECT * FROM a"),
                ("c", "SELECT * FROM b"),
                ("top", "SELECT * FROM b"),
            ],
            "these read each other in a circle: b -> a -> c -> b; to read a table of a node's name, rename the node",
        ),
    ] {
        assert_eq!(message(composed(pairs)), expected);
    }
    assert_eq!(
        message(compose(&nodes(&[("a", "SELECT 1")]), "b")),
        "there is no node `b`"
    );
    assert_eq!(
        message(composed_with(
            &[("p", "SELECT * FROM q"), ("q", "SELECT * FROM p")],
            &[("top", "SELECT * FROM p")]
        )),
        "these read each other in a circle: p -> q -> p; to read a table of a node's name, rename the node"
    );
}

/// ClickHouse resolves names in a subquery where it is used, not where it stands.
#[test]
fn names_that_would_mean_something_else_are_refused() {
    let hides_a_node = &[
        ("a", "SELECT 1 AS x"),
        ("b", "SELECT x FROM a"),
        ("top", "WITH a AS (SELECT 2 AS x) SELECT a.x, b.x FROM a, b"),
    ];
    assert_eq!(
        message(composed(hides_a_node)),
        "`b` reads `a`, but where `top` reads `b`, `a` has another meaning: rename `a` in `top`"
    );
    let hides_a_table = &[
        ("a", "SELECT x FROM t"),
        ("b", "SELECT x FROM a"),
        (
            "top",
            "SELECT * FROM (WITH t AS (SELECT 2 AS x) SELECT b.x, t.x FROM b, t)",
        ),
    ];
    assert_eq!(
        message(composed(hides_a_table)),
        "`a` reads `t`, but where `top` reads `a`, `t` has another meaning: rename `t` in `top`"
    );
    let node_hides_a_table = composed_with(
        &[("p", "SELECT * FROM q"), ("q", "SELECT * FROM flights")],
        &[
            ("flights", "SELECT 1 AS x"),
            ("top", "SELECT * FROM p, flights"),
        ],
    );
    assert_eq!(
        message(node_hides_a_table),
        "`q` reads `flights`, but where `top` reads `q`, `flights` has another meaning: rename `flights` in `top`"
    );
    let node_of_a_pipe_hides_a_table = composed_with(
        &[
            ("p", "WITH `t` AS (\nSELECT x FROM q\n)\nSELECT * FROM t"),
            ("q", "SELECT * FROM t"),
        ],
        &[("top", "SELECT * FROM p")],
    );
    assert_eq!(
        message(node_of_a_pipe_hides_a_table),
        "`q` reads `t`, but where `p` reads `q`, `t` has another meaning: rename `t` in `p`"
    );
}

#[test]
fn format_may_name_a_column() {
    for sql in [
        "SELECT format FROM files",
        "SELECT x AS format FROM files ORDER BY format",
        "SELECT path, format FROM files GROUP BY path, format ORDER BY format DESC",
        "SELECT * FROM format f",
        "SELECT format('{} {}', a, b) FROM t",
        "SELECT * FROM t WHERE format = 'JSON' SETTINGS max_threads = 1",
        "SELECT * FROM (SELECT formatRow('CSV', *) FROM t)",
    ] {
        assert_eq!(composed(&[("a", sql)]).as_deref(), Ok(sql));
    }
}

#[test]
fn semicolons_in_texts_and_comments_are_no_ends() {
    for sql in [
        "SELECT ';' AS `;`",
        "SELECT 1 /* ; */ + 1",
        "SELECT 1 -- ;\n+ 1",
    ] {
        assert_eq!(composed(&[("a", sql)]).as_deref(), Ok(sql));
    }
}

#[test]
fn many_pipes_that_share_a_base_stay_small() {
    let names: Vec<String> = (0..60).map(|index| format!("p{index}")).collect();
    let statements: Vec<String> = (0..60)
        .map(|index| match index {
            0 => "SELECT 1 AS x".to_owned(),
            _ => format!("SELECT a.x FROM p{0} a, p{0} b", index - 1),
        })
        .collect();
    let pipes: Vec<_> = names
        .iter()
        .zip(&statements)
        .map(|(name, sql)| Node { name, sql })
        .collect();
    let sql = compose_with_pipes(ComposeInput {
        nodes: &nodes(&[("top", "SELECT * FROM p59")]),
        pipes: &pipes,
        endpoint: "top",
    })
    .unwrap();
    assert_eq!(sql.matches(" AS (").count(), 60);
}
