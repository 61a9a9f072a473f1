//! From the directory of a probe to the problem that methods see.

use std::path::Path;

use attribution::{
    Counts, Entry, InMemory, Losses, Need, ProblemError, Representations, Request, Samples, Target,
    Transition,
};
use stage::{Exit, Failure};
use tables::{ITEM_COUNTS, ItemCount, Part, ProbeRequest, ProbeSample, Row, TRANSITIONS, Table};

/// File with the sparse matrices `histories` and `items`.
const REPRESENTATIONS: &str = "representations.safetensors";

/// Reads what a method may look at: only the capabilities it needs.
pub(crate) fn read(directory: &Path, entry: &Entry, part: Part) -> Result<InMemory, Failure> {
    let inconsistent = |error: ProblemError| {
        Failure::data(error)
            .cause(format!("probe `{}`", directory.display()))
            .hint("run the node that made the probe again")
    };
    let (samples, losses) = samples(directory)?;
    let target = target(directory, part)?;
    let mut problem = InMemory::new(samples, target).map_err(inconsistent)?;
    let needs = |need| entry.needs.contains(&need);
    if let Some(losses) = losses.filter(|_| needs(Need::Losses)) {
        problem = problem.with_losses(losses).map_err(inconsistent)?;
    }
    if needs(Need::Counts)
        && let Some(counts) = counts(directory)?
    {
        problem = problem.with_counts(counts).map_err(inconsistent)?;
    }
    let path = directory.join(REPRESENTATIONS);
    if needs(Need::Representations) && path.is_file() {
        let representations = Representations::load(&path)
            .map_err(|error| Failure::data(error).cause(format!("in `{}`", path.display())))?;
        problem = problem
            .with_representations(representations)
            .map_err(inconsistent)?;
    }
    Ok(problem)
}

/// Facts about each sample, and its loss where the model gives losses.
fn samples(directory: &Path) -> Result<(Samples, Option<Losses>), Failure> {
    let mut samples = Samples::default();
    let mut losses = Losses::new();
    for row in tables::rows::<ProbeSample>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        samples.id.push(row.sample_id);
        samples.sequence.push(row.sequence);
        samples.item.push(row.item);
        samples.history_length.push(row.history_length);
        samples.last_item.push(row.last_item);
        samples.history_row.push(row.history_row);
        samples.occurred_at.push(row.occurred_at.map(|at| at.0));
        samples.weight.push(row.weight);
        losses.push(row.loss);
    }
    let has_losses = losses.iter().any(Option::is_some);
    Ok((samples, has_losses.then_some(losses)))
}

/// The requests of a part that have relevant items.
fn target(directory: &Path, part: Part) -> Result<Target, Failure> {
    let mut target = Target::default();
    for row in tables::rows::<ProbeRequest>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        if row.part != part || row.relevant.is_empty() {
            continue;
        }
        target.requests.push(Request {
            request: row.request,
            last_item: row.last_item,
            history_row: row.history_row,
            relevant: row.relevant,
            losses: (!row.losses.is_empty()).then_some(row.losses),
        });
    }
    Ok(target)
}

/// What the model counted; `None` for a model that does not count.
fn counts(directory: &Path) -> Result<Option<Counts>, Failure> {
    let Some(rows) = read_optional::<ItemCount>(directory, &ITEM_COUNTS)? else {
        return Ok(None);
    };
    if (0..).zip(&rows).any(|(item, row)| row.item != item) {
        let path = directory.join(ITEM_COUNTS.file_name());
        let message = format!("items are not counted from 0 up in `{}`", path.display());
        return Err(
            Failure::new(Exit::Data, message).hint("run the node that made the probe again")
        );
    }
    let transitions = read_optional::<tables::Transition>(directory, &TRANSITIONS)?;
    Ok(Some(Counts {
        item: rows.into_iter().map(|row| row.weight).collect(),
        transitions: transitions.map(|rows| {
            rows.into_iter()
                .map(|row| Transition {
                    from: row.from_item,
                    to: row.to_item,
                    weight: row.weight,
                })
                .collect()
        }),
    }))
}

/// A table that only some models give.
fn read_optional<R: Row>(directory: &Path, table: &Table) -> Result<Option<Vec<R>>, Failure> {
    if !directory.join(table.file_name()).is_file() {
        return Ok(None);
    }
    tables::read_all(directory).map(Some).map_err(Failure::data)
}
