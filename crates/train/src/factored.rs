//! Mode `probe` with `gradients`, of a matrix factorisation: lengths and products of gradients by the vectors
//! of users and items, influence through the blocks of one user and one item, and, of any model that can
//! take its training again, the derivative of what requests cost by the weight of each sample.

use std::path::Path;
use std::sync::Mutex;

use models::{AskedRequest, FactorGradients, Seed, UnrollError, Unrolled, Unrolling};
use serde_json::Value;
use stage::{Exit, Failure, Io, Progress};
use tables::{ProbeBlockInfluence, ProbeGradient, ProbeUnrolled, Request};

use crate::gradients::Asked;
use crate::projected::table_order;

/// The training that led to a model.
pub(crate) struct Training<'a> {
    /// Parameters, as the model's card has them.
    pub(crate) parameters: &'a Value,
    /// The seed of the node that fitted it.
    pub(crate) seed: u64,
}

/// The requests of the part that have relevant items.
fn requests<'a>(asked: &Asked<'a>) -> Vec<AskedRequest<'a>> {
    let of_part =
        |request: &&Request| request.part == asked.configured.part && !request.relevant.is_empty();
    let requests = asked.requests.iter().filter(of_part);
    requests
        .map(|request| AskedRequest {
            sequence: request.sequence,
            history_end: request.history_end,
            relevant: &request.relevant,
        })
        .collect()
}

/// Positions of the samples that are asked for, in the order of their ids.
fn by_id(asked: &Asked<'_>, io: &Io) -> Result<Vec<usize>, Failure> {
    let mut order: Vec<usize> = table_order(asked.data, io)?[asked.range.clone()]
        .iter()
        .map(|&at| at as usize)
        .collect();
    order.sort_unstable_by_key(|&at| asked.data.sample_id(at));
    Ok(order)
}

/// Writes `probe_gradients` and `probe_block_influence` of a factorisation, at the fitted model.
pub(crate) fn write_blocks(
    asked: &Asked<'_>,
    factors: &dyn FactorGradients,
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let found = factors.measure(asked.data, &requests(asked));
    if found.n_indefinite > 0 {
        io.warn(&format!(
            "{} blocks of a user and an item had no inverse, and were made definite",
            found.n_indefinite
        ));
    }
    let order = by_id(asked, io)?;
    let step = asked.model.steps().unwrap_or(0);
    let rows = order.iter().map(|&at| {
        let sample = found.gradients[at];
        ProbeGradient {
            step,
            sample_id: asked.data.sample_id(at),
            learning_rate: None,
            part: asked.configured.part,
            target_norm: found.target_norm,
            norm: sample.map(|sample| sample.norm),
            norm_without_tables: sample.map(|sample| sample.norm_without_tables),
            target_product: sample.map(|sample| sample.target_product),
            error_norm: sample.map(|sample| sample.error_norm),
        }
    });
    tables::write_all(out, rows).map_err(Failure::environment)?;
    let rows = order.iter().map(|&at| ProbeBlockInfluence {
        sample_id: asked.data.sample_id(at),
        part: asked.configured.part,
        of_user: found.of_user[at],
        of_item: found.of_item[at],
    });
    tables::write_all(out, rows).map_err(Failure::environment)?;
    Ok(())
}

/// Writes `probe_unrolled`.
pub(crate) fn write_unrolled(
    asked: &Asked<'_>,
    training: &Training<'_>,
    model: &dyn Unrolled,
    io: &Io,
    out: &Path,
) -> Result<(), Failure> {
    let bar: Mutex<(u64, Option<Progress>)> = Mutex::new((0, None));
    let on_progress = |done: u64, total| {
        // A poisoned bar belongs to a panic that is on its way already.
        if let Ok(mut bar) = bar.lock() {
            let more = done.saturating_sub(bar.0);
            bar.0 = done;
            bar.1
                .get_or_insert_with(|| io.progress("taking the training back", total))
                .advance(more);
        }
    };
    let found = model
        .unrolled(&Unrolling {
            parameters: training.parameters,
            data: asked.data,
            // As mode `fit` has it.
            seed: Seed::root(training.seed).child("fit"),
            requests: &requests(asked),
            on_progress: &on_progress,
        })
        .map_err(failure)?;
    let rows = by_id(asked, io)?.into_iter().map(|at| ProbeUnrolled {
        sample_id: asked.data.sample_id(at),
        part: asked.configured.part,
        fall: found[at],
    });
    tables::write_all(out, rows).map_err(Failure::environment)?;
    Ok(())
}

fn failure(error: UnrollError) -> Failure {
    match error {
        UnrollError::AnotherTraining { .. } => Failure::new(Exit::Configuration, error.to_string())
            .hint("write the same `seed` here as at the node that fitted the model, and wire the samples that it was fitted on"),
        UnrollError::NotDifferentiable(_) => Failure::configuration(error)
            .hint("fit the model with other parameters, or leave `gradients.unrolled` out"),
        UnrollError::Parameters(_) => Failure::data(error).hint("fit the model again"),
        UnrollError::Fit(_) | UnrollError::NotFinite => Failure::computation(error),
    }
}
