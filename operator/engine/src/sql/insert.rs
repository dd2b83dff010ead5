//! Where the data of an INSERT begins, found while its text still comes in.

use std::ops::Range;

use super::lexer::{Kind, Lexer, Token};
use crate::exception::{Exception, code};

/// How much text may come before the data of an INSERT, and how long any other
/// statement may be: ClickHouse's default `max_query_size`.
pub(crate) const MAX_QUERY_SIZE: usize = 262_144;

/// An INSERT with data, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InsertHead {
    /// The statement up to `FORMAT` or `VALUES`.
    pub(crate) statement: Range<usize>,
    /// The format of the data.
    pub(crate) format: String,
    /// Where the data begins.
    pub(crate) data: usize,
}

/// What a text, of which perhaps only the beginning is there, turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// An INSERT whose data begins at a known place.
    Insert(InsertHead),
    /// A statement to be read to its end.
    Statement,
    /// More text is needed to tell.
    Unknown,
}

/// Looks at the beginning of a query. `complete` says that no text follows.
pub(crate) fn beginning(text: &[u8], complete: bool) -> Result<Beginning, Exception> {
    let mut scan = Scan {
        text,
        lexer: Lexer::new(text),
        complete,
    };
    match scan.insert() {
        Ok(found) => found,
        Err(NeedsMore) => Ok(Beginning::Unknown),
    }
}

struct NeedsMore;

struct Scan<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    complete: bool,
}

impl Scan<'_> {
    /// The next token; a token that touches the end of an incomplete text may
    /// go on in what follows.
    fn next(&mut self) -> Result<Option<Token>, NeedsMore> {
        match self.lexer.next() {
            Some(token) if self.complete || token.range.end < self.text.len() => Ok(Some(token)),
            None if self.complete => Ok(None),
            _ => Err(NeedsMore),
        }
    }

    fn is(&self, token: Option<&Token>, keyword: &str) -> bool {
        token.is_some_and(|token| {
            token.kind == Kind::Word
                && self.text[token.range.clone()].eq_ignore_ascii_case(keyword.as_bytes())
        })
    }

    fn insert(&mut self) -> Result<Result<Beginning, Exception>, NeedsMore> {
        let first = self.next()?;
        if !self.is(first.as_ref(), "INSERT") {
            return Ok(Ok(Beginning::Statement));
        }
        let start = first.map_or(0, |token| token.range.start);
        // The name of the table is no keyword, whatever it looks like.
        let mut token = self.next()?;
        for keyword in ["INTO", "TABLE", "FUNCTION"] {
            if self.is(token.as_ref(), keyword) {
                token = self.next()?;
            }
        }
        let mut end = token.as_ref().map_or(start, |token| token.range.end);
        let mut depth = 0_usize;
        loop {
            let Some(token) = self.next()? else {
                // `INSERT INTO t` alone: the data, if any, comes as Values.
                return Ok(Ok(Beginning::Insert(InsertHead {
                    statement: start..end,
                    format: "Values".to_owned(),
                    data: self.text.len(),
                })));
            };
            match token.kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.saturating_sub(1),
                Kind::Symbol(b'.') if depth == 0 => {
                    // `database.table`
                    end = self.next()?.map_or(token.range.end, |name| name.range.end);
                    continue;
                }
                Kind::Symbol(b';') if depth == 0 => return Ok(Ok(Beginning::Statement)),
                Kind::Word if depth == 0 => {
                    if let Some(found) = self.clause(start, end, &token)? {
                        return Ok(found);
                    }
                }
                _ => {}
            }
            end = token.range.end;
        }
    }

    fn clause(
        &mut self,
        start: usize,
        end: usize,
        token: &Token,
    ) -> Result<Option<Result<Beginning, Exception>>, NeedsMore> {
        let insert = |format: String, data: usize| {
            Ok(Some(Ok(Beginning::Insert(InsertHead {
                statement: start..end,
                format,
                data,
            }))))
        };
        let token = Some(token);
        if self.is(token, "VALUES") {
            return insert(
                "Values".to_owned(),
                token.map_or(end, |token| token.range.end),
            );
        }
        if self.is(token, "FORMAT") {
            let Some(name) = self.next()? else {
                return Ok(Some(Ok(Beginning::Statement)));
            };
            let format = String::from_utf8_lossy(&self.text[name.range.clone()]).into_owned();
            let data = self.skip_to_data(name.range.end)?;
            return insert(format, data);
        }
        if self.is(token, "INFILE") {
            return Ok(Some(Err(Exception::new(
                code::UNKNOWN_TYPE_OF_QUERY,
                "Query has infile and was send directly to server.",
            ))));
        }
        if ["SELECT", "WITH", "WATCH"]
            .iter()
            .any(|keyword| self.is(token, keyword))
        {
            return Ok(Some(Ok(Beginning::Statement)));
        }
        Ok(None)
    }

    /// Data begins after the blanks behind the format's name, and after one
    /// line break if there is one.
    fn skip_to_data(&self, from: usize) -> Result<usize, NeedsMore> {
        let mut at = from;
        while matches!(self.text.get(at), Some(b' ' | b'\t' | 0x0C)) {
            at += 1;
        }
        if self.text.get(at) == Some(&b'\r') {
            at += 1;
        }
        match self.text.get(at) {
            Some(b'\n') => Ok(at + 1),
            None if !self.complete => Err(NeedsMore),
            _ => Ok(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(text: &str) -> (String, String, String) {
        match beginning(text.as_bytes(), true).unwrap() {
            Beginning::Insert(head) => (
                text[head.statement].to_owned(),
                head.format,
                text[head.data..].to_owned(),
            ),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn strings(parts: (&str, &str, &str)) -> (String, String, String) {
        (parts.0.to_owned(), parts.1.to_owned(), parts.2.to_owned())
    }

    #[test]
    fn inserts_are_taken_apart() {
        assert_eq!(
            insert("INSERT INTO d.t (a, `values`) FORMAT CSV\n1,2\n"),
            strings(("INSERT INTO d.t (a, `values`)", "CSV", "1,2\n"))
        );
        assert_eq!(
            insert("insert into format settings a = 1 /* x */ format JSONEachRow  {\"a\":1}"),
            strings((
                "insert into format settings a = 1",
                "JSONEachRow",
                "{\"a\":1}"
            ))
        );
        assert_eq!(
            insert("INSERT INTO d.values VALUES (1), (2)"),
            strings(("INSERT INTO d.values", "Values", " (1), (2)"))
        );
        assert_eq!(
            insert("INSERT INTO FUNCTION null('x int') VALUES (1)"),
            strings(("INSERT INTO FUNCTION null('x int')", "Values", " (1)"))
        );
        assert_eq!(
            insert("INSERT INTO t"),
            strings(("INSERT INTO t", "Values", ""))
        );
    }

    #[test]
    fn an_unfinished_text_is_not_guessed_at() {
        for text in [
            "",
            "INS",
            "INSERT INTO t FORMAT CS",
            "INSERT INTO t FORMAT CSV",
            "INSERT INTO t (a",
        ] {
            assert_eq!(
                beginning(text.as_bytes(), false).unwrap(),
                Beginning::Unknown,
                "{text}"
            );
        }
        assert_eq!(
            beginning(b"SELECT 1 ", false).unwrap(),
            Beginning::Statement
        );
        assert_eq!(
            beginning(b"INSERT INTO t SELECT 1", false).unwrap(),
            Beginning::Statement
        );
    }
}
