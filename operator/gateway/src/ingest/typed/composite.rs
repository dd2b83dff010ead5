//! Arrays, maps and tuples from their text, which is JSON or ClickHouse's own
//! spelling: `["a", 1]` or `['a', 1]`, `{"k": 1}` or `{'k': 1}`, `[1, "a"]`,
//! `{"a": 1}` or `(1, 'a')`.

use super::super::json::{self, Reader, ValueKind};
use super::kind::{Kind, Member};
use super::values::{Mark, Values};
use std::borrow::Cow;

/// What is larger than its text so many times is left to the landing: `[1,1,1]` is of
/// a few bytes, and may be of many wide numbers.
pub(super) const MOST_GROWTH: usize = 4;
/// Beyond this many keys, a map's are not compared with each other.
const MOST_KEYS: usize = 64;

impl Values {
    /// Adds the value of a field if it is certain; otherwise adds one that nobody will see.
    pub(super) fn push_field(&mut self, kind: &Kind, text: Option<&[u8]>, mark: &mut Mark) -> bool {
        if let (Self::Nullable { nulls, inner }, Kind::Nullable(kind)) = (&mut *self, kind) {
            nulls.push(text.is_none().into());
            if text.is_none() {
                inner.push_nothing();
                return true;
            }
            return inner.push_field(kind, text, mark);
        }
        let is_certain = match (text, kind) {
            (None, _) => false,
            (Some(text), Kind::Array(_) | Kind::Map(_) | Kind::Tuple(_)) => {
                mark.0.clear();
                self.note(mark);
                let pushed = push(kind, text, self).is_some();
                if !pushed {
                    self.cut(&mut mark.0.iter().copied());
                }
                pushed
            }
            (Some(text), kind) => self.push_scalar(kind, text).is_some(),
        };
        if !is_certain {
            self.push_nothing();
        }
        is_certain
    }
}

/// Adds the value of a text. If that is not certain it may have added a part of it.
fn push(kind: &Kind, text: &[u8], values: &mut Values) -> Option<()> {
    std::str::from_utf8(text).ok()?;
    let size_before = values.size();
    let mut cursor = Cursor { text, at: 0 };
    cursor.value(kind, values)?;
    cursor.skip_blanks();
    let growth = values.size() - size_before;
    let is_bounded = growth <= kind.width() + MOST_GROWTH * text.len();
    (cursor.at == text.len() && is_bounded).then_some(())
}

/// A place in a text.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    fn value(&mut self, kind: &Kind, values: &mut Values) -> Option<()> {
        match (kind, values) {
            (Kind::Nullable(kind), Values::Nullable { nulls, inner }) => {
                let is_null = self.take_null();
                nulls.push(is_null.into());
                if is_null {
                    inner.push_nothing();
                    return Some(());
                }
                self.value(kind, inner)
            }
            (Kind::Array(kind), Values::Lists { ends, elements }) => {
                let [elements] = elements.as_mut_slice() else {
                    return None;
                };
                let count = self.list(|cursor, _| cursor.value(kind, elements))?;
                end_list(ends, count);
                Some(())
            }
            (Kind::Map(inside), Values::Lists { ends, elements }) => {
                let [keys, values] = elements.as_mut_slice() else {
                    return None;
                };
                let count = self.map(&inside[0], &inside[1], keys, values)?;
                end_list(ends, count);
                Some(())
            }
            (Kind::Tuple(members), Values::Tuple(values)) => match self.peek()? {
                b'{' => self.object(members, values),
                _ => self.tuple(members, values),
            },
            (scalar, values) => values.push_scalar(scalar, &self.scalar()?),
        }
    }

    /// `[...]`; gives the number of elements.
    fn list(&mut self, element: impl FnMut(&mut Self, usize) -> Option<()>) -> Option<u64> {
        self.expect(b'[')?;
        self.until(b']', element)
    }

    fn map(
        &mut self,
        key_kind: &Kind,
        value_kind: &Kind,
        keys: &mut Values,
        values: &mut Values,
    ) -> Option<u64> {
        self.expect(b'{')?;
        let mut seen: Vec<Cow<'t, [u8]>> = Vec::new();
        self.until(b'}', |cursor, _| {
            let key = cursor.scalar()?;
            // Of equal keys the landing knows which counts.
            if seen.len() == MOST_KEYS || seen.contains(&key) {
                return None;
            }
            keys.push_scalar(key_kind, &key)?;
            seen.push(key);
            cursor.expect(b':')?;
            cursor.value(value_kind, values)
        })
    }

    /// `(...)` or `[...]`.
    fn tuple(&mut self, members: &[Member], values: &mut [Values]) -> Option<()> {
        let end = match self.take()? {
            b'(' => b')',
            b'[' => b']',
            _ => return None,
        };
        let count = self.until(end, |cursor, index| {
            cursor.value(&members.get(index)?.kind, values.get_mut(index)?)
        })?;
        (count == members.len() as u64).then_some(())
    }

    /// `{...}` with the names of the members as keys, in any order. A member may be
    /// missing if it can be NULL.
    fn object(&mut self, members: &[Member], values: &mut [Values]) -> Option<()> {
        let mut places = vec![None; members.len()];
        let mut reader = Reader::new(&self.text[self.at..]);
        let start = self.at;
        let mut is_certain = true;
        let span = reader
            .nested(|reader| {
                reader.object(|reader, key, is_escaped| {
                    reader.peek();
                    let at = reader.value()?.start;
                    let of_key = |member: &Member| member.name.as_deref() == Some(key);
                    if let Some(index) = members.iter().position(of_key) {
                        is_certain &= places[index].replace(start + at).is_none();
                    }
                    is_certain &= !is_escaped;
                    Ok(())
                })
            })
            .ok()?;
        let is_named = members.iter().all(|member| member.name.is_some());
        if !is_certain || !is_named {
            return None;
        }
        for ((member, values), place) in members.iter().zip(values).zip(places) {
            match place {
                Some(at) => {
                    let mut member_cursor = Cursor {
                        text: self.text,
                        at,
                    };
                    member_cursor.value(&member.kind, values)?;
                }
                None if matches!(member.kind, Kind::Nullable(_)) => values.push_nothing(),
                None => return None,
            }
        }
        self.at = start + span.end;
        Some(())
    }

    /// Elements up to the closing bracket, the opening one being taken; gives their number.
    fn until(
        &mut self,
        end: u8,
        mut element: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<u64> {
        if self.peek()? == end {
            self.at += 1;
            return Some(0);
        }
        for index in 0.. {
            element(self, index)?;
            match self.take()? {
                b',' => {}
                byte if byte == end => return Some(index as u64 + 1),
                _ => return None,
            }
        }
        None
    }

    /// The text of a value that has no others inside: what quotes hold, or what stands bare.
    fn scalar(&mut self) -> Option<Cow<'t, [u8]>> {
        match self.peek()? {
            b'"' => self.json_text(),
            b'\'' => self.quoted_text(),
            _ => {
                let bare = self.bare();
                let is_word = matches!(bare, b"true" | b"false");
                let digits = bare.strip_prefix(b"-").unwrap_or(bare);
                let is_number = digits.first().is_some_and(u8::is_ascii_digit);
                self.at += bare.len();
                (is_word || is_number).then_some(Cow::Borrowed(bare))
            }
        }
    }

    fn json_text(&mut self) -> Option<Cow<'t, [u8]>> {
        let mut reader = Reader::new(&self.text[self.at..]);
        let span = reader.value().ok()?;
        let raw = &self.text[self.at + 1..self.at + span.end - 1];
        self.at += span.end;
        if span.kind == (ValueKind::Text { escaped: false }) {
            return Some(Cow::Borrowed(raw));
        }
        let mut plain = Vec::with_capacity(raw.len());
        json::unescape(raw, &mut plain).ok()?;
        Some(Cow::Owned(plain))
    }

    fn quoted_text(&mut self) -> Option<Cow<'t, [u8]>> {
        let start = self.at + 1;
        let mut plain = Vec::new();
        let mut copied = start;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'\'', b'\\', &self.text[at..])?;
            if self.text[at] == b'\'' {
                self.at = at + 1;
                let rest = &self.text[copied..at];
                if copied == start {
                    return Some(Cow::Borrowed(rest));
                }
                plain.extend_from_slice(rest);
                return Some(Cow::Owned(plain));
            }
            plain.extend_from_slice(&self.text[copied..at]);
            plain.push(match self.text.get(at + 1)? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'b' => 8,
                b'f' => 12,
                b'0' => 0,
                &byte @ (b'\\' | b'\'') => byte,
                _ => return None,
            });
            at += 2;
            copied = at;
        }
    }

    fn take_null(&mut self) -> bool {
        self.skip_blanks();
        let is_null = matches!(self.bare(), b"null" | b"NULL");
        self.at += if is_null { 4 } else { 0 };
        is_null
    }

    /// The word or number that stands here.
    fn bare(&self) -> &'t [u8] {
        let rest = &self.text[self.at..];
        let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        &rest[..rest.iter().take_while(is_part).count()]
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.take()? == byte).then_some(())
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

fn end_list(ends: &mut Vec<u64>, count: u64) {
    ends.push(ends.last().copied().unwrap_or(0) + count);
}

#[cfg(test)]
mod tests {
    use super::super::kind::Known;
    use super::*;

    /// The bytes of a value, if it is certain.
    fn value(type_text: &str, text: &str) -> Option<Vec<u8>> {
        let kind = Known::of(type_text).unwrap().kind;
        let mut values = Values::new(&kind);
        let is_certain = values.push_field(&kind, Some(text.as_bytes()), &mut Mark::default());
        let mut pieces = super::super::super::pieces::Pieces::default();
        values.encode(&mut pieces);
        is_certain.then(|| pieces.finish().concat())
    }

    #[test]
    fn both_spellings_are_the_same_value() {
        for (type_text, json, own) in [
            (
                "Array(String)",
                r#"["a", "it's", "q\"", ""]"#,
                r#"['a','it\'s','q"','']"#,
            ),
            ("Array(Array(Int8))", "[[1,2],[]]", " [ [1 , 2],[] ] "),
            ("Array(Nullable(Float64))", "[1.5,null]", "[1.5,NULL]"),
            ("Map(String, UInt8)", r#"{"x": 1, "y": 2}"#, "{'x':1,'y':2}"),
            ("Map(UInt8, String)", r#"{"1": "a"}"#, "{1:'a'}"),
            ("Tuple(Int8, String)", r#"[1, "a\n"]"#, r"(1,'a\n')"),
            (
                "Tuple(a Int8, b Nullable(Bool))",
                r#"{"x": {}, "a": 1}"#,
                "(1,NULL)",
            ),
            (
                "Array(Tuple(a Int8, b String))",
                r#"[{"b":"x","a":1}]"#,
                "[(1,'x')]",
            ),
        ] {
            assert_eq!(value(type_text, json), value(type_text, own), "{json}");
            assert!(value(type_text, own).is_some(), "{own}");
        }
    }

    #[test]
    fn parts_stand_side_by_side() {
        let map = value("Map(String, UInt8)", "{'x':1,'yz':2}").unwrap();
        let (count, parts) = map.split_at(8);
        assert_eq!(count, 2_u64.to_le_bytes());
        assert_eq!(parts, b"\x01x\x02yz\x01\x02");
        let pair = value("Tuple(Nullable(Int8), Int8)", "[null, 1]").unwrap();
        assert_eq!(pair, b"\x01\x00\x01");
    }

    #[test]
    fn what_is_not_certain_is_left() {
        for (type_text, text) in [
            ("Array(Int8)", ""),
            ("Array(Int8)", "[1"),
            ("Array(Int8)", "[1,]"),
            ("Array(Int8)", "[1] x"),
            ("Array(Int8)", "(1)"),
            ("Array(Int8)", "[null]"),
            ("Array(Int8)", "[300]"),
            ("Array(String)", "[a]"),
            ("Array(String)", "['a]"),
            ("Array(String)", r"['\x41']"),
            ("Array(String)", r#"["\ud800"]"#),
            ("Map(String, Int8)", r#"{"a":1,"a":2}"#),
            ("Map(String, Int8)", "{'a':1,\"a\":2}"),
            ("Tuple(Int8, Int8)", "[1]"),
            ("Tuple(Int8, Int8)", "(1,2,3)"),
            ("Tuple(Int8, Int8)", "(1,2]"),
            ("Tuple(a Int8, b Int8)", r#"{"a":1}"#),
            ("Tuple(a Int8)", r#"{"a":1,"a":2}"#),
            ("Array(Int256)", "[1,1,1,1,1,1,1,1,1,1,1,1,1]"),
        ] {
            assert_eq!(value(type_text, text), None, "{type_text} {text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(value("Array(Array(String))", &deep), None);
    }

    #[test]
    fn a_value_that_is_left_leaves_nothing_behind() {
        let kind = Known::of("Array(Tuple(String, Map(String, Int8)))")
            .unwrap()
            .kind;
        let mut values = Values::new(&kind);
        let mut mark = Mark::default();
        let mut push = |text: &str| values.push_field(&kind, Some(text.as_bytes()), &mut mark);
        assert!(push("[('a',{'x':1})]"));
        assert!(!push("[('b',{'y':2}),('c',{'z':300})]"));
        assert!(push("[('d',{})]"));
        values.retain(&[true, false, true]);
        let mut expected = Values::new(&kind);
        for text in ["[('a',{'x':1})]", "[('d',{})]"] {
            assert!(expected.push_field(&kind, Some(text.as_bytes()), &mut mark));
        }
        assert_eq!(values, expected);
    }
}
