//! What a query text is, before it is run: its kind, its output format, whether it may run at all.

use super::lexer::{Kind, Lexer, Token};
use super::quote::{Literal, PlainIdentifier};
use super::unquote::unquote;
use crate::exception::{Exception, code};

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
        let first = &self.tokens[0];
        let begins = matches!(first.kind, Kind::Word | Kind::Symbol(b'('));
        let wrong = self
            .tokens
            .iter()
            .find(|token| token.kind == Kind::Broken)
            .or_else(|| Some(first).filter(|_| !begins));
        if let Some(token) = wrong {
            // Others may be orders to libchdb's command line, such as `\\i file`.
            return Err(Exception::new(
                code::SYNTAX_ERROR,
                format!(
                    "Syntax error: failed at position {}.",
                    token.range.start + 1
                ),
            ));
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
        if !self.inserts()
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

    /// Whether this is an INSERT, perhaps behind its WITH.
    pub(crate) fn inserts(&self) -> bool {
        self.is(0, "INSERT") || (self.is(0, "WITH") && self.at_top("INSERT").is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

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
