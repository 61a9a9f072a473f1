//! From the directory of a probe to the problem that methods see.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use attribution::{
    Attention, BlockInfluence, Counts, Directed, Directions, Entry, Gradients, HiddenStates,
    InMemory, Losses, Need, Preconditioner, Prepared, Problem, ProblemError, Projected,
    Representations, Request, Rows, Samples, State, Stored, Target, Transition, Unrolled,
    hidden_layout,
};
use stage::{Exit, Failure};
use tables::{
    ITEM_COUNTS, ItemCount, PROBE_ATTENTION, PROBE_BLOCK_INFLUENCE, PROBE_DIRECTIONS,
    PROBE_GRADIENTS, PROBE_UNROLLED, Part, ProbeAttention, ProbeBlockInfluence, ProbeDirection,
    ProbeGradient, ProbeRequest, ProbeSample, ProbeUnrolled, Row, TRANSITIONS, Table,
};

use crate::config::other_part;
use crate::tune::not_kept;

/// File with the sparse matrices `histories` and `items`.
const REPRESENTATIONS: &str = "representations.safetensors";

/// Reads what a method may look at: only the capabilities that it needs under one of the settings.
pub(crate) fn read(
    directory: &Path,
    settings: &[Prepared],
    part: Part,
    held_out: Option<Part>,
) -> Result<InMemory, Failure> {
    let Some(method) = settings.first() else {
        return Err(Failure::new(Exit::Bug, "there is no method to read for"));
    };
    let entry = method.entry();
    let inconsistent = |error: ProblemError| {
        Failure::data(error)
            .cause(format!("probe `{}`", directory.display()))
            .hint("run the node that made the probe again")
    };
    let (samples, losses) = samples(directory)?;
    let mut problem = InMemory::new(samples, target(directory, part)?).map_err(inconsistent)?;
    if let Some(held_out) = held_out {
        let held_out = target(directory, held_out)?;
        problem = problem.with_held_out(held_out).map_err(inconsistent)?;
    }
    let needs = |need| {
        settings
            .iter()
            .flat_map(Prepared::needs)
            .any(|other| other == need)
    };
    if let Some(losses) = losses.filter(|_| needs(Need::Losses)) {
        problem = problem.with_losses(losses).map_err(inconsistent)?;
    }
    if needs(Need::Counts)
        && let Some(counts) = counts(directory)?
    {
        problem = problem.with_counts(counts).map_err(inconsistent)?;
    }
    if needs(Need::Gradients)
        && let Some(states) = gradients(directory, problem.samples(), entry, part)?
    {
        let gradients = Gradients::new(states).map_err(inconsistent)?;
        problem = problem.with_gradients(gradients).map_err(inconsistent)?;
    }
    let wanted: Vec<Preconditioner> = method.needs().filter_map(Need::preconditioner).collect();
    if !wanted.is_empty()
        && let Some(states) = directions(directory, problem.samples(), &wanted, (entry, part))?
    {
        let directions = Directions::new(states).map_err(inconsistent)?;
        problem = problem.with_directions(directions).map_err(inconsistent)?;
    }
    if needs(Need::Projected) && Stored::is_in(directory) {
        let projected = projected(directory, &problem, entry, part, held_out)?;
        problem = problem.with_projected(projected).map_err(inconsistent)?;
    }
    if needs(Need::Attention)
        && let Some(attention) = attention(directory, problem.samples())?
    {
        problem = problem.with_attention(attention).map_err(inconsistent)?;
    }
    if needs(Need::BlockInfluence)
        && let Some(found) = block_influence(directory, problem.samples(), part)?
    {
        problem = problem.with_block_influence(found).map_err(inconsistent)?;
    }
    if needs(Need::Unrolled)
        && let Some(found) = unrolled(directory, problem.samples(), part)?
    {
        problem = problem.with_unrolled(found).map_err(inconsistent)?;
    }
    let path = directory.join(hidden_layout::FILE);
    if needs(Need::HiddenStates) && path.is_file() {
        let states = HiddenStates::load(&path)
            .map_err(|error| Failure::data(error).cause(format!("in `{}`", path.display())))?;
        problem = problem.with_hidden_states(states).map_err(inconsistent)?;
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

/// Gradients at each state; `None` where the probe took none.
fn gradients(
    directory: &Path,
    samples: &Samples,
    entry: &Entry,
    part: Part,
) -> Result<Option<Vec<State>>, Failure> {
    if !directory.join(PROBE_GRADIENTS.file_name()).is_file() {
        return Ok(None);
    }
    let n = samples.len();
    let mut by_id: Vec<usize> = (0..n).collect();
    by_id.sort_unstable_by_key(|&at| samples.id[at]);
    let mut states: Vec<State> = Vec::new();
    let mut n_rows = 0;
    for row in tables::rows::<ProbeGradient>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        if entry.scale.is_signed() && row.part != part {
            return Err(other_part(row.part, part));
        }
        if states.last().is_none_or(|state| state.step != row.step) {
            check_complete(&states, n_rows, n)?;
            n_rows = 0;
            states.push(State {
                step: row.step,
                learning_rate: row.learning_rate,
                target_norm: row.target_norm,
                norm: vec![None; n],
                norm_without_tables: vec![None; n],
                target_product: vec![None; n],
                error_norm: vec![None; n],
            });
        }
        // Rows come by sample.
        let at = by_id.get(n_rows).copied();
        let at = at.filter(|&at| samples.id[at] == row.sample_id);
        let (Some(at), Some(state)) = (at, states.last_mut()) else {
            return Err(misplaced(&PROBE_GRADIENTS, row.sample_id, row.step));
        };
        n_rows += 1;
        state.norm[at] = row.norm;
        state.norm_without_tables[at] = row.norm_without_tables;
        state.target_product[at] = row.target_product;
        state.error_norm[at] = row.error_norm;
    }
    check_complete(&states, n_rows, n)?;
    Ok(Some(states))
}

/// Gradients under the preconditioners that are wanted; `None` where the probe took none at all.
fn directions(
    directory: &Path,
    samples: &Samples,
    wanted: &[Preconditioner],
    (entry, part): (&Entry, Part),
) -> Result<Option<BTreeMap<Preconditioner, Vec<Directed>>>, Failure> {
    if !directory.join(PROBE_DIRECTIONS.file_name()).is_file() {
        return Ok(None);
    }
    let n = samples.len();
    let mut by_id: Vec<usize> = (0..n).collect();
    by_id.sort_unstable_by_key(|&at| samples.id[at]);
    let mut states: BTreeMap<Preconditioner, Vec<Directed>> = BTreeMap::new();
    // Rows come by state, preconditioner and sample: all of the samples, or the table is not whole.
    let mut n_rows = 0;
    for row in tables::rows::<ProbeDirection>(directory).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        if entry.scale.is_signed() && row.part != part {
            return Err(other_part(row.part, part));
        }
        let place = by_id.get(n_rows % n.max(1)).copied();
        let place = place.filter(|&at| samples.id[at] == row.sample_id);
        let Some(at) = place else {
            return Err(misplaced(&PROBE_DIRECTIONS, row.sample_id, row.step));
        };
        let is_first = n_rows.is_multiple_of(n.max(1));
        n_rows += 1;
        let preconditioner = preconditioner(row.preconditioner);
        if !wanted.contains(&preconditioner) {
            continue;
        }
        let states = states.entry(preconditioner).or_default();
        if is_first {
            let has_update = preconditioner == Preconditioner::Adam;
            states.push(Directed {
                step: row.step,
                learning_rate: row.learning_rate,
                target_norm: row.target_norm,
                product: vec![None; n],
                update: has_update.then(|| [vec![None; n], vec![None; n]]),
            });
        }
        let state = states.last_mut().filter(|state| state.step == row.step);
        let Some(state) = state else {
            return Err(misplaced(&PROBE_DIRECTIONS, row.sample_id, row.step));
        };
        state.product[at] = row.product;
        if let Some([products, norms]) = &mut state.update {
            products[at] = row.update_product;
            norms[at] = row.update_norm;
        }
    }
    if !n_rows.is_multiple_of(n.max(1)) {
        let message = format!(
            "`{}` has {n_rows} rows, which is no multiple of the {n} samples",
            PROBE_DIRECTIONS.file_name(),
        );
        return Err(
            Failure::new(Exit::Data, message).hint("run the node that made the probe again")
        );
    }
    Ok(Some(states))
}

fn preconditioner(word: tables::Preconditioner) -> Preconditioner {
    match word {
        tables::Preconditioner::Adam => Preconditioner::Adam,
        tables::Preconditioner::Kfac => Preconditioner::Kfac,
        tables::Preconditioner::Ekfac => Preconditioner::Ekfac,
    }
}

/// Attention that each sample's event receives; `None` where the probe took none.
fn attention(directory: &Path, samples: &Samples) -> Result<Option<Attention>, Failure> {
    let Some(rows) = read_optional::<ProbeAttention>(directory, &PROBE_ATTENTION)? else {
        return Ok(None);
    };
    // Rows come by sample.
    let of = |id: &u64| rows.binary_search_by_key(id, |row| row.sample_id).ok();
    let mut attention = Attention::default();
    for id in &samples.id {
        let Some(at) = of(id) else {
            let message = format!("sample {id} is not in `{}`", PROBE_ATTENTION.file_name());
            return Err(
                Failure::new(Exit::Data, message).hint("run the node that made the probe again")
            );
        };
        let row = &rows[at];
        attention.n_predictions.push(row.n_predictions);
        attention.even.push(row.even);
        attention.raw.push(row.raw);
        attention.rollout.push(row.rollout);
        attention.gradient.push(row.gradient);
    }
    Ok(Some(attention))
}

/// Rows of a table that has one for each sample, in the order of the samples.
fn by_sample<R: Row>(
    rows: &[R],
    id_of: impl Fn(&R) -> u64,
    samples: &Samples,
    table: &Table,
) -> Result<Vec<usize>, Failure> {
    let place = |id: &u64| {
        // Rows come by sample.
        rows.binary_search_by_key(id, &id_of).map_err(|_| {
            let message = format!("sample {id} is not in `{}`", table.file_name());
            Failure::new(Exit::Data, message).hint("run the node that made the probe again")
        })
    };
    samples.id.iter().map(place).collect()
}

/// Refuses what was measured against other requests than the target's.
fn check_parts(found: impl Iterator<Item = Part>, part: Part) -> Result<(), Failure> {
    match { found }.find(|found| *found != part) {
        Some(found) => Err(other_part(found, part)),
        None => Ok(()),
    }
}

/// Influence within the blocks of a factorisation; `None` where the probe took none.
fn block_influence(
    directory: &Path,
    samples: &Samples,
    part: Part,
) -> Result<Option<BlockInfluence>, Failure> {
    let table = &PROBE_BLOCK_INFLUENCE;
    let Some(rows) = read_optional::<ProbeBlockInfluence>(directory, table)? else {
        return Ok(None);
    };
    check_parts(rows.iter().map(|row| row.part), part)?;
    let places = by_sample(&rows, |row| row.sample_id, samples, table)?;
    Ok(Some(BlockInfluence {
        of_user: places.iter().map(|&at| rows[at].of_user).collect(),
        of_item: places.iter().map(|&at| rows[at].of_item).collect(),
    }))
}

/// The derivative of the training; `None` where the probe did not take it back.
fn unrolled(directory: &Path, samples: &Samples, part: Part) -> Result<Option<Unrolled>, Failure> {
    let table = &PROBE_UNROLLED;
    let Some(rows) = read_optional::<ProbeUnrolled>(directory, table)? else {
        return Ok(None);
    };
    check_parts(rows.iter().map(|row| row.part), part)?;
    let places = by_sample(&rows, |row| row.sample_id, samples, table)?;
    Ok(Some(places.iter().map(|&at| rows[at].fall).collect()))
}

/// Projected gradients; where a method measures, those of requests have to be of the target.
fn projected(
    directory: &Path,
    problem: &InMemory,
    entry: &Entry,
    part: Part,
    held_out: Option<Part>,
) -> Result<Arc<dyn Projected>, Failure> {
    let stored = Stored::open(directory, problem.samples().len()).map_err(Failure::data)?;
    if let Some(held_out) = held_out {
        if stored.held_out_part() != Some(held_out.as_str()) {
            return Err(not_kept(held_out));
        }
        let rows = stored.held_out().map_err(Failure::data)?;
        if let Some(stranger) = stranger(&rows, problem.held_out()) {
            let message = format!(
                "the probe kept projected gradients of request {stranger}, which is none of `{held_out}`"
            );
            return Err(
                Failure::new(Exit::Data, message).hint("run the node that made the probe again")
            );
        }
    }
    if entry.scale.is_signed() {
        let fitted = stored.states().len().saturating_sub(1);
        let rows = stored.requests(fitted).map_err(Failure::data)?;
        if let Some(stranger) = stranger(&rows, Some(problem.target())) {
            let message = format!(
                "the probe took projected gradients against request {stranger}, which is none of the target `{part}`"
            );
            return Err(Failure::new(Exit::Configuration, message).hint(format!(
                "write `gradients: {{ part: {part} }}` at the node that probes"
            )));
        }
    }
    Ok(Arc::new(stored))
}

/// A request with a gradient that is not among those asked for.
fn stranger(rows: &Rows, target: Option<&Target>) -> Option<u32> {
    let requests = target.map_or(&[][..], |target| &target.requests);
    let mut asked: Vec<u32> = requests.iter().map(|request| request.request).collect();
    asked.sort_unstable();
    let mut numbers = rows.numbers.iter().copied();
    numbers.find(|number| asked.binary_search(number).is_err())
}

/// Refuses a state that speaks of some samples only.
fn check_complete(states: &[State], n_rows: usize, n: usize) -> Result<(), Failure> {
    match states.last() {
        Some(state) if n_rows != n => {
            let message = format!(
                "`{}` has {n_rows} rows at step {} for {n} samples",
                PROBE_GRADIENTS.file_name(),
                state.step,
            );
            Err(Failure::new(Exit::Data, message).hint("run the node that made the probe again"))
        }
        _ => Ok(()),
    }
}

/// A row of a table that is not of the sample whose turn it is.
fn misplaced(table: &Table, sample_id: u64, step: u64) -> Failure {
    let message = format!(
        "sample {sample_id} of `{}` at step {step} is not the next of the probe's samples",
        table.file_name(),
    );
    Failure::new(Exit::Data, message).hint("run the node that made the probe again")
}

/// A table that only some models give.
fn read_optional<R: Row>(directory: &Path, table: &Table) -> Result<Option<Vec<R>>, Failure> {
    if !directory.join(table.file_name()).is_file() {
        return Ok(None);
    }
    tables::read_all(directory).map(Some).map_err(Failure::data)
}
