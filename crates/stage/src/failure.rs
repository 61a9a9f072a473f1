//! What went wrong, where, and what to type next: the one error that leaves a stage.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Why a process ended, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A fault of ours.
    Bug = 1,
    /// Usage or configuration.
    Configuration = 2,
    /// Bad input data.
    Data = 3,
    /// Disk, memory, permissions.
    Environment = 4,
    /// The computation diverged or did not converge.
    Computation = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error on its way to a person: message, causes, hints, exit code.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the process.
    pub exit: Exit,
    /// What failed: a lowercase fragment without full stop, names in backticks.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do about it; each can be typed or followed.
    pub hints: Vec<String>,
    /// Set where the configuration is sound but cannot apply to what it is wired to; the runner
    /// skips such a pair of an axis product and lists it.
    pub not_applicable: bool,
}

impl Failure {
    /// A failure described in words.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            not_applicable: false,
        }
    }

    /// A failure with an error and its sources.
    pub fn of(exit: Exit, error: &dyn Error) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Transparent wrappers repeat the message of what they wrap.
            if failure.causes.last() != Some(&text) {
                failure.causes.push(text);
            }
            source = cause.source();
        }
        failure
    }

    /// A fault of ours.
    pub fn bug(error: impl Error + 'static) -> Self {
        Self::of(Exit::Bug, &error)
    }

    /// A wrong configuration or call.
    pub fn configuration(error: impl Error + 'static) -> Self {
        Self::of(Exit::Configuration, &error)
    }

    /// Bad input data. An out-of-space or permission error among the causes makes it the environment's.
    pub fn data(error: impl Error + 'static) -> Self {
        Self::of(environment_or(Exit::Data, &error), &error)
    }

    /// Disk, memory, permissions.
    pub fn environment(error: impl Error + 'static) -> Self {
        Self::of(Exit::Environment, &error)
    }

    /// A computation that diverged or did not converge.
    pub fn computation(error: impl Error + 'static) -> Self {
        Self::of(Exit::Computation, &error)
    }

    /// A sound configuration that cannot apply to what it is wired to.
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Self {
            not_applicable: true,
            ..Self::new(Exit::Configuration, reason)
        }
    }

    /// Adds a cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// The environment if an error or one of its sources says that disk or permissions are the trouble.
fn environment_or(otherwise: Exit, error: &(dyn Error + 'static)) -> Exit {
    use std::io::ErrorKind as Kind;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && matches!(
                error.kind(),
                Kind::StorageFull
                    | Kind::QuotaExceeded
                    | Kind::PermissionDenied
                    | Kind::ReadOnlyFilesystem
                    | Kind::OutOfMemory
            )
        {
            return Exit::Environment;
        }
        next = error.source();
    }
    otherwise
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        if !self.hints.is_empty() {
            writeln!(f)?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// `, did you mean ...?` for an unknown name, or the list of known ones.
pub fn suggest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|name| (distance(unknown, name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(unknown.len()) / 3 + 1);
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`? known: {}", backticked(&known)),
        None => format!("known: {}", backticked(&known)),
    }
}

fn backticked(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Levenshtein distance between two names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_suggested() {
        let known = ["knn_shapley", "popularity", "random"];
        assert!(suggest("knn_shaply", known).starts_with("did you mean `knn_shapley`?"));
        assert!(suggest("xyzzy", known).starts_with("known: "));
    }

    #[test]
    fn a_full_disk_is_the_environments_fault() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Failure::data(full).exit, Exit::Environment);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(Failure::data(missing).exit, Exit::Data);
    }
}
