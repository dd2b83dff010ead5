//! What an endpoint answers can be sent back: every type, in every format that is
//! both an answer's and a body's, comes to the same value.

use super::harness::Caller;
use super::stage::{SHOP_TOKEN, stage};

/// Each column's values in SQL, one for each row.
const VALUES: &[(&str, [&str; 3])] = &[
    ("int8", ["-128", "127", "0"]),
    ("int16", ["-32768", "32767", "0"]),
    ("int32", ["-2147483648", "2147483647", "0"]),
    (
        "int64",
        ["-9223372036854775808", "9223372036854775807", "0"],
    ),
    ("uint8", ["0", "255", "7"]),
    ("uint16", ["0", "65535", "7"]),
    ("uint32", ["0", "4294967295", "7"]),
    ("uint64", ["0", "18446744073709551615", "7"]),
    ("float32", ["0.1", "-3.4028235e38", "1e-40"]),
    ("float64", ["0.1", "-1.7976931348623157e308", "5e-324"]),
    ("bool", ["true", "false", "true"]),
    ("date", ["'1970-01-01'", "'2149-06-06'", "'2024-02-29'"]),
    ("datetime", ["0", "4294967295", "1717243200"]),
    (
        "datetime64",
        [
            "'1900-01-01 00:00:00.000'",
            "'2299-12-31 23:59:59.999'",
            "'2024-06-01 12:00:00.123'",
        ],
    ),
    ("text", ["''", r#"'a,b\n\t\\\'"'"#, r"'\\N'"]),
    ("category", ["''", "'it''s'", "'é'"]),
    ("optional", ["NULL", "5", "NULL"]),
    (
        "int128",
        [
            "'-170141183460469231731687303715884105728'",
            "'170141183460469231731687303715884105727'",
            "0",
        ],
    ),
    (
        "uint256",
        [
            "0",
            "'115792089237316195423570985008687907853269984665640564039457584007913129639935'",
            "'340282366920938463463374607431768211456'",
        ],
    ),
    ("decimal", ["'-9999999.99'", "'9999999.99'", "'0.1'"]),
    (
        "decimal128",
        [
            "'-9999999999999999999999999999.9999999999'",
            "'0.0000000001'",
            "'1234567890123456789.1'",
        ],
    ),
    (
        "decimal256",
        [
            "NULL",
            "'-99999999999999999999999999999999999999999999999.999'",
            "'0.001'",
        ],
    ),
    ("fixed", ["'abc'", "'a'", "'a,\"'"]),
    ("fixed_category", ["NULL", "'abc'", "'é'"]),
    ("date32", ["'1900-01-01'", "'2299-12-31'", "'1969-12-31'"]),
    ("zoned", ["0", "4294967295", "1717243200"]),
    (
        "zoned64",
        [
            "NULL",
            "'2024-06-01 12:00:00.123456'",
            "'1999-12-31 23:59:59.999999'",
        ],
    ),
    (
        "uuid",
        [
            "'00000000-0000-0000-0000-000000000000'",
            "'61f0c404-5cb3-11e7-907b-a6006ad3dba0'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ],
    ),
    ("ipv4", ["'0.0.0.0'", "'255.255.255.255'", "'1.2.3.4'"]),
    ("ipv6", ["NULL", "'::ffff:1.2.3.4'", "'2001:db8::1'"]),
    ("enum8", ["'x'", "'it\\'s'", "'5'"]),
    ("enum16", ["NULL", "'x'", "'x'"]),
    ("total", ["0", "18446744073709551615", "7"]),
    (
        "texts",
        ["[]", r#"['', 'it\'s', 'a"b', '\\', 'n\nl\0\b']"#, "['é']"],
    ),
    (
        "numbers",
        ["[]", "['12345678901234.5678', NULL]", "['-0.0001']"],
    ),
    (
        "times",
        [
            "[]",
            "[['2024-06-01 12:00:00.123'], []]",
            "[['1969-12-31 23:59:59.500']]",
        ],
    ),
    (
        "map",
        ["map()", "map('it\\'s', 1, '', -32768)", "map('\"', 7)"],
    ),
    (
        "keyed",
        ["map()", "map(0, [], 255, ['x', '1'])", "map(1, [''])"],
    ),
    ("pair", ["(0, NULL)", "(-5, 'null')", "(7, 'a,b')"]),
    (
        "pairs",
        ["[]", "[(0.1, true), (-1e300, false)]", "[(0, true)]"],
    ),
    (
        "json",
        [
            "'{}'",
            r#"'{"a":{"b":[1,"x"]}}'"#,
            r#"'{"it\'s":"a,\\"b\\""}'"#,
        ],
    ),
    ("long", ["NULL", "repeat('a', 256)", "repeat('\"', 200)"]),
    (
        "deep",
        [
            "map()",
            "map('k', [('x', NULL), ('', -9223372036854775808)])",
            "map('a', [], 'b', [])",
        ],
    ),
];

#[tokio::test]
async fn what_an_endpoint_answers_can_be_sent_back() {
    let names: Vec<&str> = VALUES.iter().map(|(name, _)| *name).collect();
    let rows: Vec<String> = (0..3)
        .map(|row| {
            let values: Vec<&str> = VALUES.iter().map(|(_, values)| values[row]).collect();
            format!("({row}, {})", values.join(", "))
        })
        .collect();
    let table = |name: &str| stage().shop.table(name);
    let insert = format!(
        "INSERT INTO {} (id, {}) VALUES {}",
        table("everything"),
        names.join(", "),
        rows.join(", ")
    );
    stage().admin().query(&insert).await;

    let gateway = stage().gateway(|_| {}).await;
    let caller = Caller::new(gateway.address, SHOP_TOKEN);
    for format in ["csv", "ndjson", "parquet"] {
        let answer = caller.get(&format!("/v0/pipes/trip.{format}")).await;
        assert_eq!(answer.status, 200, "{format}: {}", answer.text());
        let back = format!("back_{format}");
        let path = format!("/v0/datasources?mode=append&format={format}&name={back}");
        let receipt = caller.post(&path, answer.body).await;
        let quarantine = table(&format!("{back}_quarantine"));
        let complaints = stage()
            .admin()
            .query(&format!(
                "SELECT id, c__error FROM {quarantine} ORDER BY id"
            ))
            .await;
        assert_eq!(complaints, "", "{format}: {}", receipt.text());
        let mut differences = Vec::new();
        for name in &names {
            let values = async |table: String| {
                let select = format!(
                    "SELECT groupArray(toString({name})) FROM (SELECT {name} FROM {table} ORDER BY id)"
                );
                stage().admin().query(&select).await
            };
            let (found, expected) = (
                values(table(&back)).await,
                values(table("everything")).await,
            );
            if found != expected {
                differences.push(format!("{name}: {found} is not {expected}"));
            }
        }
        assert!(differences.is_empty(), "{format}: {differences:#?}");
    }
}
