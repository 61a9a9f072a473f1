//! Mode `probe` with `gradients: { directions: [...] }`: the gradient of the target after
//! preconditioners, and how samples lie to it.
//!
//! The direction of the optimiser is taken at every state that is wired, those that rest on a Fisher
//! matrix at the fitted model alone: influence functions ask where training ends.

use std::path::Path;

use models::{Along, Direction, LossGradients, Preconditioner, TargetGradient};
use stage::Failure;
use tables::{ProbeCurvature, ProbeDirection, RowWriter};

use super::config::{Gradients, no_optimiser};
use super::{Asked, State};

/// The directions of a target at one state, in the order of the list of preconditioners.
pub(super) fn of(
    asked: &Asked<'_>,
    there: &dyn LossGradients,
    state: &State,
    (target, is_last): (&TargetGradient, bool),
    on_progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Direction>, Failure> {
    let configured = asked.configured;
    let mut directions = Vec::new();
    if configured.wants_adam() {
        // Checked where roles are wired; a person may run the stage by hand.
        let kept = state.weights.as_ref().ok_or_else(no_optimiser)?;
        let direction = there.adam_direction(kept, target);
        directions.push(direction.map_err(Failure::data)?);
    }
    let mut wanted = configured.directions.clone();
    wanted.retain(|&one| one != Preconditioner::Adam);
    wanted.sort_unstable();
    if is_last && !wanted.is_empty() {
        let seed = asked.seed.child("fisher");
        let wanted = (wanted.as_slice(), configured.damped());
        directions.extend(there.fisher_directions(asked.data, target, wanted, seed, on_progress));
    }
    Ok(directions)
}

/// Both tables.
pub(super) struct Writers {
    directions: RowWriter<ProbeDirection>,
    /// `None` in a shard that is not the first: a matrix belongs to no single sample.
    curvatures: Option<RowWriter<ProbeCurvature>>,
}

/// A sample with what it is along each direction; `None`: it has no gradient.
type Row<'a> = (u64, Option<&'a [Along]>);

impl Writers {
    /// `None` where no direction is asked for.
    pub(super) fn create(asked: &Asked<'_>, out: &Path) -> Result<Option<Self>, Failure> {
        if asked.configured.directions.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            directions: RowWriter::create(out).map_err(Failure::environment)?,
            curvatures: asked
                .is_first
                .then(|| RowWriter::create(out).map_err(Failure::environment))
                .transpose()?,
        }))
    }

    /// Adds one state; rows come by sample.
    pub(super) fn push(
        &mut self,
        state: &State,
        configured: &Gradients,
        (directions, target_norm): (&[Direction], f64),
        rows: &[Row<'_>],
    ) -> Result<(), Failure> {
        for (place, direction) in directions.iter().enumerate() {
            let preconditioner = word(direction.preconditioner());
            for &(sample_id, along) in rows {
                let along = along.map(|along| along[place]);
                let update = along.and_then(|along| along.update);
                let row = ProbeDirection {
                    step: state.step,
                    preconditioner,
                    sample_id,
                    learning_rate: state.learning_rate,
                    part: configured.part,
                    target_norm,
                    product: along.map(|along| along.product),
                    self_product: along.and_then(|along| along.self_product),
                    update_product: update.map(|update| update.product),
                    update_norm: update.map(|update| update.norm),
                };
                self.directions.push(row).map_err(Failure::environment)?;
            }
            let Some(curvatures) = &mut self.curvatures else {
                continue;
            };
            for block in direction.blocks() {
                let [n_rows, n_columns] = block.shape.map(|n| n as u64);
                let row = ProbeCurvature {
                    step: state.step,
                    preconditioner,
                    parameter: block.parameter.clone(),
                    n_rows,
                    n_columns,
                    is_turned: block.is_turned,
                    mean_eigenvalue: block.mean_eigenvalue,
                    damping: block.damping,
                };
                curvatures.push(row).map_err(Failure::environment)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        self.directions.finish().map_err(Failure::environment)?;
        if let Some(curvatures) = self.curvatures {
            curvatures.finish().map_err(Failure::environment)?;
        }
        Ok(())
    }
}

fn word(preconditioner: Preconditioner) -> tables::Preconditioner {
    match preconditioner {
        Preconditioner::Adam => tables::Preconditioner::Adam,
        Preconditioner::Kfac => tables::Preconditioner::Kfac,
        Preconditioner::Ekfac => tables::Preconditioner::Ekfac,
    }
}
