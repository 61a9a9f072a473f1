//! Touchstone's side of `benches/training_peers/`: trains one model on a log and prints, as one line
//! of JSON, what each step (or epoch) took and how good the result is.
//!
//! ```text
//! training_peers FILE ITEMS MODEL PARAMETERS [leave-one-out]
//! ```
//!
//! FILE holds a user and the user's items, oldest first, on each line; items are numbers from 1 to
//! ITEMS; PARAMETERS are JSON, as in configurations. With `leave-one-out` the last item of each user
//! is held out and ranked among all items that the user did not see; without, all are trained on.
//! `RAYON_NUM_THREADS` sets the threads. Run without arguments it does nothing, so that
//! `cargo test --benches` passes.

#![expect(clippy::print_stdout, reason = "printing is its purpose")]

mod clock;
mod log;
mod ranking;
mod watch;

use std::error::Error;
use std::time::Instant;

use clock::{Clock, peak_kib, resident_kib};
use log::Log;
use models::{Run, Seed, TrainingData};
use serde_json::json;
use watch::Watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` and `cargo test` add arguments of their own.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let [file, items, model, parameters, rest @ ..] = arguments.as_slice() else {
        println!("usage: training_peers FILE ITEMS MODEL PARAMETERS [leave-one-out]");
        return Ok(());
    };
    let is_held_out = rest == ["leave-one-out"];
    let log = Log::read(&std::fs::read_to_string(file)?, items.parse()?, is_held_out)?;
    let entry = models::entry(model)?;
    let parameters = entry.check(&serde_json::from_str(parameters)?)?;
    let data = TrainingData::new(&log.samples, &log.sequences, log.n_items)?;
    let before = resident_kib();
    let mut watch = Watch::new(&log);
    let (started, clock) = (Instant::now(), Clock::now());
    let fitted = entry.fit(
        &parameters,
        &data,
        &mut Run {
            seed: Seed::root(1),
            observer: &mut watch,
        },
    )?;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), clock.elapsed() * 1e-3);
    // Ranking needs memory of its own: the peak is that of training.
    let peak = watch.peak.or_else(peak_kib);
    let quality = is_held_out.then(|| ranking::mean(fitted.as_ref(), &log.test, log.n_items));
    println!(
        "{}",
        json!({
            "wall_ms": watch.wall_ms,
            "cpu_ms": watch.cpu_ms,
            "epochs": watch.epochs,
            "seconds": seconds - watch.validating,
            "cpu_seconds": cpu - watch.validating_cpu,
            "before_kib": before,
            "peak_kib": peak,
            "hr": quality.map(|[hr, _]| hr),
            "ndcg": quality.map(|[_, ndcg]| ndcg),
        })
    );
    Ok(())
}
