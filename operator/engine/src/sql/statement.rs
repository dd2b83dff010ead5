//! What a query text is, before it is run: its kind, its output format, the data of an INSERT.

use std::ops::Range;

use super::lexer::{Kind, Lexer, Token, unquote};
use super::quote::{Literal, PlainIdentifier};
use crate::exception::{Exception, code};

/// How much text may come before the data of an INSERT, and how long any other
/// statement may be: ClickHouse's default `max_query_size`.
pub(crate) const MAX_QUERY_SIZE: usize = 262_144;

/// The tokens of one statement with the text they point into.
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) tokens: Vec<Token>,
}

/// What to do with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A SELECT: its output is streamed.
    Select,
    /// Changes users, roles, profiles, policies, quotas or grants.
    Access,
    /// Asks what grants somebody has, or how an access entity was made.
    ShowAccess,
    /// `SET ROLE`.
    SetRole,
    /// `KILL QUERY`.
    KillQuery,
    /// Alters the session: the connection is not used again.
    Session,
    /// Anything else: run as it is, output collected.
    Other,
}

impl<'a> Statement<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            tokens: Lexer::new(text).collect(),
        }
    }

    pub(crate) fn raw(&self, index: usize) -> &'a [u8] {
        self.tokens
            .get(index)
            .map_or(&[], |token| &self.text[token.range.clone()])
    }

    /// Whether the token is this bare word, in any case.
    pub(crate) fn is(&self, index: usize, keyword: &str) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.kind == Kind::Word)
            && self.raw(index).eq_ignore_ascii_case(keyword.as_bytes())
    }

    pub(crate) fn is_symbol(&self, index: usize, symbol: u8) -> bool {
        self.tokens
            .get(index)
            .is_some_and(|token| token.kind == Kind::Symbol(symbol))
    }

    /// Whether the tokens from `index` on are these words.
    pub(crate) fn are(&self, index: usize, keywords: &[&str]) -> bool {
        keywords
            .iter()
            .enumerate()
            .all(|(offset, keyword)| self.is(index + offset, keyword))
    }

    /// The name at `index`, bare, quoted or (as access statements allow) a string.
    pub(crate) fn name(&self, index: usize) -> Option<String> {
        let token = self.tokens.get(index)?;
        match token.kind {
            Kind::Word => Some(String::from_utf8_lossy(self.raw(index)).into_owned()),
            Kind::Quoted | Kind::String => Some(unquote(self.raw(index))),
            _ => None,
        }
    }

    fn contains_pair(&self, first: &str, second: &str) -> bool {
        (0..self.tokens.len()).any(|index| self.are(index, &[first, second]))
    }

    /// Refuses what a server refuses over HTTP, and what would reach past the
    /// engine's own rules: several statements at once, files of the client.
    pub(crate) fn check(&self) -> Result<(), Exception> {
        if self.tokens.is_empty() {
            return Err(Exception::new(code::SYNTAX_ERROR, "Empty query."));
        }
        let ends = self
            .tokens
            .iter()
            .position(|token| token.kind == Kind::Symbol(b';'));
        if let Some(end) = ends
            && self.tokens[end..]
                .iter()
                .any(|token| token.kind != Kind::Symbol(b';'))
        {
            let at = self.tokens[end].range.start;
            return Err(Exception::new(
                code::SYNTAX_ERROR,
                format!(
                    "Syntax error (Multi-statements are not allowed): failed at position {} (end of query).",
                    at + 1
                ),
            ));
        }
        if self.contains_pair("INTO", "OUTFILE") {
            return Err(Exception::new(
                code::INTO_OUTFILE_NOT_ALLOWED,
                "INTO OUTFILE is not allowed.",
            ));
        }
        let input = (1..self.tokens.len())
            .any(|index| self.is(index, "input") && self.is_symbol(index + 1, b'('));
        if self.is(0, "INSERT") && input {
            // libchdb would look for the rows on standard input and find none.
            return Err(Exception::not_implemented(
                "The table function input is not supported by this engine: insert into a table of engine Null with a materialized view.",
            ));
        }
        if self.contains_pair("PARALLEL", "WITH") {
            return Err(Exception::not_implemented(
                "PARALLEL WITH is not supported by this engine: send the statements one by one.",
            ));
        }
        Ok(())
    }

    pub(crate) fn route(&self) -> Route {
        let first = self
            .tokens
            .iter()
            .position(|token| token.kind != Kind::Symbol(b'('))
            .unwrap_or(0);
        let inserts = self.is(0, "WITH") && self.at_top("INSERT").is_some();
        if !inserts
            && ["SELECT", "WITH", "FROM"]
                .iter()
                .any(|keyword| self.is(first, keyword))
        {
            return Route::Select;
        }
        if self.are(0, &["SET", "ROLE"]) {
            return Route::SetRole;
        }
        if self.are(0, &["KILL", "QUERY"]) {
            return Route::KillQuery;
        }
        if self.is(0, "GRANT") || self.is(0, "REVOKE") || self.are(0, &["SET", "DEFAULT", "ROLE"]) {
            return Route::Access;
        }
        if [
            "SET", "USE", "BEGIN", "COMMIT", "ROLLBACK", "START", "EXECUTE",
        ]
        .iter()
        .any(|keyword| self.is(0, keyword))
            || self.are(0, &["CREATE", "TEMPORARY"])
            || self.are(0, &["CREATE", "OR", "REPLACE", "TEMPORARY"])
        {
            return Route::Session;
        }
        if self.is(0, "SHOW") {
            return if self.is(1, "GRANTS")
                || self.is(1, "ACCESS")
                || (self.is(1, "CREATE") && self.is_access_entity(2))
            {
                Route::ShowAccess
            } else {
                Route::Other
            };
        }
        if ["CREATE", "ALTER", "DROP", "MOVE"]
            .iter()
            .any(|keyword| self.is(0, keyword))
        {
            let entity = if self.are(1, &["OR", "REPLACE"]) {
                3
            } else {
                1
            };
            if self.is_access_entity(entity) {
                return Route::Access;
            }
        }
        Route::Other
    }

    fn is_access_entity(&self, index: usize) -> bool {
        [
            "USER", "USERS", "ROLE", "ROLES", "PROFILE", "PROFILES", "QUOTA", "QUOTAS", "POLICY",
            "POLICIES",
        ]
        .iter()
        .any(|keyword| self.is(index, keyword))
            || self.are(index, &["SETTINGS", "PROFILE"])
            || self.are(index, &["SETTINGS", "PROFILES"])
            || self.are(index, &["ROW", "POLICY"])
            || self.are(index, &["ROW", "POLICIES"])
            || self.are(index, &["MASKING", "POLICY"])
    }

    /// Where this word stands outside of parentheses.
    fn at_top(&self, keyword: &str) -> Option<usize> {
        let mut depth = 0_i32;
        self.tokens.iter().enumerate().position(|(index, token)| {
            match token.kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth -= 1,
                _ => {}
            }
            depth == 0 && self.is(index, keyword)
        })
    }

    /// Where a trailing `FORMAT name [SETTINGS ...]` stands.
    fn format_clause(&self) -> Option<usize> {
        let mut depth = 0_i32;
        let mut found = None;
        for (index, token) in self.tokens.iter().enumerate() {
            match token.kind {
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth -= 1,
                _ => {}
            }
            if depth != 0 || index == 0 || !self.is(index, "FORMAT") {
                continue;
            }
            let last = self.tokens.get(index + 2).is_none()
                || self.is_symbol(index + 2, b';')
                || self.is(index + 2, "SETTINGS");
            if last && self.name(index + 1).is_some() {
                found = Some(index);
            }
        }
        found
    }

    /// The format that the statement asks for.
    pub(crate) fn format(&self) -> Option<String> {
        self.format_clause().and_then(|index| self.name(index + 1))
    }

    /// The statement with its output going to a file.
    pub(crate) fn led_into_file(&self, path: &str, default_format: &str) -> Vec<u8> {
        let clause = format!(" INTO OUTFILE {} TRUNCATE ", Literal(path));
        let end = |index: usize| {
            self.tokens[..index]
                .last()
                .map_or(0, |token| token.range.end)
        };
        if let Some(index) = self.format_clause() {
            let (head, tail) = (
                &self.text[..end(index)],
                &self.text[self.tokens[index].range.start..],
            );
            return [head, clause.as_bytes(), tail].concat();
        }
        let last = self
            .tokens
            .iter()
            .position(|token| token.kind == Kind::Symbol(b';'))
            .unwrap_or(self.tokens.len());
        let format = format!("FORMAT {}", PlainIdentifier(default_format));
        [
            &self.text[..end(last)],
            clause.as_bytes(),
            format.as_bytes(),
        ]
        .concat()
    }

    /// Whether the word stands anywhere.
    pub(crate) fn mentions(&self, keyword: &str) -> bool {
        (0..self.tokens.len()).any(|index| self.is(index, keyword))
    }
}

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

    fn route(text: &str) -> Route {
        Statement::new(text.as_bytes()).route()
    }

    #[test]
    fn routes() {
        assert_eq!(route("((select 1))"), Route::Select);
        assert_eq!(route("with 1 as x select x"), Route::Select);
        assert_eq!(route("with 1 as x insert into t select x"), Route::Other);
        assert_eq!(route("create or replace user a"), Route::Access);
        assert_eq!(route("DROP ROW POLICY p ON a.b"), Route::Access);
        assert_eq!(
            route("alter settings profile p settings a=1"),
            Route::Access
        );
        assert_eq!(
            route("CREATE TABLE user (a Int8) ENGINE = Null"),
            Route::Other
        );
        assert_eq!(route("CREATE TABLE role"), Route::Other);
        assert_eq!(route("SET/**/ROLE x"), Route::SetRole);
        assert_eq!(route("set default role x to y"), Route::Access);
        assert_eq!(route("SHOW CREATE USER x"), Route::ShowAccess);
        assert_eq!(route("SHOW CREATE TABLE x"), Route::Other);
        assert_eq!(route("SET max_threads = 1"), Route::Session);
    }

    #[test]
    fn only_one_statement_passes() {
        let check = |text: &str| Statement::new(text.as_bytes()).check();
        assert!(check("SELECT 1; -- done").is_ok());
        assert!(check("SELECT ';'").is_ok());
        assert_eq!(
            check("SELECT 1; SET ROLE x").unwrap_err().code,
            code::SYNTAX_ERROR
        );
        assert_eq!(check(" -- nothing").unwrap_err().code, code::SYNTAX_ERROR);
        assert_eq!(
            check("SELECT 1 INTO/**/OUTFILE 'x'").unwrap_err().code,
            code::INTO_OUTFILE_NOT_ALLOWED
        );
    }

    #[test]
    fn the_trailing_format_is_found() {
        let format = |text: &str| Statement::new(text.as_bytes()).format();
        assert_eq!(format("SELECT 1 FORMAT JSON").as_deref(), Some("JSON"));
        assert_eq!(
            format("SELECT 1 format CSV settings a = 1;").as_deref(),
            Some("CSV")
        );
        assert_eq!(format("SELECT format FROM t"), None);
        assert_eq!(format("SELECT * FROM (SELECT 1 FORMAT JSON)"), None);
    }

    #[test]
    fn output_is_led_into_a_file() {
        let led = |text: &str| {
            let statement = Statement::new(text.as_bytes());
            String::from_utf8(statement.led_into_file("/f", "TSV")).unwrap()
        };
        assert_eq!(
            led("SELECT 1 -- x"),
            "SELECT 1 INTO OUTFILE '/f' TRUNCATE FORMAT TSV"
        );
        assert_eq!(
            led("SELECT 1;"),
            "SELECT 1 INTO OUTFILE '/f' TRUNCATE FORMAT TSV"
        );
        assert_eq!(
            led("SELECT 1 SETTINGS a = 1 -- x\nFORMAT JSON SETTINGS b = 1"),
            "SELECT 1 SETTINGS a = 1 INTO OUTFILE '/f' TRUNCATE FORMAT JSON SETTINGS b = 1"
        );
    }
}
