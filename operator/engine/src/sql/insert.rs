//! Where the data of an INSERT begins.

use std::ops::Range;

use super::lexer::{Kind, Lexer, Token};

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

/// Takes an INSERT with data apart; nothing for any other statement, `INSERT ... SELECT` included.
pub(crate) fn insert_head(text: &[u8]) -> Option<InsertHead> {
    let mut lexer = Lexer::new(text);
    let mut token = lexer.next()?;
    let start = token.range.start;
    let is = |token: &Token, keyword: &str| {
        token.kind == Kind::Word
            && text[token.range.clone()].eq_ignore_ascii_case(keyword.as_bytes())
    };
    if !is(&token, "INSERT") {
        return None;
    }
    // The name of the table is no keyword, whatever it looks like.
    token = lexer.next()?;
    for keyword in ["INTO", "TABLE", "FUNCTION"] {
        if is(&token, keyword) {
            token = lexer.next()?;
        }
    }
    let mut end = token.range.end;
    let mut depth = 0_usize;
    let head = |end: usize, format: &str, data: usize| InsertHead {
        statement: start..end,
        format: format.to_owned(),
        data,
    };
    while let Some(token) = lexer.next() {
        match token.kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth = depth.saturating_sub(1),
            // `database.table`
            Kind::Symbol(b'.') if depth == 0 => {
                end = lexer.next()?.range.end;
                continue;
            }
            Kind::Symbol(b';') if depth == 0 => break,
            Kind::Broken => return None,
            Kind::Word if depth == 0 => {
                if is(&token, "VALUES") {
                    return Some(head(end, "Values", token.range.end));
                }
                if is(&token, "FORMAT") {
                    let name = lexer.next()?.range;
                    let format = String::from_utf8_lossy(&text[name.clone()]);
                    return Some(head(end, &format, start_of_data(text, name.end)));
                }
                let others = ["SELECT", "WITH", "WATCH", "INFILE"];
                if others.iter().any(|keyword| is(&token, keyword)) {
                    return None;
                }
            }
            _ => {}
        }
        end = token.range.end;
    }
    // `INSERT INTO t` alone: the data, if any, comes as Values.
    Some(head(end, "Values", text.len()))
}

/// Data begins after the blanks behind the format's name, and after one line break if there is one.
fn start_of_data(text: &[u8], from: usize) -> usize {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | 0x0C);
    let at = from + text[from..].iter().take_while(is_blank).count();
    match &text[at..] {
        [b'\r', b'\n', ..] => at + 2,
        [b'\n', ..] => at + 1,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_are_taken_apart() {
        for (text, statement, format, data) in [
            (
                "INSERT INTO d.t (a, `values`) FORMAT CSV\n1,2\n",
                "INSERT INTO d.t (a, `values`)",
                "CSV",
                "1,2\n",
            ),
            (
                "insert into format settings a = 1 /* x */ format JSONEachRow  {\"a\":1}",
                "insert into format settings a = 1",
                "JSONEachRow",
                "{\"a\":1}",
            ),
            (
                "INSERT INTO d.values VALUES (1), (2)",
                "INSERT INTO d.values",
                "Values",
                " (1), (2)",
            ),
            (
                "INSERT INTO FUNCTION null('x int') VALUES (1)",
                "INSERT INTO FUNCTION null('x int')",
                "Values",
                " (1)",
            ),
            ("INSERT INTO t", "INSERT INTO t", "Values", ""),
        ] {
            let head = insert_head(text.as_bytes()).unwrap();
            assert_eq!(&text[head.statement], statement);
            assert_eq!((&*head.format, &text[head.data..]), (format, data));
        }
        for other in ["SELECT 1", "INSERT INTO t SELECT 1", "INSERT INTO t ('"] {
            assert_eq!(insert_head(other.as_bytes()), None, "{other}");
        }
    }
}
