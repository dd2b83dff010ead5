//! One node's SQL, looked at as text: where it begins and ends, that it is a
//! single query, and what it reads.

use super::{error::ComposeError, node::Node};
use crate::{
    References, Template, TemplateError, references,
    scanner::{Token, TokenKind, significant_tokens},
    template::{OutlineItem, line_and_column, outline},
};

/// A node's query.
pub(super) struct Statement<'a> {
    /// The template text, without semicolons and comments at its end.
    pub(super) text: &'a str,
    pub(super) head: Head,
    pub(super) references: References,
}

/// How a query begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A WITH clause can be put before it.
    Select,
    /// It has a WITH clause, whose list begins at this byte of the text.
    With { list_start: usize, recursive: bool },
    /// It begins with a parenthesis, or differently from rendering to rendering.
    Other,
}

impl<'a> Statement<'a> {
    pub(super) fn read(node: Node<'a>) -> Result<Self, ComposeError> {
        let fault = |error: TemplateError| ComposeError::Template {
            node: node.name.to_owned(),
            error,
        };
        let template = Template::parse(node.sql).map_err(fault)?;
        let items = outline(node.sql).map_err(fault)?;
        let (start, end) = extent(node, &items)?;
        let renderings = template.render_for_check();
        let mut found = References::default();
        let mut heads = Vec::new();
        for rendered in &renderings {
            found.extend(references(&rendered.sql));
            heads.push(check_rendering(node, &rendered.sql)?);
        }
        let head = match items.first() {
            Some(OutlineItem::Sql(_)) => head_of_text(node.sql, &items, start),
            _ if heads.iter().all(|head| *head == FirstWord::Select) => Head::Select,
            _ => Head::Other,
        };
        Ok(Self {
            text: &node.sql[start..end],
            head,
            references: found,
        })
    }
}

/// From the first token to the last one before the semicolons.
fn extent(node: Node<'_>, items: &[OutlineItem]) -> Result<(usize, usize), ComposeError> {
    let semicolon = items.iter().position(is_semicolon).unwrap_or(items.len());
    let (statement, rest) = items.split_at(semicolon);
    if !rest.iter().all(is_semicolon) {
        let (line, column) = line_and_column(node.sql, rest[0].start());
        return Err(ComposeError::SeveralStatements {
            node: node.name.to_owned(),
            line,
            column,
        });
    }
    match (statement.first(), statement.last()) {
        (Some(first), Some(last)) => Ok((first.start(), last.end())),
        _ => Err(empty(node)),
    }
}

fn is_semicolon(item: &OutlineItem) -> bool {
    matches!(item, OutlineItem::Sql(token) if token.kind == TokenKind::Symbol(';'))
}

fn empty(node: Node<'_>) -> ComposeError {
    ComposeError::Empty {
        node: node.name.to_owned(),
    }
}

fn head_of_text(sql: &str, items: &[OutlineItem], start: usize) -> Head {
    let keyword = |index: usize, word: &str| matches!(items.get(index), Some(OutlineItem::Sql(token)) if token.is_keyword(sql, word));
    if !keyword(0, "WITH") {
        return if keyword(0, "SELECT") || keyword(0, "FROM") {
            Head::Select
        } else {
            Head::Other
        };
    }
    // A name in the list may be `recursive`: then AS or a column list follows.
    let recursive = keyword(1, "RECURSIVE")
        && matches!(items.get(2), Some(OutlineItem::Sql(token))
            if matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdentifier)
                && !token.is_keyword(sql, "AS"));
    Head::With {
        list_start: items[usize::from(recursive)].end() - start,
        recursive,
    }
}

/// The word a rendering begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstWord {
    Select,
    With,
    Parenthesis,
}

/// Looks at one rendering: a single query without output clauses.
fn check_rendering(node: Node<'_>, sql: &str) -> Result<FirstWord, ComposeError> {
    let tokens = significant_tokens(sql);
    let Some(first) = tokens.first() else {
        return Err(empty(node));
    };
    if let Some(clause) = output_clause(sql, &tokens) {
        return Err(ComposeError::OutputClause {
            node: node.name.to_owned(),
            clause,
        });
    }
    let opening = tokens
        .iter()
        .find(|token| token.kind != TokenKind::Symbol('('))
        .unwrap_or(first);
    let is_any = |words: &[&str]| words.iter().any(|word| opening.is_keyword(sql, word));
    if !is_any(&["SELECT", "FROM", "WITH"]) {
        // Template parts do not change what stands at the beginning of the text.
        let written = outline(node.sql).unwrap_or_default();
        let start = written.first().map_or(0, OutlineItem::start);
        let (line, column) = line_and_column(node.sql, start);
        return Err(ComposeError::NotASelect {
            node: node.name.to_owned(),
            line,
            column,
            found: opening.text(sql).chars().take(40).collect(),
        });
    }
    Ok(match first.kind {
        TokenKind::Symbol(_) => FirstWord::Parenthesis,
        _ if first.is_keyword(sql, "WITH") => FirstWord::With,
        _ => FirstWord::Select,
    })
}

/// `FORMAT name` or `INTO OUTFILE` outside of parentheses.
fn output_clause(sql: &str, tokens: &[Token]) -> Option<&'static str> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Symbol('(' | '[') => depth += 1,
            TokenKind::Symbol(')' | ']') => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 => {
                let follows = |word: &str| {
                    tokens
                        .get(index + 1)
                        .is_some_and(|next| next.is_keyword(sql, word))
                };
                if token.is_keyword(sql, "INTO") && follows("OUTFILE") {
                    return Some("INTO OUTFILE");
                }
                if token.is_keyword(sql, "FORMAT") && is_format_clause(sql, tokens, index) {
                    return Some("FORMAT");
                }
            }
            _ => {}
        }
    }
    None
}

/// `format` is also a good name for a column: the clause follows an operand, is
/// followed by a word and nothing more but settings.
fn is_format_clause(sql: &str, tokens: &[Token], index: usize) -> bool {
    const NO_OPERANDS: [&str; 22] = [
        "ALL", "AND", "ANY", "AS", "ASOF", "BETWEEN", "BY", "DISTINCT", "FROM", "HAVING", "IN",
        "JOIN", "LIKE", "LIMIT", "NOT", "OFFSET", "ON", "OR", "PREWHERE", "SELECT", "USING",
        "WHERE",
    ];
    let follows_operand = index.checked_sub(1).is_some_and(|before| {
        let before = &tokens[before];
        match before.kind {
            TokenKind::Word => !NO_OPERANDS.iter().any(|word| before.is_keyword(sql, word)),
            TokenKind::Symbol(symbol) => matches!(symbol, ')' | ']' | '}' | '*'),
            _ => true,
        }
    });
    let is_named = tokens
        .get(index + 1)
        .is_some_and(|next| next.kind == TokenKind::Word);
    let is_last = tokens
        .get(index + 2)
        .is_none_or(|next| next.is_keyword(sql, "SETTINGS") || next.is_keyword(sql, "INTO"));
    follows_operand && is_named && is_last
}
