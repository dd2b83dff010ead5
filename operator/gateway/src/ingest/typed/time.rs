//! Plain spellings of days and times.

use super::kind::Zone;
use super::number::small_digits;
use std::ops::RangeInclusive;

/// Years that are days in the column's type, whatever month it is or as far as the
/// number of days allows.
pub(super) const DATE_YEARS: RangeInclusive<i64> = 1970..=2149;
pub(super) const WIDE_YEARS: RangeInclusive<i64> = 1900..=2299;

/// `YYYY-MM-DD` as days since 1970.
pub(super) fn day(text: &[u8], years: RangeInclusive<i64>) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4])?;
    let month = number(&[m1, m2])?;
    let day = number(&[d1, d2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !years.contains(&year) || !(1..=last).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day at the end, where it moves no other day.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468)
}

/// Seconds since 1970 for a `DateTime`, without what is less than a second.
pub(super) fn second(text: &[u8], zone: Zone) -> Option<u32> {
    u32::try_from(Moment::of(text, zone)?.seconds).ok()
}

/// A point in time in units of a column's last digit, without what is less than one.
pub(super) fn ticks(text: &[u8], digits: u32, zone: Zone) -> Option<i64> {
    let Moment { seconds, fraction } = Moment::of(text, zone)?;
    let fraction = &fraction[..fraction.len().min(digits as usize)];
    let missing = digits - fraction.len() as u32;
    let fraction = match fraction {
        [] => 0,
        fraction => number(fraction)? * 10_i64.pow(missing),
    };
    seconds
        .checked_mul(10_i64.pow(digits))?
        .checked_add(fraction)
}

/// Seconds since 1970, and the digits of a fraction.
struct Moment<'t> {
    seconds: i64,
    fraction: &'t [u8],
}

impl<'t> Moment<'t> {
    /// Seconds or milliseconds since 1970, as long as they are in this century and the next.
    fn since_1970(text: &'t [u8]) -> Option<Self> {
        let (seconds, fraction) = match text.len() {
            10 => (text, &text[..0]),
            13 => text.split_at(10),
            _ => return None,
        };
        number(text).filter(|_| text[0] != b'0')?;
        Some(Self {
            seconds: number(seconds)?,
            fraction,
        })
    }

    /// `YYYY-MM-DD hh:mm:ss[.fraction]`, with `T` for the space, and `Z` or an offset at
    /// the end or, in a column whose zone is UTC, nothing.
    fn of(text: &'t [u8], zone: Zone) -> Option<Self> {
        if text.len() < 19 {
            return Self::since_1970(text);
        }
        let (date, rest) = text.split_at_checked(10)?;
        let (&[b'T' | b' ', h1, h2, b':', m1, m2, b':', s1, s2], rest) =
            rest.split_first_chunk::<9>()?
        else {
            return None;
        };
        let (fraction, offset) = match rest {
            [b'.', rest @ ..] => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
                let (fraction, offset) = rest.split_at(digits.count());
                if fraction.is_empty() || fraction.len() > 9 {
                    return None;
                }
                (fraction, offset)
            }
            offset => (&offset[..0], offset),
        };
        let offset = match (offset, zone) {
            ([], Zone::Other) => return None,
            ([] | b"Z", _) => 0,
            (&[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2], _) => {
                let hours = number(&[h1, h2]).filter(|hours| *hours <= 14)?;
                let minutes = number(&[m1, m2]).filter(|minutes| *minutes < 60)?;
                (hours * 3600 + minutes * 60) * if sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        let hour = number(&[h1, h2]).filter(|hour| *hour < 24)?;
        let minute = number(&[m1, m2]).filter(|minute| *minute < 60)?;
        let second = number(&[s1, s2]).filter(|second| *second < 60)?;
        // Before 1970 the landing decides: there ClickHouse's versions differ.
        let day = day(date, DATE_YEARS)?;
        let seconds = day * 86400 + hour * 3600 + minute * 60 + second - offset;
        (seconds >= 0).then_some(Self { seconds, fraction })
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    small_digits(digits).map(u64::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        let mut expected = date(1900, 1, 1);
        let last = date(2299, 12, 31);
        let first = i64::from((date(1970, 1, 1) - expected).get_days());
        for count in -first.. {
            let text = expected.to_string();
            assert_eq!(day(text.as_bytes(), WIDE_YEARS), Some(count));
            if expected == last {
                break;
            }
            expected = expected.tomorrow().unwrap();
        }
    }

    #[test]
    fn times_are_certain_in_utc_and_with_an_offset() {
        let ticks = |text: &str, zone| ticks(text.as_bytes(), 3, zone);
        assert_eq!(ticks("1970-01-01 00:00:01.25", Zone::Utc), Some(1250));
        assert_eq!(
            ticks("1970-01-01T02:00:01.25+02:00", Zone::Other),
            Some(1250)
        );
        assert_eq!(ticks("1970-01-01T00:00:01Z", Zone::Other), Some(1000));
        assert_eq!(ticks("1970-01-01 00:00:01.2509", Zone::Utc), Some(1250));
        assert_eq!(ticks("1357016400", Zone::Other), Some(1_357_016_400_000));
        assert_eq!(ticks("1357016400123", Zone::Utc), Some(1_357_016_400_123));
        for doubtful in [
            "135701640",
            "0357016400",
            "13570164001",
            "1970-01-01 00:00:01+02:00",
            "1970-01-01 00:00:01.",
            "1970-01-01 00:00:01 Z",
            "1970-01-01 00:00",
            "1970-01-01 00:00:01+0200",
        ] {
            assert_eq!(ticks(doubtful, Zone::Utc), None, "{doubtful}");
        }
        assert_eq!(ticks("1970-01-01 00:00:01", Zone::Other), None);
        assert_eq!(
            second(b"2013-01-01 05:00:00Z", Zone::Utc),
            Some(1_357_016_400)
        );
        assert_eq!(
            second(b"2013-01-01T05:00:00.999Z", Zone::Utc),
            Some(1_357_016_400)
        );
        assert_eq!(second(b"2106-02-07 06:28:16", Zone::Utc), None);
    }
}
