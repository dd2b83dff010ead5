//! What XML can hold, for the files that libchdb reads.

/// Text as the content of an element.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Whether XML has no way to write the text: most control characters.
pub(crate) fn is_unwritable(text: &str) -> bool {
    text.chars().any(|character| {
        matches!(character, '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
            && !matches!(character, '\t' | '\n' | '\r')
    })
}
