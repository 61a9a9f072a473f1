//! How many samples each arm removed: a comparison with acting at random speaks of the choice of
//! samples alone only where both removed equally many.

use stage::{Exit, Failure, Io};
use tables::{Metric, Part, Removal};

use crate::Config;
use crate::answers::Answered;

/// The metric.
pub(crate) const N_REMOVED: &str = "n_removed";

/// The rows of the family `action` that say how many samples each arm removed.
///
/// # Errors
/// If an input of the role `removals` belongs to no input of the role `acted`, or does not hold
/// exactly one row.
pub(crate) fn evaluate(io: &Io, acted: &Answered, config: &Config) -> Result<Vec<Metric>, Failure> {
    // By input of `acted`.
    let mut removals: Vec<Option<Removal>> = vec![None; acted.inputs.len()];
    for input in io.many("removals") {
        let found = acted
            .inputs
            .iter()
            .position(|answers| answers.label == input.label);
        let Some(at) = found else {
            return Err(Failure::new(
                Exit::Configuration,
                format!("`removals` [{}] belong to no input of `acted`", input.label),
            )
            .hint("wire `predictions` and `removals` of the same nodes"));
        };
        let rows: Vec<Removal> = tables::read_all(&input.path).map_err(Failure::data)?;
        let n_rows = rows.len();
        let one = <[Removal; 1]>::try_from(rows).map_err(|_| {
            Failure::new(
                Exit::Data,
                format!(
                    "`removals` [{}] hold {n_rows} rows, expected 1",
                    input.label
                ),
            )
            .hint("train again after acting")
        })?;
        let [row] = one;
        removals[at] = Some(row);
    }
    let rows = acted.groups.iter().filter_map(|group| {
        let of_group: Vec<&Removal> = group
            .members
            .iter()
            .filter_map(|&input| removals[input].as_ref())
            .collect();
        let first = of_group.first()?;
        let mean = of_group
            .iter()
            .map(|removal| removal.n_removed as f64)
            .sum::<f64>()
            / of_group.len() as f64;
        let action = config.arms.get(&group.node).unwrap_or(&group.node);
        let is_on_features = ["select_features", "weigh_features"]
            .iter()
            .any(|word| first.action.starts_with(word));
        if is_on_features {
            return Some(Metric {
                action: Some(action.clone()),
                value: mean,
                n: first.n_samples,
                protocol: format!(
                    "training samples that the arm removed: it acts on features (`{}`) and keeps all samples",
                    first.action
                ),
                ..group.row(
                    "action",
                    N_REMOVED.to_owned(),
                    Part::Training.as_str(),
                    "all",
                )
            });
        }
        let wanted = match first.n_wanted {
            Some(n_wanted) => format!("{n_wanted} were to be removed"),
            None if first.n_reweighted > 0 => {
                format!("{} weigh more or less than before", first.n_reweighted)
            }
            None => "a bound on the score decides".to_owned(),
        };
        Some(Metric {
            action: Some(action.clone()),
            value: mean,
            n: first.n_samples,
            protocol: format!(
                "training samples that the arm removed (regime `{}`); {wanted}; {} of {} have a score",
                first.regime, first.n_scored, first.n_samples
            ),
            ..group.row(
                "action",
                N_REMOVED.to_owned(),
                Part::Training.as_str(),
                "all",
            )
        })
    });
    Ok(rows.collect())
}
