//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const QUIET_TIME: Duration = Duration::from_secs(5);

/// The progress of one piece of long work.
pub struct Progress {
    what: String,
    total: u64,
    done: u64,
    bar: Option<ProgressBar>,
    next_line: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(what: &str, total: u64, is_quiet: bool) -> Self {
        let bar = (!is_quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total);
            let template = if total > 0 {
                "{msg} [{bar:30}] {human_pos}/{human_len} {eta}"
            } else {
                "{msg} {spinner} {human_pos}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar
        });
        let next_line = (!is_quiet && bar.is_none()).then(|| Instant::now() + QUIET_TIME);
        Self {
            what: what.to_owned(),
            total,
            done: 0,
            bar,
            next_line,
        }
    }

    /// Advances by `n`.
    pub fn advance(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
        if let Some(next) = self.next_line
            && Instant::now() >= next
        {
            if self.total > 0 {
                line(&format!("{}: {} of {}", self.what, self.done, self.total));
            } else {
                line(&format!("{}: {}", self.what, self.done));
            }
            self.next_line = Some(Instant::now() + QUIET_TIME);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes one line to standard error; people may have closed it.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
