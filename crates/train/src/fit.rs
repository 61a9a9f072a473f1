//! Mode `fit`: fit a model, rank for every request.

use std::path::Path;

use models::{Capability, Card, FitError, Losses, Run, Sequences, TrainingData};
use stage::{Failure, Io, Seed};
use tables::{Part, Prediction, Request, RowWriter, TrainingEpoch};

use crate::act::{self, Acted, ActedOn, Regime};
use crate::config::{self, Config};
use crate::inputs;
use crate::kept::Kept;
use crate::rank::{BLOCK, Ranker};
use crate::tune::{self, Bench};
use crate::watch::{Mean, VALIDATION_CUT, Watch};

/// The parameter by which models that train step by step are told to take exactly so many.
const STEPS: &str = "steps";

/// Samples whose losses are summed before they are added to the others'.
const LOSS_BLOCK: usize = 8192;

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let (entry, mut parameters) = config::model(config)?;
    config::check_base(config.regime, io.optional("model").is_some())?;
    if let Some(base) = io.optional("model") {
        parameters = of_base(entry, parameters, base)?;
    }
    let catalogue = inputs::catalogue(io)?;
    let sequences = inputs::sequences(io, &catalogue)?;
    let samples = read_samples(config, io)?;
    let features = read_features(config, io, &entry.features(&parameters), samples.n())?;
    let requests = inputs::requests(io, &catalogue, &sequences)?;

    // Settings that are tried may read what the parameters themselves do not.
    let settings = match &config.tune {
        Some(tune) => tune::settings(entry, &parameters, tune)?,
        None => vec![parameters.clone()],
    };
    let mut reads_items = false;
    for setting in &settings {
        reads_items |= entry.reads_items(setting).map_err(Failure::configuration)?;
    }
    let items = if reads_items {
        Some(inputs::item_features(io, &catalogue)?)
    } else {
        None
    };

    if let Some(tune) = &config.tune {
        let bench = Bench {
            config,
            entry,
            io,
            catalogue: &catalogue,
            sequences: &sequences,
            samples: &samples,
            requests: &requests,
            items: items.as_deref(),
        };
        let trials;
        (parameters, trials) = tune::choose(&bench, &parameters, tune)?;
        tables::write_all(&io.output("trials")?, trials).map_err(Failure::environment)?;
    }

    let mut data =
        TrainingData::new(&samples, &sequences, catalogue.n_vocabulary).map_err(Failure::data)?;
    if let Some(items) = &items {
        data = data.with_items(items);
    }
    if let Some(features) = &features {
        data = data.with_features(features);
    }
    // States are for those who take gradients at them.
    let has_states = entry.capabilities.contains(&Capability::Gradients);
    let kept = Kept::new(io, config.keep_checkpoints, has_states)?;
    let mut watch = Watch::new(io, &catalogue, &sequences, &requests, config.seen).keeping(kept);
    let mut run = Run {
        seed: Seed::root(config.seed).child("fit"),
        observer: &mut watch,
    };
    let model = entry
        .fit(&parameters, &data, &mut run)
        .map_err(cannot_fit)?;
    let (mut epochs, kept) = watch.into_parts();
    if let Some(kept) = kept {
        kept.finish(model.steps().unwrap_or(0), &epochs)?;
    }
    let card = Card {
        name: entry.name.to_owned(),
        revision: entry.revision,
        parameters,
        n_vocabulary: catalogue.n_vocabulary,
        n_samples: data.n_samples(),
    };
    models::save(&io.output("model")?, &card, model.as_ref()).map_err(Failure::environment)?;

    let ranker = Ranker {
        model: model.as_ref(),
        catalogue: &catalogue,
        seen: config.seen,
        top: config.top,
    };
    let validation = predict(&ranker, &requests, &sequences, io)?;
    if epochs.is_empty() {
        epochs.push(TrainingEpoch {
            epoch: 0,
            n_samples: data.n_weighted(),
            loss: model.losses().and_then(|losses| mean_loss(losses, &data)),
            validation,
            learning_rate: None,
        });
    }
    let figure = |x: Option<f64>| x.map_or("none".to_owned(), |x| format!("{x:.4}"));
    io.note(&format!(
        "{}: {} samples, loss {}, NDCG@{VALIDATION_CUT} on {} {}",
        entry.name,
        data.n_weighted(),
        figure(epochs.last().and_then(|epoch| epoch.loss)),
        Part::ValuationFit,
        figure(validation),
    ));
    tables::write_all(&io.output("training")?, epochs).map_err(Failure::environment)?;
    Ok(())
}

/// What a model that could not be fitted means for the stage.
pub(crate) fn cannot_fit(error: FitError) -> Failure {
    match error {
        FitError::TooManyItems {
            parameter, n, most, ..
        } => {
            let hint = format!(
                "write `{parameter}: {n}`, which takes {:.0} times the memory, or take another model",
                (n as f64 / most.max(1) as f64).powi(2)
            );
            Failure::configuration(error).hint(hint)
        }
        FitError::Parameters(_) => Failure::configuration(error),
        FitError::NoTarget { .. } => {
            Failure::configuration(error).hint("write one of those as `target`, or leave it out")
        }
        FitError::Checkpoint(_) => Failure::environment(error),
        FitError::Validation(_) => {
            Failure::computation(error).hint("lower `learning_rate`, add `warmup`, or lower `clip`")
        }
        FitError::NoItems { .. }
        | FitError::Counts(_)
        | FitError::Diverged { .. }
        | FitError::NotConverged { .. }
        | FitError::NotFinite { .. } => Failure::computation(error),
    }
}

/// The parameters that repeat the training of the model that is wired: its own, for exactly the
/// steps that led to it.
pub(crate) fn of_base(
    entry: &models::Entry,
    mut parameters: serde_json::Value,
    directory: &Path,
) -> Result<serde_json::Value, Failure> {
    let (card, base) = models::load(directory)
        .map_err(|error| Failure::data(error).hint("fit the model again, in mode `fit`"))?;
    if card.name != entry.name || card.parameters != parameters {
        return Err(Failure::new(
            stage::Exit::Configuration,
            format!(
                "`regime: mask` repeats the training of the model that is wired, but that is `{}` with {}, not `{}` with {parameters}",
                card.name, card.parameters, entry.name
            ),
        )
        .hint("write the same `model:` at both nodes"));
    }
    if let (Some(steps), Some(parameter)) = (base.steps(), parameters.get_mut(STEPS)) {
        *parameter = steps.into();
    }
    Ok(parameters)
}

/// Reads the samples, acting on scores where told to.
fn read_samples(config: &Config, io: &Io) -> Result<models::Samples, Failure> {
    let directory = io.input("samples")?;
    let (scores, importance) = (io.optional("scores"), io.optional("feature_importance"));
    act::check_inputs(config.act.as_ref(), scores.is_some(), importance.is_some())?;
    match (&config.act, scores) {
        (None, _) | (Some(_), None) => inputs::samples(directory, io, |_| Ok(Some(1.0))),
        (Some(act), Some(scores)) => {
            let mut acted = Acted::read(scores, act, config.seed)?;
            let removed = match config.regime {
                Regime::Drop => None,
                Regime::Mask => Some(0.0),
            };
            let samples = inputs::samples(directory, io, |id| Ok(acted.factor(id)?.or(removed)))?;
            let removal = acted.finish(config.regime)?;
            let (n_removed, n_samples) = (removal.n_removed, removal.n_samples);
            if act.reweight.is_some() {
                let n_reweighted = removal.n_reweighted;
                io.note(&format!(
                    "weighted {n_reweighted} of {n_samples} samples anew"
                ));
            } else {
                io.note(&format!("dropped {n_removed} of {n_samples} samples"));
            }
            if let Some(n_wanted) = removal.n_wanted.filter(|n_wanted| *n_wanted > n_removed) {
                io.warn(&format!(
                    "{n_wanted} samples were to be dropped, but `{}` scores {} only",
                    removal.method, removal.n_scored
                ));
            }
            tables::write_all(&io.output("removals")?, [removal]).map_err(Failure::environment)?;
            Ok(samples)
        }
    }
}

/// Reads the importance of features, where it is acted on, and says what was done.
fn read_features(
    config: &Config,
    io: &Io,
    features: &Result<Vec<&'static str>, models::ParameterError>,
    n_samples: usize,
) -> Result<Option<models::FeatureWeights>, Failure> {
    let (Some(act), Some(directory)) = (&config.act, io.optional("feature_importance")) else {
        return Ok(None);
    };
    let none = Vec::new();
    let features = features.as_ref().unwrap_or(&none);
    let acted = ActedOn::read(directory, act, features, config.seed)?;
    let (n_left_out, n) = (acted.n_left_out(), features.len());
    io.note(&format!("left out {n_left_out} of {n} features"));
    let removal = acted.removal(config.regime, n_samples);
    tables::write_all(&io.output("removals")?, [removal]).map_err(Failure::environment)?;
    let weights = acted.weights();
    tables::write_all(&io.output("feature_weights")?, acted.rows).map_err(Failure::environment)?;
    Ok(Some(weights))
}

/// Ranks block by block, writes `predictions`, and returns the validation figure.
fn predict(
    ranker: &Ranker<'_>,
    requests: &[Request],
    sequences: &Sequences,
    io: &Io,
) -> Result<Option<f64>, Failure> {
    let mut writer = RowWriter::<Prediction>::create(&io.output("predictions")?)
        .map_err(Failure::environment)?;
    let mut progress = io.progress("ranking", requests.len() as u64);
    let mut validation = Mean::default();
    // Every history was seen when the requests were read.
    let history = |request: &Request| {
        sequences
            .history(request.sequence, request.history_end)
            .unwrap_or_default()
    };
    for block in requests.chunks(BLOCK) {
        let rows = ranker
            .rank_all(block, history)
            .map_err(Failure::computation)?;
        for row in rows {
            validation.add_prediction(&row);
            writer.push(row).map_err(Failure::environment)?;
        }
        progress.advance(block.len() as u64);
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(validation.value())
}

/// Weighted mean loss of the training samples; `None` if all weights are 0.
fn mean_loss(losses: &dyn Losses, data: &TrainingData<'_>) -> Option<f64> {
    let losses = losses.sample_losses(data);
    let (mut loss, mut weight) = (0.0, 0.0);
    // Sums of blocks lose less than one long sum.
    for (block, losses) in losses.chunks(LOSS_BLOCK).enumerate() {
        let samples = block * LOSS_BLOCK..;
        let sums = samples.zip(losses).fold((0.0, 0.0), |sum, (sample, l)| {
            let w = data.weight(sample);
            (sum.0 + w * l, sum.1 + w)
        });
        loss += sums.0;
        weight += sums.1;
    }
    (weight > 0.0).then(|| loss / weight)
}
