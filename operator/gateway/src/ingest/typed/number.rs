//! Plain spellings of numbers: digits, which may have a sign and a point.

/// Digits of the largest number that is read here. What is longer is for the landing.
const MOST_DIGITS: usize = 38;

/// A number without an exponent.
struct Plain<'t> {
    is_negative: bool,
    whole: &'t [u8],
    /// What stands after the point; nothing if there is none.
    fraction: Option<&'t [u8]>,
}

impl<'t> Plain<'t> {
    fn of(text: &'t [u8]) -> Option<Self> {
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let (whole, fraction) = match memchr::memchr(b'.', unsigned) {
            Some(point) => (&unsigned[..point], Some(&unsigned[point + 1..])),
            None => (unsigned, None),
        };
        let is_plain = is_digits(whole) && fraction.is_none_or(is_digits);
        is_plain.then_some(Self {
            is_negative: unsigned.len() < text.len(),
            whole,
            fraction,
        })
    }

    /// The fraction without zeros at its end, which say nothing.
    fn significant_fraction(&self) -> &'t [u8] {
        let fraction = self.fraction.unwrap_or_default();
        let last = fraction.iter().rposition(|&digit| digit != b'0');
        &fraction[..last.map_or(0, |last| last + 1)]
    }
}

/// A whole number of so many bytes, least significant first. `3.0` is one.
pub(super) fn write_integer(
    text: &[u8],
    bytes: usize,
    is_signed: bool,
    output: &mut Vec<u8>,
) -> Option<()> {
    let (is_negative, magnitude) = match small_digits(text) {
        Some(value) => (false, u128::from(value)),
        None => {
            let number = Plain::of(text)?;
            if !number.significant_fraction().is_empty() {
                return None;
            }
            (number.is_negative, magnitude(number.whole)?)
        }
    };
    // The landing refuses a sign even before zero.
    if is_negative && !is_signed {
        return None;
    }
    // A signed type has one negative number more.
    let largest = 1_u128.checked_shl(8 * bytes as u32 - u32::from(is_signed));
    let largest = largest.map_or(u128::MAX, |limit| limit - u128::from(!is_negative));
    if magnitude > largest {
        return None;
    }
    write_twos_complement(is_negative, magnitude, bytes, output);
    Some(())
}

/// A decimal as the whole number that it is times ten to the scale.
pub(super) fn write_decimal(
    text: &[u8],
    bytes: usize,
    precision: usize,
    scale: usize,
    output: &mut Vec<u8>,
) -> Option<()> {
    let number = Plain::of(text)?;
    let fraction = number.significant_fraction();
    let missing = scale.checked_sub(fraction.len())?;
    let factor = 10_u128.checked_pow(u32::try_from(scale).ok()?)?;
    let rest = match fraction {
        [] => 0,
        digits => magnitude(digits)? * 10_u128.pow(u32::try_from(missing).ok()?),
    };
    let scaled = magnitude(number.whole)?
        .checked_mul(factor)?
        .checked_add(rest)?;
    let limit = 10_u128.checked_pow(u32::try_from(precision.min(MOST_DIGITS)).ok()?)?;
    if scaled >= limit {
        return None;
    }
    write_twos_complement(number.is_negative, scaled, bytes, output);
    Some(())
}

/// A number for the standard library to round: it is correct to the last bit.
pub(super) fn float_text(text: &[u8]) -> Option<&str> {
    const MOST: usize = 40;
    let number = Plain::of(text)?;
    let is_short = number.whole.len() <= MOST && number.fraction.unwrap_or_default().len() <= MOST;
    is_short.then(|| std::str::from_utf8(text).ok()).flatten()
}

/// Digits, as many as cannot overflow.
pub(super) fn small_digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

fn magnitude(digits: &[u8]) -> Option<u128> {
    let first = digits.iter().position(|&digit| digit != b'0');
    let significant = &digits[first.unwrap_or(digits.len())..];
    if significant.len() > MOST_DIGITS {
        return None;
    }
    let add = |value: u128, digit: &u8| value * 10 + u128::from(digit - b'0');
    Some(significant.iter().fold(0, add))
}

fn write_twos_complement(is_negative: bool, magnitude: u128, bytes: usize, output: &mut Vec<u8>) {
    let low = if is_negative {
        magnitude.wrapping_neg()
    } else {
        magnitude
    };
    let low = low.to_le_bytes();
    output.extend_from_slice(&low[..bytes.min(low.len())]);
    let extension = if is_negative && magnitude != 0 {
        0xff
    } else {
        0
    };
    output.extend(std::iter::repeat_n(
        extension,
        bytes.saturating_sub(low.len()),
    ));
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integer(text: &str, bytes: usize, is_signed: bool) -> Option<Vec<u8>> {
        let mut output = Vec::new();
        write_integer(text.as_bytes(), bytes, is_signed, &mut output).map(|()| output)
    }

    fn decimal(text: &str, precision: usize, scale: usize) -> Option<i128> {
        let mut output = Vec::new();
        write_decimal(text.as_bytes(), 16, precision, scale, &mut output)?;
        Some(i128::from_le_bytes(output.try_into().unwrap()))
    }

    #[test]
    fn integers_fit_or_are_left() {
        assert_eq!(integer("127", 1, true), Some(vec![127]));
        assert_eq!(integer("128", 1, true), None);
        assert_eq!(integer("-127.00", 1, true), Some(vec![129]));
        assert_eq!(integer("-128", 1, true), Some(vec![128]));
        assert_eq!(integer("-129", 1, true), None);
        assert_eq!(integer("255", 1, false), Some(vec![255]));
        assert_eq!(integer("-1", 1, false), None);
        assert_eq!(
            integer("18446744073709551615", 8, false),
            Some(vec![255; 8])
        );
        assert_eq!(integer("18446744073709551616", 8, false), None);
        assert_eq!(integer("-1", 32, true), Some(vec![255; 32]));
        for doubtful in ["", "-", "3.5", "3.", ".0", "1e3", "+1", " 1", "nan"] {
            assert_eq!(integer(doubtful, 8, true), None, "{doubtful}");
        }
    }

    #[test]
    fn decimals_are_exact_or_are_left() {
        assert_eq!(decimal("1.5", 9, 2), Some(150));
        assert_eq!(decimal("-0.05000", 9, 2), Some(-5));
        assert_eq!(decimal("9999999.99", 9, 2), Some(999_999_999));
        let widest = "99999999999999999999999999999999999999";
        assert_eq!(decimal(widest, 38, 0), Some(10_i128.pow(38) - 1));
        for doubtful in ["0.005", "10000000", "1e2", ".5", "5.", "x"] {
            assert_eq!(decimal(doubtful, 9, 2), None, "{doubtful}");
        }
    }
}
