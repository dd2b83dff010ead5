//! Every landing row ends in exactly one of table and quarantine, and what the
//! table has is what the text said.

use crate::harness::{ask, converge, run, sql};
use aviary_plan::column_type::ColumnType;
use aviary_sql::StringLiteral;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A type, texts that are of the type with what becomes of them (`=` for the text
/// itself), and texts that are not.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const TABLE: &[Case] = &[
    ("String", &[("", "="), ("x'y", "="), ("NULL", "=")], &[]),
    ("FixedString(3)", &[("abc", "=")], &["abcd"]),
    (
        "UInt8",
        &[
            ("0", "="),
            ("255", "="),
            ("+1", "1"),
            ("3.0", "3"),
            ("7.000", "7"),
        ],
        &[
            "-1", "256", "256.0", "1e1", "3.5", "3.", ".0", "3.0.0", "3.0e0", "NaN", " 1", "1 ",
            "", "x", "-",
        ],
    ),
    (
        "Int8",
        &[("-128", "="), ("127", "=")],
        &["128", "-129", "0x1"],
    ),
    ("Int32", &[("-2147483648", "=")], &["2147483648", "NaN"]),
    (
        "UInt64",
        &[("18446744073709551615", "=")],
        &["18446744073709551616", "-1"],
    ),
    (
        "Int128",
        &[
            ("170141183460469231731687303715884105727", "="),
            ("-1", "="),
            ("-2.0", "-2"),
        ],
        &[
            "170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105729",
        ],
    ),
    (
        "UInt256",
        &[(
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
            "=",
        )],
        &[
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
            "-1",
        ],
    ),
    (
        "Float64",
        &[("1.5", "="), ("nan", "="), ("-inf", "="), ("1e-3", "0.001")],
        &["1e400", "", "1,5", "x", "-"],
    ),
    ("Float32", &[("1.5", "=")], &["3.5e39"]),
    (
        "Decimal(9, 2)",
        &[("1.23", "="), ("1.2300", "1.23"), ("1e2", "100")],
        &["1.239", "1e-3", "99999999", ".", "-", "nan"],
    ),
    ("Decimal(18, 0)", &[("7", "="), ("7.0", "7")], &["7.1"]),
    ("Bool", &[("true", "="), ("0", "false")], &["2", ""]),
    (
        "Date",
        &[
            ("2024-02-29", "="),
            ("1970-01-01", "="),
            ("2149-06-06", "="),
            ("2024-02-28T00:00:00.000Z", "2024-02-28"),
            ("2024-02-27 00:00:00", "2024-02-27"),
        ],
        &[
            "2023-02-29",
            "2149-06-07",
            "1969-12-31",
            "2024-13-01",
            "20240229",
            "2024-02-29 10:00:00",
            "2024-02-29T00:00:00+02:00",
            "2023-02-29T00:00:00Z",
            "0",
        ],
    ),
    (
        "Date32",
        &[("1900-01-01", "="), ("2299-12-31", "=")],
        &["1899-12-31", "2300-01-01"],
    ),
    (
        "DateTime('UTC')",
        &[
            ("2024-06-01 12:00:00", "="),
            ("2024-06-01T12:00:00+02:00", "2024-06-01 10:00:00"),
            ("1717243200", "2024-06-01 12:00:00"),
            ("2024-06-01", "2024-06-01 00:00:00"),
        ],
        &[
            "2024-06-31 12:00:00",
            "2024-06-01 25:00:00",
            "5",
            "10:00",
            "4294967296",
            "1969-12-31 23:59:59",
            "2106-02-07 06:28:16",
            "01/02/2024",
            "",
        ],
    ),
    (
        "DateTime64(3, 'UTC')",
        &[
            ("2024-06-01 12:00:00.123", "="),
            ("1717243200123", "2024-06-01 12:00:00.123"),
            ("2250-01-01 00:00:00", "2250-01-01 00:00:00.000"),
        ],
        &["2300-01-01 00:00:00", "1899-12-31 00:00:00", "now"],
    ),
    (
        "DateTime64(0, 'Asia/Tokyo')",
        &[("1960-01-01 00:00:00", "="), ("2200-01-01 00:00:00", "=")],
        &["60"],
    ),
    (
        "UUID",
        &[("61f0c404-5cb3-11e7-907b-a6006ad3dba0", "=")],
        &["61f0c404-5cb3-11e7-907b-a6006ad3dbaz", ""],
    ),
    ("IPv4", &[("1.2.3.4", "=")], &["256.1.1.1", "1.2.3"]),
    ("IPv6", &[("::1", "=")], &["1::2::3"]),
    (
        "Enum8('a' = 1, 'it\\'s' = 2)",
        &[("a", "="), ("it's", "=")],
        &["b", "1", "", "A"],
    ),
    ("JSON", &[("{\"a\":1}", "=")], &["[1]", "{", "x", ""]),
    ("LowCardinality(String)", &[("x", "=")], &[]),
    (
        "Array(Int8)",
        &[
            ("[]", "="),
            ("[1, \"2\"]", "[1,2]"),
            (" [ 3.0 ,4 ] ", "[3,4]"),
            ("['5']", "[5]"),
        ],
        &[
            "[1.5]", "[300]", "[null]", "[NULL]", "[1", "1", "{}", "[1e1]", "['1]", "['1']'", "[a]",
        ],
    ),
    (
        "Array(Nullable(String))",
        &[
            ("[\"a\",null]", "['a',NULL]"),
            ("['it\\'s',NULL,'\"','\\\\','\\n']", "="),
            ("[\"it's\", 1.50]", "['it\\'s','1.50']"),
        ],
        &["[[\"a\"], 1", "x", "['\\x41']", "['a' 'b']", "[nul]"],
    ),
    (
        "Array(Array(UInt8))",
        &[("[[1],[]]", "=")],
        &["[1]", "[[256]]"],
    ),
    // A double has neither so many digits nor such values.
    (
        "Array(Decimal(38, 2))",
        &[
            ("[123456789012345678901234567890.12]", "="),
            ("[\"0.10\"]", "[0.1]"),
        ],
        &["[0.125]", "[1e400]"],
    ),
    (
        "Array(UInt128)",
        &[("[340282366920938463463374607431768211455]", "=")],
        &["[340282366920938463463374607431768211456]", "[-1]"],
    ),
    (
        "Array(Float64)",
        &[("[nan,-inf,0.1]", "="), ("[\"inf\"]", "[inf]")],
        &["[infinity]", "[1e400]"],
    ),
    (
        "Map(String, Float64)",
        &[
            ("{\"a\":1.5}", "{'a':1.5}"),
            ("{'b':2,'it\\'s':3}", "="),
            ("{\"d\":1,\"e\":2,\"d\":3}", "{'e':2,'d':3}"),
        ],
        &["{\"a\":null}", "[]", "{\"a\":\"x\"}", "{a:1}"],
    ),
    (
        "Map(UInt8, String)",
        &[("{1:'a'}", "="), ("{\"2\":\"b\"}", "{2:'b'}")],
        &["{'x':'a'}", "{256:'a'}"],
    ),
    (
        "Tuple(a Int8, b Nullable(Bool))",
        &[
            ("{\"a\":1}", "(1,NULL)"),
            ("[1,true]", "(1,true)"),
            ("(2,false)", "="),
            ("(3,NULL)", "="),
            ("{\"a\":1,\"b\":true,\"a\":4}", "(4,true)"),
        ],
        &["{\"b\":true}", "[1]", "[1,true,2]", "(1)", "(1,x)"],
    ),
    (
        "SimpleAggregateFunction(sum, UInt64)",
        &[("5", "=")],
        &["-5"],
    ),
];

/// A data source with columns `c0`, `c1`, ... of these types and defaults.
fn manifests(columns: &[(String, Option<String>)]) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut text =
        "kind: DataSource\nmetadata: {name: typed}\nspec:\n  workspace: shop\n  columns:\n"
            .to_owned();
    for (index, (column_type, default)) in columns.iter().enumerate() {
        text.push_str(&format!(
            "  - {{name: c{index}, type: {}",
            quote(column_type)
        ));
        if let Some(default) = default {
            text.push_str(&format!(", default: {}", quote(default)));
        }
        text.push_str("}\n");
    }
    text
}

#[test]
fn texts_become_values_or_are_rejected() {
    // A data source for each type, or one bad text would reject the others of its row.
    let sources: Vec<String> = TABLE
        .iter()
        .enumerate()
        .map(|(index, (column_type, _, _))| {
            let manifest = manifests(&[((*column_type).to_owned(), None)]);
            manifest.replace("name: typed", &format!("name: typed{index}"))
        })
        .collect();
    run(async {
        converge("types", &sources.join("---\n")).await;
        for (index, (column_type, good, bad)) in TABLE.iter().enumerate() {
            let texts = good.iter().map(|(text, _)| text).chain(*bad);
            let values: Vec<String> = texts
                .map(|text| format!("({})", StringLiteral(text)))
                .collect();
            let table = format!("types_shop.typed{index}");
            let values = values.join(", ");
            sql(&format!(
                "INSERT INTO {table}__landing (c0) VALUES {values}"
            ))
            .await;

            let expected: Vec<&str> = good
                .iter()
                .map(|(text, value)| if *value == "=" { *text } else { *value })
                .collect();
            let taken = format!("SELECT arraySort(groupArray(toString(c0))) FROM {table}");
            assert_eq!(ask(&taken).await, sorted(&expected).await, "{column_type}");

            let refused = format!(
                "SELECT arraySort(groupArray(assumeNotNull(c0))) FROM {table}_quarantine WHERE c__error_column = ['c0']"
            );
            assert_eq!(ask(&refused).await, sorted(bad).await, "{column_type}");
        }
    });
}

/// The texts as ClickHouse shows an array of them.
async fn sorted(texts: &[&str]) -> String {
    ask(&format!("SELECT arraySort({})", literals(texts))).await
}

fn literals(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts
        .iter()
        .map(|text| StringLiteral(text).to_string())
        .collect();
    format!("CAST([{}], 'Array(String)')", quoted.join(", "))
}

#[test]
fn a_missing_value_is_null_or_the_default_or_an_error() {
    let manifests = "
kind: DataSource
metadata: {name: typed}
spec:
  workspace: shop
  columns:
  - {name: needed, type: Int32}
  - {name: maybe, type: Nullable(Int32), default: '5'}
  - {name: doubled, type: Int64, default: 'needed * 2'}
  - {name: chained, type: String, default: 'concat(toString(doubled), word)'}
  - {name: word, type: LowCardinality(String), default: \"'w'\"}
  - {name: list, type: Array(Int8), default: '[1, 2]'}
";
    run(async {
        converge("defaults", manifests).await;
        sql("INSERT INTO defaults_shop.typed__landing (needed) VALUES ('3'), (NULL)").await;
        let rows = ask("SELECT * FROM defaults_shop.typed").await;
        assert_eq!(rows, "3\t\\N\t6\t6w\tw\t[1,2]");
        let rows =
            ask("SELECT c__error_column, c__error FROM defaults_shop.typed_quarantine").await;
        assert_eq!(rows, "['needed']\t['no value on column \\'needed\\'']");
    });
}

#[test]
fn a_decimal_with_too_many_digits_is_told_so() {
    let columns = [("Decimal(18, 4)".to_owned(), None)];
    run(async {
        converge("digits", &manifests(&columns)).await;
        sql("INSERT INTO digits_shop.typed__landing (c0) VALUES ('0.00005'), ('5e-5'), ('x.00005'), ('999999999999999.00005')").await;
        let told =
            ask("SELECT arraySort(groupArray(c__error[1])) FROM digits_shop.typed_quarantine");
        let too_many = "has too many digits after the point: Decimal(18, 4) takes 4";
        let expected = [
            format!("value '0.00005' on column 'c0' {too_many}"),
            format!("value '5e-5' on column 'c0' {too_many}"),
            "value '999999999999999.00005' on column 'c0' is not Decimal(18, 4)".to_owned(),
            "value 'x.00005' on column 'c0' is not Decimal(18, 4)".to_owned(),
        ];
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_eq!(told.await, sorted(&expected).await);
    });
}

#[test]
fn what_the_gateway_could_not_split_is_kept_whole() {
    run(async {
        converge(
            "unsplit",
            &manifests(&[("Nullable(Int32)".to_owned(), None)]),
        )
        .await;
        sql("INSERT INTO unsplit_shop.typed__landing (c__row, c__error, c__import_id) VALUES ('{\"x', 'not JSON', 'i1')").await;
        let rows = ask("SELECT c0, c__row, c__error_column, c__error, c__import_id FROM unsplit_shop.typed_quarantine").await;
        assert_eq!(rows, "\\N\t{\"x\t[]\t['not JSON']\ti1");
        assert_eq!(ask("SELECT count() FROM unsplit_shop.typed").await, "0");
    });
}

/// Bytes that are near enough to values to find the gaps between them.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        any::<String>(),
        any::<i128>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        "[-+]?[0-9]{0,80}[.]?[0-9]{0,20}(e[-+]?[0-9]{1,4})?",
        "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2})?([.][0-9]{1,10})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?",
        "[0-9a-f]{0,8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-f:.]{0,40}",
        "[\\[\\]{},:\"'a0-9n.\\\\-]{0,30}",
        "\\[(-?[0-9]{1,4}|null|\"a\"|\\[\\]|\\{\\})(, ?(1|null|\"[0-9]\"))*\\]",
        "[\\[({]('[ab\\\\'\"]{0,3}'|[0-9.]{1,3}|NULL|nan)([,:]('[ab]'|[0-9.]{1,3}))*[\\])}]",
        "\\{\"[ab]\": ?(1|null|\"x\"|1.5)(, ?\"[abc]\": ?(true|2|null))*\\}",
        "(true|false|yes|no|nan|inf|-inf|null|NULL|a|it's)",
    ];
    prop_oneof![
        9 => text.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// Every type, as a column that a row may leave out: rows have a value in one column.
fn optional_columns() -> Vec<(String, Option<String>)> {
    let optional = |column_type: &str| {
        let nullable = format!("Nullable({column_type})");
        match ColumnType::parse(&nullable) {
            Ok(_) => (nullable, None),
            Err(_) => {
                let literal = StringLiteral(column_type);
                let default = format!("defaultValueOfTypeName({literal})");
                (column_type.to_owned(), Some(default))
            }
        }
    };
    TABLE.iter().map(|(name, _, _)| optional(name)).collect()
}

#[test]
fn every_row_is_in_exactly_one_table_whatever_its_bytes() {
    let columns = optional_columns();
    run(converge("anything", &manifests(&columns)));
    let batch = prop::collection::vec((0..columns.len(), texts()), 1..150);
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&batch, |rows| {
            run(insert_and_count(columns.len(), &rows));
            Ok(())
        })
        .unwrap();
}

async fn insert_and_count(width: usize, rows: &[(usize, Vec<u8>)]) {
    sql("TRUNCATE TABLE anything_shop.typed").await;
    sql("TRUNCATE TABLE anything_shop.typed_quarantine").await;
    let names: Vec<String> = (0..width).map(|index| format!("c{index}")).collect();
    let values: Vec<String> = rows
        .iter()
        .map(|(column, bytes)| {
            let fields: Vec<String> = (0..width)
                .map(|index| {
                    if index == *column {
                        format!("unhex('{}')", hex(bytes))
                    } else {
                        "NULL".to_owned()
                    }
                })
                .collect();
            format!("({})", fields.join(","))
        })
        .collect();
    sql(&format!(
        "INSERT INTO anything_shop.typed__landing ({}) VALUES {}",
        names.join(","),
        values.join(",")
    ))
    .await;
    let counts = ask(
        "SELECT (SELECT count() FROM anything_shop.typed) + (SELECT count() FROM anything_shop.typed_quarantine), \
         (SELECT countIf(length(c__error) != 1) FROM anything_shop.typed_quarantine)",
    )
    .await;
    assert_eq!(counts, format!("{}\t0", rows.len()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
