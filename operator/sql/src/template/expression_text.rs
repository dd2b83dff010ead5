//! Texts in quotes inside of template marks. The expression language is a part of
//! Python's and not SQL: a backslash escapes other things, and doubling a quote does not.

/// The text that begins with this quote, and its length with both quotes; nothing if it
/// does not end.
pub(super) fn read_text(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => unescape(characters.next()?.1, &mut value),
            _ if character == quote => return Some((value, index + 1)),
            _ => value.push(character),
        }
    }
    None
}

/// As Python: an escape it does not know stays as written.
fn unescape(escaped: char, value: &mut String) {
    match escaped {
        'n' => value.push('\n'),
        't' => value.push('\t'),
        'r' => value.push('\r'),
        '\\' | '\'' | '"' => value.push(escaped),
        '\n' => {}
        other => value.extend(['\\', other]),
    }
}
