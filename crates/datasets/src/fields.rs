//! Fields of raw logs: exact money, numbers, instants, identities.

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use tables::Instant;

/// Longest identity, in bytes. Longer ones are damage, and would be carried through every table.
pub const MAX_ID_BYTES: usize = 4096;

/// Money in 1/10,000 of the currency, read exactly. `None` if the text is not a decimal number,
/// has more than four decimals, or does not fit.
pub(crate) fn price_e4(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    let is_number = !(whole.is_empty() && digits.len() <= 1)
        && [whole, decimals]
            .iter()
            .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number || decimals.len() > 4 {
        return None;
    }
    let mut value: i64 = 0;
    for byte in whole.bytes().chain(decimals.bytes()) {
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
    }
    for _ in decimals.len()..4 {
        value = value.checked_mul(10)?;
    }
    Some(if is_negative { -value } else { value })
}

/// A finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    // Rust also reads `inf`, `nan` and `1e3`; none of them is a quantity.
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.'));
    text.parse()
        .ok()
        .filter(|value: &f64| is_plain && value.is_finite())
}

/// The instant of a date and time of the wall, taken as UTC: `M/D/YYYY H:MM`, `DD-MM-YYYY HH:MM`
/// or `YYYY-MM-DD HH:MM`, each with optional seconds.
pub(crate) fn wall_clock(text: &str) -> Option<Instant> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let date = civil_date(date)?;
    let mut parts = time.split(':');
    let hour = whole(parts.next()?)?;
    let minute = whole(parts.next()?)?;
    let second = parts.next().map_or(Some(0), whole)?;
    if parts.next().is_some() {
        return None;
    }
    let time = jiff::civil::Time::new(
        i8::try_from(hour).ok()?,
        i8::try_from(minute).ok()?,
        i8::try_from(second).ok()?,
        0,
    )
    .ok()?;
    let timestamp = Offset::UTC
        .to_timestamp(DateTime::from_parts(date, time))
        .ok()?;
    Some(Instant(timestamp.as_millisecond()))
}

fn civil_date(text: &str) -> Option<Date> {
    let (separator, is_month_first) = if text.contains('/') {
        ('/', true)
    } else {
        ('-', false)
    };
    let parts: Vec<&str> = text.split(separator).collect();
    let [first, second, third] = parts.as_slice() else {
        return None;
    };
    let (year, month, day) = if first.len() == 4 {
        (first, second, third)
    } else if is_month_first {
        (third, first, second)
    } else {
        (third, second, first)
    };
    if year.len() != 4 {
        return None;
    }
    Date::new(
        i16::try_from(whole(year)?).ok()?,
        i8::try_from(whole(month)?).ok()?,
        i8::try_from(whole(day)?).ok()?,
    )
    .ok()
}

fn whole(text: &str) -> Option<i32> {
    let is_plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The start of a text for a message, whatever its length and bytes.
pub(crate) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (text, value) in [
            ("2.55", 25_500),
            ("0", 0),
            ("-11062.06", -110_620_600),
            ("0.001", 10),
            ("0.0001", 1),
            (".5", 5000),
            ("5.", 50_000),
            ("+1.50000000", 15_000),
            ("4161.06", 41_610_600),
        ] {
            assert_eq!(price_e4(text), Some(value), "{text}");
        }
        for text in [
            "",
            ".",
            "-",
            "1,5",
            "1e3",
            "0.00001",
            "abc",
            "1.2.3",
            "--1",
            "99999999999999999999",
        ] {
            assert_eq!(price_e4(text), None, "{text}");
        }
    }

    #[test]
    fn dates_of_both_layouts_meet() {
        // 2010-12-01T08:26Z, from `date -u -d ... +%s`.
        let instant = Some(Instant(1_291_191_960_000));
        assert_eq!(wall_clock("12/1/2010 8:26"), instant);
        assert_eq!(wall_clock("01-12-2010 08:26"), instant);
        assert_eq!(wall_clock("2010-12-01 08:26:00"), instant);
        for text in [
            "",
            "12/1/2010",
            "13/1/2010 8:26",
            "12/1/10 8:26",
            "2/30/2011 8:26",
            "1/1/2011 24:00",
            "1/1/2011 8:26:00:00",
            "a/b/2011 8:26",
            "12/1/2010 8:2x",
        ] {
            assert_eq!(wall_clock(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_plain_numbers() {
        assert_eq!(number("-80995"), Some(-80_995.0));
        assert_eq!(number("6.0"), Some(6.0));
        for text in ["", "inf", "NaN", "1e3", "six", "-"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
