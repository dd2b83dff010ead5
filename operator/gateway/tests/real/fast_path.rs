//! The way past the landing gives what the landing gives: for every type it
//! knows, and every text that is near one of the type's.

use super::stage::stage;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// The columns of the data sources `fast` and `landed`, and a text that each takes.
const COLUMNS: [(&str, &str); 17] = [
    ("int8", "1"),
    ("int16", "1"),
    ("int32", "1"),
    ("int64", "1"),
    ("uint8", "1"),
    ("uint16", "1"),
    ("uint32", "1"),
    ("uint64", "1"),
    ("float32", "1"),
    ("float64", "1"),
    ("bool", "true"),
    ("date", "2024-05-01"),
    ("datetime", "2024-05-01 10:00:00"),
    ("datetime64", "2024-05-01 10:00:00"),
    ("text", "x"),
    ("category", "x"),
    ("optional", "1"),
];

/// Texts on both sides of what types can hold.
const EDGES: &[&str] = &[
    "",
    "0",
    "-0",
    "00",
    "007",
    "-1",
    "+1",
    "1.0",
    "1.",
    ".5",
    "-.5",
    "1e3",
    "1E-3",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "32767",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "999999999999999999",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1_000",
    "1 000",
    "0x10",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "null",
    "NULL",
    "\\N",
    "true",
    "false",
    "True",
    "TRUE",
    "t",
    "yes",
    "0.1",
    "123.456",
    "3.4028235e38",
    "340282350000000000000000000000000000000",
    "340282360000000000000000000000000000000",
    "0.000000000000000000000000000000000000000000001",
    "179769313486231570000",
    "16777217",
    "9007199254740993",
    "1970-01-01",
    "1969-12-31",
    "2149-06-06",
    "2149-06-07",
    "2013-02-29",
    "2012-02-29",
    "2000-02-29",
    "2100-02-29",
    "2013-00-10",
    "2013-13-10",
    "2013-10-00",
    "2013-10-32",
    "2013-1-2",
    "20130102",
    "2013/01/02",
    "0000-00-00",
    "1970-01-01 00:00:00",
    "1969-12-31 23:59:59",
    "2106-02-07 06:28:15",
    "2106-02-07 06:28:16",
    "2013-01-01T05:00:00Z",
    "2013-01-01 05:00:00Z",
    "2013-01-01T05:00:00",
    "2013-01-01T05:00:00+02:00",
    "2013-01-01 24:00:00",
    "2013-01-01 23:60:00",
    "2013-01-01 23:59:60",
    "2013-01-01 5:00:00",
    "2013-01-01 05:00",
    "2013-01-01 05:00:00.5",
    "2013-01-01 05:00:00.123",
    "2013-01-01 05:00:00.1234",
    "2013-01-01 05:00:00.",
    "2013-01-01T05:00:00.123Z",
    "2299-12-31 23:59:59.999",
    "2300-01-01 00:00:00",
    "1900-01-01 00:00:00",
    "1357016400",
    "1357016400123",
    "5",
    "\u{e9}",
    "a,b",
    "a\"b",
    "line\nbreak",
    "\t",
    "  x  ",
];

/// Texts that look like numbers and times, most of which are some.
fn texts() -> Vec<String> {
    let any = prop_oneof![
        "-?[0-9]{1,20}",
        "-?[0-9]{1,17}[.][0-9]{1,17}",
        "[-+0-9.eE]{1,12}",
        (any::<f64>()).prop_map(|number| number.to_string()),
        (any::<f32>()).prop_map(|number| number.to_string()),
        "(19|20|21|22)[0-9]{2}-(0[0-9]|1[0-3])-[0-3][0-9]",
        "(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{1,6})?Z?",
    ];
    let mut runner = TestRunner::deterministic();
    let random = (0..600).map(|_| any.new_tree(&mut runner).unwrap().current());
    EDGES
        .iter()
        .map(|&text| text.to_owned())
        .chain(random)
        .collect()
}

/// A row for each column and text: that text there, and what is in order elsewhere.
fn file() -> (String, usize) {
    let names = COLUMNS.map(|(name, _)| name);
    let mut file = format!("id,{}\n", names.join(","));
    let mut rows = 0;
    for text in texts() {
        for column in 0..COLUMNS.len() {
            let fields = COLUMNS.iter().enumerate().map(|(index, (_, good))| {
                let text = if index == column { &text } else { *good };
                format!("\"{}\"", text.replace('"', "\"\""))
            });
            let fields: Vec<String> = fields.collect();
            file.push_str(&format!("{rows},{}\n", fields.join(",")));
            rows += 1;
        }
    }
    (file, rows)
}

#[tokio::test]
async fn both_ways_into_a_table_give_the_same_rows() {
    let (file, rows) = file();
    let mut found = Vec::new();
    for name in ["fast", "landed"] {
        let path = format!("/v0/datasources?mode=append&format=csv&name={name}");
        let answer = stage().shop().post(&path, file.clone()).await;
        let (good, bad) = answer.counts();
        assert_eq!(good + bad, rows as u64, "{name}: {}", answer.text());
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        let select = |table: &str, what: &str| {
            let table = stage().shop.table(table);
            format!("SELECT {what} FROM {table} ORDER BY toInt64(id) FORMAT TabSeparated")
        };
        // Numbers as their bits: a shortest spelling would hide the last one.
        let bits = "reinterpretAsUInt32(float32), reinterpretAsUInt64(float64)";
        let table = select(name, &format!("id, {names}, {bits}"));
        let quarantine = select(
            &format!("{name}_quarantine"),
            &format!("id, {names}, c__error_column, c__error"),
        );
        found.push((
            stage().admin().query(&table).await,
            stage().admin().query(&quarantine).await,
        ));
    }
    let [fast, landed] = found.try_into().unwrap();
    for (fast, landed) in [(fast.0, landed.0), (fast.1, landed.1)] {
        for (fast, landed) in fast.lines().zip(landed.lines()) {
            assert_eq!(fast, landed);
        }
        assert_eq!(fast.lines().count(), landed.lines().count());
        assert!(fast.lines().count() > COLUMNS.len());
    }
}

#[tokio::test]
async fn clean_rows_need_no_landing() {
    let landing = stage().shop.table("direct__landing");
    stage()
        .admin()
        .query(&format!("DROP TABLE {landing}"))
        .await;
    let send = async |body: &'static str| {
        let path = "/v0/events?name=direct&wait=true";
        stage().shop().post(path, body).await
    };
    let clean = send("{\"id\":1,\"word\":\"a\"}\n{\"word\":null,\"id\":\"2\"}\n").await;
    assert_eq!(clean.counts(), (2, 0), "{}", clean.text());
    let table = stage().shop.table("direct");
    let rows = format!("SELECT groupArray((id, word)) FROM (SELECT * FROM {table} ORDER BY id)");
    assert_eq!(stage().admin().query(&rows).await, "[(1,'a'),(2,NULL)]");

    // One of these rows is stored and the other is not: nobody is told that both are.
    let mixed = send("{\"id\":3}\n{\"id\":\"x\"}\n").await;
    assert_eq!(mixed.status, 503, "{}", mixed.text());
    assert!(mixed.text().contains("may be stored"), "{}", mixed.text());
}
