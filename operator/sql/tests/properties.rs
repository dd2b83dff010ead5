//! What holds for any text: nothing panics, and no value becomes SQL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aviary_sql::{Node, ParameterValues, Rendered, Template, compose};
use proptest::prelude::*;

/// Text made of what means something in templates and SQL.
fn template_text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{{!",
        "if",
        "elif",
        "else",
        "end",
        "defined",
        "not",
        "and",
        "or",
        "in",
        "(",
        ")",
        "[",
        "]",
        ",",
        "=",
        "==",
        "<",
        "'",
        "\"",
        "`",
        "\\",
        "--",
        "/*",
        "*/",
        "\n",
        "$$",
        "$a$",
        "{",
        "}",
        ":",
        "x",
        "y",
        "Int32",
        "String",
        "Array",
        "1",
        "-",
        "1.5",
        "'a'",
        "SELECT",
        "FROM",
        "WITH",
        "AS",
        ";",
        "FORMAT",
        "JSON",
        "None",
        "True",
        "description=",
        "default=",
        "enum=",
        " ",
        "é",
        "‘",
        "”",
        "{{ String(x) }}",
        "{% if defined(x) %}",
        "{% if Int32(y, 1) > 2 %}",
        "{% else %}",
        "{% end %}",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.join(" "))
}

fn check_parse(source: &str) -> Result<(), TestCaseError> {
    match Template::parse(source) {
        Ok(template) => {
            let count = template.render_for_check().len();
            prop_assert!((1..=8).contains(&count));
            template.render(&ParameterValues::new()).ok();
        }
        Err(error) => {
            let lines: Vec<_> = source.split('\n').collect();
            prop_assert!((1..=lines.len()).contains(&error.line));
            let width = lines[error.line - 1].chars().count();
            prop_assert!((1..=width + 1).contains(&error.column), "{error}");
        }
    }
    Ok(())
}

/// Undoes the escapes of a bound text, as ClickHouse does.
fn unescape(text: &str) -> String {
    let mut result = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        assert!(!matches!(character, '\n' | '\t' | '\r'), "{text:?}");
        result.push(match character {
            '\\' => match characters.next().unwrap() {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            },
            other => other,
        });
    }
    result
}

/// Splits the text of an array of strings at the commas outside of its quotes.
fn array_items(text: &str) -> Vec<String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let mut items = Vec::new();
    let mut characters = inner.unwrap().chars().peekable();
    while let Some(quote) = characters.next() {
        assert_eq!(quote, '\'', "{text}");
        let mut item = String::new();
        loop {
            match characters.next().unwrap() {
                '\\' => item.extend(['\\', characters.next().unwrap()]),
                '\'' => break,
                other => item.push(other),
            }
        }
        items.push(unescape(&item));
        assert!(matches!(characters.next(), None | Some(',')), "{text}");
    }
    items
}

fn render(source: &str, pairs: &[(&str, &str)]) -> Rendered {
    let values = pairs.iter().copied().collect();
    Template::parse(source).unwrap().render(&values).unwrap()
}

const TEXTS: &str = "SELECT {{ String(x) }}, {{ Array(y, 'String') }}
    {% if defined(x) %} WHERE z = {{ String(x) }} {% end %}";

proptest! {
    #[test]
    fn parsing_any_text_ends_well(source in any::<String>()) {
        check_parse(&source)?;
    }

    #[test]
    fn parsing_template_text_ends_well(source in template_text()) {
        check_parse(&source)?;
    }

    #[test]
    fn composing_any_text_ends_well(first in template_text(), second in template_text()) {
        let nodes = [Node { name: "x", sql: &first }, Node { name: "y", sql: &second }];
        if let Ok(composed) = compose(&nodes, "y") {
            prop_assert!(Template::parse(&composed).is_ok());
        }
    }

    #[test]
    fn values_do_not_change_the_sql(text in "[^\0]*", items in "[^\0]*") {
        let plain = render(TEXTS, &[("x", "a"), ("y", "b")]);
        let rendered = render(TEXTS, &[("x", &text), ("y", &items)]);
        prop_assert_eq!(rendered.sql, plain.sql);
    }

    #[test]
    fn values_arrive_as_they_were_sent(text in "[^\0]*", items in prop::collection::vec("[^\0]*", 2..5)) {
        let mut pairs = vec![("x", text.as_str())];
        pairs.extend(items.iter().map(|item| ("y", item.as_str())));
        let parameters = render(TEXTS, &pairs).parameters;
        prop_assert_eq!(unescape(&parameters[0].1), text);
        prop_assert_eq!(array_items(&parameters[1].1), items);
    }

    #[test]
    fn integers_of_64_bits_are_what_rust_reads(text in "[+-]?0{0,3}[0-9]{1,20}") {
        let template = Template::parse("{{ Int64(x) }}").unwrap();
        let rendered = template.render(&[("x", text.as_str())].into_iter().collect());
        match text.parse::<i64>() {
            Ok(number) => prop_assert_eq!(&rendered.unwrap().parameters[0].1, &number.to_string()),
            Err(_) => prop_assert!(rendered.is_err()),
        }
    }

    #[test]
    fn integers_are_ordered_as_numbers(left in any::<i64>(), right in any::<i64>()) {
        let source = format!("{{% if Int64(x) < {right} %}}less{{% elif Int64(x) > {right} %}}more{{% else %}}same{{% end %}}");
        let rendered = render(&source, &[("x", &left.to_string())]);
        let expected = match left.cmp(&right) {
            std::cmp::Ordering::Less => "less",
            std::cmp::Ordering::Greater => "more",
            std::cmp::Ordering::Equal => "same",
        };
        prop_assert_eq!(rendered.sql, expected);
    }
}
