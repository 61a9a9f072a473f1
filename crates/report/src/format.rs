//! Numbers as people read them. Files for machines hold shortest round-trip numbers instead.

/// Separates groups of three digits and joins a number with its unit.
const THIN_SPACE: char = '\u{202f}';

/// How a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A fixed number of decimals.
    Decimals(usize),
    /// As `Decimals`, with a plus before positive numbers: for differences.
    Signed(usize),
    /// A share of one, in percent with one decimal.
    Percent,
    /// A whole number with grouped digits.
    Count,
    /// Milliseconds as a duration.
    Duration,
    /// Bytes in binary units.
    Bytes,
    /// A p-value.
    Probability,
    /// Milliseconds since 1970 as an instant in UTC, to the minute.
    Instant,
}

impl Shown {
    /// The figure as text.
    pub(crate) fn of(self, value: f64) -> String {
        match self {
            Self::Decimals(n) => decimals(value, n),
            Self::Signed(n) => signed(value, n),
            Self::Percent => percent(value),
            Self::Count => grouped(&format!("{value:.0}")),
            Self::Duration => duration(value),
            Self::Bytes => bytes(value),
            Self::Probability => probability(value),
            Self::Instant => instant(value),
        }
    }

    /// An interval as text, such as `0.81–0.83`; differences are joined by words.
    pub(crate) fn interval(self, low: f64, high: f64) -> String {
        match self {
            Self::Signed(_) => format!("{} to {}", self.of(low), self.of(high)),
            _ if low < 0.0 => format!("{} to {}", self.of(low), self.of(high)),
            _ => format!("{}–{}", self.of(low), self.of(high)),
        }
    }
}

/// A whole number with grouped digits.
pub(crate) fn count(n: u64) -> String {
    grouped(&n.to_string())
}

/// A noun with its number: `1 row`, `2 rows`.
pub(crate) fn counted(n: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(n), if n == 1 { singular } else { plural })
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits), |rest| ("−", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Fixed decimals with a true minus sign; never a negative zero.
pub(crate) fn decimals(value: f64, n: usize) -> String {
    let text = format!("{value:.n$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

/// Fixed decimals with a sign before everything but zero.
pub(crate) fn signed(value: f64, n: usize) -> String {
    let text = decimals(value, n);
    if value > 0.0 && text.chars().any(|c| matches!(c, '1'..='9')) {
        format!("+{text}")
    } else {
        text
    }
}

/// A share of one in percent.
pub(crate) fn percent(value: f64) -> String {
    let percent = 100.0 * value;
    if percent.abs() > 0.0 && percent.abs() < 0.0005 {
        return format!("< 0.001{THIN_SPACE}%");
    }
    let n = if percent.abs() < 0.1 && percent.abs() > 0.0 {
        3
    } else {
        1
    };
    format!("{}{THIN_SPACE}%", decimals(percent, n))
}

fn duration(ms: f64) -> String {
    let seconds = ms / 1000.0;
    if ms < 1000.0 {
        format!("{ms:.0}{THIN_SPACE}ms")
    } else if seconds < 9.95 {
        format!("{seconds:.1}{THIN_SPACE}s")
    } else if seconds < 119.5 {
        format!("{seconds:.0}{THIN_SPACE}s")
    } else if seconds < 7_170.0 {
        format!("{:.0}{THIN_SPACE}min", seconds / 60.0)
    } else {
        format!("{:.1}{THIN_SPACE}h", seconds / 3600.0)
    }
}

fn bytes(n: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 9.95);
    format!("{value:.decimals$}{THIN_SPACE}{}", UNITS[unit])
}

fn probability(p: f64) -> String {
    if p < 0.001 {
        "< 0.001".to_owned()
    } else {
        format!("{p:.3}")
    }
}

fn instant(ms: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "instants are whole milliseconds"
    )]
    let text = tables::Instant(ms as i64).to_string();
    match text.split_once('T') {
        Some((date, time)) => {
            let minutes: String = time.chars().take("hh:mm".len()).collect();
            format!("{date} {minutes}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(541_909), "541,909");
        assert_eq!(count(12), "12");
        assert_eq!(Shown::Count.of(-1234.0), "−1,234");
        assert_eq!(decimals(-0.00001, 4), "0.0000");
        assert_eq!(signed(0.00001, 4), "0.0000");
        assert_eq!(signed(0.0123, 4), "+0.0123");
        assert_eq!(signed(-0.0123, 4), "−0.0123");
        assert_eq!(percent(0.2134), "21.3\u{202f}%");
        assert_eq!(percent(0.0002), "0.020\u{202f}%");
        assert_eq!(percent(2.0 / 541_909.0), "< 0.001\u{202f}%");
        assert_eq!(percent(0.0), "0.0\u{202f}%");
        assert_eq!(Shown::Probability.of(0.0), "< 0.001");
    }

    #[test]
    fn instants_are_written_to_the_minute() {
        assert_eq!(Shown::Instant.of(1_323_435_000_000.0), "2011-12-09 12:50");
    }

    #[test]
    fn units_change_without_a_gap() {
        let texts = [
            999.0,
            1_000.0,
            9_940.0,
            9_960.0,
            119_400.0,
            119_600.0,
            7_200_000.0,
        ]
        .map(|ms| Shown::Duration.of(ms).replace('\u{202f}', " "));
        assert_eq!(
            texts,
            [
                "999 ms", "1.0 s", "9.9 s", "10 s", "119 s", "2 min", "2.0 h"
            ]
        );
        let texts = [0.0, 1023.0, 1024.0, 1_048_575.0, 335_544_320.0]
            .map(|n| Shown::Bytes.of(n).replace('\u{202f}', " "));
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "320 MiB"]);
    }

    #[test]
    fn intervals_of_differences_are_joined_by_words() {
        assert_eq!(Shown::Decimals(2).interval(0.8, 0.9), "0.80–0.90");
        assert_eq!(Shown::Signed(1).interval(-1.0, 1.0), "−1.0 to +1.0");
    }
}
