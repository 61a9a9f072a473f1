//! Mode `fit`: fit a model, rank for every request.

use models::{Card, FitError, Losses, Run, Sequences, TrainingData};
use rayon::prelude::*;
use stage::{Failure, Io, Seed};
use tables::{Part, Prediction, Request, RowWriter, TrainingEpoch};

use crate::act::Dropped;
use crate::config::{self, Config};
use crate::inputs;
use crate::rank::{BLOCK, Ranker};
use crate::watch::{Mean, VALIDATION_CUT, Watch};

/// Samples whose losses are summed at once; fixes the order of the sum for any number of threads.
const LOSS_BLOCK: usize = 8192;

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let (entry, parameters) = config::model(config)?;
    if io.optional("model").is_some() {
        return Err(Failure::new(
            stage::Exit::Configuration,
            "mode `fit` takes no input `model`",
        ));
    }
    let catalogue = inputs::catalogue(io)?;
    let sequences = inputs::sequences(io, &catalogue)?;
    let samples = read_samples(config, io)?;
    let requests = inputs::requests(io, &catalogue, &sequences)?;

    let items = if entry.reads_items {
        Some(inputs::item_features(io, &catalogue)?)
    } else {
        None
    };

    let mut data =
        TrainingData::new(&samples, &sequences, catalogue.n_vocabulary).map_err(Failure::data)?;
    if let Some(items) = &items {
        data = data.with_items(items);
    }
    let mut watch = Watch::new(io, &catalogue, &sequences, &requests, config.seen);
    let mut run = Run {
        seed: Seed::root(config.seed).child("fit"),
        observer: &mut watch,
    };
    let model = entry
        .fit(&parameters, &data, &mut run)
        .map_err(cannot_fit)?;
    let mut epochs = watch.into_epochs();
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
            n_samples: n_weighted(&data),
            loss: model.losses().and_then(|losses| mean_loss(losses, &data)),
            validation,
            learning_rate: None,
        });
    }
    let figure = |x: Option<f64>| x.map_or("none".to_owned(), |x| format!("{x:.4}"));
    io.note(&format!(
        "{}: {} samples, loss {}, NDCG@{VALIDATION_CUT} on {} {}",
        entry.name,
        n_weighted(&data),
        figure(epochs.last().and_then(|epoch| epoch.loss)),
        Part::ValuationFit,
        figure(validation),
    ));
    tables::write_all(&io.output("training")?, epochs).map_err(Failure::environment)?;
    Ok(())
}

/// What a model that could not be fitted means for the stage.
fn cannot_fit(error: FitError) -> Failure {
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
        FitError::Checkpoint(_) => Failure::environment(error),
        FitError::NoItems { .. } | FitError::Counts(_) | FitError::Diverged { .. } => {
            Failure::computation(error)
        }
    }
}

/// Reads the samples, without those that scores tell to drop.
fn read_samples(config: &Config, io: &Io) -> Result<models::Samples, Failure> {
    let directory = io.input("samples")?;
    match (&config.act, io.optional("scores")) {
        (None, None) => inputs::samples(directory, io, |_| Ok(true)),
        (None, Some(_)) => Err(config::scores_unused()),
        (Some(_), None) => Err(config::needs_scores()),
        (Some(act), Some(scores)) => {
            let mut dropped = Dropped::read(scores, act, config.seed)?;
            let samples = inputs::samples(directory, io, |id| dropped.keeps(id))?;
            let n_dropped = dropped.finish()?;
            let n = n_dropped + samples.n();
            io.note(&format!("dropped {n_dropped} of {n} samples"));
            Ok(samples)
        }
    }
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
            .unwrap_or(&[])
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

/// Samples that count for anything.
fn n_weighted(data: &TrainingData<'_>) -> u64 {
    let weighted = (0..data.n_samples()).filter(|sample| data.weight(*sample) > 0.0);
    weighted.count() as u64
}

/// Weighted mean loss of the training samples; `None` if all weights are 0.
fn mean_loss(losses: &dyn Losses, data: &TrainingData<'_>) -> Option<f64> {
    let starts: Vec<usize> = (0..data.n_samples()).step_by(LOSS_BLOCK).collect();
    let blocks: Vec<(f64, f64)> = starts
        .into_par_iter()
        .map(|start| {
            let end = (start + LOSS_BLOCK).min(data.n_samples());
            (start..end).fold((0.0, 0.0), |(loss, weight), sample| {
                let w = data.weight(sample);
                let l = losses.loss(data.history(sample), data.item(sample));
                (loss + w * l, weight + w)
            })
        })
        .collect();
    let (loss, weight) = blocks
        .into_iter()
        .fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
    (weight > 0.0).then(|| loss / weight)
}
