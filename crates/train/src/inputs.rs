//! Reading the inputs into columns, checked once.

use std::path::Path;

use models::{Card, DataError, Model, Samples, Sequences};
use stage::{Exit, Failure, Io};
use tables::{CatalogueEntry, ItemFeatures, NOT_RANKED, Part, Request, Sample, SequenceEvent};

/// The items that can be ranked.
pub(crate) struct Catalogue {
    /// Instant from which an item is known, in ms; the smallest number if it always was.
    pub(crate) known_at: Vec<i64>,
    pub(crate) n_vocabulary: usize,
}

impl Catalogue {
    pub(crate) fn n(&self) -> usize {
        self.known_at.len()
    }
}

/// A table that does not fit the others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("row {row} of `{table}` holds item {found}, expected {row}")]
    Numbering {
        table: &'static str,
        row: usize,
        found: u32,
    },
    #[error("item {item} of `catalogue` is in the vocabulary, but not item {}", .item - 1)]
    Vocabulary { item: u32 },
    #[error("`catalogue` holds more items than 32 bits number")]
    TooManyItems,
    #[error("`{table}` holds {found} items, `catalogue` {wanted}")]
    Sizes {
        table: &'static str,
        found: usize,
        wanted: usize,
    },
    #[error("item {item} of `{table}` is not in `catalogue`, which has {n} items")]
    Item {
        table: &'static str,
        item: u32,
        n: usize,
    },
    #[error("request {request} is of part `training`")]
    TrainingRequest { request: u32 },
    #[error("request {request} does not come after the one before")]
    RequestOrder { request: u32 },
    #[error(
        "request {request} has a history of {end} events in sequence {sequence}, which is shorter"
    )]
    RequestHistory {
        request: u32,
        sequence: u32,
        end: u32,
    },
    #[error("the relevant items of request {request} do not ascend")]
    Relevant { request: u32 },
    #[error("wrong `sequences`")]
    Sequences(#[source] DataError),
}

const OTHER_SPLIT: &str = "wire outputs of one `split` node";

fn misfit(error: InputError) -> Failure {
    Failure::data(error).hint(OTHER_SPLIT)
}

/// Reads `catalogue`.
pub(crate) fn catalogue(io: &Io) -> Result<Catalogue, Failure> {
    let mut catalogue = Catalogue {
        known_at: Vec::new(),
        n_vocabulary: 0,
    };
    let rows = tables::rows::<CatalogueEntry>(io.input("catalogue")?).map_err(Failure::data)?;
    for entry in rows {
        let entry = entry.map_err(Failure::data)?;
        let row = catalogue.n();
        if entry.item as usize != row {
            return Err(misfit(InputError::Numbering {
                table: "catalogue",
                row,
                found: entry.item,
            }));
        }
        if entry.item == NOT_RANKED {
            return Err(misfit(InputError::TooManyItems));
        }
        if entry.in_vocabulary {
            if catalogue.n_vocabulary != row {
                return Err(misfit(InputError::Vocabulary { item: entry.item }));
            }
            catalogue.n_vocabulary += 1;
        }
        let known_at = entry.known_at.map_or(i64::MIN, |instant| instant.0);
        catalogue.known_at.push(known_at);
    }
    Ok(catalogue)
}

/// Reads the fitted model that a mode works on, and the catalogue that it fits.
pub(crate) fn fitted(io: &Io, mode: &str) -> Result<(Card, Box<dyn Model>, Catalogue), Failure> {
    let directory = io.optional("model").ok_or_else(|| {
        Failure::new(
            Exit::Configuration,
            format!("mode `{mode}` needs the input `model`"),
        )
        .hint("give it with `--in model=DIRECTORY`")
    })?;
    let (card, model) = models::load(directory)
        .map_err(|error| Failure::data(error).hint("fit the model again, in mode `fit`"))?;
    let catalogue = catalogue(io)?;
    if card.n_vocabulary != catalogue.n_vocabulary {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "the model was fitted on {} items, the vocabulary has {}",
                card.n_vocabulary, catalogue.n_vocabulary
            ),
        )
        .hint("wire a model that was fitted on outputs of the same `split` node"));
    }
    Ok((card, model, catalogue))
}

/// Reads `sequences`.
pub(crate) fn sequences(io: &Io, catalogue: &Catalogue) -> Result<Sequences, Failure> {
    let mut sequences = Sequences::default();
    let rows = tables::rows::<SequenceEvent>(io.input("sequences")?).map_err(Failure::data)?;
    let mut progress = io.progress("reading sequences", rows.n_rows());
    for event in rows {
        let event = event.map_err(Failure::data)?;
        check_item("sequences", event.item, catalogue)?;
        sequences
            .push_row(&event)
            .map_err(|error| misfit(InputError::Sequences(error)))?;
        progress.advance(1);
    }
    Ok(sequences)
}

fn check_item(table: &'static str, item: u32, catalogue: &Catalogue) -> Result<(), Failure> {
    let n = catalogue.n();
    if (item as usize) < n {
        Ok(())
    } else {
        Err(misfit(InputError::Item { table, item, n }))
    }
}

/// Reads `samples`; what `factor` gives for an id multiplies the weight, and `None` leaves the
/// sample out.
pub(crate) fn samples(
    directory: &Path,
    io: &Io,
    mut factor: impl FnMut(u64) -> Result<Option<f64>, Failure>,
) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    let rows = tables::rows::<Sample>(directory).map_err(Failure::data)?;
    let mut progress = io.progress("reading samples", rows.n_rows());
    for sample in rows {
        let sample = sample.map_err(Failure::data)?;
        if let Some(factor) = factor(sample.sample_id)? {
            samples.push_row(&sample, factor);
        }
        progress.advance(1);
    }
    samples.sort();
    Ok(samples)
}

/// Reads `requests`.
pub(crate) fn requests(
    io: &Io,
    catalogue: &Catalogue,
    sequences: &Sequences,
) -> Result<Vec<Request>, Failure> {
    let requests = tables::read_all::<Request>(io.input("requests")?).map_err(Failure::data)?;
    for (at, row) in requests.iter().enumerate() {
        let (request, sequence, end) = (row.request, row.sequence, row.history_end);
        if row.part == Part::Training {
            return Err(misfit(InputError::TrainingRequest { request }));
        }
        if at > 0 && requests[at - 1].request >= request {
            return Err(misfit(InputError::RequestOrder { request }));
        }
        if sequences.history(sequence, end).is_none() {
            return Err(misfit(InputError::RequestHistory {
                request,
                sequence,
                end,
            }));
        }
        if row.relevant.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(misfit(InputError::Relevant { request }));
        }
        for &item in &row.relevant {
            check_item("requests", item, catalogue)?;
        }
    }
    Ok(requests)
}

/// Reads `item_features`, a row for each item of the catalogue.
pub(crate) fn item_features(io: &Io, catalogue: &Catalogue) -> Result<Vec<ItemFeatures>, Failure> {
    const TABLE: &str = "item_features";
    let items = tables::read_all::<ItemFeatures>(io.input(TABLE)?).map_err(Failure::data)?;
    if items.len() != catalogue.n() {
        return Err(misfit(InputError::Sizes {
            table: TABLE,
            found: items.len(),
            wanted: catalogue.n(),
        }));
    }
    for (row, item) in items.iter().enumerate() {
        if item.item as usize != row {
            return Err(misfit(InputError::Numbering {
                table: TABLE,
                row,
                found: item.item,
            }));
        }
    }
    Ok(items)
}
