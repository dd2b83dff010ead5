//! Guards the expressions that people write in a data source (defaults, keys,
//! TTLs) before they become part of a statement that runs with the operator's rights.
//!
//! Such an expression is put into parentheses, so it must close what it opens
//! and nothing else. It must not read other tables or files either: that would
//! reach what the tenant has no rights to. Whether it is right otherwise,
//! ClickHouse says.

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

/// What a scan of an expression finds without parsing it.
#[derive(Default)]
struct Outline {
    /// Bare words and quoted names.
    words: Vec<String>,
    /// Those outside of any parentheses.
    top_level_words: Vec<String>,
    /// Those with a parenthesis after them.
    calls: Vec<String>,
    /// Those that follow IN, with or without parentheses between.
    after_in: Vec<String>,
    /// Commas outside of any parentheses.
    top_level_commas: usize,
}

impl Outline {
    /// Refuses what it does not understand: an expression has no need of
    /// comments, heredocs or typographic quotes.
    fn of(text: &str) -> Result<Self, ExpressionError> {
        let mut outline = Self::default();
        let mut open: Vec<char> = Vec::new();
        let mut rest = text.chars().peekable();
        let mut previous = ' ';
        // The word before, as long as nothing but space and, after IN, parentheses follow.
        let mut word_before: Option<String> = None;
        while let Some(next) = rest.next() {
            match next {
                '(' => {
                    open.push(')');
                    match &word_before {
                        Some(word) if word.eq_ignore_ascii_case("in") && previous == ' ' => {}
                        Some(word) => {
                            outline.calls.push(word.clone());
                            word_before = None;
                        }
                        None => {}
                    }
                }
                '[' => open.push(']'),
                '{' => open.push('}'),
                ')' | ']' | '}' if open.pop() != Some(next) => {
                    return Err(ExpressionError::Unbalanced(
                        "a bracket is closed that is not open",
                    ));
                }
                '\'' => {
                    quoted(next, &mut rest)?;
                }
                '"' | '`' => {
                    let name = quoted(next, &mut rest)?;
                    outline.word(&mut word_before, name);
                }
                ',' if open.is_empty() => outline.top_level_commas += 1,
                ';' => return Err(ExpressionError::Unbalanced("`;` has no place here")),
                '-' if previous == '-' => return Err(COMMENT),
                '*' if previous == '/' => return Err(COMMENT),
                '#' => return Err(COMMENT),
                '\0' | '\\' | '$' | '\u{2018}'..='\u{201f}' => {
                    return Err(ExpressionError::Unbalanced(
                        "quotes are ', \" and `; backslashes and `$` stand inside of them only",
                    ));
                }
                first if first.is_alphanumeric() || first == '_' => {
                    let mut word = String::from(first);
                    while let Some(letter) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                        word.push(letter);
                    }
                    if open.is_empty() {
                        outline.top_level_words.push(word.clone());
                    }
                    outline.word(&mut word_before, word);
                }
                _ => {}
            }
            let keeps_word = next.is_whitespace()
                || next == '('
                || next == '_'
                || next == '"'
                || next == '`'
                || next.is_alphanumeric();
            if !keeps_word {
                word_before = None;
            }
            previous = if next.is_whitespace() { ' ' } else { next };
        }
        if !open.is_empty() {
            return Err(ExpressionError::Unbalanced("a bracket is not closed"));
        }
        if text.trim().is_empty() {
            return Err(ExpressionError::Unbalanced("the expression is empty"));
        }
        Ok(outline)
    }

    fn word(&mut self, word_before: &mut Option<String>, word: String) {
        let after_in = word_before
            .as_ref()
            .is_some_and(|before| before.eq_ignore_ascii_case("in"));
        let is_number = word.starts_with(|first: char| first.is_ascii_digit());
        if after_in && !is_number {
            self.after_in.push(word.clone());
        }
        self.words.push(word.clone());
        *word_before = Some(word);
    }
}

const COMMENT: ExpressionError = ExpressionError::Unbalanced("comments have no place here");

fn quoted(
    quote: char,
    rest: &mut std::iter::Peekable<impl Iterator<Item = char>>,
) -> Result<String, ExpressionError> {
    let mut value = String::new();
    while let Some(next) = rest.next() {
        match next {
            '\\' => value.extend(rest.next()),
            '\0' => break,
            end if end == quote => match rest.next_if_eq(&quote) {
                Some(doubled) => value.push(doubled),
                None => return Ok(value),
            },
            other => value.push(other),
        }
    }
    Err(ExpressionError::Unbalanced("a quote is not closed"))
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
