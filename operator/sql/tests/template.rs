//! What templates render to, and which values they take.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aviary_sql::{
    Parameter, ParameterType, ParameterValues, RenderError, Rendered, Template, Value,
};
use pretty_assertions::assert_eq;

fn template(source: &str) -> Template {
    Template::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn values<'v>(pairs: &[(&'v str, &'v str)]) -> ParameterValues<'v> {
    pairs.iter().copied().collect()
}

fn render(source: &str, pairs: &[(&str, &str)]) -> Result<Rendered, RenderError> {
    template(source).render(&values(pairs))
}

fn sql(source: &str, pairs: &[(&str, &str)]) -> String {
    render(source, pairs).unwrap().sql
}

/// The text that is bound for `x` in a template with one typed use of it.
fn bound(declaration: &str, given: &[&str]) -> Result<String, String> {
    let pairs: Vec<_> = given.iter().map(|value| ("x", *value)).collect();
    let rendered = render(&format!("SELECT {{{{ {declaration} }}}}"), &pairs);
    let rendered = rendered.map_err(|error| error.to_string())?;
    let [(name, text)] = rendered.parameters.as_slice() else {
        panic!("one parameter expected: {:?}", rendered.parameters);
    };
    assert_eq!(name, "p_x");
    Ok(text.clone())
}

#[test]
fn a_value_is_bound_by_type() {
    let rendered = render(
        "SELECT * FROM t WHERE month = {{ Int32(month, 1) }} AND origin = {{ String(origin) }}",
        &[("origin", "J'FK"), ("unknown", "1")],
    )
    .unwrap();
    let expected = Rendered {
        sql: "SELECT * FROM t WHERE month = {p_month:Int32} AND origin = {p_origin:String}".into(),
        parameters: vec![
            ("p_month".into(), "1".into()),
            ("p_origin".into(), "J\\'FK".into()),
        ],
    };
    assert_eq!(rendered, expected);
}

#[test]
fn a_name_is_bound_once() {
    let rendered = render(
        "SELECT {{ Int32(x, 1) }} + {{ Int32(x) }} + {{ Int32(x, 3) }}",
        &[],
    )
    .unwrap();
    assert_eq!(
        rendered.sql,
        "SELECT {p_x:Int32} + {p_x:Int32} + {p_x:Int32}"
    );
    assert_eq!(rendered.parameters, [("p_x".into(), "1".into())]);
}

#[test]
fn only_what_is_rendered_is_bound() {
    let source = "SELECT 1 {% if defined(a) %}+ {{ Int8(a) }}{% else %}+ {{ Int8(b, 2) }}{% end %}";
    let rendered = render(source, &[("a", "5")]).unwrap();
    assert_eq!(rendered.sql, "SELECT 1 + {p_a:Int8}");
    assert_eq!(rendered.parameters, [("p_a".into(), "5".into())]);
    let rendered = render(source, &[]).unwrap();
    assert_eq!(rendered.parameters, [("p_b".into(), "2".into())]);
}

#[test]
fn types_have_their_clickhouse_names() {
    for (declaration, mark) in [
        ("Int8(x)", "{p_x:Int8}"),
        ("UInt256(x)", "{p_x:UInt256}"),
        ("Int(x)", "{p_x:Int64}"),
        ("Integer(x)", "{p_x:Int64}"),
        ("Float32(x)", "{p_x:Float32}"),
        ("String(x)", "{p_x:String}"),
        ("Date(x)", "{p_x:Date}"),
        ("DateTime(x)", "{p_x:DateTime('UTC')}"),
        ("DateTime64(x)", "{p_x:DateTime64(6, 'UTC')}"),
        ("Boolean(x)", "{p_x:UInt8}"),
        ("bool(x)", "{p_x:UInt8}"),
        ("UUID(x)", "{p_x:UUID}"),
        ("Array(x, 'Int32')", "{p_x:Array(Int32)}"),
        (
            "Array(x, 'DateTime64')",
            "{p_x:Array(DateTime64(6, 'UTC'))}",
        ),
        ("Array(x)", "{p_x:Array(String)}"),
        ("Array(x, '')", "{p_x:Array(String)}"),
        ("Array(x, 'a,b')", "{p_x:Array(String)}"),
    ] {
        let rendered = &template(&format!("{{{{ {declaration} }}}}")).render_for_check()[0];
        assert_eq!(rendered.sql, mark, "{declaration}");
    }
}

#[test]
fn good_values_are_bound_in_canonical_form() {
    let wide = "-57896044618658097711785492504343953926634992332820282019728792003956564819968";
    for (declaration, given, text) in [
        ("Int8(x)", "-128", "-128"),
        ("Int8(x)", "+0127", "127"),
        ("Int32(x)", " 5 ", "5"),
        ("Int32(x)", "-0", "0"),
        ("Int32(x)", "-007", "-7"),
        ("UInt8(x)", "255", "255"),
        ("UInt64(x)", "18446744073709551615", "18446744073709551615"),
        ("Int256(x)", wide, wide),
        ("Float64(x)", "-1.5e3", "-1.5e3"),
        ("Float32(x)", ".5", ".5"),
        ("String(x)", "", ""),
        ("String(x)", " a ", " a "),
        (
            "String(x)",
            "\\N\t\n\r'\"`{p_x:String}",
            "\\\\N\\t\\n\\r\\'\"`{p_x:String}",
        ),
        ("Date(x)", "2024-02-29", "2024-02-29"),
        ("DateTime(x)", "2024-02-29 23:59:59", "2024-02-29 23:59:59"),
        ("DateTime(x)", "2024-02-29T23:59:59", "2024-02-29 23:59:59"),
        (
            "DateTime64(x)",
            "2024-02-29 23:59:59",
            "2024-02-29 23:59:59.000000",
        ),
        (
            "DateTime64(x)",
            "1900-01-01T00:00:00.123",
            "1900-01-01 00:00:00.123000",
        ),
        (
            "DateTime64(x)",
            "2024-01-01 00:00:00.123456",
            "2024-01-01 00:00:00.123456",
        ),
        // As JavaScript writes times, and other spellings that rows may have.
        (
            "DateTime(x)",
            "2024-08-12T21:31:12.269Z",
            "2024-08-12 21:31:12",
        ),
        (
            "DateTime64(x)",
            "2024-08-12T21:31:12.269Z",
            "2024-08-12 21:31:12.269000",
        ),
        (
            "DateTime(x)",
            "2024-08-12T01:31:12+02:00",
            "2024-08-11 23:31:12",
        ),
        (
            "DateTime64(x)",
            "2024-12-31 22:00:00.1234567 -0730",
            "2025-01-01 05:30:00.123456",
        ),
        ("DateTime(x)", "2024-08-12 21:31 UTC", "2024-08-12 21:31:00"),
        ("DateTime(x)", "2024-08-12", "2024-08-12 00:00:00"),
        ("DateTime(x)", "1723498272", "2024-08-12 21:31:12"),
        (
            "DateTime64(x)",
            "1723498272269",
            "2024-08-12 21:31:12.269000",
        ),
        (
            "DateTime64(x)",
            "1723498272.5",
            "2024-08-12 21:31:12.500000",
        ),
        ("Date(x)", "2024-08-12T00:00:00.000Z", "2024-08-12"),
        (
            "Array(x, 'DateTime')",
            "2024-08-12T21:31:12Z,2024-08-12",
            "['2024-08-12 21:31:12','2024-08-12 00:00:00']",
        ),
        ("Int32(x)", "-5.0", "-5"),
        ("Boolean(x)", "True", "1"),
        ("Boolean(x)", "0", "0"),
        ("Boolean(x)", "no", "0"),
        (
            "UUID(x)",
            "61F0C404-5cb3-11e7-907b-a6006ad3dba0",
            "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
        ),
        ("Array(x, 'Int32')", "1, 02,-3", "[1,2,-3]"),
        ("Array(x, 'Int32')", "", "[]"),
        (
            "Array(x, 'String')",
            "a'b,c\\d,,é",
            "['a\\'b','c\\\\d','','é']",
        ),
        ("Array(x, 'Date')", "2024-01-01", "['2024-01-01']"),
        ("Array(x, 'Boolean')", "true,0", "[1,0]"),
        (
            "Array(x, 'UUID')",
            "61f0c404-5cb3-11e7-907b-a6006ad3dba0",
            "['61f0c404-5cb3-11e7-907b-a6006ad3dba0']",
        ),
        ("String(x, enum=['a', 'b'])", "b", "b"),
        ("Float64(x, enum=[1, 2.5])", "1.0", "1.0"),
        ("Array(x, 'String', enum=['a', 'b'])", "b,a", "['b','a']"),
    ] {
        assert_eq!(
            bound(declaration, &[given]).as_deref(),
            Ok(text),
            "{declaration} {given:?}"
        );
    }
}

#[test]
fn bad_values_are_refused_without_repeating_them() {
    for (declaration, given) in [
        ("Int8(x)", "200"),
        ("Int8(x)", "-200"),
        ("Int32(x)", ""),
        ("Int32(x)", "5.5"),
        ("Int32(x)", "5."),
        ("Int32(x)", ".0"),
        ("Int32(x)", "1e3"),
        ("Int32(x)", "--5"),
        ("Int32(x)", "٣"),
        ("UInt8(x)", "-1"),
        ("UInt64(x)", "18446744073709551616"),
        ("Int32(x)", "5 OR 1=1"),
        ("Float64(x)", "nan"),
        ("Float64(x)", "inf"),
        ("Float64(x)", "1e999"),
        ("Float32(x)", "1e39"),
        ("Float64(x)", "1,5"),
        ("String(x)", "a\0b"),
        ("Date(x)", "2023-02-29"),
        ("Date(x)", "2023-13-01"),
        ("Date(x)", "2023-1-1"),
        ("Date(x)", "1969-12-31"),
        ("Date(x)", "2149-06-07"),
        ("Date(x)", "2023-01-01 00:00:01"),
        ("Date(x)", "2023-01-01T00:00:00+02:00"),
        ("DateTime(x)", "2023-01-01 24:00:00"),
        ("DateTime(x)", "2023-01-01 10"),
        ("DateTime(x)", "2023-01-01Z"),
        ("DateTime(x)", "2023-02-29 10:00:00"),
        ("DateTime(x)", "2023-01-01 00:00:00 02:00"),
        ("DateTime(x)", "2023-01-01 00:00:00+15:00"),
        ("DateTime(x)", "1970-01-01 00:00:00+00:01"),
        ("DateTime(x)", "2106-02-07 06:28:16"),
        ("DateTime(x)", "12345678"),
        ("DateTime(x)", "yesterday"),
        ("DateTime64(x)", "2023-01-01 00:00:00."),
        ("DateTime64(x)", "2023-01-01 00:00:00.1234567890"),
        ("DateTime64(x)", "1899-12-31 23:59:59.9"),
        ("Boolean(x)", "maybe"),
        ("UUID(x)", "61f0c4045cb311e7907ba6006ad3dba0"),
        ("Array(x, 'Int32')", "1,,2"),
        ("String(x, enum=['a', 'b'])", "c"),
        ("Array(x, 'String', enum=['a', 'b'])", "a,c"),
    ] {
        let message = bound(declaration, &[given]).unwrap_err();
        assert!(
            message.starts_with("parameter `x`"),
            "{declaration} {given:?}: {message}"
        );
        assert!(
            given.is_empty() || given == "c" || !message.contains(given),
            "{message}"
        );
    }
}

#[test]
fn refusals_say_what_is_expected() {
    for (declaration, given, message) in [
        (
            "Int8(x)",
            vec!["999"],
            "parameter `x`: expected a whole number from -128 to 127",
        ),
        (
            "UInt8(x)",
            vec!["999"],
            "parameter `x`: expected a whole number from 0 to 255",
        ),
        (
            "Array(x, 'Date')",
            vec!["2024-01-01", "soon"],
            "parameter `x`, element 2: expected a date as YYYY-MM-DD, from 1970-01-01 to 2149-06-06",
        ),
        (
            "String(x, enum=['a', 'b'])",
            vec!["z"],
            "parameter `x`: expected one of a, b",
        ),
        (
            "String(x)",
            vec!["a", "b"],
            "parameter `x`: expected one value, found several",
        ),
        ("String(x)", vec![], "missing parameter `x`"),
        ("Array(x, 'Int32')", vec![], "missing parameter `x`"),
    ] {
        assert_eq!(bound(declaration, &given).unwrap_err(), message);
    }
}

#[test]
fn all_missing_parameters_are_named_at_once() {
    let source = "SELECT {{ Int32(a) }}, {{ Int32(b, 1) }}, {{ Int32(c) }}, {{ Int32(a) }} \
                  {% if Int32(d) > 5 %} x {% end %}";
    let error = render(source, &[]).unwrap_err();
    assert_eq!(error.parameters(), ["a", "c", "d"]);
    assert_eq!(error.to_string(), "missing parameters `a`, `c`, `d`");
}

#[test]
fn repeated_values_make_an_array() {
    let declaration = "Array(x, 'String')";
    assert_eq!(bound(declaration, &["a,b", "c"]).unwrap(), "['a,b','c']");
    assert_eq!(bound(declaration, &["", ""]).unwrap(), "['','']");
    assert_eq!(bound("Array(x, 'Int8')", &["1", "2"]).unwrap(), "[1,2]");
}

#[test]
fn array_defaults_may_be_text_or_lists() {
    assert_eq!(bound("Array(x, 'Int32', '1,2')", &[]).unwrap(), "[1,2]");
    assert_eq!(bound("Array(x, 'Int32', [1, 2])", &[]).unwrap(), "[1,2]");
    assert_eq!(bound("Array(x, 'Int32', default=7)", &[]).unwrap(), "[7]");
    assert_eq!(bound("Array(x, 'String', '')", &[]).unwrap(), "[]");
    assert_eq!(
        bound("Array(x, 'String', ('a', 'b,c'))", &[]).unwrap(),
        "['a','b,c']"
    );
}

#[test]
fn conditions_choose_what_is_rendered() {
    let chosen = |condition: &str, pairs: &[(&str, &str)]| {
        sql(
            &format!("{{% if {condition} %}}yes{{% else %}}no{{% end %}}"),
            pairs,
        ) == "yes"
    };
    for (condition, pairs, expected) in [
        ("defined(x)", &[("x", "")][..], true),
        ("defined(x)", &[], false),
        ("not defined(x)", &[], true),
        ("not not defined(x)", &[], false),
        ("defined(x) and defined(y)", &[("x", "1")], false),
        ("defined(x) or defined(y)", &[("y", "1")], true),
        (
            "defined(x) or defined(y) and defined(z)",
            &[("x", "1")],
            true,
        ),
        (
            "(defined(x) or defined(y)) and defined(z)",
            &[("x", "1")],
            false,
        ),
        ("x", &[("x", "")], false),
        ("x", &[("x", "0")], true),
        ("x == 'a'", &[("x", "a")], true),
        ("'a' == x", &[("x", "a")], true),
        ("x == 'a'", &[], false),
        ("x != 'a'", &[], true),
        ("x in ['a', 'b']", &[("x", "b")], true),
        ("x not in ['a', 'b']", &[("x", "b")], false),
        ("x not in ('a', 'b')", &[], true),
        ("Int32(x, 5) > 3", &[], true),
        ("Int32(x, 5) > 3", &[("x", "-10")], false),
        ("3 < Int32(x, 5)", &[], true),
        ("3 >= Int32(x, 5)", &[], false),
        ("Int32(x) == 10", &[("x", "010")], true),
        ("Int32(x) <= -10", &[("x", "-9")], false),
        ("Float64(x) == 1", &[("x", "1.0")], true),
        ("Float64(x)", &[("x", "0.0")], false),
        ("Boolean(x, False)", &[], false),
        ("Boolean(x, 0) == True", &[("x", "yes")], true),
        ("Date(x) < '2024-10-01'", &[("x", "2024-09-30")], true),
        (
            "DateTime(x) == '2024-01-01T00:00:00'",
            &[("x", "2024-01-01 00:00:00")],
            true,
        ),
        ("String(x, 'a') == 'a'", &[], true),
    ] {
        assert_eq!(chosen(condition, pairs), expected, "{condition} {pairs:?}");
    }
}

#[test]
fn the_first_true_arm_is_taken() {
    let source = "{% if x == 'a' %}A{% elif x == 'b' %}B{% elif defined(x) %}C{% else %}D{% end %}";
    for (pairs, expected) in [
        (&[("x", "a")][..], "A"),
        (&[("x", "b")], "B"),
        (&[("x", "c")], "C"),
        (&[], "D"),
    ] {
        assert_eq!(sql(source, pairs), expected);
    }
}

#[test]
fn conditions_are_asked_only_where_they_matter() {
    let source = "{% if defined(x) and Int32(x) > 5 %}big{% end %}";
    assert_eq!(sql(source, &[]), "");
    assert_eq!(sql(source, &[("x", "6")]), "big");
    assert!(render(source, &[("x", "many")]).is_err());
}

#[test]
fn template_marks_are_text_in_comments_and_where_escaped() {
    for (source, expected) in [
        (
            "SELECT 1 -- {{ Int32(x) }}\n+ 1",
            "SELECT 1 -- {{ Int32(x) }}\n+ 1",
        ),
        ("SELECT /* {% if %} '*/ 1", "SELECT /* {% if %} '*/ 1"),
        ("SELECT 1{# it's {{ gone #}+ 1", "SELECT 1 + 1"),
        ("SELECT '{{! {%! {#! }}'", "SELECT '{{ {% {# }}'"),
        ("SELECT 'a {{!b', `c{%!d`", "SELECT 'a {{b', `c{%d`"),
        ("%\nSELECT 1 % 2", "\nSELECT 1 % 2"),
        ("SELECT {{! 5", "SELECT {{ 5"),
        (
            "SELECT {'a': 1}, '{x:Int32}'",
            "SELECT {'a': 1}, '{x:Int32}'",
        ),
        ("SELECT '{', a{% if defined(x) %}{% end %}", "SELECT '{', a"),
    ] {
        assert_eq!(sql(source, &[]), expected, "{source}");
    }
    assert_eq!(
        sql("SELECT {{String(x,'}} %} \\'q\\'')}}", &[]),
        "SELECT {p_x:String}"
    );
}

#[test]
fn parameters_are_described_in_order_of_appearance() {
    let source = "{% if defined(b) and defined(only_defined) %}x{% end %}\
        {{ Int32(a, description='the first', example=3, format='number') }}\
        {% if defined(c) %}{{ Array(c, 'Date') }}{% end %}\
        {{ Float64(b, 1.5, required=True) }}{{ Int32(a, 7, description='later') }}\
        {{ String(d, enum=['x', 'y']) }}{{ Int64(wide, 9007199254740993) }}";
    let parameters = template(source).parameters();
    let shown = serde_json::to_string_pretty(&parameters).unwrap();
    insta::assert_snapshot!("parameters", shown);
    let read: Vec<Parameter> = serde_json::from_str(&shown).unwrap();
    assert_eq!(read, parameters);
}

#[test]
fn a_parameter_is_required_when_a_request_without_it_fails() {
    let required = |source: &str| template(source).parameters()[0].required;
    assert!(required("{{ Int32(x) }}"));
    assert!(!required("{{ Int32(x, 1) }}"));
    assert!(!required("{{ Int32(x) }}{{ Int32(x, 1) }}"));
    assert!(!required("{% if defined(x) %}{{ Int32(x) }}{% end %}"));
    assert!(required("{% if Int32(x) > 1 %}{% end %}"));
    assert!(!required("{% if defined(x) and Int32(x) > 1 %}{% end %}"));
    assert!(required("{{ Int32(x, 1, required=True) }}"));
}

#[test]
fn types_are_written_as_in_templates() {
    for name in [
        "Int8",
        "UInt256",
        "DateTime64",
        "Boolean",
        "UUID",
        "Array(String)",
    ] {
        let kind: ParameterType = name.parse().unwrap();
        assert_eq!(kind.to_string(), name);
    }
    assert_eq!(
        "bool".parse::<ParameterType>().unwrap().to_string(),
        "Boolean"
    );
    assert!("Array(Array(Int8))".parse::<ParameterType>().is_err());
    assert_eq!(
        Value::List(vec![Value::Integer(1), Value::Text("a".into())]).to_string(),
        "1,a"
    );
}

#[test]
fn a_template_knows_its_names() {
    let template = template("{% if defined(a) %}{{ Int32(b) }}{% end %}");
    assert!(template.knows("a") && template.knows("b") && !template.knows("c"));
}

/// The SQL of the check renderings, one line each.
fn checked(source: &str) -> Vec<String> {
    let renderings = template(source).render_for_check();
    assert!(renderings.len() <= 8);
    renderings
        .into_iter()
        .map(|rendered| rendered.sql)
        .collect()
}

#[test]
fn check_renderings_take_every_branch() {
    assert_eq!(checked("SELECT {{ Int32(x) }}"), ["SELECT {p_x:Int32}"]);
    assert_eq!(
        checked("{% if defined(x) %}a{% else %}b{% end %}"),
        ["b", "a"]
    );
    assert_eq!(
        checked("{% if x == 'a' %}A{% elif x == 'b' %}B{% elif defined(x) %}C{% else %}D{% end %}"),
        ["D", "C", "A", "B"]
    );
    assert_eq!(
        checked("{% if defined(a) %}{% if not defined(b) %}A{% else %}B{% end %}{% end %}"),
        ["", "B", "A"]
    );
    assert_eq!(
        checked("{% if Int32(x, 5) > 100 %}big{% elif Int32(x, 5) < 0 %}less{% end %}"),
        ["", "big", "less"]
    );
    assert_eq!(
        checked("{% if defined(a) and defined(b) or defined(c) %}A{% elif defined(a) %}B{% end %}"),
        ["", "A", "B"]
    );
}

#[test]
fn check_renderings_are_such_that_requests_can_cause() {
    // Both parts at once would be no valid SQL, and no request can have that.
    let source =
        "SELECT 1 {% if defined(x) %}WHERE a{% end %}{% if not defined(x) %}WHERE b{% end %}";
    assert_eq!(checked(source), ["SELECT 1 WHERE b", "SELECT 1 WHERE a"]);
    let impossible = "{% if defined(x) and not defined(x) %}A{% end %}";
    assert_eq!(checked(impossible), [""]);
}

#[test]
fn check_renderings_are_few() {
    let chain: Vec<_> = (0..100)
        .map(|value| format!("x == '{value}' %}}{value}"))
        .collect();
    let source = format!("{{% if {}{{% end %}}", chain.join("{% elif "));
    assert_eq!(checked(&source).len(), 8);
}

#[test]
fn check_renderings_bind_sample_values() {
    let source =
        "{{ String(a, enum=['q', 'r']) }}{{ Date(b) }}{{ Array(c, 'Int8') }}{{ Int8(d, 9) }}";
    let rendered = &template(source).render_for_check()[0];
    let texts: Vec<_> = rendered
        .parameters
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(texts, ["q", "2024-01-01", "[1]", "9"]);
}

#[test]
fn references_come_from_every_branch() {
    let source = "SELECT * FROM {% if defined(x) %}a{% elif y == '1' %}b{% else %}c{% end %}";
    let found = template(source).references();
    let names: Vec<_> = found
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}
