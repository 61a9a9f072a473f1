//! Reads the probes, lets the method work, writes scores and the method's card.
//!
//! One probe is in memory at a time, and of the others running moments, for each setting that is tried.

use std::sync::Mutex;

use attribution::{EstimatorError, Prepared, Problem, Seed, Work};
use stage::{Exit, Failure, Io, Progress};
use tables::{MethodCard, Score};

use crate::config::{Config, several_influences, suspect};
use crate::context::Context;
use crate::ensemble::{Ensemble, Whole};
use crate::features::{self, Of};
use crate::members::{self, Shared};
use crate::scored::Scored;
use crate::tiers::Tiers;
use crate::{groups, influences, probe, tiers, tune};

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    if config.of == Of::Features {
        return features::run(config, io);
    }
    let settings = tune::settings(config)?;
    let members = members::wired(io)?;
    if config.influences.is_some() && members.len() > 1 {
        return Err(several_influences());
    }
    let held_out = config.tune.as_ref().map(|tune| tune.on);
    let part = config.target.part;
    let mut tried: Vec<Ensemble> = settings.iter().map(|_| Ensemble::default()).collect();
    let mut shared: Option<Shared> = None;
    let mut last = None;
    for member in members {
        // One at a time.
        drop(last.take());
        let problem = probe::read(&member.path, &settings, part, held_out)?;
        if members.len() > 1 {
            let shared = shared.get_or_insert_with(|| Shared::of(&problem));
            shared.check(member, &problem)?;
        }
        for (setting, ensemble) in settings.iter().zip(&mut tried) {
            ensemble.add(estimate(config, setting, &problem, io)?);
        }
        last = Some(problem);
    }
    let Some(problem) = last else {
        return Err(Failure::new(Exit::Bug, "no probe was read"));
    };

    let chosen = match &config.tune {
        Some(_) => tune::choose(&tried, &config.method.name)?,
        None => 0,
    };
    let criteria: Vec<_> = tried.iter().map(Ensemble::criterion).collect();
    let mut wholes: Vec<Whole> = tried.into_iter().map(Ensemble::finish).collect();
    if config.tune.is_some() {
        tune::write(io, &settings, &criteria, &wholes, chosen)?;
    }
    let (method, whole) = (&settings[chosen], wholes.swap_remove(chosen));
    drop(wholes);
    let name = method.entry().name;
    let ids = &problem.samples().id;
    let scored = Scored::new(name, suspect(method.entry()), ids, &whole.scores);
    write(config, io, method, &whole, &scored)?;

    let found = config.tiers.unwrap_or(Tiers::DEFAULT).assign(&scored)?;
    if config.tiers.is_some() {
        tiers::write(io, &scored, &found)?;
    }
    if config.groups.is_none() && config.influences.is_none() {
        return Ok(());
    }
    let context = Context::read(io, problem.samples())?;
    if let Some(asked) = &config.groups {
        groups::write(io, asked, &scored, &found, &context)?;
    }
    if let Some(asked) = config.influences {
        influences::write(io, config, asked, method, &problem, &context)?;
    }
    Ok(())
}

/// The scores of one model. Every member of an ensemble has the chance that it would have alone.
fn estimate(
    config: &Config,
    method: &Prepared,
    problem: &dyn Problem,
    io: &Io,
) -> Result<attribution::Scores, Failure> {
    let bar: Mutex<Option<Progress>> = Mutex::new(None);
    let on_progress = |Work { done, total }| {
        // A poisoned bar belongs to a panic that is on its way already.
        if let Ok(mut bar) = bar.lock() {
            bar.get_or_insert_with(|| io.progress(method.entry().name, total))
                .advance(done);
        }
    };
    let seed = Seed::root(config.seed).child("estimate");
    method
        .estimate(problem, seed, &on_progress)
        .map_err(|error| failure(error, config))
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
    whole: &Whole,
    scored: &Scored,
) -> Result<(), Failure> {
    let out = io.output("scores")?;
    let entry = method.entry();
    let scores = &whole.scores;
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
    let mut estimand = if entry.scale.is_signed() {
        let part = config.target.part;
        format!("{} Requests are those of part `{part}`.", entry.estimand)
    } else {
        entry.estimand.to_owned()
    };
    if whole.n_members > 1 {
        estimand = format!(
            "{estimand} The mean over {} trainings, which differ in their seed.",
            whole.n_members
        );
    }
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
        n_members: whole.n_members,
        stability: whole.stability,
    };
    tables::write_all(&out, [card]).map_err(Failure::environment)?;
    Ok(())
}
