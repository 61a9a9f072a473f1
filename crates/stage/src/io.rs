//! Where a stage finds its inputs and puts its outputs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};
use crate::progress::Progress;

/// The place of an input on its axes, such as `method=random,model=markov`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(pub BTreeMap<String, String>);

impl Label {
    /// Reads `axis=value,axis=value`; the empty text is the empty label.
    pub fn parse(text: &str) -> Option<Self> {
        let mut axes = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (axis, value) = pair.split_once('=')?;
            axes.insert(axis.to_owned(), value.to_owned());
        }
        Some(Self(axes))
    }

    /// Value on one axis. The runner adds the axis `node`: the name of the producer without axes.
    pub fn get(&self, axis: &str) -> Option<&str> {
        self.0.get(axis).map(String::as_str)
    }

    /// The label without one axis.
    #[must_use]
    pub fn without(&self, axis: &str) -> Self {
        let mut axes = self.0.clone();
        axes.remove(axis);
        Self(axes)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (axis, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{axis}={value}")?;
        }
        Ok(())
    }
}

/// One of several inputs of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its place on the axes.
    pub label: Label,
    /// Its directory.
    pub path: PathBuf,
}

/// One of several inputs of a role that could not be made: a pair of an axis product that is not
/// applicable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Absent {
    /// Its place on the axes.
    pub label: Label,
    /// Why.
    pub reason: String,
}

/// Inputs, outputs and circumstances of one run of a stage.
#[derive(Debug)]
pub struct Io {
    pub(crate) inputs: BTreeMap<String, Vec<Labelled>>,
    pub(crate) absent: BTreeMap<String, Vec<Absent>>,
    pub(crate) out: PathBuf,
    pub(crate) data_root: PathBuf,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) threads: usize,
    pub(crate) is_quiet: bool,
}

impl Io {
    /// For tests and for use without a command line.
    pub fn new(out: impl Into<PathBuf>, data_root: impl Into<PathBuf>) -> Self {
        Self {
            inputs: BTreeMap::new(),
            absent: BTreeMap::new(),
            out: out.into(),
            data_root: data_root.into(),
            resume: None,
            threads: 1,
            is_quiet: true,
        }
    }

    /// Adds an input.
    #[must_use]
    pub fn with_input(mut self, role: &str, label: Label, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let inputs = self.inputs.entry(role.to_owned()).or_default();
        inputs.push(Labelled { label, path });
        inputs.sort_by(|a, b| a.label.cmp(&b.label));
        self
    }

    /// Adds an input that could not be made.
    #[must_use]
    pub fn with_absent(mut self, role: &str, label: Label, reason: &str) -> Self {
        let absent = self.absent.entry(role.to_owned()).or_default();
        let reason = reason.to_owned();
        absent.push(Absent { label, reason });
        absent.sort();
        self
    }

    /// Names the directory that outlives a killed run.
    #[must_use]
    pub fn with_resume(mut self, path: impl Into<PathBuf>) -> Self {
        self.resume = Some(path.into());
        self
    }

    /// Directory of a required input.
    ///
    /// # Errors
    /// If the role was not given.
    pub fn input(&self, role: &str) -> Result<&Path, Failure> {
        self.optional(role).ok_or_else(|| {
            Failure::new(Exit::Configuration, format!("input `{role}` is missing"))
                .hint(format!("give it with `--in {role}=DIRECTORY`"))
        })
    }

    /// Directory of an optional input.
    pub fn optional(&self, role: &str) -> Option<&Path> {
        self.inputs
            .get(role)
            .and_then(|inputs| inputs.first())
            .map(|input| input.path.as_path())
    }

    /// All inputs of a role in the order of their labels; empty if none were given.
    pub fn many(&self, role: &str) -> &[Labelled] {
        self.inputs.get(role).map_or(&[], Vec::as_slice)
    }

    /// Inputs of a role that could not be made, in the order of their labels.
    pub fn absent(&self, role: &str) -> &[Absent] {
        self.absent.get(role).map_or(&[], Vec::as_slice)
    }

    /// Creates and returns the directory of an output.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn output(&self, role: &str) -> Result<PathBuf, Failure> {
        let path = self.out.join(role);
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::environment(error)
                .cause(format!("creating output directory `{}`", path.display()))
        })?;
        Ok(path)
    }

    /// The data root, where `file` and `folder` fields of the configuration are resolved.
    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    /// Where a long run keeps what it goes on from when it is killed; `None` if it starts from the
    /// beginning each time. What lies there was written by the same executable with the same
    /// configuration and inputs, or by none.
    pub fn resume(&self) -> Option<&Path> {
        self.resume.as_deref()
    }

    /// Threads that the stage may use; must not change results.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A bar or plain lines on standard error. `total` is 0 where it is not known.
    pub fn progress(&self, what: &str, total: u64) -> Progress {
        Progress::new(what, total, self.is_quiet)
    }

    /// A line for people on standard error.
    pub fn note(&self, text: &str) {
        if !self.is_quiet {
            crate::progress::line(text);
        }
    }

    /// A warning for people on standard error.
    pub fn warn(&self, text: &str) {
        if !self.is_quiet {
            crate::progress::line(&format!("warning: {text}"));
        }
    }
}
