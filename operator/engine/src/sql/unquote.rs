//! What quoted names and strings stand for, read as ClickHouse reads them.

/// The text of a quoted name or string, escapes undone.
pub(crate) fn unquote(raw: &[u8]) -> String {
    let Some((&quote, inner)) = raw.split_first() else {
        return String::new();
    };
    if quote == b'$' {
        let tag = memchr::memchr(b'$', inner).map_or(0, |end| end + 2);
        let body = raw.get(tag..raw.len() - tag).unwrap_or_default();
        return String::from_utf8_lossy(body).into_owned();
    }
    if let Some(digits) = inner.strip_prefix(b"'") {
        let digits = digits.strip_suffix(b"'").unwrap_or(digits);
        let bits = if matches!(quote, b'x' | b'X') { 4 } else { 1 };
        return String::from_utf8_lossy(&from_digits(digits, bits)).into_owned();
    }
    if !matches!(quote, b'\'' | b'"' | b'`') {
        // Curly quotes: three bytes on either side, no escapes.
        let body = raw.get(3..raw.len().saturating_sub(3)).unwrap_or_default();
        return String::from_utf8_lossy(body).into_owned();
    }
    let inner = &inner[..inner.len().saturating_sub(1)];
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => unescape(&mut rest, &mut bytes),
            _ if byte == quote => {
                // A doubled quote stands for one.
                rest.next();
                bytes.push(quote);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes that digits of so many bits stand for; the first may be short of some.
fn from_digits(digits: &[u8], bits: usize) -> Vec<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0);
    digits
        .rchunks(8 / bits)
        .rev()
        .map(|byte| {
            let number = byte
                .iter()
                .fold(0, |number, digit| (number << bits) | value(digit));
            u8::try_from(number).unwrap_or(u8::MAX)
        })
        .collect()
}

/// Undoes one escape, as ClickHouse does it: what it does not know keeps its backslash.
fn unescape(rest: &mut impl Iterator<Item = u8>, bytes: &mut Vec<u8>) {
    let Some(escaped) = rest.next() else {
        bytes.push(b'\\');
        return;
    };
    match escaped {
        b'x' => {
            let mut digit = || {
                let digit = rest.next().and_then(|byte| char::from(byte).to_digit(16));
                digit
                    .and_then(|digit| u8::try_from(digit).ok())
                    .unwrap_or(0xFF)
            };
            let (high, low) = (digit(), digit());
            bytes.push(high.wrapping_mul(16).wrapping_add(low));
        }
        // NULL, which is nothing in a text.
        b'N' => {}
        b'n' => bytes.push(b'\n'),
        b't' => bytes.push(b'\t'),
        b'r' => bytes.push(b'\r'),
        b'0' => bytes.push(0),
        b'a' => bytes.push(7),
        b'b' => bytes.push(8),
        b'v' => bytes.push(11),
        b'f' => bytes.push(12),
        b'e' => bytes.push(0x1B),
        b'\\' | b'`' | b'"' | b'\'' | b'/' => bytes.push(escaped),
        other if other.is_ascii_control() => bytes.push(other),
        other => bytes.extend([b'\\', other]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unquote(br"'a\'b''c\\n'"), r"a'b'c\n");
        assert_eq!(unquote(br"`x\ty`"), "x\ty");
        assert_eq!(unquote(br"'def\x61ul\Nt\e\/\%'"), "default\u{1b}/\\%");
        assert_eq!(unquote(b"$a$it's$a$"), "it's");
        assert_eq!(unquote(b"x'4a6B'"), "Jk");
        assert_eq!(unquote(b"b'101001010'"), "\u{1}J");
        assert_eq!(unquote("‘q’".as_bytes()), "q");
    }
}
