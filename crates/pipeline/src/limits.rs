//! What a node may use: time, memory, threads. How long something may take says nothing about what
//! it computes, so none of this enters a key.

use std::time::Duration;

/// What a node may use, as its pipeline file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// After this long it is stopped.
    pub timeout: Option<Duration>,
    /// Memory that it is expected to need at most, in bytes: nodes that run at once share what there
    /// is.
    pub memory: Option<u64>,
    /// Most threads that it is given.
    pub threads: Option<usize>,
}

/// A time as people write it: `90s`, `30m`, `2h`.
///
/// # Errors
/// A sentence saying what is wrong.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write `90s`, `30m` or `2h`");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(wrong)
}

/// An amount of memory as people write it: `512MiB`, `4GiB`, `2GB`.
///
/// # Errors
/// A sentence saying what is wrong.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount of memory: write `512MiB`, `4GiB` or `2GB`");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * factor;
    if !(1.0..1e18).contains(&bytes) {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 1e18"
    )]
    let bytes = bytes as u64;
    Ok(bytes)
}

/// A number and the unit behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// Memory of this machine in bytes; `None` where it cannot be told.
pub fn memory_of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_amounts_are_written_as_people_do() {
        assert_eq!(parse_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("1.5 h"), Ok(Duration::from_mins(90)));
        assert_eq!(parse_time("30min"), Ok(Duration::from_mins(30)));
        assert_eq!(parse_memory("4GiB"), Ok(4 << 30));
        assert_eq!(parse_memory("0.5 kB"), Ok(500));
        for wrong in ["", "4", "h", "-1h", "0s", "1d", "1e400s", "1.2.3h"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "4", "GiB", "0B", "4gib", "1000000000000GB"] {
            assert!(parse_memory(wrong).is_err(), "{wrong}");
        }
    }
}
