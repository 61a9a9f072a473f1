//! Samples, what is known to be corrupted among them, and the scores that methods gave them.

use std::collections::BTreeMap;
use std::path::Path;

use stage::{Exit, Failure, Io, Labelled};
use tables::{Planted, Sample, Score, Suspect};

use crate::group::Group;

/// The samples that are judged.
#[derive(Debug)]
pub(crate) struct Universe {
    /// Sample ids, ascending.
    pub(crate) samples: Vec<u64>,
    /// Kind of corruption of each sample, as an index into `kinds`; `None` for genuine samples.
    pub(crate) planted: Vec<Option<usize>>,
    /// Kinds that occur, ascending.
    pub(crate) kinds: Vec<String>,
    /// Node that planted; `None` if nothing is known of planting.
    pub(crate) node: Option<String>,
}

impl Universe {
    /// Reads samples and planted samples. Without `samples`, the universe is what was scored.
    pub(crate) fn read(io: &Io) -> Result<Self, Failure> {
        let planted = io.many("planted").first();
        let mut kinds_of: BTreeMap<u64, String> = BTreeMap::new();
        if let Some(input) = planted {
            for row in tables::rows::<Planted>(&input.path).map_err(Failure::data)? {
                let row = row.map_err(Failure::data)?;
                if kinds_of.insert(row.sample_id, row.kind).is_some() {
                    return Err(Failure::new(
                        Exit::Data,
                        format!("`planted` holds sample {} twice", row.sample_id),
                    )
                    .hint("make the split again"));
                }
            }
        }
        let samples = match (io.optional("samples"), io.many("scores").first()) {
            (Some(directory), _) => ids::<Sample>(directory, |row| row.sample_id)?,
            (None, Some(scores)) => ids::<Score>(&scores.path, |row| row.sample_id)?,
            (None, None) => kinds_of.keys().copied().collect(),
        };
        let mut kinds: Vec<String> = kinds_of.values().cloned().collect();
        kinds.sort();
        kinds.dedup();
        for sample in kinds_of.keys() {
            if samples.binary_search(sample).is_err() {
                return Err(Failure::new(
                    Exit::Data,
                    format!("`planted` holds sample {sample}, which is no training sample"),
                )
                .hint("wire `samples`, `scores` and `planted` of the same split"));
            }
        }
        let planted_kinds = samples
            .iter()
            .map(|sample| {
                kinds_of
                    .get(sample)
                    .and_then(|kind| kinds.binary_search(kind).ok())
            })
            .collect();
        Ok(Self {
            samples,
            planted: planted_kinds,
            kinds,
            node: planted.map(|input| input.label.get("node").unwrap_or("planted").to_owned()),
        })
    }

    /// Number of corrupted samples.
    pub(crate) fn n_planted(&self) -> usize {
        self.planted.iter().flatten().count()
    }
}

/// Identities of a table, ascending.
fn ids<R: tables::Row>(directory: &Path, id: impl Fn(&R) -> u64) -> Result<Vec<u64>, Failure> {
    let mut ids = Vec::new();
    for row in tables::rows::<R>(directory).map_err(Failure::data)? {
        ids.push(id(&row.map_err(Failure::data)?));
    }
    ids.sort_unstable();
    if let Some(&[id, ..]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::new(
            Exit::Data,
            format!("`{}` holds sample {} twice", directory.display(), id),
        ));
    }
    Ok(ids)
}

/// All scores and their grouping.
#[derive(Debug)]
pub(crate) struct Scored {
    /// Suspicion by input and sample, higher = more suspicious; `None` where there is no score.
    pub(crate) suspicion: Vec<Vec<Option<f64>>>,
    /// Inputs that differ in the seed alone.
    pub(crate) groups: Vec<Group>,
}

/// Reads all scores and turns them into suspicion over the samples of the universe.
pub(crate) fn read(io: &Io, universe: &Universe) -> Result<Scored, Failure> {
    let inputs = io.many("scores");
    let mut suspicion = Vec::new();
    let mut methods = Vec::new();
    for input in inputs {
        let (values, method) = read_one(input, universe)?;
        suspicion.push(values);
        methods.push(method);
    }
    let mut groups = Group::of(inputs.iter().map(|input| &input.label), "scores");
    for group in &mut groups {
        if group.method.is_none() {
            group.method.clone_from(&methods[group.members[0]]);
        }
    }
    Ok(Scored { suspicion, groups })
}

fn read_one(
    input: &Labelled,
    universe: &Universe,
) -> Result<(Vec<Option<f64>>, Option<String>), Failure> {
    let mut suspicion = vec![None; universe.samples.len()];
    let mut is_seen = vec![false; universe.samples.len()];
    let mut card: Option<(String, Suspect)> = None;
    for row in tables::rows::<Score>(&input.path).map_err(Failure::data)? {
        let row = row.map_err(Failure::data)?;
        let wrong = |what: String| {
            Failure::new(Exit::Data, format!("`scores` [{}] {what}", input.label)).cause(format!(
                "file `{}`",
                input.path.join("scores.parquet").display()
            ))
        };
        let Ok(index) = universe.samples.binary_search(&row.sample_id) else {
            return Err(wrong(format!(
                "hold sample {}, which is no training sample",
                row.sample_id
            ))
            .hint("wire `samples`, `scores` and `planted` of the same split"));
        };
        if std::mem::replace(&mut is_seen[index], true) {
            return Err(wrong(format!("hold sample {} twice", row.sample_id))
                .hint("one artifact holds the scores of one method"));
        }
        let (method, suspect) = card.get_or_insert_with(|| (row.method.clone(), row.suspect));
        if *method != row.method || *suspect != row.suspect {
            return Err(wrong(format!("mix `{method}` and `{}`", row.method))
                .hint("one artifact holds the scores of one method with one suspicious end"));
        }
        if row.score.is_some_and(|score| !score.is_finite()) {
            return Err(wrong(format!("of sample {} are not finite", row.sample_id))
                .hint("a method that cannot score a sample leaves it null"));
        }
        suspicion[index] = row.score.map(|score| match row.suspect {
            Suspect::Low => -score,
            Suspect::High => score,
        });
    }
    Ok((suspicion, card.map(|(method, _)| method)))
}
