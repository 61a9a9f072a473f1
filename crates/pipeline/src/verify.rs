//! What `verify` does: every stored byte read again, or one node run again and compared.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use artifact::{ArtifactId, OpenError, RecordError, Store};
use serde_json::json;
use stage::{Exit, Failure};

use crate::attempt::{Attempted, Order, Workshop};
use crate::cli::print_json;
use crate::console::{bytes, count, duration, line, note};
use crate::measure::processors;
use crate::plan::Plan;
use crate::process::Groups;
use crate::resolve::{Resolver, State};

/// What was found wrong, a sentence for each.
#[derive(Debug, Default)]
struct Found {
    n_bytes: u64,
    damage: Vec<String>,
}

/// Reads artifacts again, all of them if none is named, and every record of a key. What is damaged
/// is put aside; the next run makes it again.
///
/// # Errors
/// If something was damaged, or cannot be read.
pub fn store(store: &Store, named: &[ArtifactId], is_json: bool) -> Result<(), Failure> {
    let started = Instant::now();
    let ids = if named.is_empty() {
        store.artifacts().map_err(Failure::environment)?
    } else {
        named.to_vec()
    };
    let mut found = artifacts(store, &ids)?;
    let mut n_records = 0;
    if named.is_empty() {
        for stage in store.stages().map_err(Failure::environment)? {
            for id in store.record_ids(&stage).map_err(Failure::environment)? {
                n_records += 1;
                match store.record_of(&stage, id) {
                    Ok(_) => {}
                    Err(error @ RecordError::Quarantined { .. }) => {
                        found.damage.push(error.to_string());
                    }
                    Err(error) => return Err(Failure::environment(error)),
                }
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let conflicts = store.conflicts().map_err(Failure::environment)?;
    if is_json {
        print_json(&json!({
            "artifacts": ids.len(),
            "records": n_records,
            "bytes": found.n_bytes,
            "seconds": seconds,
            "damage": found.damage,
            "conflicts": conflicts,
        }));
    } else {
        for text in &found.damage {
            line(format_args!("  damaged  {text}"));
        }
        for path in &conflicts {
            line(format_args!(
                "  two results of one key; one is served, the other is kept at `{}`",
                path.display()
            ));
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = found.n_bytes as f64 / seconds.max(1e-9);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let rate = bytes(rate as u64);
        line(format_args!(
            "read {} and {}, {}, in {seconds:.2} s ({rate} a second on {}): {}",
            count(ids.len(), "artifact"),
            count(n_records, "record"),
            bytes(found.n_bytes),
            count(processors(), "thread"),
            match found.damage.len() {
                0 => "all whole".to_owned(),
                n => format!("{n} damaged"),
            }
        ));
    }
    if found.damage.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Data,
        format!(
            "the store was damaged in {}; what was damaged lies in its `quarantine/`",
            count(found.damage.len(), "place")
        ),
    )
    .hint("run the pipelines again: what is missing is made again")
    .hint("a disk or memory that damages files damages more: look at the machine"))
}

/// Reads artifacts on all processors, the largest first.
fn artifacts(store: &Store, ids: &[ArtifactId]) -> Result<Found, Failure> {
    let mut by_size = Vec::with_capacity(ids.len());
    for &id in ids {
        let n_bytes = if store.contains(id) {
            store.size(id).map_err(Failure::environment)?
        } else {
            0
        };
        by_size.push((n_bytes, id));
    }
    by_size.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let next = AtomicUsize::new(0);
    let faults: Mutex<Vec<(ArtifactId, OpenError)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| {
                while let Some(&(_, id)) = by_size.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = store.open_verified(id) {
                        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
                        faults.push((id, error));
                    }
                }
            });
        }
    });
    let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.sort_by_key(|(id, _)| *id);
    let mut found = Found {
        n_bytes: by_size.iter().map(|(n_bytes, _)| n_bytes).sum(),
        damage: Vec::new(),
    };
    for (_, error) in faults {
        match error {
            OpenError::File(_) => return Err(Failure::environment(error)),
            OpenError::Missing { .. } | OpenError::Quarantined { .. } => {
                found.damage.push(error.to_string());
            }
        }
    }
    Ok(found)
}

/// Runs nodes again, on another number of threads than the run before, and compares what they give
/// with what is recorded. Other bytes raise the determinism alarm, and both results are kept.
///
/// # Errors
/// If a node is not up to date, fails, or gives other bytes.
pub fn rerun(
    plan: &Plan,
    resolver: &Resolver<'_>,
    steps: &std::collections::BTreeSet<usize>,
    groups: &Groups,
) -> Result<(), Failure> {
    let (states, done) = resolver.survey(plan)?;
    let workshop = Workshop {
        plan,
        resolver,
        groups,
        logs: resolver.store.root().join("logs").join(&plan.pipeline.name),
    };
    let mut n_differ = 0;
    for &index in steps {
        let name = plan.steps[index].name();
        let record = match &states[index] {
            State::NotApplicable => continue,
            State::UpToDate(record) => record,
            _ => {
                return Err(Failure::new(
                    Exit::Configuration,
                    format!("`{name}` is not up to date: there is nothing to compare with"),
                )
                .hint(format!(
                    "touchstone run {} --only '{name}'",
                    plan.pipeline.origin
                )));
            }
        };
        let order = Order {
            index,
            key: Some(record.key.clone()),
            done: done.clone(),
            // The runner gives a lone stage all processors.
            threads: if processors() == 1 { 2 } else { 1 },
            is_forced: true,
        };
        match workshop.attempt(&order) {
            Attempted::Ran {
                wall_ms, warnings, ..
            } => {
                let word = if warnings.is_empty() {
                    "same"
                } else {
                    n_differ += 1;
                    "DIFFERS"
                };
                line(format_args!(
                    "  {word:<7}  {name}  {} on {}",
                    duration(wall_ms),
                    count(order.threads, "thread")
                ));
                for warning in warnings {
                    note(format_args!("warning: {warning}"));
                }
            }
            Attempted::Failed(failure) => return Err(*failure),
            Attempted::Missing(gone) => {
                let reasons: Vec<String> = gone.into_iter().map(|(_, why)| why).collect();
                return Err(Failure::new(Exit::Data, reasons.join("; "))
                    .hint(format!("touchstone run {}", plan.pipeline.origin)));
            }
            Attempted::Interrupted => {
                return Err(Failure::new(Exit::Environment, "interrupted"));
            }
            Attempted::Found(_) => {
                return Err(Failure::new(
                    Exit::Bug,
                    format!("`{name}` was not run again"),
                ));
            }
        }
    }
    if n_differ == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Computation,
        format!(
            "{} gave other bytes under the same key",
            count(n_differ, "node")
        ),
    )
    .hint("both results are kept: compare them with `touchstone show`"))
}
