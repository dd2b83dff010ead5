//! Numbers for a status that stay while they mean the same to a person, so that a status changes
//! when somebody would care.

/// Whole percent, rounded down, that stays until the exact share is half a point beyond it.
pub(crate) fn settled_percent(previous: Option<i32>, exact: f64) -> i32 {
    match previous {
        Some(known) if (f64::from(known) - 0.5..f64::from(known) + 1.5).contains(&exact) => known,
        _ => exact.clamp(0.0, 100.0) as i32,
    }
}

/// Bytes for people: `42Gi`, `1.5Ti`.
pub(crate) fn rounded_size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 5] = [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let Some((unit, shift)) = UNITS.iter().find(|(_, shift)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let value = bytes as f64 / (1_u64 << shift) as f64;
    if value < 9.95 && value.fract() >= 0.05 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// Whole minutes, rounded down, that stay until the exact delay is half a minute beyond them.
pub(crate) fn settled_delay(previous: Option<i64>, exact: i64) -> i64 {
    match previous {
        Some(known) if (known - 30..known + 90).contains(&exact) => known,
        _ => exact / 60 * 60,
    }
}

/// The leading digit, which stays until the exact number is clearly of another order of
/// magnitude. A few entries are none.
pub(crate) fn settled_queue(previous: Option<i64>, exact: i64) -> i64 {
    let magnitude = |number: i64| 10_i64.pow(number.max(1).ilog10());
    let stays = match previous {
        Some(0) => exact < 15,
        Some(known) => {
            let order = magnitude(known);
            (order * 7 / 10..order.saturating_mul(13)).contains(&exact)
        }
        None => false,
    };
    match previous {
        Some(known) if stays => known,
        _ if exact < 10 => 0,
        _ => exact / magnitude(exact) * magnitude(exact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GIB: u64 = 1 << 30;

    #[rstest]
    #[case(None, 119, 60)]
    #[case(Some(60), 149, 60)]
    #[case(Some(60), 150, 120)]
    #[case(Some(60), 31, 60)]
    #[case(Some(60), 29, 0)]
    #[case(Some(0), 89, 0)]
    fn delays(#[case] previous: Option<i64>, #[case] exact: i64, #[case] expected: i64) {
        assert_eq!(settled_delay(previous, exact), expected);
    }

    #[rstest]
    #[case(None, 42.9, 42)]
    #[case(Some(42), 43.4, 42)]
    #[case(Some(42), 43.5, 43)]
    #[case(Some(42), 41.5, 42)]
    #[case(Some(42), 41.4, 41)]
    #[case(Some(42), 0.2, 0)]
    #[case(None, 100.0, 100)]
    fn percents(#[case] previous: Option<i32>, #[case] exact: f64, #[case] expected: i32) {
        assert_eq!(settled_percent(previous, exact), expected);
    }

    #[rstest]
    #[case(0, "0")]
    #[case(1 << 10, "1Ki")]
    #[case(100 * GIB, "100Gi")]
    #[case(3 * GIB / 2, "1.5Gi")]
    #[case(1536 * GIB, "1.5Ti")]
    #[case(GIB - 1, "1024Mi")]
    #[case(u64::MAX, "16384Pi")]
    fn sizes(#[case] bytes: u64, #[case] expected: &str) {
        assert_eq!(rounded_size(bytes), expected);
    }

    #[rstest]
    #[case(None, 9, 0)]
    #[case(None, 87, 80)]
    #[case(Some(80), 12, 80)]
    #[case(Some(80), 123, 80)]
    #[case(Some(80), 130, 100)]
    #[case(Some(100), 71, 100)]
    #[case(Some(100), 69, 60)]
    #[case(Some(0), 14, 0)]
    #[case(Some(0), 15, 10)]
    #[case(Some(80), 3, 0)]
    fn queues(#[case] previous: Option<i64>, #[case] exact: i64, #[case] expected: i64) {
        assert_eq!(settled_queue(previous, exact), expected);
    }
}
