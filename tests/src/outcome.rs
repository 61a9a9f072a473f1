//! What a process said and how it ended.

use std::fmt;
use std::process::Output;

/// What a process said and how it ended. The checks fail with all of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    pub(crate) fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks that it did what it was asked to.
    ///
    /// # Panics
    /// If it did not.
    pub fn success(&self) -> &Self {
        self.exits_with(0)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another.
    pub fn exits_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Checks that each text stands somewhere in what it wrote.
    ///
    /// # Panics
    /// If one does not.
    pub fn says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(
                self.stdout.contains(text) || self.stderr.contains(text),
                "`{text}` is missing in\n{self}"
            );
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is something else.
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{error} in\n{self}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(
            f,
            "$ {command}\n{stdout}\n--- standard error\n{stderr}\n--- ended with {code}"
        )
    }
}
