//! Times every method that works on projected gradients.
//!
//! `cargo run --release -p attribution --example projected [samples] [width]`

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use attribution::{
    InMemory, InMemoryProjected, Layer, METHODS, Need, ProjectedRows, ProjectedState, Rows,
    Samples, Seed, Target,
};
use serde_json::json;

const N_REQUESTS: usize = 100;

/// Rows of numbers between -1/2 and 1/2, each column with half the size of the eighth before it: a
/// spectrum that falls, as that of gradients does.
#[expect(clippy::cast_possible_truncation, reason = "rows are 32-bit floats")]
fn rows(seed: u64, n: usize, width: usize) -> Rows {
    let mut draws = Seed::root(seed).sequence();
    let scale: Vec<f64> = (0..width)
        .map(|column| 1.0 / f64::from(1 << (8 * column / width)))
        .collect();
    let row = |_| {
        let scaled = scale.iter().map(|scale| (draws.uniform() - 0.5) * scale);
        scaled.map(|x| x as f32).collect::<Vec<f32>>()
    };
    Rows {
        numbers: (0..).take(n).collect(),
        values: (0..n).flat_map(row).collect(),
    }
}

fn problem(n: usize, width: usize) -> Result<InMemory, Box<dyn Error>> {
    let half = width / 2;
    let layer = |name: &str, columns: std::ops::Range<usize>| Layer {
        name: name.to_owned(),
        n_parameters: 100 * columns.len(),
        columns,
        is_exact: false,
    };
    let state = ProjectedState {
        step: 1,
        learning_rate: None,
    };
    let found = ProjectedRows {
        samples: rows(1, n, width),
        requests: rows(2, N_REQUESTS, width),
        curvature: None,
    };
    let layers = vec![layer("first", 0..half), layer("second", half..width)];
    let projected = InMemoryProjected::new(layers, 0.0, n, N_REQUESTS, vec![(state, found)])?;
    let samples = Samples {
        id: (0..).take(n).collect(),
        sequence: vec![0; n],
        item: vec![0; n],
        history_length: vec![1; n],
        last_item: vec![Some(0); n],
        history_row: vec![0; n],
        occurred_at: vec![None; n],
        weight: vec![1.0; n],
    };
    Ok(InMemory::new(samples, Target::default())?
        .with_losses(vec![Some(1.0); n])?
        .with_projected(Arc::new(projected))?)
}

#[expect(clippy::print_stdout, reason = "it reports to a person")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (n, width) = (number(50_000)?, number(512)?);
    let problem = problem(n, width)?;
    println!("{n} samples, width {width}");
    let solvers = ["exact", "conjugate_gradient", "lissa", "arnoldi"];
    for entry in METHODS {
        if !entry.needs.contains(&Need::Projected) {
            continue;
        }
        let choices = match entry.name {
            "influence" => solvers.map(|solver| json!({ "solver": solver })).to_vec(),
            _ => vec![json!({})],
        };
        for choice in choices {
            let started = Instant::now();
            let scores = entry
                .prepare(&choice)?
                .estimate(&problem, Seed::root(1), &|_| {})?;
            let seconds = started.elapsed().as_secs_f64();
            let sum: f64 = scores.score.iter().flatten().map(|score| score.abs()).sum();
            println!(
                "{:10} {choice:33} {seconds:8.3} s   sum of sizes {sum:.6e}",
                entry.name
            );
        }
    }
    Ok(())
}
