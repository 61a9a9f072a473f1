//! What people see: plain lines on standard output, and, on a terminal, a line for each running step.

use std::fmt::Display;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Time between two signs of life where there is no terminal.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Writes one line to standard output; whoever reads it may have gone.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes one line to standard error.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a warning to standard error.
pub fn warn(text: impl Display) {
    note(format_args!("warning: {text}"));
}

/// A time for people: `0.04 s`, `1.2 s`, `3 min 20 s`.
pub fn duration(milliseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    let seconds = milliseconds as f64 / 1000.0;
    match milliseconds {
        0..1_000 => format!("{seconds:.2} s"),
        1_000..100_000 => format!("{seconds:.1} s"),
        _ => format!(
            "{} min {} s",
            milliseconds / 60_000,
            milliseconds / 1_000 % 60
        ),
    }
}

/// An amount of memory for people.
pub fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let n_bytes = n as f64;
    let (value, unit) = match n {
        0..1_000 => return format!("{n} B"),
        1_000..1_000_000 => (n_bytes / 1e3, "kB"),
        1_000_000..1_000_000_000 => (n_bytes / 1e6, "MB"),
        _ => (n_bytes / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}

/// `1 node`, `2 nodes`.
pub fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The last line of a log, cut to what fits beside a name.
fn last_line(log: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 400;
    const MAX_CHARACTERS: usize = 60;
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(
        line.trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_CHARACTERS)
            .collect(),
    )
}

/// The running steps.
pub struct Screen {
    bars: Option<MultiProgress>,
    running: Vec<Running>,
    next_sign: Instant,
}

struct Running {
    index: usize,
    name: String,
    log: PathBuf,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Screen {
    /// For this process's standard error.
    pub fn new() -> Self {
        Self {
            bars: std::io::stderr().is_terminal().then(MultiProgress::new),
            running: Vec::new(),
            next_sign: Instant::now() + SIGN_OF_LIFE,
        }
    }

    /// A step starts; what it says goes to `log`.
    pub fn start(&mut self, index: usize, name: &str, log: PathBuf) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        self.running.push(Running {
            index,
            name: name.to_owned(),
            log,
            started: Instant::now(),
            bar,
        });
    }

    /// A step ends.
    pub fn end(&mut self, index: usize) {
        self.running.retain(|running| {
            if running.index == index
                && let Some(bar) = &running.bar
            {
                bar.finish_and_clear();
            }
            running.index != index
        });
    }

    /// Writes a line without disturbing the bars.
    pub fn line(&self, text: impl Display) {
        match &self.bars {
            Some(bars) => bars.suspend(|| line(text)),
            None => line(text),
        }
    }

    /// Writes a warning without disturbing the bars.
    pub fn warn(&self, text: impl Display) {
        match &self.bars {
            Some(bars) => bars.suspend(|| warn(text)),
            None => warn(text),
        }
    }

    /// Shows what running steps said last; where there is no terminal, says from time to time what
    /// runs.
    pub fn sign_of_life(&mut self) {
        for running in &self.running {
            if let Some(bar) = &running.bar
                && let Some(said) = last_line(&running.log)
            {
                bar.set_message(format!("{}  {said}", running.name));
            }
        }
        if self.bars.is_some() || Instant::now() < self.next_sign {
            return;
        }
        self.next_sign = Instant::now() + SIGN_OF_LIFE;
        let running: Vec<String> = self
            .running
            .iter()
            .map(|running| {
                format!(
                    "{} ({} s)",
                    running.name,
                    running.started.elapsed().as_secs()
                )
            })
            .collect();
        if !running.is_empty() {
            note(format_args!("running: {}", running.join(", ")));
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_log_is_found_behind_a_long_text() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(last_line(&log), None);
        std::fs::write(&log, format!("{}\nfit: 12 of 50\n\n", "茶".repeat(500))).unwrap();
        assert_eq!(last_line(&log).unwrap(), "fit: 12 of 50");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(duration(43), "0.04 s");
        assert_eq!(duration(1_234), "1.2 s");
        assert_eq!(duration(200_000), "3 min 20 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(12_345_678), "12.3 MB");
        assert_eq!(count(1, "node"), "1 node");
        assert_eq!(count(0, "node"), "0 nodes");
    }
}
