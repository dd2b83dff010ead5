//! NDJSON: one object a line, its values found by path. What is not an object
//! keeps its whole line, with what is wrong with it.

use super::block::Block;
use super::json::{self, Fault, Reader, ValueKind, ValueSpan};
use super::json_path::{PathTree, Paths};
use super::lines::{Splitter, skip_byte_order_mark, without_return};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Splits NDJSON into the columns of a data source.
pub(crate) struct NdJsonSplitter {
    paths: Arc<Paths>,
    slots: Vec<Slot>,
    unescaped: Vec<u8>,
    started: bool,
}

/// Where the value of a column stands.
#[derive(Clone, Debug)]
enum Slot {
    /// There is none.
    Missing,
    /// In the line.
    Line(Range<usize>),
    /// Among the texts that had escapes.
    Unescaped(Range<usize>),
}

impl NdJsonSplitter {
    pub(crate) fn new(paths: Arc<Paths>, columns: usize) -> Self {
        Self {
            paths,
            slots: vec![Slot::Missing; columns],
            unescaped: Vec::new(),
            started: false,
        }
    }

    fn line(&mut self, line: &[u8], block: &mut Block) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match self.read(line) {
            Ok(()) => {
                for (column, slot) in self.slots.iter().enumerate() {
                    let value = match slot {
                        Slot::Missing => None,
                        Slot::Line(range) => Some(&line[range.clone()]),
                        Slot::Unescaped(range) => Some(&self.unescaped[range.clone()]),
                    };
                    block.value(column, value);
                }
                block.end_row(line);
            }
            Err(reason) => block.reject(line, &reason),
        }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), Cow<'static, str>> {
        if std::str::from_utf8(line).is_err() {
            return Err("not valid UTF-8".into());
        }
        self.unescaped.clear();
        self.slots.fill(Slot::Missing);
        let mut reader = Reader::new(line);
        if reader.peek() != Some(b'{') {
            let valid = reader.value().and_then(|_| reader.end());
            return Err(valid.map_or_else(describe, |()| "not a JSON object".into()));
        }
        let mut filling = Filling {
            line,
            slots: &mut self.slots,
            unescaped: &mut self.unescaped,
            problem: None,
        };
        let whole = filling
            .object(&mut reader, &self.paths.tree)
            .map_err(describe)?;
        reader.end().map_err(describe)?;
        filling.fill(&self.paths.whole, whole);
        match filling.problem {
            Some(problem) => Err(format!("not valid JSON: {problem}").into()),
            None => Ok(()),
        }
    }
}

fn describe(fault: Fault) -> Cow<'static, str> {
    format!(
        "not valid JSON: expected {} at byte {}",
        fault.expected,
        fault.at + 1
    )
    .into()
}

/// Fills slots while a line is read.
struct Filling<'a> {
    line: &'a [u8],
    slots: &'a mut [Slot],
    unescaped: &'a mut Vec<u8>,
    problem: Option<&'static str>,
}

impl Filling<'_> {
    fn object(&mut self, reader: &mut Reader<'_>, tree: &PathTree) -> Result<ValueSpan, Fault> {
        let mut turn = 0;
        reader.nested(|reader| {
            reader.object(|reader, key, escaped| {
                let key = if escaped {
                    self.plain_key(key)
                } else {
                    Cow::Borrowed(key)
                };
                let Some(node) = tree.find(&key, &mut turn) else {
                    return reader.value().map(drop);
                };
                self.forget(&node.inside);
                let span = match reader.peek() {
                    Some(b'{') if !node.inside.is_empty() => self.object(reader, &node.inside)?,
                    _ => reader.value()?,
                };
                self.fill(&node.columns, span);
                Ok(())
            })
        })
    }

    fn plain_key<'k>(&mut self, raw: &'k [u8]) -> Cow<'k, [u8]> {
        let mut key = Vec::with_capacity(raw.len());
        match json::unescape(raw, &mut key) {
            Ok(()) => Cow::Owned(key),
            Err(problem) => {
                self.problem = Some(problem);
                Cow::Borrowed(raw)
            }
        }
    }

    /// Of a key that comes twice, the last value counts: nothing that was inside of the
    /// first one is left.
    fn forget(&mut self, inside: &PathTree) {
        for node in inside.nodes() {
            for &column in &node.columns {
                self.slots[column] = Slot::Missing;
            }
            self.forget(&node.inside);
        }
    }

    fn fill(&mut self, columns: &[usize], span: ValueSpan) {
        if columns.is_empty() {
            return;
        }
        let slot = match span.kind {
            ValueKind::Null => Slot::Missing,
            ValueKind::Plain | ValueKind::Nested => Slot::Line(span.start..span.end),
            ValueKind::Text { escaped: false } => Slot::Line(span.start + 1..span.end - 1),
            ValueKind::Text { escaped: true } => {
                let start = self.unescaped.len();
                let raw = &self.line[span.start + 1..span.end - 1];
                if let Err(problem) = json::unescape(raw, self.unescaped) {
                    self.problem = Some(problem);
                }
                Slot::Unescaped(start..self.unescaped.len())
            }
        };
        for &column in columns {
            self.slots[column] = slot.clone();
        }
    }
}

impl Splitter for NdJsonSplitter {
    fn split(&mut self, bytes: &[u8], at_end: bool, block: &mut Block) -> usize {
        let mut used = 0;
        if !self.started {
            let Some(mark) = skip_byte_order_mark(bytes, at_end) else {
                return 0;
            };
            used = mark;
            self.started = true;
        }
        while let Some(length) = memchr::memchr(b'\n', &bytes[used..]) {
            self.line(without_return(&bytes[used..used + length]), block);
            used += length + 1;
        }
        if at_end {
            self.line(without_return(&bytes[used..]), block);
            used = bytes.len();
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::testing::{Row, layout, rows};
    use super::super::lines::Feeder;
    use super::*;
    use proptest::prelude::*;

    fn read(paths: &[&str], chunks: &[&[u8]]) -> Vec<Row> {
        let tree = Arc::new(Paths::new(paths.iter().copied()).unwrap());
        let mut feeder = Feeder::new(NdJsonSplitter::new(tree, paths.len()));
        let mut block = Block::new(layout(paths.len()), "i");
        for chunk in chunks {
            feeder.feed(chunk, &mut block);
        }
        feeder.finish(&mut block);
        rows(&block)
    }

    fn read_text(paths: &[&str], text: &str) -> Vec<Row> {
        read(paths, &[text.as_bytes()])
    }

    #[test]
    fn values_become_text() {
        let text = r#"{"a": "x\ty", "b": 12.50, "c": [1, "z"]}
{"c":{"k":null},"b":true,"a":"é"}
"#;
        assert_eq!(
            read_text(&["$.a", "$.b", "$.c[:]"], text),
            [
                Row::values(&[Some("x\ty"), Some("12.50"), Some("[1, \"z\"]")]),
                Row::values(&[Some("é"), Some("true"), Some("{\"k\":null}")]),
            ]
        );
    }

    #[test]
    fn paths_lead_inside() {
        let paths = ["$.user.id", "$.user", "$.['a.b']", "$"];
        let line = r#"{"user":{"id":7,"x":{}},"a.b":"q"}"#;
        assert_eq!(
            read_text(&paths, line),
            [Row::values(&[
                Some("7"),
                Some(r#"{"id":7,"x":{}}"#),
                Some("q"),
                Some(line)
            ])]
        );
        assert_eq!(
            read_text(&["$.user.id", "$.b"], r#"{"user": 5, "\u0062": 1}"#),
            [Row::values(&[None, Some("1")])]
        );
    }

    #[test]
    fn missing_and_null_are_the_same_and_other_keys_do_not_matter() {
        assert_eq!(
            read_text(
                &["$.a", "$.b"],
                "{\"a\":null,\"z\":[{}]}\n{}\r\n\n  \n{\"b\":\"\"}"
            ),
            [
                Row::values(&[None, None]),
                Row::values(&[None, None]),
                Row::values(&[None, Some("")])
            ]
        );
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_value_counts() {
        for (line, expected) in [
            (r#"{"a":1,"a":2}"#, [Some("2"), None, None]),
            (r#"{"a":1,"a":null}"#, [None; 3]),
            (r#"{"user":{"id":7},"user":{}}"#, [None; 3]),
            (r#"{"user":{"id":7},"user":5}"#, [None; 3]),
            (
                r#"{"user":{"id":7},"us\u0065r":{"in":{"x":1}}}"#,
                [None, None, Some("1")],
            ),
            (
                r#"{"user":{"in":{"x":1},"id":7,"in":{}}}"#,
                [None, Some("7"), None],
            ),
            (
                r#"{"user":{"id":7},"other":{"id":8}}"#,
                [None, Some("7"), None],
            ),
        ] {
            let paths = ["$.a", "$.user.id", "$.user.in.x"];
            assert_eq!(read_text(&paths, line), [Row::values(&expected)], "{line}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_kept_with_a_reason() {
        let text = "[1]\n{\"a\":1\nhello\n\"x\"\n{\"a\":\"\\ud800\"}\n{\"a\":1} {}\n";
        assert_eq!(
            read_text(&["$.a"], text),
            [
                Row::rejected("[1]", "not a JSON object"),
                Row::rejected(
                    "{\"a\":1",
                    "not valid JSON: expected a comma or the end of an object at byte 7"
                ),
                Row::rejected("hello", "not valid JSON: expected a value at byte 1"),
                Row::rejected("\"x\"", "not a JSON object"),
                Row::rejected(
                    "{\"a\":\"\\ud800\"}",
                    "not valid JSON: half of a surrogate pair"
                ),
                Row::rejected(
                    "{\"a\":1} {}",
                    "not valid JSON: expected the end of the line at byte 9"
                ),
            ]
        );
        let bytes = b"\xef\xbb\xbf{\"a\":1}\n{\"a\":\"\xff\"}\n";
        assert_eq!(
            read(&["$.a"], &[bytes]),
            [
                Row::values(&[Some("1")]),
                Row::Rejected {
                    raw: b"{\"a\":\"\xff\"}".to_vec(),
                    reason: "not valid UTF-8".to_owned()
                },
            ]
        );
    }

    fn dirty() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "{\"a\":1}\n",
                "{\"b\":\"x\"}\r\n",
                "\n",
                "{",
                "}",
                "\"",
                "null",
                "\u{feff}",
                "{\"a\":{\"b\":[]}}"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..5),
        ];
        prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(bytes in dirty(), size in 1_usize..20) {
            let paths = ["$.a", "$.a.b"];
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(read(&paths, &chunks), read(&paths, &[&bytes]));
        }

        /// Every line that is not blank is a row, with the value that another parser finds.
        #[test]
        fn every_line_is_a_row(bytes in dirty()) {
            let body = bytes.strip_prefix(super::super::lines::BYTE_ORDER_MARK).unwrap_or(&bytes);
            let lines = body.split(|&byte| byte == b'\n').map(without_return);
            let expected: Vec<Row> = lines.filter(|line| !line.trim_ascii().is_empty()).map(by_serde).collect();
            let found: Vec<Row> = read(&["$.a"], &[&bytes]).into_iter().map(without_reason).collect();
            prop_assert_eq!(found, expected);
        }
    }

    fn by_serde(line: &[u8]) -> Row {
        #[derive(serde::Deserialize)]
        struct Wanted<'a> {
            #[serde(borrow, default)]
            a: Option<&'a serde_json::value::RawValue>,
        }
        let line_text = std::str::from_utf8(line).ok();
        let object =
            line_text.filter(|text| text.trim_start_matches([' ', '\t', '\r']).starts_with('{'));
        match object.and_then(|text| serde_json::from_str::<Wanted>(text).ok()) {
            Some(wanted) => Row::values(&[wanted
                .a
                .map(serde_json::value::RawValue::get)
                .filter(|raw| *raw != "null")]),
            None => Row::rejected(&String::from_utf8_lossy(line), ""),
        }
    }

    fn without_reason(row: Row) -> Row {
        match row {
            Row::Rejected { raw, .. } => Row::rejected(&String::from_utf8_lossy(&raw), ""),
            values @ Row::Values(_) => values,
        }
    }
}
