//! Reads the probe, lets the method work, writes scores and the method's card.

use std::sync::Mutex;

use attribution::{EstimatorError, Prepared, Scores, Seed, Work};
use stage::{Failure, Io, Progress};
use tables::{MethodCard, Score};

use crate::config::{Config, prepare, suspect};
use crate::context::Context;
use crate::features::{self, Of};
use crate::scored::Scored;
use crate::tiers::Tiers;
use crate::{groups, influences, probe, tiers};

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    if config.of == Of::Features {
        return features::run(config, io);
    }
    let method = prepare(&config.method)?;
    let directory = io.input("probe")?;
    let problem = probe::read(directory, &method, config.target.part)?;
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let on_progress = |Work { done, total }| {
        // A poisoned bar belongs to a panic that is on its way already.
        if let Ok(mut bar) = bar.lock() {
            bar.get_or_insert_with(|| io.progress(method.entry().name, total))
                .advance(done);
        }
    };
    let seed = Seed::root(config.seed).child("estimate");
    let scores = method
        .estimate(&problem, seed, &on_progress)
        .map_err(|error| failure(error, config))?;
    let suspect = suspect(method.entry());
    let scored = Scored::new(method.entry().name, suspect, &problem, &scores);
    write(config, io, &method, &scores, &scored)?;

    let found = config.tiers.unwrap_or(Tiers::DEFAULT).assign(&scored)?;
    if config.tiers.is_some() {
        tiers::write(io, &scored, &found)?;
    }
    if config.groups.is_none() && config.influences.is_none() {
        return Ok(());
    }
    let context = Context::read(io, &problem)?;
    if let Some(asked) = &config.groups {
        groups::write(io, asked, &scored, &found, &context)?;
    }
    if let Some(asked) = config.influences {
        influences::write(io, config, asked, &method, &problem, &context)?;
    }
    Ok(())
}

pub(crate) fn failure(error: EstimatorError, config: &Config) -> Failure {
    match error {
        EstimatorError::Missing { .. } => Failure::configuration(error)
            .hint("probe a model that offers it; `train describe` lists what each model offers"),
        EstimatorError::NoRequest { .. } => {
            let part = config.target.part;
            Failure::data(error)
                .cause(format!("target is part `{part}`"))
                .hint("make the part larger with `parts` or `instants` of `split`")
        }
        EstimatorError::Count { .. } | EstimatorError::Loss { .. } => {
            Failure::data(error).hint("probe the model on the samples that it was fitted on")
        }
        // Says itself what to do.
        EstimatorError::Projected(_) => Failure::data(error),
        EstimatorError::NoGradient { .. } => {
            Failure::data(error).hint("probe the model on samples that have a history")
        }
        EstimatorError::TooWide { limit, .. } => Failure::configuration(error).hint(format!(
            "project to at most {limit} columns when probing, or use method `influence` with `solver: conjugate_gradient`"
        )),
        EstimatorError::Unsolved { hint, .. } => Failure::computation(error).hint(hint),
        EstimatorError::NotFinite { .. } => Failure::computation(error),
        EstimatorError::Length { .. } => Failure::bug(error),
    }
}

fn write(
    config: &Config,
    io: &Io,
    method: &Prepared,
    scores: &Scores,
    scored: &Scored,
) -> Result<(), Failure> {
    let out = io.output("scores")?;
    let entry = method.entry();
    let order = scored.position.iter().zip(&scored.sample_ids);
    let rows = order.map(|(&index, &sample_id)| Score {
        method: entry.name.to_owned(),
        sample_id,
        score: scores.score[index],
        std_error: scores.std_error[index],
        n_updates: scores.n_updates[index],
        suspect: scored.suspect,
    });
    tables::write_all(&out, rows).map_err(Failure::environment)?;

    let n_scored = scores.score.iter().flatten().count();
    // A magnitude has no target; a helpfulness means nothing without one.
    let estimand = if entry.scale.is_signed() {
        let part = config.target.part;
        format!("{} Requests are those of part `{part}`.", entry.estimand)
    } else {
        entry.estimand.to_owned()
    };
    let card = MethodCard {
        method: entry.name.to_owned(),
        family: entry.family.as_str().to_owned(),
        revision: entry.revision,
        is_signed: entry.scale.is_signed(),
        suspect: scored.suspect,
        estimand,
        paper: entry.paper.to_owned(),
        parameters: method.parameters().to_string(),
        n_scored: n_scored as u64,
        n_unscored: (scored.len() - n_scored) as u64,
    };
    tables::write_all(&out, [card]).map_err(Failure::environment)?;
    Ok(())
}
