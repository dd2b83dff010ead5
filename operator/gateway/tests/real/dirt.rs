//! Any bytes at all, sent as CSV or NDJSON: every record is in the table or in the
//! quarantine, and the receipt says how many are where.

use super::stage::stage;
use proptest::prelude::*;
use tokio::runtime::Runtime;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    NdJson,
}

/// Bytes that make trouble, between some that make sense.
fn dirty() -> impl Strategy<Value = Vec<u8>> {
    let sensible = prop::sample::select(vec![
        "1,a,2024-05-01 10:00:00\n",
        "-7,\"b\n\",NA\r\n",
        "NA,NA,NA\n",
        "99999,c,\n",
        "{\"number\":1,\"text\":\"x\"}\n",
        "{\"number\":\"1\",\"text\":null,\"time\":0}\r\n",
        "{\"number\":1e3,\"text\":{\"a\":[]}}\n",
        "{\"text\":\"\\u0000\"}\n",
        "\u{feff}",
        "\n",
    ]);
    let trouble = prop::sample::select(b",\"\n\r \t\0{}[]:\\\xff1-.eN".to_vec());
    let piece = prop_oneof![
        4 => sensible.prop_map(|text| text.as_bytes().to_vec()),
        4 => prop::collection::vec(trouble, 1..12),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Lines that are not blank.
fn lines(bytes: &[u8]) -> u64 {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n');
    lines.filter(|line| !line.trim_ascii().is_empty()).count() as u64
}

async fn in_table() -> u64 {
    let table = stage().shop.table("dirt");
    let sql = format!("SELECT count() FROM {table}");
    stage().admin().number(&sql).await
}

async fn in_quarantine(import_id: &str) -> u64 {
    let table = stage().shop.table("dirt_quarantine");
    let sql = format!("SELECT count() FROM {table} WHERE c__import_id = '{import_id}'");
    stage().admin().number(&sql).await
}

async fn check(bytes: Vec<u8>, format: Format) -> Result<(), TestCaseError> {
    let before = in_table().await;
    let name = match format {
        Format::Csv => "csv",
        Format::NdJson => "ndjson",
    };
    let path = format!("/v0/datasources?name=dirt&mode=append&format={name}");
    let answer = stage().shop().post(&path, bytes.clone()).await;
    prop_assert_eq!(answer.status, 200, "{}", answer.text());
    let (successful, quarantined) = answer.counts();
    let receipt = answer.json();
    let import_id = receipt["import_id"].as_str().unwrap_or_default();
    prop_assert_eq!(in_table().await - before, successful);
    prop_assert_eq!(in_quarantine(import_id).await, quarantined);
    if format == Format::NdJson {
        prop_assert_eq!(successful + quarantined, lines(&bytes));
    }
    Ok(())
}

#[test]
fn any_bytes_are_accounted_for() {
    let runtime = Runtime::new().unwrap();
    let cases = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(48)
    };
    proptest!(cases, |(bytes in dirty(), format in prop::sample::select(vec![Format::Csv, Format::NdJson]))| {
        runtime.block_on(check(bytes, format))?;
    });
}
