//! What the simulator knows of its own events: bots and accidents, which nobody planted.

use stage::{Exit, Failure, Io};
use tables::{INSERTED_FILE, SampleId, Truth};

use crate::detection::{Noise, Source};
use crate::scored::Universe;

/// Kind of an event that somebody meant.
const GENUINE: &str = "genuine";

/// The truth about the samples of a universe.
#[derive(Debug)]
pub(crate) struct Simulated {
    /// Kind of each sample, as an index into `kinds`; `None` for genuine ones.
    kind: Vec<Option<usize>>,
    /// Whether a sample is set aside: it was planted, so that its truth is another one.
    is_aside: Vec<bool>,
    /// Kinds that occur, ascending.
    kinds: Vec<String>,
    /// Node that knows.
    node: String,
}

impl Simulated {
    /// As noise that can be detected.
    pub(crate) fn noise(&self) -> Noise<'_> {
        Noise {
            source: Source::Simulator,
            kind: &self.kind,
            is_aside: Some(&self.is_aside),
            kinds: &self.kinds,
            node: Some(&self.node),
        }
    }
}

/// Reads the truth about the samples; `None` where none is wired, or a real log has none.
///
/// # Errors
/// If the truth does not speak of a sample that was read from a log.
pub(crate) fn read(io: &Io, universe: &Universe) -> Result<Option<Simulated>, Failure> {
    let Some(input) = io.many("truth").first() else {
        return Ok(None);
    };
    let mut names: Vec<String> = Vec::new();
    // By sample: nothing, or a place among the names, or genuine.
    let mut known: Vec<Option<Option<usize>>> = vec![None; universe.samples.len()];
    let mut n_rows = 0_u64;
    for row in tables::rows::<Truth>(&input.path).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        n_rows += 1;
        let Ok(sample) = universe.samples.binary_search(&row.sample_id) else {
            continue;
        };
        known[sample] = Some(if row.kind == GENUINE {
            None
        } else {
            let at = names.iter().position(|name| *name == row.kind);
            Some(at.unwrap_or_else(|| {
                names.push(row.kind);
                names.len() - 1
            }))
        });
    }
    if n_rows == 0 {
        return Ok(None);
    }
    let is_inserted = |sample: usize| SampleId(universe.samples[sample]).file() == INSERTED_FILE;
    if let Some(sample) = (0..known.len()).find(|&at| known[at].is_none() && !is_inserted(at)) {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "`truth` does not speak of sample {}",
                universe.samples[sample]
            ),
        )
        .hint("wire the `truth` of the `ingest` node that the samples come from"));
    }
    let is_aside: Vec<bool> = (0..known.len())
        .map(|sample| universe.planted[sample].is_some() || known[sample].is_none())
        .collect();
    let mut kinds: Vec<String> = known
        .iter()
        .zip(&is_aside)
        .filter(|(_, is_aside)| !**is_aside)
        .filter_map(|(known, _)| known.flatten())
        .map(|name| names[name].clone())
        .collect();
    kinds.sort();
    kinds.dedup();
    let kind = known
        .iter()
        .map(|known| kinds.binary_search(&names[known.flatten()?]).ok())
        .collect();
    Ok(Some(Simulated {
        kind,
        is_aside,
        kinds,
        node: input.label.get("node").unwrap_or("truth").to_owned(),
    }))
}
