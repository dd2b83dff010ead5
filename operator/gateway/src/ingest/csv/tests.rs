//! Tables of CSV as it comes, and the property that no byte of it is lost.

use super::super::block::testing::{Row, layout, rows};
use super::super::lines::Feeder;
use super::*;
use proptest::prelude::*;

fn dialect(header: CsvHeader) -> CsvDialect {
    CsvDialect {
        header,
        ..CsvDialect::default()
    }
}

fn read_as(dialect: &CsvDialect, chunks: &[&[u8]]) -> (Vec<Row>, Vec<String>) {
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let mut feeder = Feeder::new(CsvSplitter::new(Dialect::new(dialect), names));
    let mut block = Block::new(layout(3), "i");
    for chunk in chunks {
        feeder.feed(chunk, &mut block);
    }
    feeder.finish(&mut block);
    (
        rows(&block),
        feeder.into_splitter().ignored_columns().to_vec(),
    )
}

fn read(text: &str) -> Vec<Row> {
    read_as(&CsvDialect::default(), &[text.as_bytes()]).0
}

fn values(values: [&str; 3]) -> Row {
    Row::values(&values.map(Some))
}

#[test]
fn line_ends_headers_and_blank_lines() {
    let expected = [values(["1", "2", "3"]), values(["4", "5", "6"])];
    for text in [
        "1,2,3\n4,5,6\n",
        "1,2,3\r\n4,5,6\r\n",
        "1,2,3\n4,5,6",
        "1,2,3\r\n4,5,6\r",
        "\n\n1,2,3\n\r\n4,5,6\n\n",
        "\u{feff}1,2,3\n4,5,6\n",
        "a,b,c\n1,2,3\n4,5,6\n",
        "\u{feff}\"a\", b ,c\r\n1,2,3\r\n4,5,6\r\n",
        "c,b,a\n3,2,1\n6,5,4\n",
        " 1 ,\t2,3 \n4,5,6\n",
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
    assert_eq!(read(""), []);
    assert_eq!(read("a,b,c\n"), []);
}

#[test]
fn quotes() {
    assert_eq!(
        read("\"x\ny\",\"say \"\"hi\"\"\",\"\"\n"),
        [values(["x\ny", "say \"hi\"", ""])]
    );
    assert_eq!(
        read("\"a,b\" , \"c\"\t,d\"e\n"),
        [values(["a,b", "c", "d\"e"])]
    );
    assert_eq!(read("1,2,\"\r\n\"\r\n"), [values(["1", "2", "\r\n"])]);
    assert_eq!(
        read("\"\"\"\",\"\"\"a\",\"b\"\"\""),
        [values(["\"", "\"a", "b\""])]
    );
}

#[test]
fn null_markers_count_without_quotes_only() {
    let dialect = CsvDialect {
        null_markers: vec!["NA".to_owned(), String::new()],
        ..CsvDialect::default()
    };
    let (rows, _) = read_as(&dialect, &[b"NA,\"NA\",\n\"\", NA ,NAN\n"]);
    assert_eq!(
        rows,
        [
            Row::values(&[None, Some("NA"), None]),
            Row::values(&[Some(""), None, Some("NAN")])
        ]
    );
}

#[test]
fn records_that_do_not_fit_are_kept_as_they_are() {
    assert_eq!(
        read("1,2\n1,2,3\n1,\"2\n\",3,4\n"),
        [
            Row::rejected("1,2", "expected 3 fields, found 2"),
            values(["1", "2", "3"]),
            Row::rejected("1,\"2\n\",3,4", "expected 3 fields, found 4"),
        ]
    );
}

#[test]
fn a_stray_quote_costs_one_line() {
    assert_eq!(
        read("1,\"2,3\n4,5,6\n"),
        [
            Row::rejected("1,\"2,3", "a quote is not closed"),
            values(["4", "5", "6"])
        ]
    );
    assert_eq!(
        read("1,\"2\"x,3\r\n4,5,6\n"),
        [
            Row::rejected("1,\"2\"x,3", "text after a closing quote"),
            values(["4", "5", "6"])
        ]
    );
    assert_eq!(
        read("1,2,\""),
        [Row::rejected("1,2,\"", "a quote is not closed")]
    );
}

#[test]
fn a_quote_is_looked_for_within_a_bound() {
    let mut text = String::from("1,\"2,3\n");
    let line = format!("4,5,{}\n", "6".repeat(4000));
    let lines = LONGEST_QUOTED / line.len() + 10;
    text.push_str(&line.repeat(lines));
    for chunk in [65_536, text.len()] {
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(chunk).collect();
        let (rows, _) = read_as(&CsvDialect::default(), &chunks);
        assert_eq!(rows.len(), lines + 1);
        assert_eq!(rows[0], Row::rejected("1,\"2,3", "a quote is not closed"));
        assert_eq!(rows[lines], values(["4", "5", &"6".repeat(4000)]));
    }
}

#[test]
fn a_long_record_of_many_lines_is_one_row() {
    let long = "1,2,3\n".repeat(500_000);
    let text = format!("1,\"{long}\",3\n4,5,6\n");
    for chunk in [65_536, text.len()] {
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(chunk).collect();
        let (rows, _) = read_as(&CsvDialect::default(), &chunks);
        assert_eq!(rows, [values(["1", &long, "3"]), values(["4", "5", "6"])]);
    }
}

#[test]
fn lines_with_open_quotes_are_not_looked_through_for_each_other() {
    // Each of them begins in quotes, and outside of them, and ends within.
    let lines = 100_000;
    let text = "a\",x,\"\n".repeat(lines);
    let ends = ["", "b", "\"", "\",c\n", "\"c\n"];
    for text in ends.map(|end| format!("{text}{end}")) {
        let (rows, _) = read_as(&CsvDialect::default(), &[text.as_bytes()]);
        assert!(rows.len() <= lines + 1);
    }
}

#[test]
fn records_after_a_stray_quote_may_have_many_lines() {
    assert_eq!(
        read("1,\"2,3\n4,5,6\n\"7\n8\n\",9,0\n"),
        [
            Row::rejected("1,\"2,3", "text after a closing quote"),
            values(["4", "5", "6"]),
            values(["7\n8\n", "9", "0"]),
        ]
    );
}

#[test]
fn a_header_may_lack_columns_or_have_others() {
    let present = dialect(CsvHeader::Present);
    let (rows, ignored) = read_as(&present, &[b"x,c,a,c\n9,3,1,8\n1,2\n"]);
    assert_eq!(
        rows,
        [
            Row::values(&[Some("1"), None, Some("3")]),
            Row::rejected("1,2", "expected 4 fields, found 2")
        ]
    );
    assert_eq!(ignored, ["x", "c"]);
    // With `Auto` a line that names columns with more than half of its fields is one.
    let auto = dialect(CsvHeader::Auto);
    let (rows, ignored) = read_as(&auto, &[b"a,x,c\n1,2,3\n"]);
    assert_eq!(rows, [Row::values(&[Some("1"), None, Some("3")])]);
    assert_eq!(ignored, ["x"]);
    let (rows, ignored) = read_as(&auto, &[b"a,b,more,c\n1,2,0,3\n"]);
    assert_eq!(rows, [values(["1", "2", "3"])]);
    assert_eq!(ignored, ["more"]);
    let (rows, ignored) = read_as(&auto, &[b"x,c,a,c\na,x,y\n"]);
    assert_eq!(
        rows,
        [
            Row::rejected("x,c,a,c", "expected 3 fields, found 4"),
            values(["a", "x", "y"])
        ]
    );
    assert!(ignored.is_empty());
    let (rows, _) = read_as(&dialect(CsvHeader::Absent), &[b"a,b,c\n"]);
    assert_eq!(rows, [values(["a", "b", "c"])]);
}

#[test]
fn a_header_without_any_column_sends_everything_to_quarantine() {
    let reason = "the first line names none of the columns";
    let (rows, _) = read_as(&dialect(CsvHeader::Present), &[b"1,2,3\n4,5,6\n"]);
    assert_eq!(
        rows,
        [
            Row::rejected("1,2,3", reason),
            Row::rejected("4,5,6", reason)
        ]
    );
}

#[test]
fn other_dialects() {
    let dialect = CsvDialect {
        delimiter: "\t".to_owned(),
        quote: "'".to_owned(),
        ..CsvDialect::default()
    };
    let (rows, _) = read_as(&dialect, &[b"'a\tb'\t x \t\"\n\t\t\n"]);
    assert_eq!(
        rows,
        [
            values(["a\tb", "x", "\""]),
            Row::values(&[None, None, None])
        ]
    );
}

#[test]
fn bytes_that_are_not_text_pass_through() {
    let (rows, _) = read_as(&CsvDialect::default(), &[b"\xff,\0,\xfe\xfd\n"]);
    assert_eq!(
        rows,
        [Row::Values(vec![
            Some(b"\xff".to_vec()),
            Some(b"\0".to_vec()),
            Some(b"\xfe\xfd".to_vec())
        ])]
    );
}

/// Bytes that make trouble, mostly.
fn dirty() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b",\"\n\r ab1".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

/// The bytes of the values and raw records, for comparison with the input.
fn contents(rows: &[Row]) -> Vec<u8> {
    rows.iter()
        .flat_map(|row| match row {
            Row::Values(values) => values
                .iter()
                .flatten()
                .flatten()
                .copied()
                .collect::<Vec<u8>>(),
            Row::Rejected { raw, .. } => raw.clone(),
        })
        .collect()
}

proptest! {
    #[test]
    fn where_the_stream_is_cut_does_not_matter(bytes in dirty(), size in 1_usize..20) {
        let dialect = CsvDialect::default();
        let whole = read_as(&dialect, &[&bytes]);
        let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(read_as(&dialect, &chunks), whole);
    }

    #[test]
    fn every_byte_that_means_something_is_kept(bytes in dirty()) {
        let dialect = CsvDialect { header: CsvHeader::Absent, null_markers: vec![], ..CsvDialect::default() };
        let (rows, _) = read_as(&dialect, &[&bytes]);
        // What structure is made of may go; everything else stays, in order.
        let meaningful = |bytes: &[u8]| -> Vec<u8> {
            bytes.iter().copied().filter(|byte| !b",\"\n\r\t \xef\xbb\xbf".contains(byte)).collect()
        };
        prop_assert_eq!(meaningful(&contents(&rows)), meaningful(&bytes));
    }

    #[test]
    fn well_formed_records_come_back(
        records in prop::collection::vec(prop::collection::vec("[a-z,\"\n\r \t]{0,6}", 3), 0..20),
    ) {
        let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
        let text: String = records
            .iter()
            .map(|fields| fields.iter().map(quote).collect::<Vec<_>>().join(",") + "\r\n")
            .collect();
        let (rows, _) = read_as(&dialect(CsvHeader::Absent), &[text.as_bytes()]);
        let expected: Vec<Row> = records
            .iter()
            .map(|fields| Row::Values(fields.iter().map(|field| Some(field.clone().into_bytes())).collect()))
            .collect();
        prop_assert_eq!(rows, expected);
    }
}
