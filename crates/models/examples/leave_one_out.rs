//! Trains one model on a log of sequences and ranks each user's last item: the leave-one-out
//! protocol of published figures (full ranking, seen items excluded, mid-rank ties), without the
//! stages around it.
//!
//! ```text
//! cargo run --release -p models --example leave_one_out -- FILE MODEL [PARAMETERS] [SEED] \
//!     [shuffled] [attributes=FILE]
//! ```
//!
//! FILE holds a user and the user's items, oldest first, on each line; PARAMETERS are JSON. The last
//! item of a user is for the test, the one before for validation. `shuffled` puts the items of each
//! user into random order first: a control that shows what of a figure is owed to the order. The file
//! of `attributes` is JSON: a mapping from item to a list of the numbers of its attributes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program to measure with"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use models::{
    Epoch, FitError, History, Model, Observer, Run, Samples, Seed, Sequences, TrainingData,
};
use rayon::prelude::*;
use tables::ItemFeatures;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests: (history, relevant item).
type Requests = Vec<(Vec<u32>, u32)>;

/// HR@10 and NDCG@10, with or without the items of the history among the candidates.
fn evaluate(model: &dyn Model, requests: &Requests, n_items: usize, keeps_seen: bool) -> [f64; 2] {
    let sums: Vec<[f64; 2]> = requests
        .par_chunks(128)
        .map(|chunk| {
            let asked: Vec<(Option<u32>, History<'_>)> = chunk
                .iter()
                .map(|(history, _)| (None, History::of(history)))
                .collect();
            let mut scores = vec![0.0; chunk.len() * n_items];
            model.score_block(&asked, &mut scores);
            let mut sums = [0.0; 2];
            for ((history, relevant), scores) in chunk.iter().zip(scores.chunks_mut(n_items)) {
                for &item in history.iter().filter(|_| !keeps_seen) {
                    scores[item as usize] = f64::NEG_INFINITY;
                }
                let score = scores[*relevant as usize];
                if score == f64::NEG_INFINITY {
                    continue;
                }
                let better = scores.iter().filter(|other| **other > score).count();
                let tied = scores
                    .iter()
                    .filter(|other| other.total_cmp(&score).is_eq())
                    .count();
                let place = better as f64 + (tied - 1) as f64 / 2.0;
                if place <= 9.0 {
                    sums[0] += 1.0;
                    sums[1] += 1.0 / libm::log2(place + 2.0);
                }
            }
            sums
        })
        .collect();
    let mut mean = [0.0; 2];
    for sum in sums {
        for (mean, sum) in mean.iter_mut().zip(sum) {
            *mean += sum / requests.len() as f64;
        }
    }
    mean
}

struct Watch {
    requests: Requests,
    n_items: usize,
    last: Instant,
    validation: f64,
}

impl Observer for Watch {
    fn epoch(&mut self, epoch: &Epoch) {
        println!(
            "epoch {} loss {:.4} validation {:.4} training {:.1} s validating {:.1} s",
            epoch.epoch,
            epoch.loss.unwrap_or(f64::NAN),
            epoch.validation.unwrap_or(f64::NAN),
            self.last.elapsed().as_secs_f64() - self.validation,
            self.validation,
        );
        self.last = Instant::now();
        self.validation = 0.0;
    }

    fn validate(&mut self, model: &dyn Model) -> Result<Option<f64>, FitError> {
        let started = Instant::now();
        let [_, ndcg] = evaluate(model, &self.requests, self.n_items, false);
        self.validation = started.elapsed().as_secs_f64();
        Ok(Some(ndcg))
    }
}

/// What a file of attributes knows of the items, in their order.
fn describe(order: &[u32], file: &str) -> Vec<ItemFeatures> {
    let text = std::fs::read_to_string(file).unwrap();
    let known: BTreeMap<u32, Vec<u32>> = serde_json::from_str(&text).unwrap();
    let words = |id: &u32| known.get(id).into_iter().flatten().map(u32::to_string);
    (0..)
        .zip(order)
        .map(|(item, id)| ItemFeatures {
            item,
            title: None,
            category: None,
            brand: None,
            attributes: words(id).collect(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        })
        .collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let log = std::fs::read_to_string(arguments.next().unwrap()).unwrap();
    let entry = models::entry(&arguments.next().unwrap()).unwrap();
    let parameters = arguments.next().unwrap_or("{}".to_owned());
    let parameters = entry
        .check(&serde_json::from_str(&parameters).unwrap())
        .unwrap();
    let seed = arguments.next().map_or(1, |seed| seed.parse().unwrap());
    let mut users: Vec<Vec<u32>> = log
        .lines()
        .map(|line| {
            let numbers = line.split(' ').skip(1);
            numbers.map(|number| number.parse().unwrap()).collect()
        })
        .collect();
    let rest: Vec<String> = arguments.collect();
    if rest.iter().any(|word| word == "shuffled") {
        for (user, items) in (0..).zip(&mut users) {
            Seed::root(7).index(user).sequence().shuffle(items);
        }
    }
    let training: BTreeSet<u32> = users
        .iter()
        .flat_map(|items| &items[..items.len() - 2])
        .copied()
        .collect();
    let all: BTreeSet<u32> = users.iter().flatten().copied().collect();
    let order: Vec<u32> = training
        .iter()
        .chain(all.difference(&training))
        .copied()
        .collect();
    let mut numbers = vec![0_u32; all.last().map_or(0, |last| *last as usize + 1)];
    for (number, item) in (0..).zip(&order) {
        numbers[*item as usize] = number;
    }
    let (mut samples, mut sequences) = (Samples::default(), Sequences::default());
    let (mut validation, mut test) = (Requests::new(), Requests::new());
    let mut id = 0;
    for (user, items) in (0_u32..).zip(&users) {
        let items: Vec<u32> = items.iter().map(|item| numbers[*item as usize]).collect();
        let n = items.len();
        for (position, &item) in (0_u32..).zip(&items) {
            sequences.push(user, position, item).unwrap();
            if (position as usize) < n - 2 {
                samples.push(id, user, position, item, 1.0);
            }
            id += 1;
        }
        validation.push((items[..n - 2].to_vec(), items[n - 2]));
        test.push((items[..n - 1].to_vec(), items[n - 1]));
    }
    samples.sort();
    let attributes = rest
        .iter()
        .find_map(|word| word.strip_prefix("attributes="));
    let items = attributes.map(|file| describe(&order, file));
    let mut data = TrainingData::new(&samples, &sequences, training.len()).unwrap();
    if let Some(items) = &items {
        data = data.with_items(items);
    }
    println!(
        "{} users, {} items, {} training samples; {} {parameters}",
        users.len(),
        order.len(),
        data.n_samples(),
        entry.name
    );
    let mut watch = Watch {
        requests: validation,
        n_items: order.len(),
        last: Instant::now(),
        validation: 0.0,
    };
    let started = Instant::now();
    let mut run = Run {
        seed: Seed::root(seed),
        observer: &mut watch,
    };
    let model = entry.fit(&parameters, &data, &mut run).unwrap();
    let fitted = started.elapsed().as_secs_f64();
    for (part, requests) in [("validation", &watch.requests), ("test", &test)] {
        for (seen, keeps) in [("excluded", false), ("kept", true)] {
            let [hits, ndcg] = evaluate(model.as_ref(), requests, order.len(), keeps);
            println!("{part}, seen items {seen}: HR@10 {hits:.4} NDCG@10 {ndcg:.4}");
        }
    }
    println!("fitted in {fitted:.1} s, {:?} steps", model.steps());
}
