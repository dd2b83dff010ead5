//! Kubernetes' notation of sizes, as far as storage requests use it.

/// `1Gi`, `500M`, `1.5G`, `1e9` and plain numbers in bytes, rounded up.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let unit_at = text
        .find(|letter: char| letter.is_ascii_alphabetic() && !matches!(letter, 'e' | 'E'))
        .or_else(|| text.ends_with('E').then(|| text.len() - 1))
        .unwrap_or(text.len());
    // `1Ei` and `1E` are exbibytes and exabytes, `1e3` and `1E3` are a thousand.
    let unit_at = if text.ends_with("Ei") {
        text.len() - 2
    } else {
        unit_at
    };
    let (number, unit) = text.split_at(unit_at);
    let factor = factor(unit)?;
    let value = match number.parse::<u128>() {
        Ok(whole) => whole.checked_mul(factor)?,
        Err(_) => (number.parse::<f64>().ok()? * factor as f64).ceil() as u128,
    };
    u64::try_from(value).ok().filter(|bytes| *bytes > 0)
}

fn factor(unit: &str) -> Option<u128> {
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024_u128),
        None => (unit, 1000),
    };
    let power = match letter {
        "" if unit.is_empty() => 0,
        "K" | "k" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn reads_sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1Ki", Some(1024)),
            ("1k", Some(1000)),
            ("500M", Some(500_000_000)),
            ("1Gi", Some(1 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("1e3", Some(1000)),
            ("1E3", Some(1000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1Ei", Some(1 << 60)),
            ("", None),
            ("Gi", None),
            ("1i", None),
            ("1Zi", None),
            ("0", None),
            ("-1Gi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
