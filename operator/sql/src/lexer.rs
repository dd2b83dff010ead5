//! Splits SQL text into tokens by ClickHouse's rules, far enough to know where
//! strings, quoted names and comments begin and end. The template language must
//! not look inside them, and statements are taken apart at what stands outside.

/// What a piece of SQL text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// White space.
    Space,
    /// `-- x`, `# x`, `#! x` up to the end of the line, or `/* x */`.
    Comment,
    /// `'x'`, a heredoc `$tag$x$tag$`, or a text in typographic quotes.
    String,
    /// A name in backticks, double quotes or typographic double quotes.
    QuotedIdentifier,
    /// A keyword, a bare name or a number.
    Word,
    /// Any other single character.
    Symbol(char),
    /// A string, quoted name or block comment that does not end.
    Unterminated(Unterminated),
}

/// What was left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unterminated {
    /// A string literal.
    String,
    /// A quoted name.
    QuotedIdentifier,
    /// A block comment.
    Comment,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    /// The token's text in the SQL it was read from.
    pub(crate) fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.start..self.end]
    }

    /// Whether the token is white space or a comment.
    pub(crate) fn is_trivia(&self) -> bool {
        matches!(self.kind, TokenKind::Space | TokenKind::Comment)
    }

    /// Whether the token is this keyword, in any case.
    pub(crate) fn is_keyword(&self, sql: &str, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text(sql).eq_ignore_ascii_case(keyword)
    }

    /// The name that a bare or quoted identifier stands for.
    pub(crate) fn name(&self, sql: &str) -> Option<String> {
        let text = self.text(sql);
        match self.kind {
            TokenKind::Word if !text.starts_with(|first: char| first.is_ascii_digit()) => {
                Some(text.to_owned())
            }
            TokenKind::QuotedIdentifier => Some(unquote(text)),
            _ => None,
        }
    }

    /// The text of a string literal.
    pub(crate) fn string(&self, sql: &str) -> Option<String> {
        (self.kind == TokenKind::String).then(|| unquote(self.text(sql)))
    }
}

/// Reads tokens one after another; together they cover the whole text.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    sql: &'a str,
    position: usize,
    /// How many dollar signs looked like a heredoc and were none. Each costs a
    /// search through the rest of the text, so there is an end to it.
    false_heredocs: u8,
}

/// No honest text has so many dollar signs that only look like a heredoc.
const MAX_FALSE_HEREDOCS: u8 = 100;

impl<'a> Lexer<'a> {
    /// Starts at the beginning of the text.
    pub(crate) fn new(sql: &'a str) -> Self {
        Self {
            sql,
            position: 0,
            false_heredocs: 0,
        }
    }

    /// Goes on at another place, which must be a character boundary outside of any
    /// string or comment.
    pub(crate) fn seek(&mut self, position: usize) {
        self.position = position;
    }

    /// The next token that is neither white space nor a comment.
    pub(crate) fn next_significant(&mut self) -> Option<Token> {
        self.find(|token| !token.is_trivia())
    }
}

impl Lexer<'_> {
    fn heredoc_or_word(&mut self, rest: &str) -> (TokenKind, usize) {
        if self.false_heredocs < MAX_FALSE_HEREDOCS {
            if let Some(token) = heredoc(rest) {
                return token;
            }
            self.false_heredocs += 1;
        }
        word(rest)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.sql[self.position..];
        let first = rest.chars().next()?;
        let (kind, length) = if first == '$' {
            self.heredoc_or_word(rest)
        } else {
            token_at(rest, first)
        };
        let start = self.position;
        self.position += length;
        Some(Token {
            kind,
            start,
            end: self.position,
        })
    }
}

/// The tokens that are neither white space nor comments.
pub(crate) fn significant_tokens(sql: &str) -> Vec<Token> {
    Lexer::new(sql).filter(|token| !token.is_trivia()).collect()
}

fn token_at(rest: &str, first: char) -> (TokenKind, usize) {
    let second = rest.as_bytes().get(1).copied();
    match first {
        '\'' => quoted(rest, b'\'', TokenKind::String, Unterminated::String),
        '`' | '"' => quoted(
            rest,
            first as u8,
            TokenKind::QuotedIdentifier,
            Unterminated::QuotedIdentifier,
        ),
        // ClickHouse reads text pasted from a word processor; no escapes inside.
        '\u{2018}' => typographic(rest, '\u{2019}', TokenKind::String, Unterminated::String),
        '\u{201c}' => typographic(
            rest,
            '\u{201d}',
            TokenKind::QuotedIdentifier,
            Unterminated::QuotedIdentifier,
        ),
        '-' if second == Some(b'-') => (TokenKind::Comment, line_length(rest)),
        // Only so is `#` a comment: other dialects have operators with it.
        '#' if matches!(second, Some(b' ' | b'!')) => (TokenKind::Comment, line_length(rest)),
        '/' if second == Some(b'*') => match rest[2..].find("*/") {
            Some(length) => (TokenKind::Comment, length + 4),
            None => (TokenKind::Unterminated(Unterminated::Comment), rest.len()),
        },
        '0'..='9' => (TokenKind::Word, prefix_length(rest, is_word_byte)),
        'a'..='z' | 'A'..='Z' | '_' => word(rest),
        space if space.is_whitespace() => {
            let length = rest
                .find(|character: char| !character.is_whitespace())
                .unwrap_or(rest.len());
            (TokenKind::Space, length)
        }
        other => (TokenKind::Symbol(other), other.len_utf8()),
    }
}

/// A quoted text ends at its quote, unless that is doubled or escaped.
fn quoted(rest: &str, quote: u8, kind: TokenKind, open: Unterminated) -> (TokenKind, usize) {
    let bytes = rest.as_bytes();
    let mut index = 1;
    while let Some(&byte) = bytes.get(index) {
        if byte == b'\\' {
            index += 2;
        } else if byte != quote {
            index += 1;
        } else if bytes.get(index + 1) == Some(&quote) {
            index += 2;
        } else {
            return (kind, index + 1);
        }
    }
    (TokenKind::Unterminated(open), rest.len())
}

fn typographic(
    rest: &str,
    closing: char,
    kind: TokenKind,
    open: Unterminated,
) -> (TokenKind, usize) {
    match rest.find(closing) {
        Some(length) => (kind, length + closing.len_utf8()),
        None => (TokenKind::Unterminated(open), rest.len()),
    }
}

/// `$tag$ ... $tag$`, where the tag may be empty. Without a second `$tag$` it is
/// no heredoc and the dollar sign begins a word.
fn heredoc(rest: &str) -> Option<(TokenKind, usize)> {
    let tag_length = prefix_length(&rest[1..], is_word_byte);
    let tag = rest.get(..tag_length + 2)?;
    if !tag.ends_with('$') {
        return None;
    }
    let length = rest[tag.len()..].find(tag)?;
    Some((TokenKind::String, length + 2 * tag.len()))
}

fn word(rest: &str) -> (TokenKind, usize) {
    let length = prefix_length(rest, |byte| is_word_byte(byte) || byte == b'$');
    (TokenKind::Word, length)
}

fn line_length(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}

fn prefix_length(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| belongs(byte)).count()
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Undoes quotes and escapes of a complete string or quoted name.
fn unquote(quoted: &str) -> String {
    let Some(quote @ ('\'' | '`' | '"')) = quoted.chars().next() else {
        return strip_marks(quoted).to_owned();
    };
    let inner = &quoted[1..quoted.len() - 1];
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character == quote {
            characters.next();
            text.push(quote);
        } else if character == '\\' {
            text.extend(characters.next().map(unescape));
        } else {
            text.push(character);
        }
    }
    text
}

/// Hexadecimal escapes are left alone: no name that is looked for has them.
fn unescape(character: char) -> char {
    match character {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '0' => '\0',
        other => other,
    }
}

/// The inside of a heredoc or of typographic quotes.
fn strip_marks(quoted: &str) -> &str {
    if let Some(rest) = quoted.strip_prefix('$') {
        let tag_length = prefix_length(rest, is_word_byte) + 2;
        return &quoted[tag_length..quoted.len() - tag_length];
    }
    quoted.trim_matches(['\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tokens as `kind:text`, without white space.
    fn shape(sql: &str) -> Vec<String> {
        Lexer::new(sql)
            .filter(|token| token.kind != TokenKind::Space)
            .map(|token| {
                let kind = match token.kind {
                    TokenKind::Space => "space",
                    TokenKind::Comment => "comment",
                    TokenKind::String => "string",
                    TokenKind::QuotedIdentifier => "name",
                    TokenKind::Word => "word",
                    TokenKind::Symbol(_) => "symbol",
                    TokenKind::Unterminated(_) => "open",
                };
                format!("{kind}:{}", token.text(sql))
            })
            .collect()
    }

    #[test]
    fn strings_end_where_clickhouse_ends_them() {
        assert_eq!(shape(r"'a''b'"), [r"string:'a''b'"]);
        assert_eq!(shape(r"'a\'b' c"), [r"string:'a\'b'", "word:c"]);
        assert_eq!(shape(r"'a\\' c"), [r"string:'a\\'", "word:c"]);
        assert_eq!(shape("'-- no comment'"), ["string:'-- no comment'"]);
        assert_eq!(shape(r"'a\'"), [r"open:'a\'"]);
        assert_eq!(shape("$$ it's $$ x"), ["string:$$ it's $$", "word:x"]);
        assert_eq!(shape("$t$ $$ ' $t$x"), ["string:$t$ $$ ' $t$", "word:x"]);
        assert_eq!(shape("a$b$'c'"), ["word:a$b$", "string:'c'"]);
        assert_eq!(shape("$b 'c'"), ["word:$b", "string:'c'"]);
        assert_eq!(shape("‘a\\’ x"), ["string:‘a\\’", "word:x"]);
    }

    #[test]
    fn names_may_be_quoted_three_ways() {
        assert_eq!(
            shape("`a``'` \"b\\\"'\" “c”"),
            ["name:`a``'`", "name:\"b\\\"'\"", "name:“c”"]
        );
        assert_eq!(shape("`a"), ["open:`a"]);
    }

    #[test]
    fn comments_end_where_clickhouse_ends_them() {
        assert_eq!(shape("-- it's\nx"), ["comment:-- it's", "word:x"]);
        assert_eq!(shape("# it's\nx"), ["comment:# it's", "word:x"]);
        assert_eq!(shape("#x"), ["symbol:#", "word:x"]);
        assert_eq!(
            shape("/* /* ' */ */"),
            ["comment:/* /* ' */", "symbol:*", "symbol:/"]
        );
        assert_eq!(shape("/* x"), ["open:/* x"]);
        assert_eq!(shape("/*/"), ["open:/*/"]);
    }

    #[test]
    fn names_and_strings_lose_their_quotes() {
        let first = |sql: &str| Lexer::new(sql).next().unwrap();
        let name = |sql: &str| first(sql).name(sql);
        let string = |sql: &str| first(sql).string(sql);
        assert_eq!(name("flights"), Some("flights".to_owned()));
        assert_eq!(name("`a``b\\`c`"), Some("a`b`c".to_owned()));
        assert_eq!(name("12"), None);
        assert_eq!(string("'it''s\\n'"), Some("it's\n".to_owned()));
        assert_eq!(string("$x$a'b$x$"), Some("a'b".to_owned()));
        assert_eq!(string("‘a’"), Some("a".to_owned()));
        assert_eq!(string("a"), None);
    }

    proptest! {
        #[test]
        fn tokens_cover_any_text(sql in any::<String>()) {
            check_cover(&sql)?;
        }

        #[test]
        fn tokens_cover_text_of_delimiters(sql in r#"['"`\\$#/*\-!a \n‘’“”]{0,40}"#) {
            check_cover(&sql)?;
        }
    }

    fn check_cover(sql: &str) -> Result<(), TestCaseError> {
        let mut position = 0;
        for token in Lexer::new(sql) {
            prop_assert_eq!(token.start, position);
            prop_assert!(token.end > token.start);
            let _ = (token.name(sql), token.string(sql));
            position = token.end;
        }
        prop_assert_eq!(position, sql.len());
        Ok(())
    }
}
