//! Splits SQL text into tokens by ClickHouse's rules, far enough to know where
//! strings, quoted names, comments and brackets begin and end. Everything that takes
//! SQL apart without parsing it does so by these tokens: templates, statements, the
//! expressions in a spec, types, and definitions as ClickHouse writes them.

/// What a piece of SQL text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
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
pub enum Unterminated {
    /// A string literal.
    String,
    /// A quoted name.
    QuotedIdentifier,
    /// A block comment.
    Comment,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// How many brackets, of any kind, are open around it. Both brackets of a pair
    /// stand where what is outside of them does.
    pub depth: usize,
}

impl Token {
    /// The token's text in the SQL it was read from.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        &sql[self.start..self.end]
    }

    /// Whether the token is white space or a comment.
    pub fn is_trivia(&self) -> bool {
        matches!(self.kind, TokenKind::Space | TokenKind::Comment)
    }

    /// Whether the token is this keyword, in any case.
    pub fn is_keyword(&self, sql: &str, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text(sql).eq_ignore_ascii_case(keyword)
    }

    /// The name that a bare or quoted identifier stands for, if it is UTF-8.
    pub fn name(&self, sql: &str) -> Option<String> {
        let text = self.text(sql);
        match self.kind {
            TokenKind::Word if !text.starts_with(|first: char| first.is_ascii_digit()) => {
                Some(text.to_owned())
            }
            TokenKind::QuotedIdentifier => unquote(text),
            _ => None,
        }
    }

    /// The text that a string literal stands for, if it is UTF-8.
    pub fn string(&self, sql: &str) -> Option<String> {
        let text = self.text(sql);
        (self.kind == TokenKind::String)
            .then(|| unquote(text))
            .flatten()
    }
}

/// Reads tokens one after another; together they cover the whole text.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    sql: &'a str,
    position: usize,
    /// How many brackets are open.
    depth: usize,
    /// How many dollar signs looked like a heredoc and were none. Each costs a
    /// search through the rest of the text, so there is an end to it.
    false_heredocs: u8,
}

/// No honest text has so many dollar signs that only look like a heredoc.
const MAX_FALSE_HEREDOCS: u8 = 100;

impl<'a> Scanner<'a> {
    /// Starts at the beginning of the text.
    pub fn new(sql: &'a str) -> Self {
        Self {
            sql,
            position: 0,
            depth: 0,
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

impl Scanner<'_> {
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

impl Iterator for Scanner<'_> {
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
        if let TokenKind::Symbol(')' | ']' | '}') = kind {
            self.depth = self.depth.saturating_sub(1);
        }
        let depth = self.depth;
        if let TokenKind::Symbol('(' | '[' | '{') = kind {
            self.depth += 1;
        }
        Some(Token {
            kind,
            start,
            end: self.position,
            depth,
        })
    }
}

/// The tokens that are neither white space nor comments.
pub fn significant_tokens(sql: &str) -> Vec<Token> {
    Scanner::new(sql)
        .filter(|token| !token.is_trivia())
        .collect()
}

/// Why the brackets of a text do not pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpaired {
    /// The bracket that begins at this byte closes none of its kind.
    NotOpened(usize),
    /// The bracket that begins at this byte is not closed.
    NotClosed(usize),
}

/// Checks that every bracket closes the last one that is open, which is of its kind.
pub fn check_brackets(tokens: &[Token]) -> Result<(), Unpaired> {
    let mut open: Vec<(char, usize)> = Vec::new();
    for token in tokens {
        let closes = match token.kind {
            TokenKind::Symbol(bracket @ ('(' | '[' | '{')) => {
                open.push((bracket, token.start));
                continue;
            }
            TokenKind::Symbol(')') => '(',
            TokenKind::Symbol(']') => '[',
            TokenKind::Symbol('}') => '{',
            _ => continue,
        };
        if open.pop().is_none_or(|(bracket, _)| bracket != closes) {
            return Err(Unpaired::NotOpened(token.start));
        }
    }
    match open.last() {
        Some((_, at)) => Err(Unpaired::NotClosed(*at)),
        None => Ok(()),
    }
}

/// The items of a list such as `a, f(b, c)`, at whose commas no bracket is open,
/// without the space around them and without empty ones.
pub fn list_items(text: &str) -> Vec<&str> {
    let is_comma = |token: &Token| token.kind == TokenKind::Symbol(',') && token.depth == 0;
    let mut start = 0;
    let mut items = Vec::new();
    for comma in Scanner::new(text).filter(is_comma) {
        items.push(text[start..comma.start].trim());
        start = comma.end;
    }
    items.push(text[start..].trim());
    items.retain(|item| !item.is_empty());
    items
}

/// Where words such as ` ORDER BY ` first stand outside of brackets, strings, quoted
/// names and comments, written exactly so.
pub fn find_outside(text: &str, words: &str) -> Option<usize> {
    let begins = |token: &Token| {
        let may_begin = matches!(
            token.kind,
            TokenKind::Space | TokenKind::Word | TokenKind::Symbol(_)
        );
        may_begin && token.depth == 0 && text[token.start..].starts_with(words)
    };
    let found = Scanner::new(text).find(begins)?;
    Some(found.start)
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

/// Undoes quotes and escapes of a complete string or quoted name. Nothing where
/// escapes make bytes that are no UTF-8.
fn unquote(quoted: &str) -> Option<String> {
    let Some(quote @ (b'\'' | b'`' | b'"')) = quoted.bytes().next() else {
        return Some(strip_marks(quoted).to_owned());
    };
    let mut inner = quoted[1..quoted.len() - 1].bytes();
    let mut text = Vec::with_capacity(inner.len());
    while let Some(byte) = inner.next() {
        match byte {
            b'\\' => unescape(&mut inner, &mut text),
            // The other half of a doubled quote.
            _ if byte == quote => text.extend(inner.next()),
            _ => text.push(byte),
        }
    }
    String::from_utf8(text).ok()
}

/// What stands after a backslash, as ClickHouse reads it: `\x41` is a byte, `\N` is
/// nothing, and a backslash before what it does not escape stays.
fn unescape(rest: &mut std::str::Bytes<'_>, text: &mut Vec<u8>) {
    let Some(escaped) = rest.next() else {
        return;
    };
    match escaped {
        b'a' => text.push(0x07),
        b'b' => text.push(0x08),
        b'e' => text.push(0x1b),
        b'f' => text.push(0x0c),
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'v' => text.push(0x0b),
        b'0' => text.push(0),
        b'N' => {}
        b'x' => {
            let digits = [rest.next(), rest.next()];
            let digits = digits.map(|digit| char::from(digit.unwrap_or_default()).to_digit(16));
            if let [Some(high), Some(low)] = digits {
                text.push((high * 16 + low) as u8);
            }
        }
        b'\\' | b'\'' | b'`' | b'"' | b'/' | 0..=0x1f => text.push(escaped),
        other => text.extend([b'\\', other]),
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
        Scanner::new(sql)
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
        let first = |sql: &str| Scanner::new(sql).next().unwrap();
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

    #[test]
    fn escapes_are_clickhouses() {
        let string = |sql: &str| Scanner::new(sql).next().unwrap().string(sql);
        let expected = "A\u{7}\u{8}\u{1b}\u{c}\n\r\t\u{b}\0\\%/`\"'\\";
        let written = r#"'\x41\a\b\e\f\n\r\t\v\0\N\%\/\`\"\'\\'"#;
        assert_eq!(string(written).as_deref(), Some(expected));
        assert_eq!(string(r"'\xC3\xA4'").as_deref(), Some("ä"));
        assert_eq!(string(r"'\xC3'"), None);
    }

    #[test]
    fn depth_counts_brackets_that_are_none_of_texts() {
        let depths = |sql: &str| {
            let tokens = significant_tokens(sql);
            tokens.iter().map(|token| token.depth).collect::<Vec<_>>()
        };
        assert_eq!(
            depths("a(b[c], '(' /* ( */)d"),
            [0, 0, 1, 1, 2, 1, 1, 1, 0, 0]
        );
        assert_eq!(depths(")a(b"), [0, 0, 0, 1]);
    }

    #[test]
    fn brackets_must_pair_by_kind() {
        let check = |sql: &str| check_brackets(&significant_tokens(sql));
        assert_eq!(check("f(a[1], {'(': 2})"), Ok(()));
        assert_eq!(check("(a]"), Err(Unpaired::NotOpened(2)));
        assert_eq!(check("a)("), Err(Unpaired::NotOpened(1)));
        assert_eq!(check("([a]"), Err(Unpaired::NotClosed(0)));
    }

    #[test]
    fn lists_come_apart_at_their_own_commas() {
        let text = "a, f(b, 'c, d'), `e, f`, [g, h],";
        assert_eq!(list_items(text), ["a", "f(b, 'c, d')", "`e, f`", "[g, h]"]);
        assert!(list_items(" ").is_empty());
    }

    #[test]
    fn words_are_found_outside_alone() {
        let text = "f(x TTL y) '  TTL ' ` TTL ` TTL z TTL";
        assert_eq!(find_outside(text, " TTL "), Some(27));
        assert_eq!(find_outside(text, "TL z"), None);
    }

    proptest! {
        #[test]
        fn tokens_cover_any_text(sql in any::<String>()) {
            check_cover(&sql)?;
        }

        #[test]
        fn tokens_cover_text_of_delimiters(sql in r#"['"`\\$#/*\-!a \n‘’“”()\[\]{},x4]{0,40}"#) {
            check_cover(&sql)?;
        }
    }

    fn check_cover(sql: &str) -> Result<(), TestCaseError> {
        let mut position = 0;
        let mut depth = 0;
        for token in Scanner::new(sql) {
            prop_assert_eq!(token.start, position);
            prop_assert!(token.end > token.start);
            let _ = (token.name(sql), token.string(sql));
            position = token.end;
            let is = |brackets: &str| matches!(token.kind, TokenKind::Symbol(symbol) if brackets.contains(symbol));
            depth = if is(")]}") { depth.max(1) - 1 } else { depth };
            prop_assert_eq!(token.depth, depth);
            depth += usize::from(is("([{"));
        }
        prop_assert_eq!(position, sql.len());
        let tokens = significant_tokens(sql);
        if check_brackets(&tokens).is_ok() {
            prop_assert_eq!(depth, 0);
        }
        let items = list_items(sql);
        prop_assert!(
            items
                .iter()
                .all(|item| sql.contains(item) && !item.is_empty())
        );
        prop_assert_eq!(find_outside(sql, "\0"), None);
        Ok(())
    }
}
