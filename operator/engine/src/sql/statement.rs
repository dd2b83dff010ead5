//! What a query text is, before it is run: what becomes of it, and in which format it answers.

use super::lexer::{Kind, Lexer, Token};
use super::quote::{Identifier, Literal, unquote};
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
    /// `SHOW CREATE USER name`.
    ShowCreateUser,
    /// Anything else: run as it is, its output collected.
    Other,
}

impl<'a> Statement<'a> {
    /// Refuses what is no sequence of tokens.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Exception> {
        let statement = Self::new(text);
        if statement.tokens.is_empty() {
            return Err(Exception::new(code::SYNTAX_ERROR, "Empty query."));
        }
        let broken = |token: &&Token| token.kind == Kind::Broken;
        match statement.tokens.iter().find(broken) {
            None => Ok(statement),
            Some(token) => Err(Exception::new(
                code::SYNTAX_ERROR,
                format!(
                    "Syntax error: failed at position {}.",
                    token.range.start + 1
                ),
            )),
        }
    }

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

    fn kind(&self, index: usize) -> Option<Kind> {
        self.tokens.get(index).map(|token| token.kind)
    }

    /// Whether the token is this bare word, in any case.
    pub(crate) fn is(&self, index: usize, keyword: &str) -> bool {
        self.kind(index) == Some(Kind::Word)
            && self.raw(index).eq_ignore_ascii_case(keyword.as_bytes())
    }

    fn is_any(&self, index: usize, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(index, keyword))
    }

    pub(crate) fn is_symbol(&self, index: usize, symbol: u8) -> bool {
        self.kind(index) == Some(Kind::Symbol(symbol))
    }

    pub(crate) fn is_string(&self, index: usize) -> bool {
        self.kind(index) == Some(Kind::String)
    }

    /// Whether the tokens from `index` on are these words.
    pub(crate) fn are(&self, index: usize, keywords: &[&str]) -> bool {
        let mut keywords = keywords.iter().enumerate();
        keywords.all(|(offset, keyword)| self.is(index + offset, keyword))
    }

    /// The name at `index`, bare, quoted or (as access statements allow) a string.
    pub(crate) fn name(&self, index: usize) -> Option<String> {
        match self.kind(index)? {
            Kind::Word => Some(String::from_utf8_lossy(self.raw(index)).into_owned()),
            Kind::Quoted | Kind::String => Some(unquote(self.raw(index))),
            _ => None,
        }
    }

    pub(crate) fn route(&self) -> Route {
        let is_open = |token: &Token| token.kind == Kind::Symbol(b'(');
        let first = self
            .tokens
            .iter()
            .take_while(|token| is_open(token))
            .count();
        if self.is_any(first, &["SELECT", "WITH", "FROM"]) && !self.inserts() {
            return Route::Select;
        }
        if self.are(0, &["SHOW", "CREATE", "USER"]) {
            return Route::ShowCreateUser;
        }
        let entity = if self.are(1, &["OR", "REPLACE"]) {
            3
        } else {
            1
        };
        let about_access = self.is_any(0, &["CREATE", "ALTER", "DROP"])
            && (self.is_any(entity, &["USER", "ROLE", "PROFILE", "QUOTA", "POLICY"])
                || self.are(entity, &["SETTINGS", "PROFILE"])
                || self.is_any(entity, &["ROW", "MASKING"]));
        if about_access || self.is_any(0, &["GRANT", "REVOKE"]) {
            return Route::Access;
        }
        Route::Other
    }

    /// Whether this is an INSERT, perhaps behind its WITH.
    pub(crate) fn inserts(&self) -> bool {
        let at_top = || self.at_top("INSERT").next().is_some();
        self.is(0, "INSERT") || (self.is(0, "WITH") && at_top())
    }

    /// Where this word stands outside of parentheses.
    fn at_top(&self, keyword: &str) -> impl Iterator<Item = usize> {
        let mut depth = 0_i32;
        self.tokens
            .iter()
            .enumerate()
            .filter_map(move |(index, token)| {
                match token.kind {
                    Kind::Symbol(b'(') => depth += 1,
                    Kind::Symbol(b')') => depth -= 1,
                    _ => {}
                }
                (depth == 0 && self.is(index, keyword)).then_some(index)
            })
    }

    /// Where a trailing `FORMAT name [SETTINGS ...]` stands.
    fn format_clause(&self) -> Option<usize> {
        self.at_top("FORMAT")
            .filter(|index| {
                let after = index + 2;
                let is_last = after >= self.tokens.len()
                    || self.is_symbol(after, b';')
                    || self.is(after, "SETTINGS");
                *index > 0 && is_last && self.name(index + 1).is_some()
            })
            .last()
    }

    /// The format that the statement asks for.
    pub(crate) fn format(&self) -> Option<String> {
        self.format_clause().and_then(|index| self.name(index + 1))
    }

    /// The statement with its output, in this format if it names none, going to a file.
    pub(crate) fn with_outfile(&self, path: &str, format: &str) -> Vec<u8> {
        let is_end = |token: &Token| token.kind == Kind::Symbol(b';');
        let end = self.tokens.iter().position(is_end);
        let (at, rest) = match self.format_clause() {
            Some(index) => {
                let rest = &self.text[self.tokens[index].range.start..];
                (index, String::from_utf8_lossy(rest).into_owned())
            }
            None => (
                end.unwrap_or(self.tokens.len()),
                format!("FORMAT {}", Identifier(format)),
            ),
        };
        // Up to the token before, so that no comment swallows what follows.
        let head = self.tokens[..at].last().map_or(0, |token| token.range.end);
        let clause = format!(" INTO OUTFILE {} TRUNCATE {rest}", Literal(path));
        [&self.text[..head], clause.as_bytes()].concat()
    }

    /// Whether a function of this name is called anywhere.
    pub(crate) fn calls(&self, function: &str) -> bool {
        let calls = |index| self.is(index, function) && self.is_symbol(index + 1, b'(');
        (0..self.tokens.len()).any(calls)
    }

    /// Whether the word stands anywhere.
    pub(crate) fn mentions(&self, keyword: &str) -> bool {
        (0..self.tokens.len()).any(|index| self.is(index, keyword))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (text, route) in [
            ("((select 1))", Route::Select),
            ("with 1 as x select x", Route::Select),
            ("with 1 as x insert into t select x", Route::Other),
            ("create or replace user a", Route::Access),
            ("DROP ROW POLICY p ON a.b", Route::Access),
            ("alter settings profile p settings a=1", Route::Access),
            ("CREATE TABLE user (a Int8) ENGINE = Null", Route::Other),
            ("SHOW CREATE USER x", Route::ShowCreateUser),
            ("SHOW CREATE TABLE x", Route::Other),
        ] {
            assert_eq!(Statement::new(text.as_bytes()).route(), route, "{text}");
        }
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
    fn output_goes_into_a_file() {
        let led = |text: &str| {
            let statement = Statement::new(text.as_bytes());
            String::from_utf8(statement.with_outfile("/f", "TSV")).unwrap()
        };
        let plain = "SELECT 1 INTO OUTFILE '/f' TRUNCATE FORMAT `TSV`";
        assert_eq!(led("SELECT 1 -- x"), plain);
        assert_eq!(led("SELECT 1;"), plain);
        assert_eq!(
            led("SELECT 1 SETTINGS a = 1 -- x\nFORMAT JSON SETTINGS b = 1"),
            "SELECT 1 SETTINGS a = 1 INTO OUTFILE '/f' TRUNCATE FORMAT JSON SETTINGS b = 1"
        );
    }
}
