//! Days and times in a request: every spelling that a row may have, brought into
//! one that ClickHouse reads in UTC.

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// The first and the last day of ClickHouse's `Date`.
const DAYS: [&str; 2] = ["1970-01-01", "2149-06-06"];
/// The first and the last second of its `DateTime`.
const SECONDS: [&str; 2] = ["1970-01-01 00:00:00", "2106-02-07 06:28:15"];
/// The first and the last microsecond of its `DateTime64`.
const MICROSECONDS: [&str; 2] = ["1900-01-01 00:00:00.000000", "2299-12-31 23:59:59.999999"];

/// `YYYY-MM-DD`. A time is a day if it is midnight in UTC.
pub(super) fn day(raw: &str) -> Option<String> {
    let is_text = raw.as_bytes().get(4) == Some(&b'-');
    let moment = is_text.then(|| point_in_time(raw)).flatten()?;
    let is_midnight = moment.time() == Time::midnight();
    within(is_midnight.then(|| moment.date().to_string())?, DAYS)
}

/// `YYYY-MM-DD hh:mm:ss` in UTC, without what is less than a second.
pub(super) fn second(raw: &str) -> Option<String> {
    within(written(&point_in_time(raw)?, 0), SECONDS)
}

/// `YYYY-MM-DD hh:mm:ss.ffffff` in UTC, without what is less than a microsecond.
pub(super) fn microsecond(raw: &str) -> Option<String> {
    within(written(&point_in_time(raw)?, 6), MICROSECONDS)
}

fn written(moment: &DateTime, digits: u8) -> String {
    let printer = DateTimePrinter::new().separator(b' ');
    printer.precision(Some(digits)).datetime_to_string(moment)
}

/// Texts of one form are in the order of time.
fn within(canonical: String, [first, last]: [&str; 2]) -> Option<String> {
    (first..=last).contains(&&*canonical).then_some(canonical)
}

/// The time in UTC. A text without an offset is in UTC already.
fn point_in_time(raw: &str) -> Option<DateTime> {
    if raw.as_bytes().get(4) != Some(&b'-') {
        return since_1970(raw);
    }
    let (date, rest) = raw.split_at_checked(10)?;
    let date = calendar_day(date)?;
    let Some(rest) = rest.strip_prefix([' ', 'T']) else {
        return rest.is_empty().then(|| date.to_datetime(Time::midnight()));
    };
    let time_end = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.');
    let (time, offset) = rest.split_at(time_end.unwrap_or(rest.len()));
    let local = date.to_datetime(time_of_day(time)?);
    local.checked_sub(offset_from_utc(offset)?).ok()
}

/// Seconds with a fraction, or whole milli-, micro- or nanoseconds.
fn since_1970(raw: &str) -> Option<DateTime> {
    let (whole, fraction) = match raw.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (raw, None),
    };
    let count = number(whole)?;
    let moment = match (whole.len(), fraction) {
        (9 | 10, None) => Timestamp::from_second(count),
        (9 | 10, Some(fraction)) => Timestamp::new(count, nanoseconds(fraction)?),
        (13, None) => Timestamp::from_millisecond(count),
        (16, None) => Timestamp::from_microsecond(count),
        (19, None) => Timestamp::from_nanosecond(count.into()),
        _ => return None,
    };
    Some(Offset::UTC.to_datetime(moment.ok()?))
}

/// `YYYY-MM-DD`, if the calendar has it.
fn calendar_day(text: &str) -> Option<Date> {
    let [year, month, day] = fields(text, '-', [4, 2, 2])?;
    Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.fraction`.
fn time_of_day(text: &str) -> Option<Time> {
    let (text, nanoseconds) = match text.split_once('.') {
        Some((text, fraction)) if text.len() == 8 => (text, nanoseconds(fraction)?),
        Some(_) => return None,
        None => (text, 0),
    };
    let [hour, minute, second] = match fields(text, ':', [2, 2]) {
        Some([hour, minute]) => [hour, minute, 0],
        None => fields(text, ':', [2, 2, 2])?,
    };
    let [hour, minute, second] = [hour, minute, second].map(i8::try_from);
    Time::new(hour.ok()?, minute.ok()?, second.ok()?, nanoseconds).ok()
}

/// `Z`, `UTC`, `+hh`, `+hhmm` or `+hh:mm`, with a blank before it or without.
fn offset_from_utc(text: &str) -> Option<SignedDuration> {
    let offset = text.strip_prefix(' ').unwrap_or(text);
    let (sign, digits) = match offset.split_at_checked(1) {
        None if text.is_empty() => return Some(SignedDuration::ZERO),
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => return matches!(offset, "Z" | "UTC").then_some(SignedDuration::ZERO),
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = minutes.strip_prefix(':').unwrap_or(minutes);
    let hours = number(hours).filter(|hours| *hours <= 14)?;
    let minutes = match minutes.len() {
        0 => 0,
        2 => number(minutes).filter(|minutes| *minutes < 60)?,
        _ => return None,
    };
    Some(SignedDuration::from_mins(sign * (hours * 60 + minutes)))
}

/// Numbers of so many digits each, with a mark between them.
fn fields<const COUNT: usize>(
    text: &str,
    mark: char,
    lengths: [usize; COUNT],
) -> Option<[i16; COUNT]> {
    let mut parts = text.split(mark);
    let mut found = [0; COUNT];
    for (field, length) in found.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *field = number(part)?.try_into().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// The digits after a second's point, of which there may be nine.
fn nanoseconds(fraction: &str) -> Option<i32> {
    let missing = 9_u32.checked_sub(fraction.len().try_into().ok()?)?;
    i32::try_from(number(fraction)? * 10_i64.pow(missing)).ok()
}

/// Digits and nothing else.
fn number(digits: &str) -> Option<i64> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}
