//! The stage `split`: cleaned events to samples, requests and everything fitted on training alone.
//!
//! A temporal split is the default. The vocabulary, the features and the training samples are a
//! function of the events before the first cut; later events only append to the catalogue and to
//! the sequences.

mod catalogue;
mod config;
mod features;
mod log;
mod parts;
mod plant;
mod profile;
mod requests;
mod sequences;
mod subsets;

use std::collections::BTreeMap;
use std::path::Path;

use stage::{Description, Failure, Input, Io, Offers, Output, PROTOCOL, Seed, Stage};
use tables::{Instant, Item, Part, Planted, RowWriter, Score, SequenceEvent, Suspect};

pub use config::{Config, EventNoise, Instants, Plant, Scheme, Subsets};

use catalogue::Numbers;
use features::Features;
use log::Log;
use parts::Parts;
use sequences::Sequences;

/// The stage.
pub struct Split;

impl Stage for Split {
    type Config = Config;

    fn description() -> Description {
        Description {
            protocol: PROTOCOL,
            name: "split",
            revision: 2,
            doc: "Splits cleaned events into training samples and requests; plants noise whose truth is known.",
            uses_seed: true,
            is_resumable: false,
            uses_floats: true,
            inputs: vec![
                Input::required("events", &["events"], "cleaned events, sorted"),
                Input::required("items", &["items"], "what is known of items"),
            ],
            outputs: vec![
                Output::new("vocabulary", "items of the training part"),
                Output::new("catalogue", "every item that can be ranked, and since when"),
                Output::new("item_features", "features of items, fitted on training"),
                Output::new("user_features", "profiles of sequences, from training"),
                Output::new("sequences", "all events by user: histories are prefixes"),
                Output::new("samples", "training samples, planted ones included"),
                Output::new("requests", "evaluation requests"),
                Output::new(
                    "planted",
                    "which samples are corrupted, and how; for `evaluate` and `report`",
                ),
                Output::new(
                    "oracle",
                    "scores that know the planted samples; for `train` alone",
                ),
                Output::new(
                    "subsets",
                    "what random subsets of the training samples leave out",
                ),
                Output::new("profile", "figures that describe the split"),
            ],
            config: config::fields(),
            registries: BTreeMap::new(),
        }
    }

    fn check(config: &Config, _offers: &Offers) -> Result<Offers, Failure> {
        config.check()?;
        Ok(Self::description().offers())
    }

    fn run(config: &Config, io: &Io) -> Result<(), Failure> {
        if config.scheme == Scheme::LeaveOneOut {
            io.warn("leave-one-out trains on events that are later than other users' test events: its numbers compare with other leave-one-out numbers only");
        }
        let log = Log::read(io.input("events")?, |n| io.progress("reading events", n))?;
        let mut described = BTreeMap::new();
        for item in tables::rows::<Item>(io.input("items")?).map_err(Failure::data)? {
            let item = item.map_err(Failure::data)?;
            described.insert(item.item_id.clone(), item);
        }
        let parts = Parts::of(&log, config)?;
        let numbers = Numbers::of(&log, &parts);
        let seed = Seed::root(config.seed).child("plant");
        let (inserted, mut planted) =
            plant::event_noise(&log, &parts, &numbers, config.plant.event_noise, seed)?;
        let sequences = Sequences::of(&log, &parts, &numbers, &inserted, config.scheme);
        let (replaced, mut relabelled) = plant::label_noise(
            &sequences,
            numbers.n_vocabulary,
            config.plant.label_noise,
            seed,
        )?;
        planted.append(&mut relabelled);
        planted.sort_by_key(|row| row.sample_id);
        let requests = requests::requests(&log, &parts, &numbers, &sequences, config);
        let features = Features::of(&log, &sequences, &numbers, &described);
        let mut profile = profile::profile(&log, &parts, &numbers, &sequences, &requests, config);
        profile.extend(profile::planted_later(
            &log, &parts, &numbers, &sequences, &replaced,
        ));
        io.note(&format!(
            "{} training samples of {} users, {} items to rank, {} requests, {} samples corrupted",
            sequences
                .part
                .iter()
                .filter(|part| **part == Part::Training)
                .count(),
            numbers.n_trained_sequences,
            numbers.catalogue.len(),
            requests.len(),
            planted.len(),
        ));

        write(&io.output("vocabulary")?, features.vocabulary)?;
        write(&io.output("item_features")?, features.items)?;
        write(&io.output("user_features")?, features.users)?;
        write(&io.output("catalogue")?, numbers.catalogue)?;
        write(&io.output("sequences")?, rows(&sequences, log.has_instants))?;
        write(
            &io.output("samples")?,
            requests::samples(&sequences, log.has_instants, &replaced),
        )?;
        write(&io.output("requests")?, requests)?;
        let ids = training_ids(&sequences);
        let seed = Seed::root(config.seed).child("subsets");
        write(
            &io.output("subsets")?,
            subsets::draw(&ids, config.subsets, seed),
        )?;
        write(&io.output("oracle")?, oracle(ids, &planted))?;
        write(&io.output("planted")?, planted)?;
        write(&io.output("profile")?, profile)
    }
}

fn write<R: tables::Row>(
    directory: &Path,
    rows: impl IntoIterator<Item = R>,
) -> Result<(), Failure> {
    let mut writer = RowWriter::create(directory).map_err(Failure::environment)?;
    for row in rows {
        writer.push(row).map_err(Failure::environment)?;
    }
    writer.finish().map_err(Failure::environment).map(|_| ())
}

fn rows(sequences: &Sequences, has_instants: bool) -> impl Iterator<Item = SequenceEvent> + '_ {
    (0..sequences.len()).flat_map(move |sequence| {
        let range = sequences.range(sequence);
        let start = range.start;
        range.map(move |event| SequenceEvent {
            sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
            position: u32::try_from(event - start).unwrap_or(u32::MAX),
            item: sequences.item[event],
            event: sequences.event[event],
            occurred_at: has_instants.then_some(Instant(sequences.at[event])),
            sample_id: sequences.sample_id[event],
            part: sequences.part[event],
        })
    })
}

/// Identities of the training samples, sorted.
fn training_ids(sequences: &Sequences) -> Vec<u64> {
    let events = sequences.sample_id.iter().zip(&sequences.part);
    let mut ids: Vec<u64> = events
        .filter(|(_, part)| **part == Part::Training)
        .map(|(id, _)| *id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Scores that know the truth: planted -1, others 0; both sorted by sample id.
fn oracle(ids: Vec<u64>, planted: &[Planted]) -> impl Iterator<Item = Score> + use<'_> {
    let mut planted = planted.iter().peekable();
    ids.into_iter().map(move |sample_id| {
        let is_planted = planted.next_if(|row| row.sample_id == sample_id).is_some();
        Score {
            method: "oracle".to_owned(),
            sample_id,
            score: Some(if is_planted { -1.0 } else { 0.0 }),
            std_error: None,
            n_updates: 0,
            suspect: Suspect::Low,
        }
    })
}
