//! Mode `probe`: what estimators may look at, computed once per model.
//!
//! The directory holds `probe.json`, `probe_samples.parquet`, `probe_requests.parquet`,
//! `representations.safetensors` and, where the model has them, `item_counts.parquet`,
//! `transitions.parquet` and, where asked for, `probe_gradients.parquet`, `probe_directions.parquet`,
//! `probe_curvatures.parquet`, the folder `projected` with `projected.json`,
//! `probe_block_influence.parquet`, `probe_unrolled.parquet`, `probe_attention.parquet` and
//! `hidden.safetensors`, `projection_fidelity.parquet`, `probe_features.parquet` and
//! `probe_completeness.parquet`; with `shard` a part of that, and `shard.json`. Representations are sparse
//! matrices of rows of length 1: `histories`,
//! whose row 0 is the empty history, and `items`, a row per catalogue item.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use models::{Card, History, Losses, Model, Representations, Seed, Sequences, TrainingData};
use rayon::prelude::*;
use serde::Serialize;
use stage::{Exit, Failure, Io};
use tables::{ItemCount, ProbeRequest, ProbeSample, Request, RowWriter, Sample, Transition};

use crate::config::{self, Config, Features};
use crate::factored::Training;
use crate::gradients;
use crate::importance;
use crate::inputs::{self, Catalogue};
use crate::inside::{self, config::Attention};
use crate::shard;

/// Histories whose features are computed before they are stored.
const BLOCK: usize = 4096;

/// What a probe is of.
#[derive(Serialize)]
struct ProbeCard<'a> {
    model: &'a str,
    revision: u32,
    parameters: &'a serde_json::Value,
    capabilities: Vec<&'a str>,
    n_vocabulary: usize,
    n_catalogue: usize,
    n_samples: usize,
    n_requests: usize,
    n_histories: usize,
    n_columns: usize,
    features: &'a Features,
}

/// The distinct histories of samples and requests, each with its row.
struct Histories {
    /// (sequence, end) of rows 1 and up, ascending. Row 0 is the empty history.
    keys: Vec<(u32, u32)>,
}

impl Histories {
    fn new(keys: impl Iterator<Item = (u32, u32)>) -> Result<Self, Failure> {
        let mut distinct: Vec<(u32, u32)> = Vec::new();
        for key in keys.filter(|(_, end)| *end > 0) {
            // Samples of one basket follow each other.
            if distinct.last() != Some(&key) {
                distinct.push(key);
            }
        }
        distinct.sort_unstable();
        distinct.dedup();
        if u32::try_from(distinct.len()).is_err() {
            return Err(Failure::new(
                Exit::Data,
                "there are more distinct histories than 32 bits number",
            ));
        }
        Ok(Self { keys: distinct })
    }

    fn n(&self) -> usize {
        self.keys.len() + 1
    }

    #[expect(clippy::cast_possible_truncation, reason = "`new` bounds the rows")]
    fn row(&self, sequence: u32, end: u32) -> u32 {
        self.keys
            .binary_search(&(sequence, end))
            .map_or(0, |at| at as u32 + 1)
    }
}

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let (card, model, catalogue) = inputs::fitted(io, "probe")?;
    let sequences = inputs::sequences(io, &catalogue)?;
    let samples = inputs::samples(io.input("samples")?, io, |_| Ok(Some(1.0)))?;
    let requests = inputs::requests(io, &catalogue, &sequences)?;
    let data =
        TrainingData::new(&samples, &sequences, catalogue.n_vocabulary).map_err(Failure::data)?;

    let of_samples = (0..data.n_samples()).map(|at| (data.sequence(at), data.history_end(at)));
    let of_requests = requests.iter().map(|row| (row.sequence, row.history_end));
    let histories = Histories::new(of_samples.chain(of_requests))?;

    let out = io.output("probe")?;
    let n_columns =
        write_representations(config, io, &catalogue, &data, &sequences, &histories, &out)?;
    let is_first = shard::is_first(config);
    let range = shard::range(config, data.n_samples());
    write_samples(io, model.losses(), &data, &histories, &range, &out)?;
    write_requests(model.losses(), &requests, &sequences, &histories, &out)?;
    if is_first {
        write_counts(model.as_ref(), &out)?;
    }
    if let Some(configured) = &config.gradients {
        let training = Training {
            parameters: &card.parameters,
            seed: config.seed,
        };
        let asked = gradients::Asked {
            model: model.as_ref(),
            data: &data,
            sequences: &sequences,
            requests: &requests,
            configured,
            seed: Seed::root(config.seed),
            range,
            shard: config.shard,
            is_first,
            training: configured.unrolled.then_some(training),
        };
        gradients::write(&asked, io, &out)?;
    }
    if let (Some(Attention { part }), Some(maps), true) =
        (config.attention, model.attention(), is_first)
    {
        inside::write_attention(maps, &data, &requests, part, io, &out)?;
    }
    if let (true, Some(states)) = (config.hidden_states && is_first, model.hidden_states()) {
        inside::write_hidden(states, &data, &sequences, &requests, io, &out)?;
    }
    if let (Some(asked), true) = (config.feature_importance, is_first) {
        let model = (model.as_ref(), &catalogue);
        importance::write(config, asked, model, (&sequences, &requests), io, &out)?;
    }
    shard::write(config, data.n_samples(), io, &out)?;
    write_card(
        &ProbeCard {
            model: &card.name,
            revision: card.revision,
            parameters: &card.parameters,
            capabilities: capabilities(config, &card)?,
            n_vocabulary: catalogue.n_vocabulary,
            n_catalogue: catalogue.n(),
            n_samples: data.n_samples(),
            n_requests: requests.len(),
            n_histories: histories.n(),
            n_columns,
            features: &config.features,
        },
        &out,
    )
}

fn capabilities(config: &Config, card: &Card) -> Result<Vec<&'static str>, Failure> {
    let entry = models::entry(&card.name).map_err(Failure::bug)?;
    let model = entry.capabilities.iter();
    let model = model.map(|capability| capability.as_str());
    let mut words: Vec<&str> = config::probed(config, &model.collect())
        .into_iter()
        .chain(["representations"])
        .collect();
    words.sort_unstable();
    Ok(words)
}

fn write_card(card: &ProbeCard<'_>, out: &Path) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(card).map_err(Failure::bug)?;
    text.push('\n');
    let path = out.join("probe.json");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::environment(error).cause(format!("writing `{}`", path.display())))
}

/// Writes the features of histories and items, in the first part of a probe, and returns the number of
/// their columns.
fn write_representations(
    config: &Config,
    io: &Io,
    catalogue: &Catalogue,
    data: &TrainingData<'_>,
    sequences: &Sequences,
    histories: &Histories,
    out: &Path,
) -> Result<usize, Failure> {
    let items = inputs::item_features(io, catalogue)?;
    let weights = models::Weights {
        max_history: config.features.max_history,
        items: config.features.items,
        text: config.features.text,
    };
    let features = models::Features::fit(weights, &items, data).map_err(Failure::computation)?;
    if !shard::is_first(config) {
        return Ok(features.n_columns());
    }

    let mut progress = io.progress("representing histories", histories.n() as u64);
    let mut representations = Representations::new(features.n_columns());
    representations
        .push_history(features.history(&[]))
        .map_err(Failure::computation)?;
    for block in histories.keys.chunks(BLOCK) {
        let rows: Vec<Vec<(u32, f32)>> = block
            .par_iter()
            .map(|&(sequence, end)| {
                // Every history was seen when samples and requests were read.
                let history = sequences.history(sequence, end).unwrap_or_default();
                features.history(history.items())
            })
            .collect();
        for row in rows {
            representations
                .push_history(row)
                .map_err(Failure::computation)?;
        }
        progress.advance(block.len() as u64);
    }
    for item in &items {
        representations
            .push_item(features.item(item.item))
            .map_err(Failure::computation)?;
    }
    representations.save(out).map_err(Failure::environment)?;
    Ok(features.n_columns())
}

fn write_samples(
    io: &Io,
    losses: Option<&dyn Losses>,
    data: &TrainingData<'_>,
    histories: &Histories,
    range: &Range<usize>,
    out: &Path,
) -> Result<(), Failure> {
    let mut progress = io.progress("losses of samples", data.n_samples() as u64);
    // The table may come in another order than the one in which models take samples.
    let losses = losses.map(|losses| {
        let ids = (0..data.n_samples()).map(|sample| data.sample_id(sample));
        let mut by_id: Vec<(u64, f64)> = ids.zip(losses.sample_losses(data)).collect();
        by_id.sort_by_key(|(id, _)| *id);
        by_id
    });
    progress.advance(data.n_samples() as u64);
    let of = |id: u64| {
        let losses = losses.as_ref()?;
        let at = losses.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(losses[at].1)
    };
    let mut writer = RowWriter::<ProbeSample>::create(out).map_err(Failure::environment)?;
    let rows = tables::rows::<Sample>(io.input("samples")?).map_err(Failure::data)?;
    let mut progress = io.progress("probing samples", rows.n_rows());
    for (place, sample) in rows.enumerate() {
        let sample = sample.map_err(Failure::data)?;
        progress.advance(1);
        if !range.contains(&place) {
            continue;
        }
        let history = data.events(sample.sequence, sample.history_end);
        let row = ProbeSample {
            sample_id: sample.sample_id,
            sequence: sample.sequence,
            item: sample.item,
            history_length: sample.history_end,
            last_item: history.items().last().copied(),
            history_row: histories.row(sample.sequence, sample.history_end),
            occurred_at: sample.occurred_at,
            weight: sample.weight,
            loss: of(sample.sample_id),
        };
        writer.push(row).map_err(Failure::environment)?;
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(())
}

fn write_requests(
    losses: Option<&dyn Losses>,
    requests: &[Request],
    sequences: &Sequences,
    histories: &Histories,
    out: &Path,
) -> Result<(), Failure> {
    let history = |request: &Request| {
        sequences
            .history(request.sequence, request.history_end)
            .unwrap_or_default()
    };
    let losses = match losses {
        Some(losses) => {
            let asked: Vec<(History<'_>, &[u32])> = requests
                .iter()
                .map(|request| (history(request), request.relevant.as_slice()))
                .collect();
            losses.request_losses(&asked)
        }
        None => vec![Vec::new(); requests.len()],
    };
    let rows = requests
        .iter()
        .zip(losses)
        .map(|(request, losses)| ProbeRequest {
            request: request.request,
            part: request.part,
            last_item: history(request).items().last().copied(),
            history_row: histories.row(request.sequence, request.history_end),
            relevant: request.relevant.clone(),
            losses,
        });
    tables::write_all(out, rows).map_err(Failure::environment)?;
    Ok(())
}

fn write_counts(model: &dyn Model, out: &Path) -> Result<(), Failure> {
    if let Some(counts) = model.item_counts() {
        let rows = (0..)
            .zip(counts)
            .map(|(item, &weight)| ItemCount { item, weight });
        tables::write_all(out, rows).map_err(Failure::environment)?;
    }
    if let Some(transitions) = model.transitions() {
        let rows = (0_u32..)
            .zip(0..transitions.n_rows())
            .flat_map(|(from_item, row)| {
                let (items, weights) = transitions.row(row);
                items
                    .iter()
                    .zip(weights)
                    .map(move |(&to_item, &weight)| Transition {
                        from_item,
                        to_item,
                        weight,
                    })
            });
        tables::write_all(out, rows).map_err(Failure::environment)?;
    }
    Ok(())
}
