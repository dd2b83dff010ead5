//! Guards the expressions that people write in a data source (defaults, keys,
//! TTLs) before they become part of a statement that runs with the operator's rights.
//!
//! Such an expression is put into parentheses, so it must close what it opens
//! and nothing else. It must not read other tables or files either: that would
//! reach what the tenant has no rights to. Whether it is right otherwise,
//! ClickHouse says.

use aviary_sql::scanner::{Scanner, Token, TokenKind, Unpaired, Unterminated, check_brackets};

/// Why an expression is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Text that could end the clause it stands in.
    #[error("{0}")]
    Unbalanced(&'static str),
    /// A comma where one expression is expected.
    #[error("expected one expression, found a list")]
    List,
    /// A word that begins another clause of the statement.
    #[error("`{0}` has no place here")]
    Clause(String),
    /// It reads something beyond the row.
    #[error("it must only use the columns of the row, but uses {0}")]
    Outside(String),
}

/// Words that could turn a TTL clause, which cannot be parenthesised, into another clause.
const CLAUSES: [&str; 14] = [
    "SETTINGS",
    "COMMENT",
    "AS",
    "SELECT",
    "ENGINE",
    "ORDER",
    "PRIMARY",
    "PARTITION",
    "SAMPLE",
    "INTO",
    "FORMAT",
    "CLONE",
    "EMPTY",
    "TO",
];

/// Checks an expression over `columns` that will stand in parentheses.
pub fn check_scalar(text: &str, columns: &[&str]) -> Result<(), ExpressionError> {
    let outline = Outline::of(text)?;
    if outline.top_level_commas > 0 {
        return Err(ExpressionError::List);
    }
    check_reach(&outline, columns)
}

/// Checks a TTL clause: one or more expressions with `DELETE`, `WHERE` and the like.
pub fn check_ttl(text: &str, columns: &[&str]) -> Result<(), ExpressionError> {
    let outline = Outline::of(text)?;
    for word in &outline.top_level_words {
        if CLAUSES
            .iter()
            .any(|clause| clause.eq_ignore_ascii_case(word))
        {
            return Err(ExpressionError::Clause(word.clone()));
        }
    }
    check_reach(&outline, columns)
}

fn check_reach(outline: &Outline, columns: &[&str]) -> Result<(), ExpressionError> {
    let outside = |what: &str| Err(ExpressionError::Outside(format!("`{what}`")));
    if let Some(word) = outline
        .words
        .iter()
        .find(|word| word.eq_ignore_ascii_case("select"))
    {
        return outside(word);
    }
    // The function can name a table in any place; the operator only behind itself.
    if outline.calls.iter().any(|call| is_in_function(call)) {
        return Err(ExpressionError::Unbalanced(
            "write IN with a space before its parenthesis",
        ));
    }
    if let Some(call) = outline.calls.iter().find(|call| reaches_outside(call)) {
        return outside(call);
    }
    // `x IN y` reads the table `y`.
    match outline
        .after_in
        .iter()
        .find(|name| !columns.contains(&name.as_str()))
    {
        Some(table) => outside(table),
        None => Ok(()),
    }
}

/// Functions that read dictionaries, tables, files or the server's configuration.
fn reaches_outside(function: &str) -> bool {
    let lower = function.to_ascii_lowercase();
    ["dictget", "dicthas", "dictis", "joinget"]
        .iter()
        .any(|prefix| lower.starts_with(prefix))
        || matches!(
            lower.as_str(),
            "file" | "catboostevaluate" | "getmacro" | "getserversetting" | "hascolumnintable"
        )
}

fn is_in_function(function: &str) -> bool {
    let lower = function.to_ascii_lowercase();
    let without_null = lower.replace("null", "");
    matches!(
        without_null.as_str(),
        "in" | "notin" | "globalin" | "globalnotin"
    )
}

/// What a look at the tokens of an expression finds without parsing it.
#[derive(Default)]
struct Outline {
    /// Bare words and quoted names.
    words: Vec<String>,
    /// Bare words outside of any brackets.
    top_level_words: Vec<String>,
    /// Those with a parenthesis after them.
    calls: Vec<String>,
    /// Those that follow IN, with or without parentheses between, and all of what they
    /// name: `a.b` for a table of another database, `f()` for a function.
    after_in: Vec<String>,
    /// Commas outside of any brackets.
    top_level_commas: usize,
}

impl Outline {
    /// Refuses what it does not understand: an expression has no need of
    /// comments, heredocs or typographic quotes.
    fn of(text: &str) -> Result<Self, ExpressionError> {
        if text.contains('\0') {
            return Err(QUOTES);
        }
        let is_space = |token: &Token| token.kind == TokenKind::Space;
        let tokens: Vec<Token> = Scanner::new(text).filter(|it| !is_space(it)).collect();
        for token in &tokens {
            check_token(text, token)?;
        }
        check_brackets(&tokens).map_err(|unpaired| {
            ExpressionError::Unbalanced(match unpaired {
                Unpaired::NotOpened(_) => "a bracket is closed that is not open",
                Unpaired::NotClosed(_) => "a bracket is not closed",
            })
        })?;
        if tokens.is_empty() {
            return Err(ExpressionError::Unbalanced("the expression is empty"));
        }
        let mut outline = Self::default();
        for at in 0..tokens.len() {
            outline.note(text, &tokens, at);
        }
        Ok(outline)
    }

    fn note(&mut self, text: &str, tokens: &[Token], at: usize) {
        let token = &tokens[at];
        let is_outside = token.depth == 0;
        if token.kind == TokenKind::Symbol(',') && is_outside {
            self.top_level_commas += 1;
        }
        let Some(name) = token.name(text) else {
            return;
        };
        let next = tokens.get(at + 1);
        if let Some(parenthesis) = next.filter(|next| next.kind == TokenKind::Symbol('(')) {
            // The operator IN has a space there, and the function of that name none.
            let is_operator = name.eq_ignore_ascii_case("in") && parenthesis.start > token.end;
            if !is_operator {
                self.calls.push(name.clone());
            }
        }
        if follows_in(text, &tokens[..at]) {
            self.after_in.push(match next.map(|next| next.kind) {
                Some(TokenKind::Symbol('.')) => {
                    let end = tokens.get(at + 2).unwrap_or(token).end;
                    text[token.start..end].to_owned()
                }
                Some(TokenKind::Symbol('(')) => format!("{name}()"),
                _ => name.clone(),
            });
        }
        if token.kind == TokenKind::Word && is_outside {
            self.top_level_words.push(name.clone());
        }
        self.words.push(name);
    }
}

/// Whether IN stands before a place, with or without parentheses between.
fn follows_in(text: &str, before: &[Token]) -> bool {
    let mut before = before.iter().rev();
    let last = before.find(|token| token.kind != TokenKind::Symbol('('));
    let name = last.and_then(|token| token.name(text));
    name.is_some_and(|name| name.eq_ignore_ascii_case("in"))
}

const COMMENT: ExpressionError = ExpressionError::Unbalanced("comments have no place here");
const QUOTES: ExpressionError = ExpressionError::Unbalanced(
    "quotes are ', \" and `; backslashes and `$` stand inside of them only",
);

/// Whether an expression may have such a token.
fn check_token(text: &str, token: &Token) -> Result<(), ExpressionError> {
    let written = token.text(text);
    match token.kind {
        TokenKind::Comment
        | TokenKind::Symbol('#')
        | TokenKind::Unterminated(Unterminated::Comment) => Err(COMMENT),
        TokenKind::Unterminated(_) => Err(ExpressionError::Unbalanced("a quote is not closed")),
        TokenKind::String if !written.starts_with('\'') => Err(QUOTES),
        TokenKind::QuotedIdentifier if !written.starts_with(['"', '`']) => Err(QUOTES),
        TokenKind::Word if written.contains('$') => Err(QUOTES),
        TokenKind::Symbol('\\' | '$' | '\u{2018}'..='\u{201f}') => Err(QUOTES),
        TokenKind::Symbol(';') => Err(ExpressionError::Unbalanced("`;` has no place here")),
        TokenKind::Space
        | TokenKind::String
        | TokenKind::QuotedIdentifier
        | TokenKind::Word
        | TokenKind::Symbol(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_over_the_row_pass() {
        for text in [
            "now()",
            "toYYYYMM(time)",
            "'it''s; -- no comment \\' /*'",
            "if(a > 1, [1, 2], [])",
            "`odd name` || \"other\"",
            "a - -1",
            "{'a': 1}",
            "file",
            "a in (1, 2)",
            "a IN ('x')",
            "a NOT IN (b)",
            "a IN [1]",
            "a IN ((1), (2))",
        ] {
            assert_eq!(check_scalar(text, &["a", "b", "file"]), Ok(()), "{text}");
        }
    }

    #[test]
    fn expressions_that_break_out_do_not() {
        for text in [
            "",
            " ",
            "1) ENGINE = File(CSV",
            "(1",
            "[1)",
            "1; DROP TABLE x",
            "1 -- x",
            "1 /* x",
            "1 # x",
            "'1",
            "`1",
            "$$1$$",
            "\u{2018}1\u{2019}",
            "a, b",
            "1 \\",
            "(SELECT 1)",
            "x IN (select y FROM other.t)",
            "dictGet('other.d', 'a', 1)",
            "`dictGetString`('other.d', 'a', 1)",
            "joinGet('other.j', 'a', 1)",
            "file('/etc/passwd')",
            "file  ('/etc/passwd')",
            "a IN other",
            "a IN other.t",
            "a IN (other.t)",
            "a IN ( ( other ) )",
            "a IN b.t",
            "a IN b(1)",
            "a IN `b`.`t`",
            "a `\\x69n` other",
            "`joinG\\x65t`('other.j', 'a', 1)",
            "a GLOBAL NOT IN `other`",
            "in(a, other.t)",
            "globalNotNullIn(a, other.t)",
            "globalNotIn(a, other.t)",
        ] {
            assert!(check_scalar(text, &["a", "b"]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ttl_has_its_own_words_and_no_others() {
        let fine = "time + INTERVAL 3 MONTH DELETE WHERE level = 'debug', time + INTERVAL 1 YEAR";
        assert_eq!(check_ttl(fine, &["time"]), Ok(()));
        for text in [
            "time SETTINGS storage_policy = 'x'",
            "time COMMENT 'x'",
            "time + 1 AS SELECT 1",
            "time TO DISK 'x'",
            "time DELETE WHERE x IN (SELECT 1)",
            "time DELETE WHERE x IN other",
        ] {
            assert!(check_ttl(text, &["time"]).is_err(), "{text}");
        }
    }
}
