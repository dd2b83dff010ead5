//! TTL clauses that cannot overflow.
//!
//! ClickHouse adds an interval to a date in the date's own type: `Date` ends in 2149
//! and `DateTime` in 2106, and what goes beyond begins again in 1970, so that a row
//! which is to be kept for long, or is dated far ahead, expires at once. A date that
//! comes out ten years and more before the row's own has begun again. Such a row is
//! kept until the end of time instead, and an interval so long that it would come
//! round to a later date is refused.

use aviary_sql::scanner::{Scanner, Token, TokenKind};
use std::fmt::Write;

/// The longest time that rows can be kept: from today it ends before `DateTime` does.
pub(crate) const LONGEST_DAYS: u64 = 25_000;

const SECONDS_PER_DAY: u64 = 86_400;

/// Words that end the expression of an element.
const ACTIONS: [&str; 6] = ["DELETE", "WHERE", "GROUP", "SET", "RECOMPRESS", "TO"];

/// Guards an expression that gives the moment at which a row expires, from what gives
/// its own time: of several, the earliest.
pub(crate) fn guarded(expression: &str, times: &[&str]) -> String {
    let moments: Vec<String> = times
        .iter()
        .map(|time| format!("toDateTime64({time}, 0)"))
        .collect();
    let own = match moments.as_slice() {
        [] => return expression.to_owned(),
        [only] => only.clone(),
        _ => format!("least({})", moments.join(", ")),
    };
    format!(
        "if(toDateTime64({expression}, 0) < ({own} - toIntervalYear(10)), toDateTime(4294967295), {expression})"
    )
}

/// Guards every element of a clause that a person wrote, which was checked by
/// [`crate::expression_guard::check_ttl`]. Refuses intervals that nothing can guard.
pub(crate) fn guarded_clause(clause: &str, time_columns: &[&str]) -> Result<String, String> {
    let mut text = String::new();
    for element in elements(clause) {
        let parts = parts(element);
        let end = parts.iter().find(|part| {
            let is = |action: &&str| action.eq_ignore_ascii_case(part.text);
            part.depth == 0 && ACTIONS.iter().any(is)
        });
        let (expression, action) = element.split_at(end.map_or(element.len(), |it| it.start));
        let expression = expression.trim_end();
        let parts: Vec<&Part<'_>> = parts
            .iter()
            .take_while(|part| part.start < expression.len())
            .collect();
        check_intervals(&parts)?;
        let is_used = |column: &&&str| parts.iter().any(|part| part.text == **column);
        let mut used: Vec<&str> = time_columns.iter().filter(is_used).copied().collect();
        // A row without a column of its time begins where nothing is added yet.
        let beginning = without_additions(expression, &parts);
        if used.is_empty() {
            used.extend(beginning.as_deref());
        }
        let separator = if text.is_empty() { "" } else { ", " };
        let guarded = guarded(expression.trim(), &used);
        let _ = write!(text, "{separator}{guarded} {}", action.trim());
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}

/// A word, number, comma or quoted text, and where it stands.
struct Part<'a> {
    text: &'a str,
    start: usize,
    /// How many brackets are open around it.
    depth: usize,
}

fn parts(clause: &str) -> Vec<Part<'_>> {
    let part = |token: Token| {
        let written = token.text(clause);
        let text = match token.kind {
            TokenKind::Word | TokenKind::String | TokenKind::Symbol(',') => written,
            // Names in quotes stand for themselves.
            TokenKind::QuotedIdentifier => written.trim_matches(['`', '"']),
            _ => return None,
        };
        let Token { start, depth, .. } = token;
        Some(Part { text, start, depth })
    };
    Scanner::new(clause).filter_map(part).collect()
}

/// The elements of a clause. After `GROUP BY` commas separate keys and assignments, to
/// the end of the clause.
fn elements(clause: &str) -> Vec<&str> {
    let parts = parts(clause);
    let outer = parts.iter().filter(|part| part.depth == 0);
    let commas = outer
        .take_while(|part| !part.text.eq_ignore_ascii_case("GROUP"))
        .filter(|part| part.text == ",");
    let mut elements = Vec::new();
    let mut start = 0;
    for comma in commas {
        elements.push(&clause[start..comma.start]);
        start = comma.start + 1;
    }
    elements.push(&clause[start..]);
    elements
}

/// The expression with zeros for what it adds; nothing if it adds nothing that is written out.
fn without_additions(expression: &str, parts: &[&Part<'_>]) -> Option<String> {
    let mut zeroed = expression.to_owned();
    // From the end, so that what is left to replace stays where it is.
    for (index, part) in parts.iter().enumerate().rev() {
        if part.text.parse::<u64>().is_ok() && is_added(expression, parts, index) {
            zeroed.replace_range(part.start..part.start + part.text.len(), "0");
        }
    }
    (zeroed != expression).then_some(zeroed)
}

/// Whether a number is what an interval is long, or is added as it is.
fn is_added(expression: &str, parts: &[&Part<'_>], index: usize) -> bool {
    let (part, before) = (parts[index], &parts[..index]);
    let Some(last) = before.last() else {
        return false;
    };
    if is_interval(last.text) || strip_prefix(last.text, "toInterval").is_some() {
        return true;
    }
    if expression[..part.start].trim_end().ends_with('+') {
        return true;
    }
    // The last argument of `addDays`.
    let call = before.iter().rfind(|it| it.depth < part.depth);
    let is_last = parts
        .get(index + 1)
        .is_none_or(|next| next.depth < part.depth);
    let adds = call.is_some_and(|call| strip_prefix(call.text, "add").is_some());
    adds && is_last && last.text == ","
}

/// Whether every interval is short enough for what comes of it to be recognised.
fn check_intervals(parts: &[&Part<'_>]) -> Result<(), String> {
    for (index, part) in parts.iter().enumerate() {
        let Ok(number) = part.text.parse::<u64>() else {
            if part.text.eq_ignore_ascii_case("INTERVAL")
                && parts
                    .get(index + 1)
                    .is_some_and(|next| next.text.starts_with('\''))
            {
                return Err("write intervals without quotes, such as INTERVAL 90 DAY".to_owned());
            }
            continue;
        };
        let before = parts[..index].iter().rev();
        let named = before
            .map(|part| part.text)
            .find_map(|word| unit_of_function(word).or_else(|| is_interval(word).then_some("")));
        let unit = match named {
            Some("") => parts.get(index + 1).map_or("", |next| next.text),
            Some(unit) => unit,
            None => "second",
        };
        let longest = LONGEST_DAYS * SECONDS_PER_DAY / seconds(unit);
        if number > longest {
            let unit = unit.to_ascii_uppercase();
            return Err(format!(
                "an interval of {number} {unit} is too long: give at most {longest} {unit} ({LONGEST_DAYS} days), or leave ttl out to keep rows; later dates overflow ClickHouse's type and rows would be deleted at once"
            ));
        }
    }
    Ok(())
}

fn is_interval(word: &str) -> bool {
    word.eq_ignore_ascii_case("INTERVAL")
}

/// The unit of `toIntervalDay` and `addDays`.
fn unit_of_function(word: &str) -> Option<&str> {
    strip_prefix(word, "toInterval").or_else(|| strip_prefix(word, "add"))
}

/// What follows a prefix, in whatever case that is written.
fn strip_prefix<'a>(word: &'a str, prefix: &str) -> Option<&'a str> {
    let head = word.get(..prefix.len())?;
    let rest = word.get(prefix.len()..)?;
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}

/// Seconds in a unit, of what is unknown those of the longest.
fn seconds(unit: &str) -> u64 {
    let unit = unit.to_ascii_lowercase();
    let days = |days: u64| days * SECONDS_PER_DAY;
    match unit.trim_end_matches('s') {
        "nanosecond" | "microsecond" | "millisecond" | "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => days(1),
        "week" => days(7),
        "month" => days(31),
        "quarter" => days(92),
        _ => days(366),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expression: &str, own: &str) -> String {
        format!(
            "if(toDateTime64({expression}, 0) < ({own} - toIntervalYear(10)), toDateTime(4294967295), {expression})"
        )
    }

    #[test]
    fn every_element_is_guarded_and_nothing_else_changes() {
        let ts = "toDateTime64(ts, 0)";
        let both = "least(toDateTime64(ts, 0), toDateTime64(day, 0))";
        for (clause, expected) in [
            ("ts + INTERVAL 90 DAY", of("ts + INTERVAL 90 DAY", ts)),
            (
                "ts + toIntervalMonth(3) DELETE WHERE level = 'a, b', ts + INTERVAL 1 YEAR",
                format!(
                    "{} DELETE WHERE level = 'a, b', {}",
                    of("ts + toIntervalMonth(3)", ts),
                    of("ts + INTERVAL 1 YEAR", ts)
                ),
            ),
            (
                "ts + INTERVAL 1 DAY GROUP BY a, b SET x = max(x), y = min(y)",
                format!(
                    "{} GROUP BY a, b SET x = max(x), y = min(y)",
                    of("ts + INTERVAL 1 DAY", ts)
                ),
            ),
            (
                "if(`delete` = 1, addDays(ts, 1), day + INTERVAL 2 WEEK) WHERE a IN ('x')",
                format!(
                    "{} WHERE a IN ('x')",
                    of(
                        "if(`delete` = 1, addDays(ts, 1), day + INTERVAL 2 WEEK)",
                        both
                    )
                ),
            ),
            // Without a column of its time a row begins where nothing is added yet.
            (
                "toDateTime(n) + toIntervalDay(1)",
                of(
                    "toDateTime(n) + toIntervalDay(1)",
                    "toDateTime64(toDateTime(n) + toIntervalDay(0), 0)",
                ),
            ),
            (
                "fromUnixTimestamp(n + 60) + INTERVAL 3 MONTH WHERE n > 5",
                format!(
                    "{} WHERE n > 5",
                    of(
                        "fromUnixTimestamp(n + 60) + INTERVAL 3 MONTH",
                        "toDateTime64(fromUnixTimestamp(n + 0) + INTERVAL 0 MONTH, 0)",
                    )
                ),
            ),
            (
                "addDays(toDateTime64(n, 3), 30)",
                of(
                    "addDays(toDateTime64(n, 3), 30)",
                    "toDateTime64(addDays(toDateTime64(n, 3), 0), 0)",
                ),
            ),
            // Nothing is added: the row itself says when it expires.
            ("toDateTime(n)", "toDateTime(n)".to_owned()),
        ] {
            assert_eq!(
                guarded_clause(clause, &["ts", "day"]),
                Ok(expected),
                "{clause}"
            );
        }
    }

    #[test]
    fn what_is_too_long_is_refused_with_the_longest_that_works() {
        for (clause, longest) in [
            ("ts + INTERVAL 36500 DAY", "25000 DAY "),
            ("ts + interval 100 years", "68 YEARS "),
            ("ts + toIntervalMonth(1200)", "806 MONTH "),
            ("addWeeks(ts, 9999)", "3571 WEEKS "),
            ("ts + 4000000000", "2160000000 SECOND "),
            (
                "ts + INTERVAL 1 DAY, ts + INTERVAL 99 MILLENNIUM",
                "68 MILLENNIUM ",
            ),
            ("ts + INTERVAL '36500 DAY'", "INTERVAL 90 DAY"),
        ] {
            let refused = guarded_clause(clause, &["ts"]).unwrap_err();
            assert!(refused.contains(longest), "{clause}: {refused}");
        }
        for fine in ["ts + INTERVAL 68 YEAR", "ts + toIntervalSecond(2160000000)"] {
            assert!(guarded_clause(fine, &["ts"]).is_ok(), "{fine}");
        }
    }
}
