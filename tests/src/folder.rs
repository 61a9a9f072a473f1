//! A folder of its own for one test, and the executables that are run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::outcome::Outcome;

/// Path of one of our executables: beside the test itself, in `target/<profile>/`.
///
/// # Panics
/// If it has not been built.
pub fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // `target/<profile>/deps/<test>`.
    let profile = test.ancestors().nth(2).unwrap_or(&test);
    let path = profile.join(name);
    assert!(
        path.is_file(),
        "`{}` is missing: run `just build`",
        path.display()
    );
    path
}

/// A temporary folder in which commands run.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// An empty one.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn new() -> Self {
        Self(TempDir::with_prefix("touchstone-").expect("temporary folder"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, and the folders above it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let parent = path.parent().expect("a file has a folder");
        fs::create_dir_all(parent).expect("folder can be created");
        fs::write(&path, content).expect("file can be written");
        path
    }

    /// Creates a folder in it.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("folder can be created");
        path
    }

    /// A command that runs one of our executables in this folder.
    pub fn command<S: AsRef<str>>(&self, name: &str, arguments: &[S]) -> Command {
        let mut command = Command::new(executable(name));
        command
            .args(arguments.iter().map(AsRef::as_ref))
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs one of our executables in this folder to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn call<S: AsRef<str>>(&self, name: &str, arguments: &[S]) -> Outcome {
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let output = self
            .command(name, arguments)
            .output()
            .expect("executable can be started");
        Outcome::new(format!("{name} {}", words.join(" ")), &output)
    }

    /// Runs `STAGE run`: inputs are `ROLE=DIRECTORY`, outputs go to `out`.
    pub fn run_stage(&self, stage: &str, config: &str, inputs: &[&str], out: &str) -> Outcome {
        let file = format!("{out}.config.yaml");
        self.write(&file, config);
        let mut arguments = vec!["run", "--config", &file, "--out", out, "--quiet"];
        for input in inputs {
            arguments.extend(["--in", input]);
        }
        self.call(stage, &arguments)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Published directories are read-only, which stops `TempDir` unless tests run as root.
        let _ = artifact::remove_tree(self.path());
    }
}
