//! Mode `serve`: how fast a fitted model answers, as an online service would see it.
//!
//! A single request is timed from its history to its list of best items over all candidates, on
//! one thread, one request after the other: what a user waits for. Throughput is all test requests
//! ranked on all threads. Both are measured, so the output never enters a key by its content.

use std::time::Instant;

use models::{History, Sequences};
use rayon::prelude::*;
use stage::{Exit, Failure, Io, Seed};
use tables::{Latency, Part, Request};

use crate::config::{Config, Serve};
use crate::inputs;
use crate::rank::{BLOCK, Ranker};

pub(crate) fn run(config: &Config, io: &Io) -> Result<(), Failure> {
    let (card, model, catalogue) = inputs::fitted(io, "serve")?;
    let sequences = inputs::sequences(io, &catalogue)?;
    let requests: Vec<Request> = inputs::requests(io, &catalogue, &sequences)?
        .into_iter()
        .filter(|request| request.part == Part::Test)
        .map(|request| Request {
            // A service does not know what will turn out relevant.
            relevant: Vec::new(),
            ..request
        })
        .collect();
    if requests.is_empty() {
        return Err(Failure::new(
            Exit::Data,
            "there are no test requests to time",
        ));
    }
    let ranker = Ranker {
        model: model.as_ref(),
        catalogue: &catalogue,
        seen: config.seen,
        top: config.top,
    };
    let single = single_requests(&ranker, &requests, &sequences, config, io)?;
    let many = full_ranking(&ranker, &requests, &sequences, io)?;
    for row in [&single, &many] {
        io.note(&format!(
            "{}: {}, {} requests on {} threads: {:.0} a second, p50 {:.3} ms, p99 {:.3} ms",
            card.name, row.what, row.n, row.threads, row.per_second, row.p50_ms, row.p99_ms
        ));
    }
    tables::write_all(&io.output("latency")?, [single, many]).map_err(Failure::environment)?;
    Ok(())
}

fn history<'s>(sequences: &'s Sequences, request: &Request) -> History<'s> {
    // Every history was seen when the requests were read.
    sequences
        .history(request.sequence, request.history_end)
        .unwrap_or_default()
}

/// One request at a time on one thread.
fn single_requests(
    ranker: &Ranker<'_>,
    requests: &[Request],
    sequences: &Sequences,
    config: &Config,
    io: &Io,
) -> Result<Latency, Failure> {
    let Serve {
        requests: n,
        warm_up,
    } = config.serve;
    let mut draws = Seed::root(config.seed).child("serve").sequence();
    let mut order: Vec<usize> = (0..requests.len()).collect();
    draws.shuffle(&mut order);
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(Failure::environment)?;
    let mut progress = io.progress("single requests", n as u64);
    let mut times = Vec::with_capacity(n);
    let mut asked = order.iter().cycle().map(|&at| &requests[at]);
    for count in 0..warm_up + n {
        let Some(request) = asked.next() else { break };
        let one = std::slice::from_ref(request);
        let started = Instant::now();
        let row = alone.install(|| ranker.rank_all(one, |request| history(sequences, request)));
        let elapsed = started.elapsed();
        std::hint::black_box(row.map_err(Failure::computation)?);
        if count >= warm_up {
            times.push(elapsed.as_secs_f64() * 1e3);
            progress.advance(1);
        }
    }
    Ok(latency("single_request", 1, times))
}

/// All test requests on all threads, block by block as in mode `fit`.
fn full_ranking(
    ranker: &Ranker<'_>,
    requests: &[Request],
    sequences: &Sequences,
    io: &Io,
) -> Result<Latency, Failure> {
    let mut progress = io.progress("full ranking", requests.len() as u64);
    let started = Instant::now();
    let mut times = Vec::new();
    for block in requests.chunks(BLOCK) {
        let begun = Instant::now();
        let rows = ranker
            .rank_all(block, |request| history(sequences, request))
            .map_err(Failure::computation)?;
        // Of a request in a block only its share of the block is known.
        let share = begun.elapsed().as_secs_f64() * 1e3 / block.len() as f64;
        times.extend(std::iter::repeat_n(share, rows.len()));
        progress.advance(block.len() as u64);
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut row = latency("full_ranking", rayon::current_num_threads(), times);
    row.per_second = requests.len() as f64 / seconds.max(1e-9);
    Ok(row)
}

/// Quantiles of times in ms; the q-quantile is the smallest time that a share q does not exceed.
fn latency(what: &str, threads: usize, mut times: Vec<f64>) -> Latency {
    times.par_sort_unstable_by(f64::total_cmp);
    let n = times.len();
    let quantile = |per_cent: usize| {
        let at = (n * per_cent).div_ceil(100).clamp(1, n.max(1)) - 1;
        times.get(at).copied().unwrap_or(0.0)
    };
    let sum: f64 = times.iter().sum();
    Latency {
        what: what.to_owned(),
        n: n as u64,
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        p50_ms: quantile(50),
        p99_ms: quantile(99),
        per_second: n as f64 / (sum / 1e3).max(1e-9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let row = latency("x", 1, (1..=200).rev().map(f64::from).collect());
        assert!((row.p50_ms - 100.0).abs() < 1e-12);
        assert!((row.p99_ms - 198.0).abs() < 1e-12);
        // 200 requests in 20.1 seconds.
        assert!((row.per_second - 200.0 / 20.1).abs() < 1e-9);
        let one = latency("x", 1, vec![3.0]);
        assert!((one.p50_ms - 3.0).abs() < 1e-12 && (one.p99_ms - 3.0).abs() < 1e-12);
        assert!(latency("x", 1, Vec::new()).p99_ms.abs() < 1e-12);
    }
}
