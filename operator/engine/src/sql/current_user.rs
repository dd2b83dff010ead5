//! `currentUser()` means the user who asks, not the one libchdb takes everybody for.

use std::borrow::Cow;

use super::quote::{Identifier, Literal};
use super::statement::Statement;

/// A text with something else for each call, made from the name it is called by.
pub(crate) fn with_user(text: &[u8], replacement: impl Fn(&str) -> String) -> Cow<'_, [u8]> {
    let statement = Statement::new(text);
    let mut replaced = Vec::new();
    let mut copied = 0;
    for index in 0..statement.tokens.len() {
        let called = statement.is_symbol(index + 1, b'(') && statement.is_symbol(index + 2, b')');
        let is_member = index > 0 && statement.is_symbol(index - 1, b'.');
        let is_function = ["currentUser", "current_user", "user"]
            .iter()
            .any(|name| statement.is(index, name));
        if is_function && called && !is_member {
            let name = String::from_utf8_lossy(statement.raw(index));
            replaced.extend_from_slice(&text[copied..statement.tokens[index].range.start]);
            replaced.extend_from_slice(replacement(&name).as_bytes());
            copied = statement.tokens[index + 2].range.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.extend_from_slice(&text[copied..]);
    Cow::Owned(replaced)
}

/// A query as this user means it. Columns keep their names.
pub(crate) fn asked_by<'a>(text: &'a [u8], user: &str) -> Cow<'a, [u8]> {
    with_user(text, |function| {
        format!(
            "({} AS {})",
            Literal(user),
            Identifier(&format!("{function}()"))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_replaced_and_names_are_not() {
        let asked = |text: &str| String::from_utf8(asked_by(text.as_bytes(), "me").into()).unwrap();
        assert_eq!(
            asked("SELECT currentUser ( ), user FROM t WHERE USER() = 'user()'"),
            "SELECT ('me' AS `currentUser()`), user FROM t WHERE ('me' AS `USER()`) = 'user()'"
        );
        assert_eq!(asked("SELECT a.user()"), "SELECT a.user()");
    }
}
