//! Computing what is stale: which step when, how many at once, and what people are told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use artifact::{Key, Record};
use jiff::Timestamp;
use stage::{Exit, Failure};

use crate::attempt::{Attempted, Order, Workshop};
use crate::console::{Screen, count, duration};
use crate::export;
use crate::journal::{Fate, Journal};
use crate::limits::{Limits, memory_of_machine};
use crate::measure::processors;
use crate::plan::Plan;
use crate::process::Groups;
use crate::resolve::{Outputs, Resolver, State};
use crate::why;

/// How often a step may be made again in one run because its artifacts turned out to be damaged.
const MOST_REPAIRS: u32 = 3;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these steps and what they read; `None` for all.
    pub only: Option<BTreeSet<usize>>,
    /// These steps and what reads them run again, cached or not.
    pub from: BTreeSet<usize>,
    /// Most steps at once; `None` for the number of processors.
    pub jobs: Option<usize>,
    /// Threads of each stage; `None` to share the processors.
    pub threads: Option<usize>,
    /// Memory that steps which run at once may need together, in bytes; `None` for that of the
    /// machine. Counts what their nodes say they need.
    pub memory: Option<u64>,
    /// Whether what does not depend on a failed step is still run.
    pub is_going_on: bool,
}

/// How a run ended.
#[derive(Debug)]
pub enum Verdict {
    /// Everything asked for is up to date.
    Done,
    /// Steps failed; the first one decides the exit code.
    Failed(Vec<Failure>),
    /// A signal ended it.
    Interrupted(i32),
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    Running,
    Done,
    /// Not applicable, not asked for, or failed.
    Out,
}

struct Run<'a> {
    plan: &'a Plan,
    workshop: &'a Workshop<'a>,
    resolver: &'a Resolver<'a>,
    options: &'a Options,
    places: Vec<Place>,
    done: Vec<Option<Outputs>>,
    repairs: Vec<u32>,
    forced: BTreeSet<usize>,
    journal: Journal,
    screen: Screen,
    /// Lines about cached steps, written as soon as anything runs.
    held: Vec<String>,
    n_running: usize,
    /// Memory that running steps may need, in bytes.
    memory_in_use: u64,
    n_ran: usize,
    failures: Vec<Failure>,
    width: usize,
}

/// Runs a plan.
///
/// # Errors
/// If the store or the machine is in the way. That a step fails is a [`Verdict`].
pub fn run(
    plan: &Plan,
    resolver: &Resolver<'_>,
    options: &Options,
    groups: &Arc<Groups>,
) -> Result<Verdict, Failure> {
    let started = Instant::now();
    let workshop = Workshop {
        plan,
        resolver,
        groups,
        logs: resolver.store.root().join("logs").join(&plan.pipeline.name),
    };
    let n = plan.steps.len();
    let wanted = options
        .only
        .as_ref()
        .map_or_else(|| (0..n).collect(), |only| plan.with_producers(only));
    let places = (0..n)
        .map(|index| {
            let is_out = !wanted.contains(&index) || plan.steps[index].not_applicable().is_some();
            if is_out { Place::Out } else { Place::Waiting }
        })
        .collect();
    let mut forced = plan.with_readers(&options.from);
    forced.retain(|index| wanted.contains(index));
    let width = plan
        .steps
        .iter()
        .map(|step| step.name().chars().count())
        .max();
    let mut run = Run {
        plan,
        workshop: &workshop,
        resolver,
        options,
        places,
        done: vec![None; n],
        repairs: vec![0; n],
        forced,
        journal: Journal::new(plan, resolver, &wanted, Timestamp::now()),
        screen: Screen::new(),
        held: Vec::new(),
        n_running: 0,
        memory_in_use: 0,
        n_ran: 0,
        failures: Vec::new(),
        width: width.unwrap_or(0).min(48),
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        run.go(scope, &sender, &receiver)
    })?;
    resolver.fingerprints.save();
    run.finish(started)
}

impl<'a> Run<'a> {
    fn go<'scope>(
        &mut self,
        scope: &'scope std::thread::Scope<'scope, 'a>,
        sender: &Sender<(usize, Attempted)>,
        receiver: &Receiver<(usize, Attempted)>,
    ) -> Result<(), Failure>
    where
        'a: 'scope,
    {
        let mut trouble = None;
        loop {
            if trouble.is_none()
                && let Err(failure) = self.start_ready(scope, sender)
            {
                // Let what runs end before leaving.
                trouble = Some(failure);
            }
            if self.n_running == 0 {
                return trouble.map_or(Ok(()), Err);
            }
            match receiver.recv_timeout(Duration::from_millis(500)) {
                Ok((index, attempted)) => self.ended(index, attempted),
                Err(RecvTimeoutError::Timeout) => self.screen.sign_of_life(),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Resolves and starts every step that can be, until nothing moves.
    fn start_ready<'scope>(
        &mut self,
        scope: &'scope std::thread::Scope<'scope, 'a>,
        sender: &Sender<(usize, Attempted)>,
    ) -> Result<(), Failure>
    where
        'a: 'scope,
    {
        let jobs = self.options.jobs.unwrap_or_else(processors).max(1);
        let is_failed = !self.failures.is_empty() && !self.options.is_going_on;
        let is_stopping = is_failed || self.workshop.groups.interrupted().is_some();
        for index in 0..self.plan.steps.len() {
            if is_stopping || self.places[index] != Place::Waiting {
                continue;
            }
            let is_ready = self.plan.steps[index]
                .inputs
                .iter()
                .all(|input| self.places[input.producer] == Place::Done);
            if !is_ready {
                continue;
            }
            let state = self.resolver.state(self.plan, index, &self.done)?;
            let key = match state {
                State::UpToDate(record) if !self.forced.contains(&index) => {
                    self.cached(index, &record, "cached");
                    continue;
                }
                State::UpToDate(record) => Some(record.key),
                State::Stale(key, _) => Some(*key),
                // The stage says itself what is wrong with its raw file.
                State::Unreadable(_) => None,
                State::Waiting | State::NotApplicable => continue,
            };
            if self.n_running < jobs && self.has_memory(index) {
                self.start(scope, sender, index, key);
            }
        }
        Ok(())
    }

    fn limits(&self, index: usize) -> Limits {
        self.plan.pipeline.nodes[self.plan.steps[index].element.node].limits
    }

    fn memory_of(&self, index: usize) -> u64 {
        self.limits(index).memory.unwrap_or(0)
    }

    /// Whether a step fits beside those that run; one that is too large for the machine runs alone.
    fn has_memory(&self, index: usize) -> bool {
        let budget = self.options.memory.or_else(memory_of_machine);
        let needed = self.memory_of(index).saturating_add(self.memory_in_use);
        self.n_running == 0 || budget.is_none_or(|budget| needed <= budget)
    }

    fn start<'scope>(
        &mut self,
        scope: &'scope std::thread::Scope<'scope, 'a>,
        sender: &Sender<(usize, Attempted)>,
        index: usize,
        key: Option<Key>,
    ) where
        'a: 'scope,
    {
        for line in self.held.drain(..) {
            self.screen.line(line);
        }
        self.n_running += 1;
        self.memory_in_use += self.memory_of(index);
        self.places[index] = Place::Running;
        let step = &self.plan.steps[index];
        if let Some(key) = &key {
            let because = why::short(&self.journal, self.resolver, self.plan, index, key);
            self.journal.because(index, because);
        }
        self.screen
            .start(index, step.name(), self.workshop.log_path(step));
        let order = Order {
            index,
            key,
            done: self.done.clone(),
            threads: self
                .options
                .threads
                .unwrap_or_else(|| (processors() / self.n_running).max(1))
                .min(self.limits(index).threads.unwrap_or(usize::MAX)),
            is_forced: self.forced.contains(&index),
        };
        let workshop = self.workshop;
        let sender = sender.clone();
        scope.spawn(move || {
            let attempted = workshop.attempt(&order);
            // The receiver lives as long as any step runs.
            let _ = sender.send((order.index, attempted));
        });
    }

    fn ended(&mut self, index: usize, attempted: Attempted) {
        self.n_running -= 1;
        self.memory_in_use -= self.memory_of(index);
        self.screen.end(index);
        match attempted {
            Attempted::Ran {
                record,
                wall_ms,
                warnings,
            } => {
                for warning in warnings {
                    self.screen.warn(warning);
                }
                self.n_ran += 1;
                self.forced.remove(&index);
                self.settle(index, &record, Fate::Ran);
                let because = self.journal.reason(index).unwrap_or_default();
                let line = self.line("ran", index, &duration(wall_ms), &record, because);
                self.screen.line(line);
            }
            Attempted::Found(record) => {
                self.cached(index, &record, "shared");
                for line in self.held.drain(..) {
                    self.screen.line(line);
                }
            }
            Attempted::Missing(producers) => self.repair(index, producers),
            Attempted::Failed(failure) => {
                self.places[index] = Place::Out;
                self.journal.fate(index, Fate::Failed, None);
                let name = self.plan.steps[index].name();
                self.screen.line(format_args!("  failed  {name}"));
                self.failures.push(*failure);
            }
            Attempted::Interrupted => {
                self.places[index] = Place::Out;
                self.journal.fate(index, Fate::Interrupted, None);
            }
        }
    }

    /// Sends the producers of damaged artifacts back to work, and their reader to wait for them.
    fn repair(&mut self, index: usize, producers: Vec<(usize, String)>) {
        self.places[index] = Place::Waiting;
        for (producer, why) in producers {
            self.screen.warn(format_args!(
                "{why}; `{}` is made again",
                self.plan.steps[producer].name()
            ));
            self.repairs[producer] += 1;
            if self.repairs[producer] > MOST_REPAIRS {
                self.failures.push(
                    Failure::new(
                        Exit::Environment,
                        format!(
                            "artifacts of `{}` were found damaged {MOST_REPAIRS} times in one run",
                            self.plan.steps[producer].name()
                        ),
                    )
                    .hint("the disk or the memory of this machine is probably failing"),
                );
                self.places[index] = Place::Out;
                return;
            }
            if self.places[producer] == Place::Done {
                self.places[producer] = Place::Waiting;
                self.done[producer] = None;
            }
        }
    }

    fn cached(&mut self, index: usize, record: &Record, word: &str) {
        self.settle(index, record, Fate::Cached);
        let line = self.line(word, index, "", record, "");
        self.held.push(line);
        if self.n_running > 0 || self.n_ran > 0 {
            for line in self.held.drain(..) {
                self.screen.line(line);
            }
        }
    }

    fn settle(&mut self, index: usize, record: &Record, fate: Fate) {
        self.places[index] = Place::Done;
        self.done[index] = Some(Outputs::of(record));
        self.journal.fate(index, fate, Some(record));
    }

    fn line(&self, word: &str, index: usize, time: &str, record: &Record, because: &str) -> String {
        let step = &self.plan.steps[index];
        let width = self.width;
        let mut ids: Vec<String> = step
            .outputs()
            .keys()
            .filter_map(|role| {
                let produced = record.outputs.get(*role)?;
                Some(format!("{role}@{}", produced.id.short()))
            })
            .collect();
        let n_more = ids.len().saturating_sub(3);
        ids.truncate(3);
        if n_more > 0 {
            ids.push(format!("+{n_more}"));
        }
        let because = if because.is_empty() {
            String::new()
        } else {
            format!("  ({because})")
        };
        format!(
            "  {word:<7} {:<width$}  {time:>8}  {}{because}",
            step.name(),
            ids.join(" ")
        )
    }

    fn finish(mut self, started: Instant) -> Result<Verdict, Failure> {
        let interrupted = self.workshop.groups.interrupted();
        let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let n_cached = self.journal.count(Fate::Cached);
        let n_not_applicable = self
            .plan
            .steps
            .iter()
            .filter(|step| step.not_applicable().is_some())
            .count();
        let is_whole = self.failures.is_empty() && interrupted.is_none();
        let run_file: Option<PathBuf> = self.journal.write(self.resolver.store, wall_ms)?;
        if is_whole && self.n_ran == 0 {
            let all = if self.options.only.is_none() {
                "all "
            } else {
                ""
            };
            self.screen.line(format_args!(
                "nothing to do: {all}{} up to date",
                match n_cached {
                    1 => "1 node is".to_owned(),
                    n => format!("{n} nodes are"),
                }
            ));
        } else {
            let mut parts = vec![format!("{} ran", self.n_ran), format!("{n_cached} cached")];
            if n_not_applicable > 0 {
                parts.push(format!("{n_not_applicable} not applicable"));
            }
            let n_not_started = self.journal.count(Fate::NotStarted);
            if !self.failures.is_empty() {
                parts.push(format!("{} failed", self.failures.len()));
                if n_not_started > 0 {
                    parts.push(format!("{n_not_started} not started"));
                }
            }
            self.screen.line(format_args!(
                "{} in {}",
                parts.join(", "),
                duration(wall_ms)
            ));
        }
        if let Some(path) = run_file {
            self.screen.line(format_args!("run     {}", shown(&path)));
        }
        if is_whole {
            for path in export::latest(self.plan, self.resolver.store, &self.done)? {
                self.screen.line(format_args!("result  {}", shown(&path)));
            }
        }
        if let Some(signal) = interrupted {
            self.screen.line(format_args!(
                "interrupted: {} had ended and {} kept; run again to go on",
                count(self.n_ran + n_cached, "node"),
                if self.n_ran + n_cached == 1 {
                    "is"
                } else {
                    "are"
                }
            ));
            return Ok(Verdict::Interrupted(signal));
        }
        let failures = std::mem::take(&mut self.failures);
        Ok(if failures.is_empty() {
            Verdict::Done
        } else {
            Verdict::Failed(failures)
        })
    }
}

/// A path as people would type it here.
pub(crate) fn shown(path: &std::path::Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
