//! Mode `respond`: what retraining without some samples does to every request.
//!
//! One model is trained for each subset and replica, the whole training set first, and asked for
//! the loss and NDCG@10 of each request. All replicas of all subsets run in one node, so tables are
//! read once, and what is finished survives a kill. Replicas differ in the model's chance and in
//! nothing else; replica r is the same chance for every subset, so their differences are paired.

use std::collections::BTreeMap;
use std::path::Path;

use models::{History, Model, Run, Samples, Sequences, Tensors, TrainingData};
use serde_json::Value;
use stage::{Failure, Io, Seed};
use tables::{Request, Response, RowWriter, SubsetMember};

use crate::act::Regime;
use crate::config::{self, Config};
use crate::fit::{cannot_fit, of_base};
use crate::inputs;
use crate::rank::{BLOCK, Ranker};
use crate::resume::{ResumeError, tensor_error, write};
use crate::watch::{Watch, ndcg};

/// One model to train: which samples are left out, and which chance.
struct Job<'a> {
    subset: Option<u32>,
    /// Ids of the samples that are left out, ascending.
    left_out: &'a [u64],
    replica: u32,
}

impl Job<'_> {
    /// Name of the file in which a finished job waits for the others.
    fn file(&self) -> String {
        let subset = self.subset.map_or("all".to_owned(), |n| n.to_string());
        format!("response-{subset}-{}.safetensors", self.replica)
    }
}

/// Loss and NDCG@10 by request; NaN where there is no loss.
struct Answers {
    losses: Vec<f64>,
    ndcg: Vec<f64>,
}

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let (entry, mut parameters) = config::model(config)?;
    config::check_base(config.regime, io.optional("model").is_some())?;
    if let Some(base) = io.optional("model") {
        parameters = of_base(entry, parameters, base)?;
    }
    let catalogue = inputs::catalogue(io)?;
    let sequences = inputs::sequences(io, &catalogue)?;
    let samples = inputs::samples(io.input("samples")?, io, |_| Ok(Some(1.0)))?;
    let requests = inputs::requests(io, &catalogue, &sequences)?;
    let reads_items = entry
        .reads_items(&parameters)
        .map_err(Failure::configuration)?;
    let items = if reads_items {
        Some(inputs::item_features(io, &catalogue)?)
    } else {
        None
    };
    let subsets = read_subsets(io, &samples)?;
    let everything = (None, Vec::new());
    let jobs: Vec<Job<'_>> = std::iter::once(&everything)
        .chain(&subsets)
        .flat_map(|(subset, left_out)| {
            (0..config.replicas).map(|replica| Job {
                subset: *subset,
                left_out,
                replica,
            })
        })
        .collect();

    let trained = Trained {
        config,
        io,
        entry,
        parameters: &parameters,
        catalogue: &catalogue,
        sequences: &sequences,
        samples: &samples,
        requests: &requests,
        items: items.as_deref(),
    };
    let mut writer =
        RowWriter::<Response>::create(&io.output("responses")?).map_err(Failure::environment)?;
    let mut progress = io.progress("retraining", jobs.len() as u64);
    for job in &jobs {
        let waiting = io.resume().map(|directory| directory.join(job.file()));
        let finished = waiting.as_deref().filter(|path| path.exists());
        let answers = if let Some(path) = finished {
            read(path, requests.len()).map_err(Failure::environment)?
        } else {
            let answers = trained.answers(job)?;
            if let Some(path) = &waiting {
                keep(path, &answers).map_err(Failure::environment)?;
            }
            answers
        };
        for (at, request) in requests.iter().enumerate() {
            let loss = answers.losses[at];
            let row = Response {
                subset: job.subset,
                replica: job.replica,
                request: request.request,
                regime: config.regime.as_str().to_owned(),
                loss: (!loss.is_nan()).then_some(loss),
                ndcg_10: answers.ndcg[at],
            };
            writer.push(row).map_err(Failure::environment)?;
        }
        progress.advance(1);
    }
    writer.finish().map_err(Failure::environment)?;
    Ok(())
}

/// Number of a subset, and the samples it leaves out; no number: nothing is left out.
type Subset = (Option<u32>, Vec<u64>);

/// What each subset leaves out, in the order of the subsets.
fn read_subsets(io: &Io, samples: &Samples) -> Result<Vec<Subset>, Failure> {
    let Some(directory) = io.optional("subsets") else {
        return Ok(Vec::new());
    };
    let mut known: Vec<u64> = samples.ids().collect();
    known.sort_unstable();
    let mut subsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for member in tables::rows::<SubsetMember>(directory).map_err(Failure::data)? {
        let member = member.map_err(Failure::data)?;
        let left_out = subsets.entry(member.subset).or_default();
        if left_out.last().is_some_and(|last| *last >= member.left_out) {
            return Err(Failure::new(
                stage::Exit::Data,
                format!(
                    "subset {} of `subsets` is not sorted at sample {}",
                    member.subset, member.left_out
                ),
            ));
        }
        if known.binary_search(&member.left_out).is_err() {
            return Err(Failure::new(
                stage::Exit::Data,
                format!(
                    "subset {} leaves out sample {}, which is not in `samples`",
                    member.subset, member.left_out
                ),
            )
            .hint("wire outputs of one `split` node"));
        }
        left_out.push(member.left_out);
    }
    let numbered = subsets.into_iter().map(|(number, ids)| (Some(number), ids));
    Ok(numbered.collect())
}

/// What every job has in common.
struct Trained<'a> {
    config: &'a Config,
    io: &'a Io,
    entry: &'static models::Entry,
    parameters: &'a Value,
    catalogue: &'a inputs::Catalogue,
    sequences: &'a Sequences,
    samples: &'a Samples,
    requests: &'a [Request],
    items: Option<&'a [tables::ItemFeatures]>,
}

impl Trained<'_> {
    fn answers(&self, job: &Job<'_>) -> Result<Answers, Failure> {
        let removed = match self.config.regime {
            Regime::Drop => None,
            Regime::Mask => Some(0.0),
        };
        let samples = self.samples.reweighted(|id| {
            let is_left_out = job.left_out.binary_search(&id).is_ok();
            if is_left_out { removed } else { Some(1.0) }
        });
        let data = TrainingData::new(&samples, self.sequences, self.catalogue.n_vocabulary)
            .map_err(Failure::data)?;
        let data = match self.items {
            Some(items) => data.with_items(items),
            None => data,
        };
        let mut watch = Watch::new(
            self.io,
            self.catalogue,
            self.sequences,
            self.requests,
            self.config.seen,
        )
        .without_memory();
        let mut seed = Seed::root(self.config.seed).child("fit");
        if job.replica > 0 {
            seed = seed.child("replica").index(u64::from(job.replica));
        }
        let mut run = Run {
            seed,
            observer: &mut watch,
        };
        let model = self
            .entry
            .fit(self.parameters, &data, &mut run)
            .map_err(|error| {
                let subset = job
                    .subset
                    .map_or("nothing".to_owned(), |n| format!("subset {n}"));
                cannot_fit(error).cause(format!(
                    "training without {subset}, replica {}",
                    job.replica
                ))
            })?;
        self.ask(model.as_ref())
    }

    fn ask(&self, model: &dyn Model) -> Result<Answers, Failure> {
        let history = |request: &Request| {
            self.sequences
                .history(request.sequence, request.history_end)
                .unwrap_or_default()
        };
        let asked: Vec<(History<'_>, &[u32])> = self
            .requests
            .iter()
            .map(|request| (history(request), request.relevant.as_slice()))
            .collect();
        let losses = match model.losses() {
            Some(losses) => losses.request_losses(&asked),
            None => vec![Vec::new(); asked.len()],
        };
        let losses = losses
            .iter()
            .map(|losses| match losses.len() {
                0 => f64::NAN,
                n => losses.iter().sum::<f64>() / n as f64,
            })
            .collect();
        let ranker = Ranker {
            model,
            catalogue: self.catalogue,
            seen: self.config.seen,
            top: 0,
        };
        let mut values = Vec::with_capacity(self.requests.len());
        for block in self.requests.chunks(BLOCK) {
            let rows = ranker
                .rank_all(block, history)
                .map_err(Failure::computation)?;
            values.extend(rows.iter().map(ndcg));
        }
        Ok(Answers {
            losses,
            ndcg: values,
        })
    }
}

const LOSSES: &str = "losses";
const NDCG: &str = "ndcg";

/// Keeps a finished job, as bits: a loss may be missing.
fn keep(path: &Path, answers: &Answers) -> Result<(), ResumeError> {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
    let n = answers.ndcg.len();
    let mut tensors = Tensors::new();
    tensors
        .insert_u64(LOSSES, &[n], bits(&answers.losses))
        .and_then(|()| tensors.insert_u64(NDCG, &[n], bits(&answers.ndcg)))
        .map_err(tensor_error(path))?;
    write(path, &tensors)
}

fn read(path: &Path, n: usize) -> Result<Answers, ResumeError> {
    let tensors = Tensors::load(path).map_err(tensor_error(path))?;
    let column = |name: &str| -> Result<Vec<f64>, ResumeError> {
        let bits = tensors.u64(name).map_err(tensor_error(path))?;
        if bits.len() != n {
            let path = path.to_owned();
            return Err(ResumeError::Damaged { path });
        }
        Ok(bits.iter().map(|bits| f64::from_bits(*bits)).collect())
    };
    Ok(Answers {
        losses: column(LOSSES)?,
        ndcg: column(NDCG)?,
    })
}
