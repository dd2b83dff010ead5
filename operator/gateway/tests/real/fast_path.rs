//! The way past the landing gives what the landing gives: for every type it
//! knows, and every text that is near one of the type's.

use super::harness::Caller;
use super::stage::{SHOP_TOKEN, stage};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// The columns of the data sources `fast` and `landed`, and a text that each takes.
const COLUMNS: [(&str, &str); 40] = [
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
    ("int128", "1"),
    ("uint256", "1"),
    ("decimal", "1"),
    ("decimal128", "1"),
    ("decimal256", "1"),
    ("fixed", "abc"),
    ("fixed_category", "x"),
    ("date32", "2024-05-01"),
    ("zoned", "2024-05-01T10:00:00Z"),
    ("zoned64", "2024-05-01T10:00:00+02:00"),
    ("uuid", "61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
    ("ipv4", "1.2.3.4"),
    ("ipv6", "::1"),
    ("enum8", "x"),
    ("enum16", "x"),
    ("total", "1"),
    ("texts", "['x']"),
    ("numbers", "[1,null]"),
    ("times", "[['2024-05-01 10:00:00'],[]]"),
    ("map", "{'x':1}"),
    ("keyed", "{\"1\": [\"x\"]}"),
    ("pair", "(1,'x')"),
    ("pairs", "[[1.5, true]]"),
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
    "1357016400123456",
    "0357016400",
    "135701640",
    "9999999999",
    "9999999999999",
    "4294967296",
    "4294967295999",
    "1357016400.5",
    "2013-01-01T05:00:00.999999999Z",
    "2013-01-01T05:00:00.0009Z",
    "5",
    "\u{e9}",
    "a,b",
    "a\"b",
    "line\nbreak",
    "\t",
    "  x  ",
    "3.0",
    "-3.000",
    "3.5",
    "-0.0",
    "1e3.0",
    "340282366920938463463374607431768211455",
    "170141183460469231731687303715884105727",
    "170141183460469231731687303715884105728",
    "-170141183460469231731687303715884105728",
    "-170141183460469231731687303715884105729",
    "99999999999999999999999999999999999999",
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "9999999.99",
    "9999999.995",
    "10000000",
    "9999999999999999999999999999.9999999999",
    "10000000000000000000000000000",
    "0.005",
    "0.0050",
    "0.01000",
    "abcd",
    "ab",
    "\u{e9}\u{e9}",
    "1899-12-31",
    "1900-01-01",
    "2299-12-31",
    "2300-01-01",
    "1900-02-29",
    "2013-01-02T00:00:00.000Z",
    "2013-01-02 00:00:00",
    "2013-01-01T05:00:00-09:30",
    "2013-01-01T05:00:00+14:00",
    "2013-01-01T05:00:00+15:00",
    "1970-01-01T00:00:00+01:00",
    "2106-02-07T06:28:15-00:01",
    "2013-03-31T02:30:00",
    "2013-01-01T05:00:00.1234567Z",
    "61F0C404-5CB3-11E7-907B-A6006AD3DBA0",
    "61f0c4045cb311e7907ba6006ad3dba0",
    "{61f0c404-5cb3-11e7-907b-a6006ad3dba0}",
    "61f0c404-5cb3-11e7-907b-a6006ad3dba",
    "0.0.0.0",
    "255.255.255.255",
    "256.0.0.1",
    "1.2.3",
    "01.2.3.4",
    "::",
    "1::",
    "::ffff:1.2.3.4",
    "2001:DB8::8:800:200C:417A",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::",
    "1::2::3",
    "fe80::1%eth0",
    "12345::",
    "it's",
    "X",
    "[]",
    "[ ]",
    "{}",
    "()",
    "[\"a\", \"b\\n\\u00e9\\/\", 'c']",
    "['it\\'s','\\\\','\\n\\t\\0','\"']",
    "['\u{1}']",
    "[\"\u{1}\"]",
    "['\\x41']",
    "[\"\\ud83d\\ude00\"]",
    "[\"\\ud83d\"]",
    "[a]",
    "[a,b]",
    "['a' 'b']",
    "['a',]",
    "[1,2.5,-3,null,NULL]",
    "[\"1\", '2', 3.00001]",
    "[00012345678901234.5]",
    "[123456789012345.67890]",
    "[1e2]",
    "[true,false]",
    "[nan,inf]",
    "[null]",
    "[[\"2013-01-01 05:00:00\", '2013-01-01T05:00:00.123Z']]",
    "[[1357016400]]",
    "[[],[]]",
    "[[]",
    "{\"x\": 1, \"y\": -2}",
    "{\"x\": 1, \"x\": 2}",
    "{'x':1,'x':2}",
    "{\"\\u0078\": 1, \"x\": 2}",
    "{'it\\'s':1}",
    "{x:1}",
    "{1:['a','b'],2:[]}",
    "{\"1\":[\"a\"],\"01\":[]}",
    "{1:['a'],256:[]}",
    "{'1':['a']}",
    "{\"a\": 1}",
    "{\"b\": \"x\", \"c\": {\"a\": [2]}, \"a\": 1}",
    "{\"a\": 1, \"b\": null, \"a\": 2}",
    "{\"b\": \"x\"}",
    "(1,NULL)",
    "(1,'null')",
    "(1,\"null\")",
    "[1,null]",
    "(1)",
    "(1,'x',2)",
    "(1,'x']",
    "[(1.5,true),(-0.5,false)]",
    "[(1.5,1)]",
    "[[1.5,true],(2,false)]",
    " [ ( 1 , true ) ] ",
];

/// Texts that look like numbers and times, most of which are some.
fn texts() -> Vec<String> {
    let any = prop_oneof![
        "-?[0-9]{1,20}",
        "-?[0-9]{1,17}[.][0-9]{1,17}",
        "[-+0-9.eE]{1,12}",
        "-?[0-9]{15,40}([.][0-9]{1,12})?",
        "[0-9a-f:.]{2,20}",
        "[0-9a-fA-F]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "[\\[({](['\"]?[a1][b2.]?['\"]?[,:]?){0,4}[\\])}]",
        "\\[('[ab\\\\n'\"]{0,4}'|\"[ab\\\\n']{0,4}\"|-?[0-9.]{1,4}|null)(, ?('a'|\"1\"|1|NULL)){0,2}\\]",
        (any::<f64>()).prop_map(|number| number.to_string()),
        (any::<f32>()).prop_map(|number| number.to_string()),
        "(19|20|21|22)[0-9]{2}-(0[0-9]|1[0-3])-[0-3][0-9]",
        "(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{1,6})?(Z|[+-][01][0-9]:[0-6][0-9])?",
    ];
    let mut runner = TestRunner::deterministic();
    let random = (0..400).map(|_| any.new_tree(&mut runner).unwrap().current());
    EDGES
        .iter()
        .map(|&text| text.to_owned())
        .chain(random)
        .collect()
}

/// A row with a text in each column that is in order there, as CSV has it.
fn good_row() -> String {
    let quoted = COLUMNS.map(|(_, good)| format!("\"{}\"", good.replace('"', "\"\"")));
    format!(
        "id,{}\n0,{}\n",
        COLUMNS.map(|(name, _)| name).join(","),
        quoted.join(",")
    )
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
    // In few blocks: the landing's views take long for this many columns, however few the rows.
    let gateway = stage().gateway(|_| {}).await;
    let caller = Caller::new(gateway.address, SHOP_TOKEN);
    let mut found = Vec::new();
    for name in ["fast", "landed"] {
        let path = format!("/v0/datasources?mode=append&format=csv&name={name}");
        let answer = caller.post(&path, file.clone()).await;
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
async fn every_type_has_a_way_past_the_landing() {
    let landing = stage().shop.table("unlanded__landing");
    stage()
        .admin()
        .query(&format!("DROP TABLE {landing}"))
        .await;
    let path = "/v0/datasources?mode=append&format=csv&name=unlanded";
    let answer = stage().shop().post(path, good_row()).await;
    assert_eq!(answer.counts(), (1, 0), "{}", answer.text());
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
