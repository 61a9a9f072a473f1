//! A probe in parts: `shard: 2/4` lays out what estimators may look at for the second of four parts of
//! the samples, so that parts can be made side by side or on several machines.
//!
//! Samples are split in the order of their table, by sequence and position, in whole blocks of 1,024,
//! projected gradients in whole blocks as they lie in files: what goes through the network together is
//! rounded together, and a part has to round as the whole does. Numbers of blocks differ by one at most.
//! A part holds the rows of its own samples in `probe_samples` and `probe_gradients`, and its own blocks
//! of projected gradients; `shard.json` says which part it is.
//! What does not speak of single samples, and what one pass forward gives for all (representations,
//! counts, attention, hidden states, gradients of requests, fidelity), is in the first part alone.
//! `probe.json` and `probe_requests` are in every part: parts of one probe agree on them.
//!
//! Mode `merge` makes of all parts the bytes of the probe that was never split.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use stage::{Exit, Failure, Io, Offer, Offers};

use crate::config::{Config, Mode};

/// The role of the parts.
pub(crate) const ROLE: &str = "probes";
/// The file that says which part a probe is.
pub(crate) const FILE: &str = "shard.json";
/// The fact that says it to whoever reads the probe.
const FACT: &str = "shard";

/// Samples that go through the network in one call, sorted by the length of their histories.
pub(crate) const UNIT: usize = 1024;

/// One part of several, written `1/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((index, of)) if (1..=of).contains(&index) => Ok(Self { index, of }),
            _ => Err(format!(
                "`{text}` is no shard: write `\"1/4\"` for the first of four"
            )),
        }
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl Shard {
    /// Its blocks among so many.
    fn blocks(self, n: usize) -> Range<usize> {
        let at = |index: u32| {
            let place = n as u128 * u128::from(index) / u128::from(self.of);
            usize::try_from(place).unwrap_or(n)
        };
        at(self.index - 1)..at(self.index)
    }

    /// The places of its samples in the table.
    fn range(self, n: usize) -> Range<usize> {
        let Range { start, end } = self.blocks(n.div_ceil(UNIT));
        n.min(start * UNIT)..n.min(end * UNIT)
    }
}

/// The places of the samples that a configuration asks for.
pub(crate) fn range(config: &Config, n: usize) -> Range<usize> {
    config.shard.map_or(0..n, |shard| shard.range(n))
}

/// The blocks of projected gradients that are asked for.
pub(crate) fn blocks(shard: Option<Shard>, n: usize) -> Range<usize> {
    shard.map_or(0..n, |shard| shard.blocks(n))
}

/// Whether what belongs to no single sample is asked for.
pub(crate) fn is_first(config: &Config) -> bool {
    config.shard.is_none_or(|shard| shard.index == 1)
}

/// What `shard.json` says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Said {
    pub(crate) shard: Shard,
    /// Places of its samples in the table, and how many the table has.
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) n_samples: usize,
    /// The configuration of the probe, apart from the shard.
    pub(crate) config: serde_json::Value,
    /// What tells inputs apart, by role.
    pub(crate) inputs: BTreeMap<String, String>,
}

/// Roles of inputs that a probe is made of.
const INPUTS: [&str; 7] = [
    "model",
    "checkpoints",
    "samples",
    "sequences",
    "requests",
    "catalogue",
    "item_features",
];

/// FNV-1a of 128 bits over the names and bytes of the files of a directory, by name: enough to tell what
/// was confused, not what was forged.
fn fingerprint(directory: &Path) -> Result<String, Failure> {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let failed = |error: std::io::Error| {
        Failure::data(error).cause(format!("reading `{}`", directory.display()))
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        // The store's own list, which inputs that are given by hand lack.
        if path.is_file() && name != "manifest.json" {
            add(name.as_encoded_bytes());
            add(&[0]);
            add(&fs::read(&path).map_err(failed)?);
        }
    }
    Ok(format!("{hash:032x}"))
}

/// Says in a probe which part it is; nothing in a whole one.
pub(crate) fn write(config: &Config, n_samples: usize, io: &Io, out: &Path) -> Result<(), Failure> {
    let Some(shard) = config.shard else {
        return Ok(());
    };
    let Range { start, end } = shard.range(n_samples);
    let whole = Config {
        shard: None,
        ..config.clone()
    };
    let mut inputs = BTreeMap::new();
    for role in INPUTS {
        if let Some(directory) = io.optional(role) {
            inputs.insert(role.to_owned(), fingerprint(directory)?);
        }
    }
    let said = Said {
        shard,
        inputs,
        first: start,
        end,
        n_samples,
        config: serde_json::to_value(whole).map_err(Failure::bug)?,
    };
    let mut text = serde_json::to_string_pretty(&said).map_err(Failure::bug)?;
    text.push('\n');
    let path = out.join(FILE);
    fs::write(&path, text)
        .map_err(|error| Failure::environment(error).cause(format!("writing `{}`", path.display())))
}

/// Reads which part a probe is.
pub(crate) fn read(directory: &Path) -> Result<Said, Failure> {
    let path = directory.join(FILE);
    let wrong = |error: String| {
        Failure::new(Exit::Data, format!("failed to read `{}`", path.display()))
            .cause(error)
            .hint("wire probes that were made with `shard`")
    };
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Refuses parts that are not all parts of one whole, each once.
pub(crate) fn check_complete(shards: &[Shard]) -> Result<(), Failure> {
    let wrong = |message: String| {
        Err(Failure::new(Exit::Configuration, message)
            .hint("wire every shard of one probe: `for: { shard: [\"1/2\", \"2/2\"] }` at the node that probes"))
    };
    let Some(first) = shards.first() else {
        return wrong("mode `merge` needs the input `probes`".to_owned());
    };
    if let Some(other) = shards.iter().find(|shard| shard.of != first.of) {
        return wrong(format!(
            "shards `{first}` and `{other}` are of different splits"
        ));
    }
    let mut sorted = shards.to_vec();
    sorted.sort_unstable();
    if let Some([twice, ..]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("shard `{twice}` is wired twice"));
    }
    let missing: Vec<String> = (1..=first.of)
        .map(|index| Shard { index, ..*first })
        .filter(|shard| sorted.binary_search(shard).is_err())
        .map(|shard| format!("`{shard}`"))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => wrong(format!("shard {one} is missing")),
        _ => wrong(format!("shards {} are missing", missing.join(", "))),
    }
}

/// Refuses a shard where nothing is split.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    if config.shard.is_some() && config.mode != Mode::Probe {
        return Err(Failure::new(
            Exit::Configuration,
            "`shard` belongs to mode `probe`",
        ));
    }
    Ok(())
}

/// Tells whoever reads a probe that it is a part.
pub(crate) fn tell(config: &Config, offer: &mut Offer) {
    let fact = config
        .shard
        .map(|shard| (FACT.to_owned(), shard.to_string()));
    offer.facts.extend(fact);
}

/// Checks mode `merge` against what is wired; it offers what its parts offer.
pub(crate) fn check_merge(config: &Config, offers: &Offers) -> Result<Offers, Failure> {
    if config.model.is_some() || config.gradients.is_some() || config.act.is_some() {
        return Err(
            Failure::new(Exit::Configuration, "mode `merge` takes nothing but shards")
                .hint("write `mode: merge` alone"),
        );
    }
    let mut offer = Offer {
        kind: "probe".to_owned(),
        ..Offer::default()
    };
    // Without offers a person checks the configuration alone.
    if !offers.is_empty() {
        let parts = offers.get(ROLE).map_or(&[][..], Vec::as_slice);
        let mut shards = Vec::new();
        for part in parts {
            let Some(text) = part.facts.get(FACT) else {
                return Err(Failure::new(
                    Exit::Configuration,
                    "`probes` of mode `merge` holds a probe that is no shard",
                )
                .hint("write `shard` at the node that probes, or use the probe as it is"));
            };
            let shard = Shard::try_from(text.clone());
            shards.push(shard.map_err(|message| Failure::new(Exit::Configuration, message))?);
        }
        check_complete(&shards)?;
        if let Some(part) = parts.first() {
            offer.capabilities.clone_from(&part.capabilities);
            offer.facts.clone_from(&part.facts);
            offer.facts.remove(FACT);
        }
    }
    Ok(BTreeMap::from([("probe".to_owned(), vec![offer])]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(texts: &[&str]) -> Vec<Shard> {
        texts
            .iter()
            .map(|text| Shard::try_from((*text).to_owned()).unwrap())
            .collect()
    }

    #[test]
    fn parts_cover_the_table_in_whole_blocks() {
        for n in [0, 1, 1024, 1025, 10_000] {
            for of in [1, 2, 3, 7] {
                let mut next = 0;
                for index in 1..=of {
                    let range = Shard { index, of }.range(n);
                    assert_eq!(range.start, next);
                    next = range.end;
                    assert!(next == n || next % UNIT == 0);
                    let even = n.div_ceil(UNIT) / of as usize;
                    assert!((even..=even + 1).contains(&range.len().div_ceil(UNIT)));
                }
                assert_eq!(next, n);
            }
        }
    }

    #[test]
    fn what_is_missing_or_mixed_is_named() {
        for wrong in ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3"] {
            assert!(Shard::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert!(check_complete(&shards(&["2/2", "1/2"])).is_ok());
        assert!(check_complete(&shards(&["1/1"])).is_ok());
        for (wrong, expected) in [
            (&[][..], "needs the input `probes`"),
            (&["2/4", "3/4"], "shards `1/4`, `4/4` are missing"),
            (&["1/3", "3/3"], "shard `2/3` is missing"),
            (&["1/2", "1/2", "2/2"], "shard `1/2` is wired twice"),
            (&["1/2", "2/3"], "different splits"),
        ] {
            let failure = check_complete(&shards(wrong)).unwrap_err();
            assert!(failure.to_string().contains(expected), "{failure}");
        }
    }
}
