//! Touchstone's side of `benches/attribution_peers/`: gradients of single losses under a trained
//! network, timed, with their values beside.
//!
//! ```text
//! attribution_peers MODE LOG ITEMS FOLDER [PARAMETERS]
//! ```
//!
//! MODE is one of
//!
//! - `prepare`: fits `SASRec` with PARAMETERS and writes into FOLDER what the other side starts from:
//!   weights, samples, requests, and the matrices of both projections;
//! - `training`: as many windows through training as there are samples, the yardstick;
//! - `summed`: the gradient of the sum of the losses, the other yardstick: the same loss terms, no
//!   sample told apart;
//! - `norms`: the length of each sample's gradient, of all parameters, and its product with that of
//!   the requests;
//! - `random`, `gaussian`: each sample's gradient without tables, projected.
//!
//! The log is described in `samples.rs`. Each mode but the first prints one line of JSON and, where
//! something is computed per sample, leaves the values in FOLDER. `RAYON_NUM_THREADS` sets the
//! threads. Run without arguments it does nothing, so that `cargo test --benches` passes.

#![expect(clippy::print_stdout, reason = "printing is its purpose")]

#[path = "../training_peers/clock.rs"]
mod clock;
mod matrices;
mod samples;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use clock::{Clock, peak_kib, resident_kib};
use models::{
    Basis, LossGradients, Measure, Model, Observer, Projection, Run, Seed, Tensors, TrainingData,
};
use samples::Peers;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Numbers left of each factor of a layer.
const RANK: usize = 16;
/// Samples that are computed before clocks start.
const WARM_UP: usize = 128;
/// Steps of training that do not count.
const SKIPPED: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` and `cargo test` add arguments of their own.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let [mode, log, items, folder, rest @ ..] = arguments.as_slice() else {
        println!("usage: attribution_peers MODE LOG ITEMS FOLDER [PARAMETERS]");
        return Ok(());
    };
    let folder = Path::new(folder);
    let peers = Peers::read(&std::fs::read_to_string(log)?, items.parse()?)?;
    let data = TrainingData::new(&peers.samples, &peers.sequences, peers.n_items)?;
    let parameters = || -> Result<Value, Box<dyn Error>> {
        let text = rest.first().ok_or("PARAMETERS are missing")?;
        Ok(serde_json::from_str(text)?)
    };
    let printed = match *mode {
        "prepare" => prepare(&parameters()?, &peers, &data, folder)?,
        "training" => training(&parameters()?, &data)?,
        "summed" => summed(restored(folder)?.as_ref(), &data)?,
        "norms" => norms(restored(folder)?.as_ref(), &peers, &data, folder)?,
        "random" | "gaussian" => projected(restored(folder)?.as_ref(), mode, &data, folder)?,
        other => return Err(format!("unknown mode `{other}`").into()),
    };
    println!("{printed}");
    Ok(())
}

/// A run's time and memory.
struct Spent {
    started: Instant,
    clock: Clock,
    before: Option<u64>,
}

impl Spent {
    /// `before`: what was resident before anything was computed.
    fn start(before: Option<u64>) -> Self {
        Self {
            before,
            started: Instant::now(),
            clock: Clock::now(),
        }
    }

    fn report(&self, n: usize) -> Value {
        json!({
            "wall_ms": self.started.elapsed().as_secs_f64() * 1e3,
            "cpu_ms": self.clock.elapsed(),
            "before_kib": self.before,
            "peak_kib": peak_kib(),
            "n": n,
        })
    }
}

/// Notes the time and the CPU time of steps.
struct Steps {
    before: Option<u64>,
    started: Instant,
    clock: Clock,
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

impl Observer for Steps {
    fn progress(&mut self, what: &str, _done: u64, _total: u64) {
        if what == "training" {
            self.wall_ms
                .push(self.started.elapsed().as_secs_f64() * 1e3);
            self.cpu_ms.push(self.clock.elapsed());
            (self.started, self.clock) = (Instant::now(), Clock::now());
        }
    }
}

fn fit(
    parameters: &Value,
    data: &TrainingData<'_>,
    observer: &mut dyn Observer,
) -> Result<Box<dyn Model>, Box<dyn Error>> {
    let entry = models::entry("sasrec")?;
    let parameters = entry.check(parameters)?;
    let mut run = Run {
        seed: Seed::root(1),
        observer,
    };
    Ok(entry.fit(&parameters, data, &mut run)?)
}

fn restored(folder: &Path) -> Result<Box<dyn Model>, Box<dyn Error>> {
    let weights = Tensors::load(&folder.join("weights.safetensors"))?;
    Ok(models::entry("sasrec")?.load(&weights)?)
}

fn gradients(model: &dyn Model) -> Result<&dyn LossGradients, Box<dyn Error>> {
    Ok(model.gradients().ok_or("the model has no gradients")?)
}

fn projection(mode: &str) -> Projection {
    Projection {
        basis: if mode == "random" {
            Basis::Random
        } else {
            Basis::Gaussian
        },
        rank: RANK,
        tables: false,
        ..Projection::default()
    }
}

fn projection_seed() -> Seed {
    Seed::root(1).child("projection")
}

fn prepare(
    parameters: &Value,
    peers: &Peers,
    data: &TrainingData<'_>,
    folder: &Path,
) -> Result<Value, Box<dyn Error>> {
    let model = fit(parameters, data, Run::silent(Seed::root(1)).observer)?;
    let weights = model.save()?;
    for mode in ["random", "gaussian"] {
        let projection = projection(mode);
        let seed = projection_seed();
        let rows = gradients(model.as_ref())?.project(&projection, Measure::Loss, seed, data);
        let matrices = matrices::of_layers(&rows.layers(), &weights, &projection, seed)?;
        matrices.save(&folder.join(format!("{mode}.safetensors")))?;
    }
    weights.save(&folder.join("weights.safetensors"))?;
    peers
        .to_tensors(data)?
        .save(&folder.join("samples.safetensors"))?;
    Ok(json!({ "samples": samples::chosen(data).len() }))
}

/// Steps of training, optimiser and making of batches included, on full windows with all their terms.
fn training(parameters: &Value, data: &TrainingData<'_>) -> Result<Value, Box<dyn Error>> {
    let mut steps = Steps {
        before: resident_kib(),
        started: Instant::now(),
        clock: Clock::now(),
        wall_ms: Vec::new(),
        cpu_ms: Vec::new(),
    };
    fit(parameters, data, &mut steps)?;
    let of = |all: &[f64]| all.iter().skip(SKIPPED).sum::<f64>();
    Ok(json!({
        "wall_ms": of(&steps.wall_ms),
        "cpu_ms": of(&steps.cpu_ms),
        "before_kib": steps.before,
        "peak_kib": peak_kib(),
        "n": data.n_sequences(),
    }))
}

fn summed(model: &dyn Model, data: &TrainingData<'_>) -> Result<Value, Box<dyn Error>> {
    let gradients = gradients(model)?;
    let chosen = samples::chosen(data);
    let items: Vec<[u32; 1]> = chosen.iter().map(|&at| [data.item(at as usize)]).collect();
    let asked: Vec<_> = chosen
        .iter()
        .zip(&items)
        .map(|(&at, item)| (data.history(at as usize), item.as_slice()))
        .collect();
    let before = resident_kib();
    gradients.target(&asked[..WARM_UP.min(asked.len())], Measure::Loss);
    let spent = Spent::start(before);
    let found = gradients.target(&asked, Measure::Loss);
    let mut printed = spent.report(asked.len());
    printed["norm"] = json!(found.norm());
    Ok(printed)
}

fn norms(
    model: &dyn Model,
    peers: &Peers,
    data: &TrainingData<'_>,
    folder: &Path,
) -> Result<Value, Box<dyn Error>> {
    let gradients = gradients(model)?;
    let chosen = samples::chosen(data);
    let before = resident_kib();
    let target = gradients.target(&peers.requests(), Measure::Loss);
    gradients.samples(data, &chosen[..WARM_UP.min(chosen.len())], &target, &|_| {});
    let spent = Spent::start(before);
    let target = gradients.target(&peers.requests(), Measure::Loss);
    let found = gradients.samples(data, &chosen, &target, &|_| {});
    let mut printed = spent.report(chosen.len());
    printed["target_norm"] = json!(target.norm());
    let (mut norm, mut product) = (Vec::new(), Vec::new());
    for found in found {
        let found = found.ok_or("a sample with a full window has no gradient")?;
        norm.push(found.norm);
        product.push(found.target_product);
    }
    let mut values = Tensors::new();
    values.insert_f64("norm", &[norm.len()], norm)?;
    values.insert_f64("product", &[product.len()], product)?;
    values.insert_f64("target_norm", &[1], vec![target.norm()])?;
    values.save(&folder.join("norms-ours.safetensors"))?;
    Ok(printed)
}

fn projected(
    model: &dyn Model,
    mode: &str,
    data: &TrainingData<'_>,
    folder: &Path,
) -> Result<Value, Box<dyn Error>> {
    let gradients = gradients(model)?;
    let chosen = samples::chosen(data);
    let before = resident_kib();
    let clock = Clock::now();
    let seed = projection_seed();
    // Once for a probe, however many samples there are: not part of the time per sample.
    let rows = gradients.project(&projection(mode), Measure::Loss, seed, data);
    let setup = clock.elapsed();
    rows.sample_rows(data, &chosen[..WARM_UP.min(chosen.len())]);
    let spent = Spent::start(before);
    let found = rows.sample_rows(data, &chosen);
    let mut printed = spent.report(chosen.len());
    printed["setup_cpu_ms"] = json!(setup);
    let mut values = Tensors::new();
    values.insert_f32("rows", &[chosen.len(), rows.width()], found)?;
    values.save(&folder.join(format!("{mode}-ours.safetensors")))?;
    Ok(printed)
}
