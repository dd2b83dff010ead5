//! Arrays, maps and tuples, which arrive as JSON or in ClickHouse's own spelling.
//! Each is taken apart into the raw JSON of its elements, and each element is
//! converted as strictly as a column of its type. (`JSONExtract(text,
//! 'Array(Int32)')` would be shorter, but makes 0 of `"x"` and drops what it cannot
//! read.) Of a key that an object has twice, the last value counts.

use super::scalar::nullable;
use crate::column_type::ColumnType;
use aviary_sql::StringLiteral;

/// The pieces of a text: what stands in quotes of either kind, words and numbers, and
/// every other character. Together they are the text.
const PIECES: &str = concat!(
    r#"(?s)"(?:[^"\\]|\\.)*""#,
    r"|'(?:[^'\\]|\\['\\0bfnrt])*'",
    "|-?[0-9A-Za-z][0-9A-Za-z.+-]*|."
);

/// What a backslash and a character stand for in ClickHouse's spelling, but for the
/// backslash itself.
const ESCAPES: [(&str, &str); 7] = [
    ("\\'", "'"),
    ("\\0", "\0"),
    ("\\b", "\u{8}"),
    ("\\f", "\u{c}"),
    ("\\n", "\n"),
    ("\\r", "\r"),
    ("\\t", "\t"),
];

/// JSON of a text that may be in ClickHouse's own spelling: `['it\'s', NULL]`,
/// `{1:'a'}`, `(1, nan)`. Numbers become texts, because ClickHouse reads a bare one
/// as a double, and its last digits with it.
pub(super) fn exact_json(text: &str) -> String {
    let part = ESCAPES
        .iter()
        .fold("c__part".to_owned(), |part, (escape, plain)| {
            let (escape, plain) = (StringLiteral(escape), StringLiteral(plain));
            format!("replaceAll({part}, {escape}, {plain})")
        });
    let backslashes = StringLiteral("\\\\");
    let inside = "substring(c__piece, 2, length(c__piece) - 2)";
    let unescaped = format!(
        "arrayStringConcat(arrayMap(c__part -> {part}, splitByString({backslashes}, {inside})), {})",
        StringLiteral("\\")
    );
    format!(
        "arrayStringConcat(arrayMap(c__piece -> multiIf(\
         match(c__piece, '^-?(?:[0-9]|inf$|nan$)'), concat('\"', c__piece, '\"'), \
         length(c__piece) > 1 AND startsWith(c__piece, '\\''), toJSONString({unescaped}), \
         transform(c__piece, ['NULL', '(', ')'], ['null', '[', ']'], c__piece)), \
         extractAll({text}, {})))",
        StringLiteral(PIECES)
    )
}

/// Whether `raw`, a String expression with JSON text, is of the type.
pub(super) fn valid(value_type: &ColumnType, raw: &str, depth: usize) -> String {
    match value_type {
        ColumnType::Array(element) => {
            let item = format!("c__{depth}");
            let each = element_valid(element, &item, depth + 1);
            format!(
                "(JSONType({raw}) = 'Array' AND arrayAll({item} -> {each}, JSONExtractArrayRaw({raw})))"
            )
        }
        ColumnType::Map(key, element) => {
            let item = format!("c__{depth}");
            let key = text_valid(key, &format!("{item}.1"));
            let each = element_valid(element, &format!("{item}.2"), depth + 1);
            let pairs = last_of_each_key(raw);
            format!(
                "(JSONType({raw}) = 'Object' AND arrayAll({item} -> {key} AND {each}, {pairs}))"
            )
        }
        ColumnType::Tuple(elements) => {
            let count = elements.len();
            let named = elements.iter().all(|(name, _)| name.is_some());
            let object = if named {
                format!(" OR JSONType({raw}) = 'Object'")
            } else {
                String::new()
            };
            let each: Vec<String> = member_texts(elements, raw)
                .zip(elements)
                .map(|(member, (_, element))| element_valid(element, &member, depth + 1))
                .collect();
            format!(
                "((JSONType({raw}) = 'Array' AND JSONLength({raw}) = {count}{object}) AND {})",
                each.join(" AND ")
            )
        }
        scalar => element_valid(scalar, raw, depth),
    }
}

/// The value of `raw`; anything where it is not of the type.
pub(super) fn value(value_type: &ColumnType, raw: &str, depth: usize) -> String {
    match value_type {
        ColumnType::Array(element) => {
            let item = format!("c__{depth}");
            let each = element_value(element, &item, depth + 1);
            format!("arrayMap({item} -> {each}, JSONExtractArrayRaw({raw}))")
        }
        ColumnType::Map(key, element) => {
            let item = format!("c__{depth}");
            let key = text_value(key, &format!("{item}.1"));
            let each = element_value(element, &format!("{item}.2"), depth + 1);
            let pairs = last_of_each_key(raw);
            format!(
                "mapFromArrays(arrayMap({item} -> {key}, {pairs}), arrayMap({item} -> {each}, {pairs}))"
            )
        }
        ColumnType::Tuple(elements) => {
            let each: Vec<String> = member_texts(elements, raw)
                .zip(elements)
                .map(|(member, (_, element))| element_value(element, &member, depth + 1))
                .collect();
            format!("tuple({})", each.join(", "))
        }
        scalar => element_value(scalar, raw, depth),
    }
}

/// The raw JSON of each member of a tuple, which is a JSON array or, where its
/// elements have names, a JSON object. A member that is not there is `null`.
fn member_texts(
    elements: &[(Option<String>, ColumnType)],
    raw: &str,
) -> impl Iterator<Item = String> {
    elements.iter().enumerate().map(move |(index, (name, _))| {
        let by_position = format!("JSONExtractRaw({raw}, {})", index + 1);
        let found = match name {
            Some(name) => format!(
                "if(JSONType({raw}) = 'Array', {by_position}, \
                 arrayLast(c__pair -> c__pair.1 = {}, JSONExtractKeysAndValuesRaw({raw})).2)",
                StringLiteral(name)
            ),
            None => by_position,
        };
        format!("ifNull(nullIf({found}, ''), 'null')")
    })
}

/// The members of a JSON object as pairs, in order, without those whose key comes again.
fn last_of_each_key(raw: &str) -> String {
    let backwards = format!("arrayReverse(JSONExtractKeysAndValuesRaw({raw}))");
    format!(
        "arrayReverse(arrayFilter((c__pair, c__turn) -> c__turn = 1, {backwards}, \
         arrayEnumerateUniq(arrayMap(c__pair -> c__pair.1, {backwards}))))"
    )
}

fn element_valid(element: &ColumnType, raw: &str, depth: usize) -> String {
    let value_type = element.value_type();
    if value_type.is_composite() {
        return valid(value_type, raw, depth);
    }
    let there = text_valid(element, &text_of(raw));
    if element.is_nullable() {
        format!("({raw} = 'null' OR {there})")
    } else {
        there
    }
}

fn element_value(element: &ColumnType, raw: &str, depth: usize) -> String {
    let value_type = element.value_type();
    if value_type.is_composite() {
        return value(value_type, raw, depth);
    }
    text_value(element, &text_of(raw))
}

fn text_valid(scalar: &ColumnType, text: &str) -> String {
    format!("isNotNull({})", nullable(scalar.value_type(), text))
}

fn text_value(scalar: &ColumnType, text: &str) -> String {
    let converted = nullable(scalar.value_type(), text);
    if scalar.is_nullable() {
        converted
    } else {
        format!("assumeNotNull({converted})")
    }
}

/// The text of a JSON value: what a string says, NULL for null, else as it is written.
fn text_of(raw: &str) -> String {
    format!(
        "multiIf(startsWith({raw}, '\"'), JSONExtractString({raw}), {raw} = 'null', NULL, {raw})"
    )
}
