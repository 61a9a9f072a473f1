//! One attempt at one step: inputs verified, the stage run in a private directory, outputs published,
//! the record written last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use artifact::{Key, OpenError, Produced, PublishError, Record, Recorded, Store};
use stage::{Exit, Failure};

use crate::description::MEASURED;
use crate::executable::exit_of;
use crate::measure;
use crate::plan::{Plan, Step};
use crate::process::{Ended, Groups, describe_status};
use crate::resolve::{Outputs, Resolver};

/// Lines of a log that are shown when a stage fails.
const TAIL_LINES: usize = 20;

/// How an attempt ended.
#[derive(Debug)]
pub enum Attempted {
    /// The stage ran and its outputs are recorded.
    Ran {
        /// The record that is served.
        record: Box<Record>,
        /// Wall time of the stage.
        wall_ms: u64,
        /// What people should know, such as two results of one key.
        warnings: Vec<String>,
    },
    /// Another process computed the same meanwhile.
    Found(Box<Record>),
    /// Inputs turned out to be missing or damaged: these steps must be made again first.
    Missing(Vec<(usize, String)>),
    /// It failed.
    Failed(Box<Failure>),
    /// The run was interrupted.
    Interrupted,
}

/// What all attempts of a run share.
#[derive(Debug)]
pub struct Workshop<'a> {
    /// What is run.
    pub plan: &'a Plan,
    /// Keys, store, raw files.
    pub resolver: &'a Resolver<'a>,
    /// Process groups.
    pub groups: &'a Groups,
    /// Where logs lie.
    pub logs: PathBuf,
}

/// What one attempt is about.
#[derive(Clone, Debug)]
pub struct Order {
    /// The step.
    pub index: usize,
    /// Its key; `None` if a raw file cannot be read: then the stage says so itself, in detail.
    pub key: Option<Key>,
    /// What its producers gave, parallel to the steps.
    pub done: Vec<Option<Outputs>>,
    /// Threads that the stage may use.
    pub threads: usize,
    /// Whether to run even if the key has a record.
    pub is_forced: bool,
}

impl Workshop<'_> {
    /// Makes one attempt. Every failure is an `Attempted`.
    pub fn attempt(&self, order: &Order) -> Attempted {
        match self.try_attempt(order) {
            Ok(attempted) => attempted,
            Err(_) if self.groups.interrupted().is_some() => Attempted::Interrupted,
            Err(failure) => Attempted::Failed(Box::new(failure)),
        }
    }

    fn store(&self) -> &Store {
        self.resolver.store
    }

    fn try_attempt(&self, order: &Order) -> Result<Attempted, Failure> {
        let step = &self.plan.steps[order.index];
        let lock = match &order.key {
            None => None,
            Some(key) => {
                let lock = self.store().lock(key).map_err(Failure::environment)?;
                if !order.is_forced
                    && let Some(record) = self.resolver.lookup(key)?
                    && self.resolver.is_whole(step, &record)
                {
                    return Ok(Attempted::Found(Box::new(record)));
                }
                Some(lock)
            }
        };
        let inputs = match self.inputs(step, &order.done)? {
            Ok(inputs) => inputs,
            Err(missing) => return Ok(Attempted::Missing(missing)),
        };
        let attempt = self
            .store()
            .stage_directory()
            .map_err(Failure::environment)?;
        let out = attempt.path().join("out");
        let mut arguments = inputs;
        if let Some(lock) = &lock
            && step.executable.description.is_resumable
        {
            if order.is_forced {
                self.store()
                    .forget_progress(lock)
                    .map_err(Failure::environment)?;
            }
            let resume = self
                .store()
                .resume_directory(lock)
                .map_err(Failure::environment)?;
            arguments.push("--resume".to_owned());
            arguments.push(resume.display().to_string());
        }
        let ended = self.run_stage(step, &arguments, attempt.path(), &out, order.threads)?;
        if self.groups.interrupted().is_some() {
            return Ok(Attempted::Interrupted);
        }
        let (Some(key), Some(lock)) = (&order.key, &lock) else {
            return Err(self.unreadable(step));
        };
        self.check_unchanged(step, key)?;
        let outputs = self.publish(step, &out, &ended, order.threads)?;
        let recorded = self
            .store()
            .record(lock, outputs.clone())
            .map_err(Failure::environment)?;
        self.store()
            .forget_progress(lock)
            .map_err(Failure::environment)?;
        let mut warnings = Vec::new();
        if let Recorded::Conflict(conflict) = &recorded {
            warnings.push(format!(
                "`{}` is not deterministic: the same key gave other bytes in `{}` before; both are kept, see `{}`",
                step.name(),
                conflict.roles().join("`, `"),
                conflict.kept_at.display()
            ));
        }
        let record = self.resolver.lookup(key)?.unwrap_or(Record {
            id: lock.id(),
            key: key.clone(),
            outputs,
        });
        Ok(Attempted::Ran {
            record: Box::new(record),
            wall_ms: ended.wall_ms,
            warnings,
        })
    }

    /// Opens every input, verified; the inner error lists the producers whose artifacts are gone.
    #[expect(clippy::type_complexity, reason = "two outcomes, used once")]
    fn inputs(
        &self,
        step: &Step,
        done: &[Option<Outputs>],
    ) -> Result<Result<Vec<String>, Vec<(usize, String)>>, Failure> {
        let mut arguments = Vec::new();
        let mut missing = Vec::new();
        for input in &step.inputs {
            let Some(outputs) = &done[input.producer] else {
                missing.push((input.producer, "it was not made".to_owned()));
                continue;
            };
            let id = self
                .resolver
                .output(self.plan, input.producer, outputs, &input.output)?;
            match self.store().open_verified(id) {
                Ok(path) => {
                    let role = &input.role;
                    let place = if input.is_many {
                        format!("{role}[{}]", input.label)
                    } else {
                        role.clone()
                    };
                    arguments.push("--in".to_owned());
                    arguments.push(format!("{place}={}", path.display()));
                }
                Err(error @ (OpenError::Missing { .. } | OpenError::Quarantined { .. })) => {
                    missing.push((input.producer, error.to_string()));
                }
                Err(error) => return Err(Failure::environment(error)),
            }
        }
        Ok(if missing.is_empty() {
            Ok(arguments)
        } else {
            Err(missing)
        })
    }

    fn run_stage(
        &self,
        step: &Step,
        inputs: &[String],
        attempt: &Path,
        out: &Path,
        threads: usize,
    ) -> Result<Ended, Failure> {
        let config = attempt.join("config.json");
        let log_path = self.log_path(step);
        let failed = |what: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| {
                Failure::environment(error).cause(format!("{what} `{path}`"))
            }
        };
        fs::create_dir(out).map_err(failed("creating", out))?;
        fs::write(&config, step.config().to_string()).map_err(failed("writing", &config))?;
        if let Some(folder) = log_path.parent() {
            fs::create_dir_all(folder).map_err(failed("creating", folder))?;
        }
        let log = File::create(&log_path).map_err(failed("creating", &log_path))?;
        let mut arguments = vec![
            "run".to_owned(),
            "--config".to_owned(),
            config.display().to_string(),
            "--out".to_owned(),
            out.display().to_string(),
            "--data".to_owned(),
            self.resolver.data_root.display().to_string(),
            "--threads".to_owned(),
            threads.to_string(),
        ];
        arguments.extend_from_slice(inputs);
        for absent in &step.absent {
            let place = format!("{}[{}]", absent.role, absent.label);
            arguments.push("--absent".to_owned());
            arguments.push(format!("{place}={}", absent.reason));
        }
        let path = &step.executable.path;
        let limits = self.plan.pipeline.nodes[step.element.node].limits;
        let ended = self
            .groups
            .run(path, &arguments, &log, limits.timeout)
            .map_err(failed("running", path))?;
        if ended.status.success() || self.groups.interrupted().is_some() {
            return Ok(ended);
        }
        let (exit, how) = match limits.timeout {
            Some(timeout) if ended.is_late => (
                Exit::Computation,
                format!("stopped after {} s, its `timeout`", timeout.as_secs_f64()),
            ),
            _ => (exit_of(ended.status.code()), describe_status(ended.status)),
        };
        let mut failure = Failure::new(
            exit,
            format!(
                "`{}` (stage `{}`) failed: {how}",
                step.name(),
                step.executable.description.name
            ),
        );
        if ended.is_late && step.executable.description.is_resumable {
            failure = failure.hint("run again to go on from where it was");
        }
        let text = fs::read_to_string(&log_path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            failure.message.push_str("\n  | ");
            failure.message.push_str(line);
        }
        Err(failure.hint(format!("all it said is in `{}`", log_path.display())))
    }

    /// Where a step's log lies: a path that needs no quoting.
    pub fn log_path(&self, step: &Step) -> PathBuf {
        let name: String = step
            .name()
            .chars()
            .filter(|c| *c != ']')
            .map(|c| match c {
                '[' | ',' => '.',
                c if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') => c,
                _ => '-',
            })
            .collect();
        self.logs.join(format!("{name}.log"))
    }

    /// A stage that succeeded although a raw file that its configuration names cannot be read.
    fn unreadable(&self, step: &Step) -> Failure {
        match self.resolver.files(step) {
            Err(failure) => failure,
            Ok(_) => Failure::new(
                Exit::Data,
                format!("a raw file of `{}` appeared while it ran", step.name()),
            )
            .hint("run again"),
        }
    }

    /// What entered the key must still be what it was: else the result belongs to no key.
    fn check_unchanged(&self, step: &Step, key: &Key) -> Result<(), Failure> {
        let changed = |what: String| {
            Err(Failure::new(
                Exit::Data,
                format!(
                    "{what} changed while `{}` ran: nothing was recorded",
                    step.name()
                ),
            )
            .hint("run again"))
        };
        if self.resolver.files(step)? != key.files {
            return changed("a raw file".to_owned());
        }
        let path = &step.executable.path;
        if self.resolver.fingerprints.content(path)? != key.executable {
            return changed(format!("`{}`", path.display()));
        }
        Ok(())
    }

    fn publish(
        &self,
        step: &Step,
        out: &Path,
        ended: &Ended,
        threads: usize,
    ) -> Result<BTreeMap<String, Produced>, Failure> {
        let declared = step.outputs();
        for role in declared.keys() {
            let is_empty =
                fs::read_dir(out.join(role)).map_or(true, |mut entries| entries.next().is_none());
            if is_empty {
                return Err(Failure::new(
                    Exit::Bug,
                    format!(
                        "`{}` (stage `{}`) ended well but wrote nothing to its output `{role}`",
                        step.name(),
                        step.executable.description.name
                    ),
                ));
            }
        }
        let measured = out.join(MEASURED);
        measure::write(&measured, step, ended, threads)?;
        let own = (MEASURED, MEASURED);
        let roles: Vec<(&str, &str)> = declared.into_iter().chain([own]).collect();
        // At the same time: the file system makes several files durable for the price of one.
        let published = std::thread::scope(|scope| {
            let started: Vec<_> = roles
                .iter()
                .map(|&(role, kind)| {
                    let directory = out.join(role);
                    scope.spawn(move || self.store().publish(&directory, kind))
                })
                .collect();
            started
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect::<Vec<_>>()
        });
        let mut outputs = BTreeMap::new();
        for ((role, kind), id) in roles.into_iter().zip(published) {
            let id = id
                .map_err(|_| Failure::new(Exit::Bug, "publishing ended in a panic"))?
                .map_err(|error| unpublished(&error, role))?;
            let produced = Produced {
                id,
                kind: kind.to_owned(),
                measured: step.executable.description.is_measured(role),
            };
            outputs.insert(role.to_owned(), produced);
        }
        Ok(outputs)
    }
}

/// An output that could not be published: its stage's fault if it is unfit, else the disk's.
fn unpublished(error: &PublishError, role: &str) -> Failure {
    let exit = if error.is_unfit() {
        Exit::Bug
    } else {
        Exit::Environment
    };
    let failure = Failure::of(exit, error).cause(format!("output `{role}`"));
    if error.is_unfit() {
        return failure
            .hint("an output holds files and directories that are not empty, and no links");
    }
    failure.hint(
        "nothing of it was recorded and nothing else was touched: see to the disk, then run again",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_the_stages_fault_and_a_missing_directory_the_disks() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().join("store")).unwrap();
        let output = root.path().join("output");
        let gone = store.publish(&output, "text").unwrap_err();
        assert_eq!(unpublished(&gone, "text").exit, Exit::Environment);
        fs::create_dir(&output).unwrap();
        symlink("/etc/passwd", output.join("link")).unwrap();
        let link = store.publish(&output, "text").unwrap_err();
        let failure = unpublished(&link, "text");
        assert_eq!(failure.exit, Exit::Bug);
        assert!(failure.to_string().contains("output `text`"), "{failure}");
    }
}
