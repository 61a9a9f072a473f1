//! Scores a large probe through the stage itself, and says what that takes: by default a million
//! samples with 2,048 numbers each, 7.6 GiB of gradients.
//!
//! `cargo run --release -p estimate --example million -- FOLDER [samples] [width]`
//!
//! writes a probe into a folder that must not exist, scores it by one method after the other, each in
//! a process of its own, prints wall time and peak resident memory (`VmHWM`), and removes the folder.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use attribution::Seed;
use estimate::{Config, Estimate};
use stage::{Io, Label, Stage};
use tables::{Part, ProbeRequest, ProbeSample, RowWriter};
use tensors::projected_layout::{self as layout, ProjectedIndex, ProjectedLayer, ProjectedStep};
use tensors::{Csr, Tensors};

type Outcome<T> = Result<T, Box<dyn Error>>;

const METHODS: [&str; 3] = ["projected_dot", "logra", "trak"];
const N_REQUESTS: u32 = 500;
/// As `train` cuts blocks.
const BLOCK_BYTES: usize = 32 << 20;
/// Four layers.
const N_LAYERS: usize = 4;

/// Numbers of a spectrum that falls, as that of gradients does: each column with half the size of the
/// eighth before it.
#[expect(clippy::cast_possible_truncation, reason = "rows are 32-bit floats")]
fn rows(seed: Seed, n: usize, width: usize) -> Vec<f32> {
    let mut draws = seed.sequence();
    let scale: Vec<f64> = (0..width)
        .map(|column| 1.0 / f64::from(1 << (8 * column / width)))
        .collect();
    let numbers = (0..n * width).map(|at| (draws.uniform() - 0.5) * scale[at % width]);
    numbers.map(|x| x as f32).collect()
}

fn save(path: &Path, name: &str, numbers: Vec<u32>, values: Vec<f32>) -> Outcome<()> {
    let (n, width) = (numbers.len(), values.len() / numbers.len().max(1));
    let mut tensors = Tensors::new();
    tensors.insert_u32(name, &[n], numbers)?;
    tensors.insert_f32(layout::GRADIENT, &[n, width], values)?;
    Ok(tensors.save(path)?)
}

/// Writes what `train` would: samples, requests, a history, and gradients in blocks.
fn write(directory: &Path, n: usize, width: usize) -> Outcome<()> {
    std::fs::create_dir_all(directory.join(layout::folder(1)))?;
    let mut samples = RowWriter::<ProbeSample>::create(directory)?;
    for at in 0..n as u64 {
        samples.push(ProbeSample {
            sample_id: at << 16,
            sequence: u32::try_from(at / 50)?,
            item: u32::try_from(at % 1000)?,
            history_length: 1,
            last_item: Some(0),
            history_row: 0,
            occurred_at: None,
            weight: 1.0,
            loss: Some(0.5 + (at % 7) as f64),
        })?;
    }
    samples.finish()?;
    let requests = (0..N_REQUESTS).map(|request| ProbeRequest {
        request,
        part: Part::ValuationFit,
        last_item: Some(0),
        history_row: 0,
        relevant: vec![1],
        losses: vec![1.0],
    });
    tables::write_all(directory, requests)?;
    let one = || Csr::from_rows(1, [vec![(0, 1.0_f32)]]);
    let mut tensors = Tensors::new();
    tensors.insert_csr("histories", &one()?)?;
    tensors.insert_csr("items", &one()?)?;
    tensors.save(&directory.join("representations.safetensors"))?;

    let seed = Seed::root(1);
    let per_block = (BLOCK_BYTES / (4 * width)).clamp(32, 4096);
    let positions: Vec<u32> = (0..u32::try_from(n)?).collect();
    let mut blocks = 0;
    for block in positions.chunks(per_block) {
        let values = rows(seed.index(blocks as u64), block.len(), width);
        let path = directory.join(layout::samples(1, blocks));
        save(&path, layout::SAMPLE, block.to_vec(), values)?;
        blocks += 1;
    }
    let values = rows(seed.child("requests"), N_REQUESTS as usize, width);
    let path = directory.join(layout::requests(1));
    save(&path, layout::REQUEST, (0..N_REQUESTS).collect(), values)?;
    let layer = |at: usize| ProjectedLayer {
        name: format!("layer {at}"),
        start: at * width / N_LAYERS,
        end: (at + 1) * width / N_LAYERS,
        parameters: 100 * width,
        exact: false,
    };
    let index = ProjectedIndex {
        layers: (0..N_LAYERS).map(layer).collect(),
        width,
        regularisation: 0.0,
        n_samples: n,
        n_requests: N_REQUESTS as usize,
        states: vec![ProjectedStep {
            step: 1,
            learning_rate: None,
            blocks,
            curvature_blocks: 0,
        }],
        held_out: None,
    };
    let text = serde_json::to_string(&index)?;
    Ok(std::fs::write(directory.join(layout::INDEX), text)?)
}

/// Runs the stage, and gives the peak of this process in MiB.
fn score(folder: &Path, method: &str) -> Outcome<u64> {
    let config: Config = stage::yaml::parse(&format!("method: {method}\n"), "example")
        .map_err(|failure| failure.to_string())?;
    let io = Io::new(folder.join(method), folder);
    let io = io.with_input("probe", Label::default(), folder.join("probe"));
    Estimate::run(&config, &io).map_err(|failure| failure.to_string())?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes: u64 = peak
        .and_then(|text| text.trim().strip_suffix(" kB"))
        .ok_or("this system does not tell the peak of memory")?
        .parse()?;
    Ok(kibibytes / 1024)
}

#[expect(clippy::print_stdout, reason = "it reports to a person")]
fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().ok_or("name a folder")?);
    let second = arguments.get(1).map(String::as_str);
    if let Some(method) = second.filter(|word| METHODS.contains(word)) {
        let started = Instant::now();
        let peak = score(folder, method)?;
        let seconds = started.elapsed().as_secs_f64();
        println!("{method:14} {seconds:8.1} s {peak:8} MiB at most");
        return Ok(());
    }
    let number = |at: usize, default: usize| -> Outcome<usize> {
        Ok(arguments.get(at).map_or(Ok(default), |text| text.parse())?)
    };
    let (n, width) = (number(1, 1_000_000)?, number(2, 2048)?);
    std::fs::create_dir(folder)?;
    let started = Instant::now();
    write(&folder.join("probe"), n, width)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{n} samples, width {width}, written in {seconds:.1} s");
    let program = std::env::current_exe()?;
    for method in METHODS {
        let status = Command::new(&program).arg(folder).arg(method).status()?;
        if !status.success() {
            return Err(format!("`{method}` failed").into());
        }
    }
    Ok(std::fs::remove_dir_all(folder)?)
}
