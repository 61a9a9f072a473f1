//! Mode `probe` with `gradients`: lengths of the gradients of single samples, and their products with
//! the gradient of what the requests of one part cost, at the fitted model or at every state that is
//! wired; the same products under preconditioners, and the gradients themselves, projected, where that is
//! asked for.

pub(crate) mod config;
mod directions;

use std::ops::Range;
use std::path::Path;

use models::{
    History, LossGradients, Model, Preconditioner, Seed, Sequences, TargetGradient, Tensors,
    TrainingData,
};
use stage::{Exit, Failure, Io};
use tables::{KeptCheckpoint, Part, ProbeGradient, Request, RowWriter};

use crate::factored::{self, Training};
use crate::projected;
use crate::shard::{Shard, UNIT};
use config::Gradients;
use directions::Writers;

/// A state along the training, or the fitted model where none is wired.
pub(crate) struct State {
    pub(crate) step: u64,
    pub(crate) learning_rate: Option<f64>,
    /// `None`: the model itself.
    pub(crate) weights: Option<Tensors>,
}

/// What gradients are taken of.
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a dyn Model,
    pub(crate) data: &'a TrainingData<'a>,
    pub(crate) sequences: &'a Sequences,
    pub(crate) requests: &'a [Request],
    pub(crate) configured: &'a Gradients,
    pub(crate) seed: Seed,
    /// Places in the table of the samples that are asked for.
    pub(crate) range: Range<usize>,
    /// The part of the blocks of projected gradients that is asked for.
    pub(crate) shard: Option<Shard>,
    /// Whether what belongs to no single sample is asked for.
    pub(crate) is_first: bool,
    /// The training to take back, where that is wanted.
    pub(crate) training: Option<Training<'a>>,
}

/// Writes `probe_gradients`, sorted by step and sample, and what belongs to projected gradients;
/// nothing for a model without either.
pub(crate) fn write(asked: &Asked<'_>, io: &Io, out: &Path) -> Result<(), Failure> {
    let (factors, training) = (
        asked.model.factor_gradients(),
        asked.training.as_ref().zip(asked.model.unrolled_training()),
    );
    let has_rows = asked.model.gradients().is_some() || asked.model.gradient_rows().is_some();
    if !has_rows && factors.is_none() && training.is_none() {
        return Ok(());
    }
    let (numbers, of_part) = requests_of(asked, asked.configured.part)?;
    if let Some(factors) = factors {
        factored::write_blocks(asked, factors, io, out)?;
    }
    if let Some((training, model)) = training {
        factored::write_unrolled(asked, training, model, io, out)?;
    }
    if !has_rows {
        return Ok(());
    }
    let states = states(asked.model, io)?;
    if let Some(gradients) = asked.model.gradients() {
        write_exact(asked, gradients, &states, &of_part, io, out)?;
    }
    if let Some(projection) = &asked.configured.projection {
        projected::write(asked, &states, (&numbers, &of_part), projection, io, out)?;
    }
    Ok(())
}

/// Requests with their numbers.
pub(crate) type Numbered<'a> = (Vec<u32>, Vec<(History<'a>, &'a [u32])>);

/// The requests of a part that have a relevant item; there is one.
pub(crate) fn requests_of<'a>(asked: &Asked<'a>, part: Part) -> Result<Numbered<'a>, Failure> {
    let found: Numbered<'a> = asked
        .requests
        .iter()
        .filter(|request| request.part == part && !request.relevant.is_empty())
        .filter_map(|request| {
            // Every history was seen when the requests were read.
            let history = asked
                .sequences
                .history(request.sequence, request.history_end)?;
            let relevant = request.relevant.as_slice();
            Some((request.request, (history, relevant)))
        })
        .unzip();
    if found.0.is_empty() {
        return Err(Failure::new(
            Exit::Data,
            format!("no request of part `{part}` has a relevant item"),
        )
        .hint("make the part larger with `parts` or `instants` of `split`"));
    }
    Ok(found)
}

/// Writes `probe_gradients`, and `probe_directions` with `probe_curvatures` where directions are asked for.
fn write_exact(
    asked: &Asked<'_>,
    gradients: &dyn LossGradients,
    states: &[State],
    of_part: &[(History<'_>, &[u32])],
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let configured = asked.configured;
    let in_table = projected::table_order(asked.data, io)?;
    let all = in_table.get(asked.range.clone()).unwrap_or_default();
    let mut directions = configured.directions.iter();
    let has_fisher = directions.any(|&one| one != Preconditioner::Adam);
    // A Fisher matrix looks at every sample twice, at those of other shards too.
    let by_fisher = if has_fisher {
        2 * asked.data.n_samples() as u64
    } else {
        0
    };
    let total = states.len() as u64 * all.len() as u64 + by_fisher;
    let progress = std::sync::Mutex::new(io.progress("gradients of samples", total));
    let on_progress = |done| {
        // A poisoned bar belongs to a panic that is on its way already.
        if let Ok(mut progress) = progress.lock() {
            progress.advance(done);
        }
    };
    let id = |at: usize| asked.data.sample_id(all[at] as usize);
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by_key(|&at| id(at));
    let mut writer = RowWriter::<ProbeGradient>::create(out).map_err(Failure::environment)?;
    let mut writers = Writers::create(asked, out)?;
    for (at, state) in states.iter().enumerate() {
        let there = match &state.weights {
            Some(weights) => Some(gradients.at(weights).map_err(Failure::data)?),
            None => None,
        };
        let there: &dyn LossGradients = there.as_deref().unwrap_or(gradients);
        let target: TargetGradient = there.target(of_part, configured.measure());
        let is_last = at + 1 == states.len();
        let directions = directions::of(asked, there, state, (&target, is_last), &on_progress)?;
        // A block at a time: what shares one is rounded together, in a part as in the whole.
        let blocks = all.chunks(UNIT);
        let found: Vec<_> = blocks
            .flat_map(|block| {
                there.samples_along(asked.data, block, (&target, &directions), &on_progress)
            })
            .collect();
        for &at in &order {
            let sample = found[at].as_ref().map(|(sample, _)| sample);
            let row = ProbeGradient {
                step: state.step,
                sample_id: id(at),
                learning_rate: state.learning_rate,
                part: configured.part,
                target_norm: target.norm(),
                norm: sample.map(|sample| sample.norm),
                norm_without_tables: sample.map(|sample| sample.norm_without_tables),
                target_product: sample.map(|sample| sample.target_product),
                error_norm: sample.map(|sample| sample.error_norm),
            };
            writer.push(row).map_err(Failure::environment)?;
        }
        if let Some(writers) = &mut writers {
            let rows = order.iter().map(|&at| {
                let along = found[at].as_ref().map(|(_, along)| along.as_slice());
                (id(at), along)
            });
            let rows: Vec<_> = rows.collect();
            writers.push(state, configured, (&directions, target.norm()), &rows)?;
        }
    }
    writer.finish().map_err(Failure::environment)?;
    writers.map_or(Ok(()), Writers::finish)
}

/// The states that are wired, or the fitted model alone.
fn states(model: &dyn Model, io: &Io) -> Result<Vec<State>, Failure> {
    let steps = model.steps().unwrap_or(0);
    let itself = State {
        step: steps,
        learning_rate: None,
        weights: None,
    };
    let Some(directory) = io.optional("checkpoints") else {
        return Ok(vec![itself]);
    };
    let rows = tables::read_all::<KeptCheckpoint>(directory).map_err(Failure::data)?;
    let Some(last) = rows.last() else {
        return Ok(vec![itself]);
    };
    if last.step != steps {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "`checkpoints` end at step {}, the model was trained for {steps}",
                last.step
            ),
        )
        .hint("wire the output `checkpoints` of the node that fitted the model"));
    }
    rows.into_iter()
        .map(|row| {
            let weights = Tensors::load(&directory.join(&row.file)).map_err(Failure::data)?;
            Ok(State {
                step: row.step,
                learning_rate: row.learning_rate,
                weights: Some(weights),
            })
        })
        .collect()
}
