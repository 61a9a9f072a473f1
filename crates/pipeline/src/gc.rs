//! What `gc` does: removes what none of the last runs needs, after saying what that is.
//!
//! Needed is what the last runs of each element gave, in every pipeline that this store knows, and
//! what the names below `latest/` point to, which is among it. All else goes: artifacts, records of
//! keys, and the progress of computations that have ended since.

use std::collections::{BTreeMap, BTreeSet};

use artifact::{ArtifactId, KeyId, Store};
use serde_json::json;
use stage::{Exit, Failure};

use crate::cli::print_json;
use crate::console::{bytes, count, line};
use crate::journal;

/// What may go.
#[derive(Debug, Default)]
pub struct Rubbish {
    /// Artifacts and their sizes in bytes.
    pub artifacts: Vec<(ArtifactId, u64)>,
    /// Records: stage and key.
    pub records: Vec<(String, KeyId)>,
    /// Progress of computations that have ended, with its size in bytes.
    pub progress: Vec<(KeyId, u64)>,
    /// Artifacts that stay, and their bytes.
    pub n_kept: (usize, u64),
}

/// Keys, with their stages, that the last `n_runs` runs of each element gave.
fn needed(store: &Store, n_runs: usize) -> Result<BTreeSet<(String, KeyId)>, Failure> {
    let mut needed = BTreeSet::new();
    for pipeline in store.pipelines().map_err(Failure::environment)? {
        let mut n_seen: BTreeMap<String, usize> = BTreeMap::new();
        let paths = store.runs(&pipeline).map_err(Failure::environment)?;
        for path in paths.iter().rev() {
            // A journal that cannot be understood may name anything.
            let nodes = journal::keys(store, path).map_err(|failure| {
                failure.hint("remove the file if what it names is not needed")
            })?;
            for node in nodes {
                let Some(key) = node.key_id else { continue };
                let n_seen = n_seen.entry(node.name).or_default();
                if *n_seen < n_runs {
                    *n_seen += 1;
                    needed.insert((node.stage, key));
                }
            }
        }
    }
    Ok(needed)
}

/// Looks for what may go.
///
/// # Errors
/// If the store cannot be read, or was never run in: then nothing says what is needed.
pub fn find(store: &Store, n_runs: usize) -> Result<Rubbish, Failure> {
    let needed = needed(store, n_runs)?;
    let mut rubbish = Rubbish::default();
    let mut used: BTreeSet<ArtifactId> = BTreeSet::new();
    let mut recorded = BTreeSet::new();
    for stage in store.stages().map_err(Failure::environment)? {
        for id in store.record_ids(&stage).map_err(Failure::environment)? {
            recorded.insert(id);
            if needed.contains(&(stage.clone(), id)) {
                if let Some(record) = store.record_of(&stage, id).map_err(Failure::environment)? {
                    used.extend(record.outputs.values().map(|produced| produced.id));
                }
            } else {
                rubbish.records.push((stage.clone(), id));
            }
        }
    }
    for id in store.artifacts().map_err(Failure::environment)? {
        let n_bytes = store.size(id).map_err(Failure::environment)?;
        if used.contains(&id) {
            rubbish.n_kept.0 += 1;
            rubbish.n_kept.1 += n_bytes;
        } else {
            rubbish.artifacts.push((id, n_bytes));
        }
    }
    for (key, n_bytes) in store.progress().map_err(Failure::environment)? {
        if recorded.contains(&key) {
            rubbish.progress.push((key, n_bytes));
        }
    }
    Ok(rubbish)
}

/// Says what may go, and removes it if told to.
///
/// # Errors
/// If somebody uses the store, or something cannot be read or removed.
pub fn collect(
    store: &Store,
    n_runs: usize,
    is_deleting: bool,
    is_json: bool,
) -> Result<(), Failure> {
    let busy = || {
        Failure::new(
            Exit::Environment,
            "somebody runs a pipeline on this store: nothing was removed",
        )
        .hint("wait until it has ended")
    };
    // What is looked at must not change until it is removed.
    let sole = if is_deleting {
        Some(
            store
                .hold_alone()
                .map_err(Failure::environment)?
                .ok_or_else(busy)?,
        )
    } else {
        None
    };
    let rubbish = find(store, n_runs)?;
    let n_bytes: u64 = rubbish.artifacts.iter().map(|(_, n)| n).sum::<u64>()
        + rubbish.progress.iter().map(|(_, n)| n).sum::<u64>();
    if let Some(sole) = &sole {
        // Records first: killed in between, artifacts without a name are left, never names without
        // an artifact.
        for (stage, id) in &rubbish.records {
            store
                .remove_record(stage, *id, sole)
                .map_err(Failure::environment)?;
        }
        for (id, _) in &rubbish.artifacts {
            store
                .remove_artifact(*id, sole)
                .map_err(Failure::environment)?;
        }
        for (id, _) in &rubbish.progress {
            store
                .remove_progress(*id, sole)
                .map_err(Failure::environment)?;
        }
    }
    if is_json {
        let artifacts: Vec<_> = rubbish
            .artifacts
            .iter()
            .map(|(id, n_bytes)| json!({ "id": id, "bytes": n_bytes }))
            .collect();
        print_json(&json!({
            "deleted": is_deleting,
            "artifacts": artifacts,
            "records": rubbish.records,
            "bytes": n_bytes,
            "kept_artifacts": rubbish.n_kept.0,
            "kept_bytes": rubbish.n_kept.1,
        }));
        return Ok(());
    }
    let by_kind = kinds(store, &rubbish, is_deleting);
    for (kind, (n, n_bytes)) in by_kind {
        line(format_args!(
            "  {kind:<24}  {:>14}  {:>10}",
            count(n, "artifact"),
            bytes(n_bytes)
        ));
    }
    line(format_args!(
        "{} {} and {}, {}; {}, {}, are what the last {} gave",
        if is_deleting {
            "removed"
        } else {
            "would remove"
        },
        count(rubbish.artifacts.len(), "artifact"),
        count(rubbish.records.len(), "record"),
        bytes(n_bytes),
        count(rubbish.n_kept.0, "artifact"),
        bytes(rubbish.n_kept.1),
        if n_runs == 1 {
            "run of each node".to_owned()
        } else {
            format!("{n_runs} runs of each node")
        }
    ));
    let is_empty = rubbish.artifacts.is_empty() && rubbish.records.is_empty();
    if !is_deleting && !is_empty {
        line("nothing was removed; `--delete` does it");
    }
    Ok(())
}

/// What goes, by kind; unknown once it is gone.
fn kinds(store: &Store, rubbish: &Rubbish, is_gone: bool) -> BTreeMap<String, (usize, u64)> {
    let mut kinds: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    if is_gone {
        return kinds;
    }
    for (id, n_bytes) in &rubbish.artifacts {
        let kind = store.manifest(*id).map_or_else(
            |_| "unreadable".to_owned(),
            |manifest| manifest.kind().to_owned(),
        );
        let entry = kinds.entry(kind).or_default();
        entry.0 += 1;
        entry.1 += n_bytes;
    }
    kinds
}
