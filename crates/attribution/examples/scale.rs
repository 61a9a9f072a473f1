//! Times every method that needs no gradients on a synthetic problem of the size of a real shop.
//!
//! `cargo run --release -p attribution --example scale [distinct histories]`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use attribution::{
    Counts, InMemory, METHODS, Representations, Request, Samples, Seed, Target, Transition,
};
use tensors::Csr;

const N_SAMPLES: u64 = 320_000;
const N_ITEMS: u64 = 3_600;
const N_TOKENS: u64 = 2_000;
const N_REQUESTS: u32 = 1_000;

struct Draws(seed::Sequence);

impl Draws {
    fn below(&mut self, bound: u64) -> u32 {
        u32::try_from(self.0.below(bound)).unwrap_or(u32::MAX)
    }

    /// A number below `bound` < 2^32 with a heavy head, as popularity has.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to below `bound`"
    )]
    fn skewed(&mut self, bound: u64) -> u32 {
        let uniform = self.0.uniform();
        (uniform * uniform * uniform * bound as f64) as u32
    }

    fn unit_row(&mut self, n_items: u32, n_tokens: u32) -> Vec<(u32, f32)> {
        let mut row = BTreeMap::new();
        for _ in 0..n_items {
            *row.entry(self.skewed(N_ITEMS)).or_insert(0.0) += 1.0_f32;
        }
        for _ in 0..n_tokens {
            let token = u32::try_from(N_ITEMS).unwrap_or(0) + self.skewed(N_TOKENS);
            *row.entry(token).or_insert(0.0) += 0.5;
        }
        let norm = row.values().map(|value| value * value).sum::<f32>().sqrt();
        row.into_iter()
            .map(|(column, value)| (column, value / norm))
            .collect()
    }
}

fn problem(n_histories: u64) -> Result<InMemory, Box<dyn Error>> {
    let mut draw = Draws(Seed::root(1).sequence());
    let n_columns = usize::try_from(N_ITEMS + N_TOKENS)?;
    let mut histories = Csr::new(n_columns);
    // As many products in all however many histories share them.
    let scale = if n_histories > 50_000 { 10 } else { 1 };
    for _ in 0..n_histories {
        let row = draw.unit_row(50 / scale, 150 / scale);
        histories.push_row(row)?;
    }
    let mut items = Csr::new(n_columns);
    for item in 0..u32::try_from(N_ITEMS)? {
        let mut row = draw.unit_row(0, 5);
        row.insert(0, (item, 1.0));
        for (_, value) in &mut row {
            *value /= 2.0_f32.sqrt();
        }
        items.push_row(row)?;
    }
    let mut samples = Samples::default();
    let mut item_counts = vec![0.0; usize::try_from(N_ITEMS)?];
    let mut transitions = BTreeMap::new();
    for id in 0..N_SAMPLES {
        let history = draw.below(n_histories);
        let (from, to) = (draw.skewed(N_ITEMS), draw.skewed(N_ITEMS));
        samples.id.push(id << 16);
        samples.sequence.push(history / 5);
        samples.item.push(to);
        samples.history_length.push(history % 100);
        samples.last_item.push(Some(from));
        samples.history_row.push(history);
        samples
            .occurred_at
            .push(Some(i64::from(draw.below(1 << 30))));
        samples.weight.push(1.0);
        item_counts[to as usize] += 1.0;
        *transitions.entry((from, to)).or_insert(0.0) += 1.0;
    }
    let requests = (0..N_REQUESTS).map(|request| {
        let mut relevant: Vec<u32> = (0..20).map(|_| draw.skewed(N_ITEMS)).collect();
        relevant.sort_unstable();
        relevant.dedup();
        Request {
            request,
            last_item: Some(draw.skewed(N_ITEMS)),
            history_row: draw.below(n_histories),
            relevant,
            losses: None,
        }
    });
    let target = Target {
        requests: requests.collect(),
    };
    let transitions = transitions.into_iter();
    let transitions = transitions.map(|((from, to), weight)| Transition { from, to, weight });
    let counts = Counts {
        item: item_counts,
        transitions: Some(transitions.collect()),
    };
    let losses = vec![Some(1.0); samples.len()];
    Ok(InMemory::new(samples, target)?
        .with_representations(Representations::new(histories, items)?)?
        .with_losses(losses)?
        .with_counts(counts)?)
}

#[expect(clippy::print_stdout, reason = "it reports to a person")]
fn main() -> Result<(), Box<dyn Error>> {
    let n_histories = std::env::args()
        .nth(1)
        .map_or(Ok(15_000), |text| text.parse())?;
    let problem = problem(n_histories)?;
    println!("{N_SAMPLES} samples, {n_histories} histories, {N_REQUESTS} requests");
    for entry in METHODS {
        if entry.needs.iter().any(|need| !need.is_met(&problem)) {
            continue;
        }
        let method = entry.prepare(&serde_json::json!({}))?;
        let started = Instant::now();
        let scores = method.estimate(&problem, Seed::root(1), &|_| {})?;
        let seconds = started.elapsed().as_secs_f64();
        let sum: f64 = scores.score.iter().flatten().sum();
        println!(
            "{:16} {seconds:8.3} s   sum of scores {sum:.6e}",
            entry.name
        );
    }
    Ok(())
}
