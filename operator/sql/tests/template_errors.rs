//! What authors are told about templates that cannot be used.

use aviary_sql::Template;
use pretty_assertions::assert_eq;

/// Templates (`\n` for a line feed) and the message for each.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT {{ Int32(x) ", "line 1, column 8: `{{` without `}}`"),
    (
        "SELECT {{ x }}",
        "line 1, column 11: `x` has no type (write `{{ String(x) }}`, or another type)",
    ),
    (
        "SELECT {{ Int23(x) }}",
        "line 1, column 11: unknown function `Int23` (there are Int8 to Int256, UInt8 to UInt256, Float32, Float64, String, Date, DateTime, DateTime64, Boolean, UUID, Array, and in conditions defined)",
    ),
    (
        "SELECT {{ Int32() }}",
        "line 1, column 11: `Int32` needs the name of a parameter",
    ),
    (
        "SELECT {{ Int32('x') }}",
        "line 1, column 17: `Int32` takes the name of a parameter first (a bare name, without quotes)",
    ),
    (
        "SELECT {{ Int32(x, 'abc') }}",
        "line 1, column 11: `abc` is no Int32 (expected a whole number from -2147483648 to 2147483647)",
    ),
    (
        "SELECT {{ Int8(x, 128) }}",
        "line 1, column 11: `128` is no Int8 (expected a whole number from -128 to 127)",
    ),
    (
        "SELECT {{ Int32(x, 1, 2) }}",
        "line 1, column 23: `Int32` takes no further argument here (after the default come description='...', required=True, enum=[...], example=..., format='...')",
    ),
    (
        "SELECT {{ Int32(x, 1, default=2) }}",
        "line 1, column 31: the default is given twice",
    ),
    (
        "SELECT {{ Int32(x, colour='red') }}",
        "line 1, column 27: unknown argument `colour` (there are default, description, required, enum, example and format)",
    ),
    (
        "SELECT {{ Int32(x, required='yes') }}",
        "line 1, column 29: `required` takes True or False",
    ),
    (
        "SELECT {{ Int32(x, enum=5) }}",
        "line 1, column 25: `enum` takes a list of values",
    ),
    (
        "SELECT {{ String(x, 'c', enum=['a','b']) }}",
        "line 1, column 11: the default of `x` is not one of its enum values",
    ),
    (
        "SELECT {{ Int32(x, enum=['a']) }}",
        "line 1, column 11: `a` is no Int32 (expected a whole number from -2147483648 to 2147483647)",
    ),
    (
        "SELECT {{ Int32(x, 1 }}",
        "line 1, column 22: expected `)`, found nothing",
    ),
    (
        "SELECT {{ Int32(x, 'a }}",
        "line 1, column 20: this text does not end",
    ),
    (
        "SELECT {{ Int32(x) + 1 }}",
        "line 1, column 20: `+` is not supported in expressions (expressions are made of calls, names, literals, comparisons, not, and, or)",
    ),
    (
        "SELECT {{ 5 }}",
        "line 1, column 11: only a typed parameter can stand in `{{ }}` (for example `{{ Int32(month, 1) }}`)",
    ),
    (
        "SELECT {{ defined(x) }}",
        "line 1, column 11: `defined` is a condition and has no value (use it in `{% if defined(name) %}`)",
    ),
    (
        "SELECT {{ Int32(token) }}",
        "line 1, column 17: `token` is reserved and cannot be a parameter (requests use this name for something else: choose another)",
    ),
    (
        "SELECT {{ Int32(x) }},\n  {{ String(x) }}",
        "line 2, column 6: `x` is String here and Int32 at line 1, column 11 (a parameter has one type: convert it in SQL where another is needed)",
    ),
    (
        "SELECT {{ Array(x, 'Int23') }}",
        "line 1, column 20: `Int23` is no type for the elements of an array (there are Int8 to Int256, UInt8 to UInt256, Float32, Float64, String, Date, DateTime, DateTime64, Boolean, UUID, Array)",
    ),
    (
        "SELECT {{ Array(x, 'Int32', 'a,b') }}",
        "line 1, column 11: `a` is no Int32 (expected a whole number from -2147483648 to 2147483647)",
    ),
    (
        "SELECT '{{ String(x) }}'",
        "line 1, column 9: `{{` inside a string literal (a value cannot be a part of a literal: put it together with concat(), or write `{{!` for the characters themselves)",
    ),
    (
        "SELECT \"{{ String(x) }}\"",
        "line 1, column 9: `{{` inside a quoted name (a value cannot be a part of a literal: put it together with concat(), or write `{{!` for the characters themselves)",
    ),
    (
        "SELECT `{% if a %}`",
        "line 1, column 9: `{%` inside a quoted name (a value cannot be a part of a literal: put it together with concat(), or write `{%!` for the characters themselves)",
    ),
    (
        "SELECT $$ {{ x }} $$",
        "line 1, column 11: `{{` inside a string literal (a value cannot be a part of a literal: put it together with concat(), or write `{{!` for the characters themselves)",
    ),
    (
        "SELECT {x:Int32}",
        "line 1, column 8: `{x:...}` would never get a value (write `{{ Int32(x) }}`, or another type in its place)",
    ),
    (
        "SELECT { x : Array(Int32) }",
        "line 1, column 8: `{x:...}` would never get a value (write `{{ Array(x, 'String') }}`, or another type in its place)",
    ),
    (
        "SELECT 'abc",
        "line 1, column 8: this string literal does not end",
    ),
    (
        "SELECT `abc",
        "line 1, column 8: this quoted name does not end",
    ),
    (
        "SELECT /* abc",
        "line 1, column 8: this comment does not end",
    ),
    ("SELECT {# abc", "line 1, column 8: `{#` without `#}`"),
    (
        "{% if defined(x) %} SELECT 1",
        "line 1, column 4: `if` without `{% end %}` (an `{% end %}` inside an SQL comment does not count)",
    ),
    (
        "{% if defined(x) %} SELECT 1 -- {% end %}",
        "line 1, column 4: `if` without `{% end %}` (an `{% end %}` inside an SQL comment does not count)",
    ),
    (
        "SELECT 1 {% end %}",
        "line 1, column 13: `end` without `if`",
    ),
    (
        "SELECT 1 {% else %}",
        "line 1, column 13: `else` without `if`",
    ),
    (
        "{% if defined(x) %}{% else %}{% elif defined(y) %}{% end %}",
        "line 1, column 33: `elif` after `else`",
    ),
    (
        "{% if defined(x) %}{% else if defined(y) %}{% end %}",
        "line 1, column 27: `else` takes nothing after it (another condition is `{% elif ... %}`)",
    ),
    (
        "{% for x in y %}{% end %}",
        "line 1, column 4: unknown statement `for` (there are if, elif, else and end)",
    ),
    (
        "{% set x = 1 %}",
        "line 1, column 4: unknown statement `set` (there are if, elif, else and end)",
    ),
    (
        "{% %}",
        "line 1, column 4: expected a statement in `{% %}` (there are if, elif, else and end)",
    ),
    (
        "{% if %}{% end %}",
        "line 1, column 7: expected an expression, found nothing",
    ),
    (
        "{% if defined() %}{% end %}",
        "line 1, column 7: `defined` takes the name of one parameter",
    ),
    (
        "{% if defined(x, y) %}{% end %}",
        "line 1, column 7: `defined` takes the name of one parameter",
    ),
    (
        "{% if defined('x') %}{% end %}",
        "line 1, column 7: `defined` takes the name of one parameter",
    ),
    (
        "{% if x == 5 %}{% end %}",
        "line 1, column 12: a parameter without a type is text (compare with a text in quotes, or write Int32(name) and the like)",
    ),
    (
        "{% if Int32(x) == 'abc' %}{% end %}",
        "line 1, column 19: `abc` is no Int32 (expected a whole number from -2147483648 to 2147483647)",
    ),
    (
        "{% if Int32(x) == Int32(y) %}{% end %}",
        "line 1, column 19: a parameter can be compared with a literal only",
    ),
    (
        "{% if x is None %}{% end %}",
        "line 1, column 9: expected the end of the expression, found `is`",
    ),
    (
        "{% if x == None %}{% end %}",
        "line 1, column 12: `None` cannot be compared with (ask `defined(name)` or `not defined(name)`)",
    ),
    (
        "{% if 1 < x < 3 %}{% end %}",
        "line 1, column 13: a chain of comparisons is not supported (join two comparisons with `and`)",
    ),
    (
        "{% if x in 'abc' %}{% end %}",
        "line 1, column 12: `in` takes a list of literals",
    ),
    (
        "{% if Array(x, 'Int32') %}{% end %}",
        "line 1, column 7: an array cannot be a condition (ask `defined(name)`)",
    ),
    (
        "{% if x.startswith('a') %}{% end %}",
        "line 1, column 8: `.` is not supported in expressions (expressions are made of calls, names, literals, comparisons, not, and, or)",
    ),
    (
        "{% if 'a' %}{% end %}",
        "line 1, column 7: this cannot be a condition (conditions ask defined(name), or compare a parameter with a literal)",
    ),
    (
        "{% if error('x') %}{% end %}",
        "line 1, column 7: unknown function `error` (there are Int8 to Int256, UInt8 to UInt256, Float32, Float64, String, Date, DateTime, DateTime64, Boolean, UUID, Array, and in conditions defined)",
    ),
    (
        "{% if defined(x) and %}{% end %}",
        "line 1, column 22: expected an expression, found nothing",
    ),
    (
        "{% end if %}",
        "line 1, column 7: `end` takes nothing after it",
    ),
    (
        "SELECT {{ String(x, description=5) }}",
        "line 1, column 33: `description` takes a text in quotes",
    ),
    (
        "SELECT {{ String(x, default='a', default='b') }}",
        "line 1, column 34: `default` is given twice",
    ),
    (
        "SELECT {{ String(default='a', x) }}",
        "line 1, column 31: an argument without a name cannot follow one with a name",
    ),
    (
        "SELECT {{ Date(x, '2024-02-30') }}",
        "line 1, column 11: `2024-02-30` is no Date (expected a date as YYYY-MM-DD, from 1970-01-01 to 2149-06-06)",
    ),
    (
        "SELECT {{ String(x, 1e999) }}",
        "line 1, column 21: `1e999` is not a number",
    ),
    (
        "SELECT {{ String(x, [1, [2]]) }}",
        "line 1, column 25: a list holds texts, numbers, True and False",
    ),
    (
        "SELECT {{ Int32(x, -) }}",
        "line 1, column 21: expected a number after `-`, found `)`",
    ),
    (
        "größe {{ ä }}",
        "line 1, column 10: `ä` is not supported in expressions (expressions are made of calls, names, literals, comparisons, not, and, or)",
    ),
];

#[test]
fn each_fault_is_named_with_its_place() {
    let refused = |source: &str| match Template::parse(source) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    };
    for (source, message) in REFUSED {
        assert_eq!(refused(source), *message, "{source}");
    }
}

#[test]
fn limits_are_errors() {
    let refused = |source: String| Template::parse(&source).unwrap_err().message;
    let nested_ifs = "{% if defined(x) %}".repeat(33);
    assert_eq!(refused(nested_ifs), "`if` is nested too deep");
    let nested_brackets = format!("{{% if {}", "(".repeat(100_000));
    assert_eq!(refused(nested_brackets), "`{%` without `%}`");
    let nested_brackets = format!("{{% if {}defined(x) %}}", "(".repeat(100_000));
    assert_eq!(
        refused(nested_brackets),
        "this expression is nested too deep"
    );
    let negations = format!("{{% if {}defined(x) %}}", "not ".repeat(100_000));
    assert_eq!(refused(negations), "this expression is nested too deep");
    let parameters = (0..257).map(|index| format!("{{{{ String(p{index}) }}}}"));
    assert_eq!(refused(parameters.collect()), "more than 256 parameters");
    let length = "longer than 1048576 bytes, the most a template may have";
    assert_eq!(refused(" ".repeat((1 << 20) + 1)), length);
    assert_eq!(
        refused("SELECT '\0'".to_owned()),
        "SQL must not contain the NUL character"
    );
}

#[test]
fn reserved_names_are_refused() {
    for name in [
        "format",
        "q",
        "token",
        "debug",
        "explain",
        "pipeline",
        "job_timestamp",
    ] {
        let error = Template::parse(&format!("SELECT {{{{ String({name}) }}}}")).unwrap_err();
        assert_eq!(
            error.message,
            format!("`{name}` is reserved and cannot be a parameter")
        );
        let error = Template::parse(&format!("{{% if defined({name}) %}}{{% end %}}")).unwrap_err();
        assert_eq!(error.column, 15);
    }
}
