//! Reads one JSON value: checks every byte against the grammar (RFC 8259), and
//! tells where the values that somebody wants stand. Copies nothing; texts with
//! escapes are the one exception, and only wanted ones.

use memchr::memchr2;

/// Deeper nesting is refused.
const DEEPEST: usize = 512;

/// Why bytes are not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where, counted from 0.
    pub(crate) at: usize,
    /// What was expected there.
    pub(crate) expected: &'static str,
}

/// What kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    Null,
    /// A number, `true` or `false`.
    Plain,
    Text {
        escaped: bool,
    },
    /// An array or an object.
    Nested,
}

/// A value and where it stands, quotes of a text included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueSpan {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: ValueKind,
}

/// Where reading is. The bytes must be valid UTF-8.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

type Result<T> = std::result::Result<T, Fault>;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// The next byte that is not white space.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.bytes.get(self.at) {
            let _ = byte;
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Makes sure that nothing follows.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault("the end of the line"),
        }
    }

    /// Reads an object. `member` is called with each key, raw and without its
    /// quotes, and must read the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a [u8], bool) -> Result<()>,
    ) -> Result<()> {
        self.expect(b'{', "an object")?;
        self.enter()?;
        if self.peek() == Some(b'}') {
            self.leave();
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fault("a key in quotes");
            }
            let key = self.text()?;
            self.expect(b':', "a colon after a key")?;
            self.peek();
            let escaped = matches!(key.kind, ValueKind::Text { escaped: true });
            member(self, &self.bytes[key.start + 1..key.end - 1], escaped)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.leave();
                    return Ok(());
                }
                _ => return self.fault("a comma or the end of an object"),
            }
        }
    }

    /// Reads any value.
    pub(crate) fn value(&mut self) -> Result<ValueSpan> {
        match self.peek() {
            Some(b'"') => self.text(),
            Some(b'{') => {
                self.nested(|reader| reader.object(|inner, _, _| inner.value().map(drop)))
            }
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", ValueKind::Plain),
            Some(b'f') => self.word("false", ValueKind::Plain),
            Some(b'n') => self.word("null", ValueKind::Null),
            _ => self.fault("a value"),
        }
    }

    /// Reads an array or object with `read` and tells where it stood.
    pub(crate) fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<ValueSpan> {
        let start = self.at;
        read(self)?;
        Ok(ValueSpan {
            start,
            end: self.at,
            kind: ValueKind::Nested,
        })
    }

    fn array(&mut self) -> Result<()> {
        self.expect(b'[', "an array")?;
        self.enter()?;
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(());
        }
        loop {
            self.value()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.leave();
                    return Ok(());
                }
                _ => return self.fault("a comma or the end of an array"),
            }
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.fault("less than 512 levels of nesting");
        }
        Ok(())
    }

    /// Takes the closing bracket.
    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    fn text(&mut self) -> Result<ValueSpan> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = memchr2(b'"', b'\\', rest) else {
                self.at = self.bytes.len();
                return self.fault("a closing quote");
            };
            if let Some(control) = rest[..length].iter().position(|&byte| byte < 0x20) {
                self.at += control;
                return self.fault("no control character in a text");
            }
            self.at += length;
            if self.bytes[self.at] == b'"' {
                self.at += 1;
                return Ok(ValueSpan {
                    start,
                    end: self.at,
                    kind: ValueKind::Text { escaped },
                });
            }
            escaped = true;
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<()> {
        let rest = &self.bytes[self.at + 1..];
        let length = match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if rest.len() > 4 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return self.fault("an escape such as \\n or \\u00e9"),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<ValueSpan> {
        let start = self.at;
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Ok(ValueSpan {
            start,
            end: self.at,
            kind: ValueKind::Plain,
        })
    }

    fn digits(&mut self) -> Result<()> {
        let count = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if count == 0 {
            return self.fault("a digit");
        }
        self.at += count;
        Ok(())
    }

    fn word(&mut self, word: &'static str, kind: ValueKind) -> Result<ValueSpan> {
        let start = self.at;
        if !self.bytes[start..].starts_with(word.as_bytes()) {
            return self.fault("a value");
        }
        self.at += word.len();
        Ok(ValueSpan {
            start,
            end: self.at,
            kind,
        })
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() != Some(byte) {
            return self.fault(expected);
        }
        self.at += 1;
        Ok(())
    }

    fn fault<T>(&self, expected: &'static str) -> Result<T> {
        Err(Fault {
            at: self.at,
            expected,
        })
    }
}

/// Writes the text that an escaped one stands for. `raw` was read by [`Reader`];
/// what can still be wrong is half of a surrogate pair.
pub(crate) fn unescape(raw: &[u8], output: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        output.extend_from_slice(&rest[..at]);
        let escape = rest[at + 1..].first().copied().unwrap_or_default();
        rest = &rest[at + 2..];
        let plain = match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                rest = unescape_code(rest, output).ok_or("half of a surrogate pair")?;
                continue;
            }
            other => other,
        };
        output.push(plain);
    }
    output.extend_from_slice(rest);
    Ok(())
}

/// Writes the character of one or two `\uXXXX`, the first `\u` of which is taken.
fn unescape_code<'a>(rest: &'a [u8], output: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, rest) = rest.split_at_checked(4)?;
    let first = code(first)?;
    let (code_point, rest) = match first {
        0xD800..0xDC00 => {
            let (second, after) = rest.strip_prefix(b"\\u")?.split_at_checked(4)?;
            let second = code(second).filter(|code| (0xDC00..0xE000).contains(code))?;
            (
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                after,
            )
        }
        other => (other, rest),
    };
    let character = char::from_u32(code_point)?;
    output.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(rest)
}

fn code(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> std::result::Result<ValueSpan, Fault> {
        let mut reader = Reader::new(text.as_bytes());
        let span = reader.value()?;
        reader.end()?;
        Ok(span)
    }

    #[test]
    fn faults_say_where_and_what() {
        for (text, at, expected) in [
            ("", 0, "a value"),
            ("{\"a\":1,}", 7, "a key in quotes"),
            ("{\"a\" 1}", 5, "a colon after a key"),
            ("[1 2]", 3, "a comma or the end of an array"),
            ("\"abc", 4, "a closing quote"),
            ("1.", 2, "a digit"),
            ("01", 1, "the end of the line"),
            ("nul", 0, "a value"),
            ("\"\\x\"", 1, "an escape such as \\n or \\u00e9"),
        ] {
            assert_eq!(check(text), Err(Fault { at, expected }), "{text}");
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&nested(512)).is_ok());
        assert!(check(&nested(100_000)).is_err());
    }

    #[test]
    fn escapes() {
        let mut output = Vec::new();
        unescape(br#"a\n\"\\\/\u00e9\ud83d\ude00z"#, &mut output).unwrap();
        assert_eq!(output, "a\n\"\\/é😀z".as_bytes());
        for bad in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\u0041"] {
            assert!(unescape(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }

    proptest! {
        /// serde_json knows the grammar; it also refuses numbers that are too big for it.
        #[test]
        fn agrees_with_another_parser(text in r#"[\[\]{}",:0-9eE.+\-tfnrualse\\ \t]{0,24}|[\x00-\x7f]{0,12}"#) {
            let known: std::result::Result<&serde_json::value::RawValue, _> = serde_json::from_str(&text);
            prop_assert_eq!(check(&text).is_ok(), known.is_ok(), "{:?}", text);
        }

        #[test]
        fn texts_round_trip(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let span = check(&written).unwrap();
            let mut output = Vec::new();
            unescape(&written.as_bytes()[span.start + 1..span.end - 1], &mut output).unwrap();
            prop_assert_eq!(output, text.into_bytes());
        }
    }
}
