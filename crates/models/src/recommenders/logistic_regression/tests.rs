//! Laws of the model: derivatives, optimum, leave-out, weights, influence, ranking.

mod attributions;
mod unrolled;

use proptest::prelude::*;
use serde_json::json;
use tables::ItemFeatures;

use super::features::{BIAS, FEATURES};
use super::*;
use crate::conformance::{in_pool, log};
use crate::unrolled::Unrolled;
use crate::{Samples, Sequences};

/// Users walk around a ring of items: from i to i + 1, at times to anywhere, one item being liked by
/// many. `n` users with `length` events.
fn ring(n_users: u64, length: u64, n_items: u32) -> Vec<Vec<u32>> {
    let stream = Seed::root(11).stream();
    let draw =
        |user, lane, bound: u32| u32::try_from(stream.below(u64::from(bound), user, lane)).unwrap();
    (0..n_users)
        .map(|user| {
            let mut at = draw(user, 1000, n_items);
            (0..length)
                .map(|lane| {
                    at = match draw(user, lane, 10) {
                        0 => draw(user, 2000 + lane, n_items),
                        1 => 0,
                        _ => (at + 1) % n_items,
                    };
                    at
                })
                .collect()
        })
        .collect()
}

fn built(logs: &[Vec<u32>], weight: impl Fn(usize) -> f64) -> (Samples, Sequences) {
    let mut at = 0;
    let weights: Vec<Vec<f64>> = logs
        .iter()
        .map(|log| {
            let next = |_: &u32| {
                at += 1;
                weight(at - 1)
            };
            log.iter().map(next).collect()
        })
        .collect();
    let borrowed: Vec<(&[u32], &[f64])> = logs
        .iter()
        .zip(&weights)
        .map(|(log, weights)| (&log[..], &weights[..]))
        .collect();
    log(&borrowed)
}

fn parameters() -> Parameters {
    Parameters {
        regularisation: 1e-2,
        minimum_support: 1,
        ..Parameters::default()
    }
}

fn fit(data: &TrainingData<'_>) -> LogisticRegression {
    LogisticRegression::fit(&parameters(), data, &mut Run::silent(Seed::root(5))).unwrap()
}

fn features(n: u32) -> Vec<ItemFeatures> {
    (0..n)
        .map(|item| ItemFeatures {
            item,
            title: Some(format!("thing {} of {}", item, item % 3)),
            category: (item % 4 > 0).then(|| format!("group {}", item % 4)),
            brand: (item % 5 > 0).then(|| format!("house {}", item % 5)),
            attributes: Vec::new(),
            price_e4: (item % 6 > 0).then(|| i64::from(item) * 10_000),
            price_z: f64::from(item % 6) / 3.0,
            popularity_z: 0.0,
        })
        .collect()
}

/// The loss of a term as a function of the weights.
fn loss_at(model: &LogisticRegression, rows: &[Row], weights: &Vector) -> f64 {
    rows.iter()
        .enumerate()
        .map(|(place, row)| cost(place, model.scaling.margin(weights, row)).0)
        .sum()
}

fn all_rows(model: &LogisticRegression, data: &TrainingData<'_>) -> Vec<Vec<Row>> {
    let (rows, _) = model.rows().of_all(data);
    let per_term = model.negatives.per_term();
    rows.chunks_exact(per_term).map(<[Row]>::to_vec).collect()
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = x.iter().zip(y);
        pairs.map(|(x, y)| f(x - mean_x, y - mean_y)).sum()
    };
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

#[test]
fn features_are_named_once_and_the_bias_comes_first() {
    assert_eq!(NAMES[BIAS].name, "bias");
    for (at, feature) in NAMES.iter().enumerate() {
        assert!(!feature.doc.is_empty());
        assert!(NAMES[..at].iter().all(|other| other.name != feature.name));
    }
    assert_eq!(FEATURES.len(), N);
    let model = crate::entry("logistic_regression").unwrap();
    let (samples, sequences) = log(&[(&[0, 1, 2], &[1.0; 3])]);
    let data = TrainingData::new(&samples, &sequences, 3).unwrap();
    let mut run = Run::silent(Seed::root(1));
    let model = model
        .fit(&serde_json::Value::Null, &data, &mut run)
        .unwrap();
    assert_eq!(model.feature_names(), NAMES);
    let rows = model.gradient_rows().unwrap();
    assert_eq!(rows.width(), N);
}

#[test]
fn gradient_and_curvature_rows_are_finite_differences_of_the_loss() {
    let (samples, sequences) = built(&ring(12, 8, 9), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    for rows in all_rows(&model, &data).iter().step_by(5) {
        let gradient = model.gradient(rows);
        let roots = model.roots(rows);
        for k in 0..N {
            let shifted = |step: f64| {
                let mut weights = model.weights;
                weights[k] += step;
                weights
            };
            // Central differences with a step of 1e-4: an error of 1e-8 times a third derivative, which
            // is below 0.1 times |x|^3 with |x| below 10 for 5 rows, and of 1e-15 / 1e-4 by rounding.
            let step = 1e-4;
            let slope = (loss_at(&model, rows, &shifted(step))
                - loss_at(&model, rows, &shifted(-step)))
                / (2.0 * step);
            assert!((slope - gradient[k]).abs() < 5e-6, "{k} {slope}");
            let other = |step: f64| {
                let weights = shifted(step);
                let at = LogisticRegression {
                    weights,
                    counts: model.counts.clone(),
                    statistics: model.statistics.clone(),
                    attributes: model.attributes.clone(),
                    scaling: model.scaling.clone(),
                    regularisation: model.regularisation,
                    negatives: Negatives { ..model.negatives },
                };
                at.gradient(rows)
            };
            let (above, below) = (other(step), other(-step));
            for j in 0..N {
                let slope = (above[j] - below[j]) / (2.0 * step);
                let exact: f64 = roots.iter().map(|root| root[k] * root[j]).sum();
                assert!((slope - exact).abs() < 5e-6, "{k} {j} {slope} {exact}");
            }
        }
    }
}

#[test]
fn handed_over_rows_are_those_of_the_samples_asked_for() {
    let (samples, sequences) = built(&ring(6, 7, 9), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let n = u32::try_from(data.n_samples()).unwrap();
    let all: Vec<u32> = (0..n).collect();
    let rows = model.sample_rows(&data, &all);
    let roots = model.curvature_rows(&data, &all).unwrap();
    let per_term = model.negatives.per_term();
    assert_eq!(per_term, 5);
    assert_eq!((rows.len(), roots.len()), (42 * N, 42 * N * 5));
    let mut terms = all_rows(&model, &data).into_iter();
    for sample in 0..data.n_samples() {
        let row = &rows[sample * N..(sample + 1) * N];
        let root = &roots[sample * N * 5..(sample + 1) * N * 5];
        assert_eq!(model.has_loss(&data, sample), sample % 7 > 0);
        if sample % 7 == 0 {
            assert!(row.iter().chain(root).all(|x| x.abs() <= 0.0));
            continue;
        }
        let term = terms.next().unwrap();
        // Rounded to 32 bits: 2^-24 of the value.
        for (x, exact) in row.iter().zip(model.gradient(&term)) {
            assert!((f64::from(*x) - exact).abs() <= exact.abs() * 6e-8);
        }
        for (x, exact) in root.iter().zip(model.roots(&term).concat()) {
            assert!((f64::from(*x) - exact).abs() <= exact.abs() * 6e-8);
        }
    }
    // Whoever else is asked for, and in whatever order.
    let some = [40, 3, 9, 4];
    let found = model.sample_rows(&data, &some);
    for (row, sample) in found.chunks_exact(N).zip(some) {
        let sample = sample as usize;
        assert_eq!(row, &rows[sample * N..(sample + 1) * N]);
    }
}

#[test]
fn the_optimum_is_stationary_and_losses_are_those_of_the_terms() {
    let (samples, sequences) = built(&ring(20, 8, 9), |at| [1.0, 0.3, 2.0, 0.0][at % 4]);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let losses = model.sample_losses(&data);
    let mut terms = all_rows(&model, &data).into_iter();
    let mut sum = [0.0; N];
    let mut n = 0.0;
    for (sample, loss) in losses.iter().enumerate() {
        if !model.has_loss(&data, sample) {
            let share = model.counts.share(data.item(sample));
            assert!((loss + libm::log(share)).abs() < 1e-15);
            continue;
        }
        let term = terms.next().unwrap();
        assert_eq!(loss.to_bits(), model.loss_of(&term).to_bits());
        for (sum, x) in sum.iter_mut().zip(model.gradient(&term)) {
            *sum += data.weight(sample) * x;
        }
        n += 1.0;
    }
    for (sum, w) in sum.iter().zip(model.weights) {
        // The promise is 1e-10; sums of 140 terms around 1 round to less.
        assert!((sum / n + model.regularisation * w).abs() < 1.1e-10);
    }
    assert!(model.weights.iter().any(|w| w.abs() > 0.1));
}

#[test]
fn requests_cost_the_mean_of_their_relevant_items_and_rows_are_its_gradient() {
    let (samples, sequences) = built(&ring(20, 8, 9), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let history = History::of(&[3, 4, 0, 5]);
    let row = model.request_row(history, &[6, 8]).unwrap();
    let step = 1e-4;
    for k in 0..N {
        let at = |step: f64| {
            let mut weights = model.weights;
            weights[k] += step;
            let of = |item| {
                loss_at(
                    &model,
                    &model.rows().of_request(&[3, 4, 0, 5], item),
                    &weights,
                )
            };
            f64::midpoint(of(6), of(8))
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        // As above, and 2^-24 of a value below 10.
        assert!((slope - f64::from(row[k])).abs() < 6e-6);
    }
    assert!(model.request_row(History::default(), &[6]).is_none());
    assert!(model.request_row(history, &[]).is_none());
    let asked = model.request_losses(&[(history, &[6, 8])]);
    assert_eq!(asked[0][1].to_bits(), model.loss(history, 8).to_bits());
    // An item beyond the vocabulary costs something finite.
    assert!(model.loss(history, 77).is_finite());
}

#[test]
fn masking_a_sample_does_what_its_influence_says() {
    let logs = ring(15, 8, 9);
    let (samples, sequences) = built(&logs, |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let model = fit(&data);
    let history = [3, 4, 5];
    let request = model.rows().of_request(&history, 6);
    let target = model.gradient(&request);
    // H from the handed-over rows, then H^-1 times the target's gradient.
    let all: Vec<u32> = (0..u32::try_from(data.n_samples()).unwrap()).collect();
    let n = (0..data.n_samples())
        .filter(|sample| model.has_loss(&data, *sample))
        .count() as f64;
    let roots = model.curvature_rows(&data, &all).unwrap();
    let mut hessian = vec![0.0; N * N];
    for root in roots.chunks_exact(N) {
        for (i, x) in root.iter().enumerate() {
            for (j, y) in root.iter().enumerate() {
                hessian[i * N + j] += f64::from(*x) * f64::from(*y) / n;
            }
        }
    }
    for k in 0..N {
        hessian[k * N + k] += model.regularisation();
    }
    assert!(tensors::dense::cholesky(&mut hessian, N));
    let mut direction = target;
    tensors::dense::solve(&hessian, N, &mut direction);

    let (mut expected, mut found) = (Vec::new(), Vec::new());
    let rows = model.sample_rows(&data, &all);
    for sample in 0..data.n_samples() {
        if !model.has_loss(&data, sample) {
            continue;
        }
        let row = &rows[sample * N..(sample + 1) * N];
        let product: f64 = row
            .iter()
            .zip(direction)
            .map(|(g, h)| f64::from(*g) * h)
            .sum();
        // Without it the weights move by H^-1 g / n.
        expected.push(product / n);
        let id = data.sample_id(sample);
        let masked = samples.reweighted(|other| Some(if other == id { 0.0 } else { 1.0 }));
        let data = TrainingData::new(&masked, &sequences, 9).unwrap();
        let without = fit(&data);
        assert_eq!(without.scaling, model.scaling);
        found.push(
            loss_at(&without, &request, &without.weights)
                - loss_at(&model, &request, &model.weights),
        );
    }
    let r = pearson(&expected, &found);
    assert!(r > 0.99, "Pearson {r}");
}

#[test]
fn a_sample_sees_nothing_of_its_own_event_or_of_what_follows() {
    // User 4 does something else from event 5 on; nobody else changes.
    let mut logs = ring(12, 9, 9);
    let own = logs[4].clone();
    let mut other = logs.clone();
    other[4].truncate(5);
    other[4].extend([own[1], own[4], own[4], 8, 0, 3, own[4]]);
    logs[4][5] = own[2];
    let build = |logs: &[Vec<u32>]| built(logs, |_| 1.0);
    let of = |logs: &[Vec<u32>], sample_end: u32, is_leaving_out: bool| -> Vec<Row> {
        let (samples, sequences) = build(logs);
        let catalogue = features(9);
        let data = TrainingData::new(&samples, &sequences, 9)
            .unwrap()
            .with_items(&catalogue);
        let statistics = Statistics::of(&data, 10, 1).unwrap();
        let attributes = Attributes::of(&catalogue, &data).unwrap();
        let sample = (0..data.n_samples())
            .find(|&at| data.sequence(at) == 4 && data.history_end(at) == sample_end)
            .unwrap();
        let own = Own::new(&data, sequence_of(&data, sample));
        let left_out = if is_leaving_out {
            own.left_out(sample_end)
        } else {
            LeftOut::NOTHING
        };
        let history = data.history(sample).items();
        let context = statistics.context(&attributes, history, left_out);
        (0..9)
            .map(|item| row(&statistics.evidence(&attributes, &context, left_out, item)))
            .collect()
    };
    // Counts are whole numbers, so equality is exact.
    assert_eq!(of(&logs, 5, true), of(&other, 5, true));
    assert_ne!(of(&logs, 5, false), of(&other, 5, false));
    // Later samples of the user have other histories.
    assert_ne!(of(&logs, 6, true), of(&other, 6, true));
    // What is left out is exactly what the log without it does not hold.
    let mut cut = logs.clone();
    cut[4].truncate(5);
    let (samples, sequences) = build(&cut);
    let catalogue = features(9);
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let statistics = Statistics::of(&data, 10, 1).unwrap();
    let attributes = Attributes::of(&catalogue, &data).unwrap();
    let context = statistics.context(&attributes, &cut[4], LeftOut::NOTHING);
    let rows: Vec<Row> = (0..9)
        .map(|item| {
            let found = statistics.evidence(&attributes, &context, LeftOut::NOTHING, item);
            row(&found)
        })
        .collect();
    assert_eq!(of(&logs, 5, true), rows);
}

#[test]
fn events_of_one_basket_do_not_tell_of_each_other() {
    // Two events with one history: each is left out of what the other sees.
    let mut samples = Samples::default();
    let mut sequences = Sequences::default();
    for (position, item) in (0_u32..).zip([0, 1, 2]) {
        sequences.push(0, position, item).unwrap();
    }
    for (id, (end, item)) in (0_u64..).zip([(0, 0), (1, 1), (1, 2)]) {
        samples.push(id, 0, end, item, 1.0);
    }
    let data = TrainingData::new(&samples, &sequences, 3).unwrap();
    let statistics = Statistics::of(&data, 10, 1).unwrap();
    let own = Own::new(&data, 0..3);
    let left_out = own.left_out(1);
    let attributes = Attributes::none();
    let context = statistics.context(&attributes, &[0], left_out);
    for item in [1, 2] {
        let found = statistics.evidence(&attributes, &context, left_out, item);
        let nothing = Evidence {
            share: 1.0 / 4.0,
            ..context_of_nothing()
        };
        assert_eq!(found, nothing);
    }
    let seen = statistics.evidence(
        &attributes,
        &statistics.context(&attributes, &[0], LeftOut::NOTHING),
        LeftOut::NOTHING,
        2,
    );
    assert!(seen.after_last > 0.5 && seen.similarity_last > 0.5);
}

/// A history of one event of which nothing is known.
fn context_of_nothing() -> Evidence {
    Evidence {
        log_length: libm::log1p(1.0),
        n_recent: 1.0,
        ..Evidence::default()
    }
}

#[test]
fn a_score_is_the_margin_of_the_features_that_losses_use() {
    let (samples, sequences) = built(&ring(20, 8, 9), |_| 1.0);
    let catalogue = features(12);
    let data = TrainingData::new(&samples, &sequences, 9)
        .unwrap()
        .with_items(&catalogue);
    let parameters = Parameters {
        item_features: true,
        ..parameters()
    };
    let model =
        LogisticRegression::fit(&parameters, &data, &mut Run::silent(Seed::root(5))).unwrap();
    // The text, category, brand and price of something matter.
    assert!(model.weights[N - 4..].iter().all(|w| w.abs() > 0.0));
    let again = LogisticRegression::load(&model.save().unwrap()).unwrap();
    for history in [&[3, 4][..], &[0, 0, 1, 8, 0], &[11, 2], &[10], &[70]] {
        let mut scores = vec![f64::NAN; 12];
        model.score(None, History::of(history), &mut scores);
        let mut block = vec![f64::NAN; 24];
        again.score_block(
            &[(None, History::of(&[1])), (Some(3), History::of(history))],
            &mut block,
        );
        assert_eq!(block[12..], scores);
        let rows = model.rows();
        for (score, item) in scores.iter().zip(0..) {
            let rows = rows.of_candidates(history, LeftOut::NOTHING, item, &[]);
            let margin = model.scaling.margin(&model.weights, &rows[0]);
            assert_eq!(score.to_bits(), margin.to_bits(), "{history:?} {item}");
        }
    }
}

#[test]
fn features_are_those_of_the_formulas() {
    // Three users; the vocabulary is 0..4.
    let (samples, sequences) = log(&[
        (&[0, 1, 2], &[1.0; 3]),
        (&[0, 1], &[1.0; 2]),
        (&[1, 2, 3], &[1.0; 3]),
    ]);
    let data = TrainingData::new(&samples, &sequences, 4).unwrap();
    let statistics = Statistics::of(&data, 2, 1).unwrap();
    let attributes = Attributes::none();
    let history = [2, 0, 1, 1];
    let context = statistics.context(&attributes, &history, LeftOut::NOTHING);
    let of = |item| {
        let found = statistics.evidence(&attributes, &context, LeftOut::NOTHING, item);
        row(&found)
    };
    let (two, zero) = (of(2), of(0));
    let value = |row: &Row, name: &str| {
        let at = NAMES.iter().position(|feature| feature.name == name);
        f64::from(row[at.unwrap()])
    };
    // Item 2: two of eight events, both after item 1, never two after it; with item 1 in two of
    // three and two sequences, with item 0 in one of two and two.
    let together_1 = 2.0 / 6.0_f64.sqrt();
    let together_0 = 1.0 / 2.0;
    let length = libm::log(5.0);
    let share = 3.0 / 12.0;
    for (name, expected) in [
        ("bias", 1.0),
        ("log_popularity", libm::log(3.0)),
        ("log_history", length),
        ("log_transitions", libm::log(3.0)),
        ("log_transitions_before", 0.0),
        ("transition_lift", libm::log((2.0 + share) / 3.0 / share)),
        ("similarity_last", together_1),
        ("similarity_max", together_1),
        ("similarity_mean", f64::midpoint(together_1, together_0)),
        ("in_history", 1.0),
        ("log_occurrences", libm::log(2.0)),
        ("log_distance", libm::log(5.0)),
        ("is_last", 0.0),
        ("in_history_by_log_history", length),
        (
            "similarity_mean_by_log_history",
            f64::midpoint(together_1, together_0) * length,
        ),
        ("log_popularity_by_log_history", libm::log(3.0) * length),
        ("text_similarity", 0.0),
    ] {
        // Rounded to 32 bits.
        assert!((value(&two, name) - expected).abs() < 3e-7, "{name}");
    }
    // Item 0 lies within the last two distinct items, and is not similar to itself.
    let expected = 2.0 / 6.0_f64.sqrt();
    assert!((value(&zero, "similarity_last") - expected).abs() < 1e-7);
    assert!((value(&zero, "similarity_mean") - expected / 2.0).abs() < 1e-7);
    assert!((value(&of(1), "is_last") - 1.0).abs() < 1e-7);
}

#[test]
fn a_weight_of_two_is_the_same_sample_twice() {
    // The optimum is a sum over samples; the statistics are told to be the same, since they count
    // what is given and not weights. The same id twice: the same negatives.
    let logs = ring(15, 6, 9);
    let (doubled, sequences) = built(&logs, |at| if at % 3 == 0 { 2.0 } else { 1.0 });
    let data = TrainingData::new(&doubled, &sequences, 9).unwrap();
    let model = fit(&data);
    let mut rows = Vec::new();
    let mut weights = Vec::new();
    for sample in 0..data.n_samples() {
        let own = Own::new(&data, sequence_of(&data, sample));
        if has_history(&data, sample) {
            let term = model.rows().of_sample(&data, &own, sample);
            let copies = if data.weight(sample) > 1.5 { 2 } else { 1 };
            for _ in 0..copies {
                rows.extend_from_slice(&term);
            }
            weights.resize(weights.len() + copies, 1.0);
        }
    }
    // The objective divides by the number of terms, which copies change: the penalty goes with it.
    let n = (0..data.n_samples())
        .filter(|sample| has_history(&data, *sample))
        .count() as f64;
    let terms = Terms {
        rows: &rows,
        per_term: 5,
        weights: &weights,
        scaling: &model.scaling,
        regularisation: model.regularisation * n / weights.len() as f64,
    };
    for (a, b) in terms.minimum().unwrap().iter().zip(model.weights) {
        // Gradients below 1e-10 over a curvature of at least 1e-2.
        assert!((a - b).abs() < 4e-8);
    }
}

#[test]
fn weight_zero_leaves_the_objective_and_stays_in_the_statistics_and_dropping_does_neither() {
    let logs = ring(15, 6, 9);
    let (samples, sequences) = built(&logs, |_| 1.0);
    let id = 21;
    let masked = samples.reweighted(|other| Some(if other == id { 0.0 } else { 1.0 }));
    let dropped = samples.reweighted(|other| (other != id).then_some(1.0));
    let fitted = |samples: &Samples| fit(&TrainingData::new(samples, &sequences, 9).unwrap());
    let (all, masked, dropped) = (fitted(&samples), fitted(&masked), fitted(&dropped));
    assert_eq!(masked.scaling, all.scaling);
    // A sample of 75 moves weights by about a hundredth.
    let mut moves = masked.weights.iter().zip(all.weights);
    assert!(moves.any(|(a, b)| (a - b).abs() > 1e-4));
    assert_ne!(dropped.scaling, all.scaling);
}

#[test]
fn negatives_belong_to_samples_and_are_never_their_targets() {
    let negatives = Negatives::new(7, 4, 6);
    let mut seen = [0; 6];
    for id in 0..3000 {
        let drawn = negatives.of_sample(id, 2);
        assert_eq!(drawn, negatives.of_sample(id, 2));
        assert_eq!(drawn.len(), 4);
        for item in drawn {
            seen[item as usize] += 1;
        }
    }
    assert_eq!(seen[2], 0);
    for n in [0, 1, 3, 4, 5].map(|item| seen[item]) {
        // 12,000 draws, each of five with deviation sqrt(12,000 0.2 0.8) = 44: five of these.
        assert!((n - 2400_i32).abs() < 220, "{seen:?}");
    }
    assert_ne!(
        Negatives::new(8, 4, 600).of_sample(1, 2),
        Negatives::new(7, 4, 600).of_sample(1, 2)
    );
    // Requests do not depend on the key.
    let of = |key| Negatives::new(key, 4, 600).of_request(&[1, 2], 3);
    assert_eq!(of(7), of(8));
    assert_ne!(of(7), Negatives::new(7, 4, 600).of_request(&[2, 1], 3));
    assert!(Negatives::new(7, 4, 1).of_sample(3, 0).is_empty());
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let logs = ring(400, 9, 40);
    let (samples, sequences) = built(&logs, |at| [1.0, 0.3, 0.7][at % 3]);
    let data = TrainingData::new(&samples, &sequences, 40).unwrap();
    let bits = |threads| {
        in_pool(threads, || {
            let model = fit(&data);
            let losses = model.sample_losses(&data);
            let rows = model.sample_rows(&data, &[5, 6, 700, 701, 12]);
            let bits = model.weights.iter().chain(&losses).map(|x| x.to_bits());
            let bits: Vec<u64> = bits.collect();
            (bits, rows.iter().map(|x| x.to_bits()).collect::<Vec<u32>>())
        })
    };
    assert_eq!(bits(1), bits(2));
    assert_eq!(bits(1), bits(5));
}

#[test]
fn structure_beats_popularity() {
    let logs = ring(300, 8, 40);
    let (train, test) = logs.split_at(250);
    let (samples, sequences) = built(train, |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 40).unwrap();
    let recall = |name: &str| {
        let mut run = Run::silent(Seed::root(5));
        let entry = crate::entry(name).unwrap();
        let model = entry.fit(&json!({}), &data, &mut run).unwrap();
        let mut hits = 0.0;
        for log in test {
            let (target, history) = log.split_last().unwrap();
            let mut scores = vec![0.0; 40];
            model.score(None, History::of(history), &mut scores);
            let score = scores[*target as usize];
            let better = scores.iter().filter(|other| **other > score).count();
            hits += f64::from(u8::from(better < 3));
        }
        hits / test.len() as f64
    };
    let (mine, popularity) = (recall("logistic_regression"), recall("popularity"));
    // Nine of ten steps are to the next item or to item 0; the best of all knows both.
    assert!(mine > 0.7 && popularity < 0.4, "{mine} {popularity}");
}

#[test]
fn impossible_parameters_and_fits_are_refused_by_name() {
    let entry = crate::entry("logistic_regression").unwrap();
    for (parameters, name) in [
        (json!({ "negatives": 0 }), "`negatives`"),
        (json!({ "regularisation": 0.0 }), "`regularisation`"),
        (json!({ "window": 0 }), "`window`"),
        (json!({ "minimum_support": 0 }), "`minimum_support`"),
    ] {
        let error = entry.check(&parameters).unwrap_err();
        assert!(error.source.to_string().contains(name), "{}", error.source);
    }
    let (samples, sequences) = built(&ring(5, 6, 9), |at| if at == 3 { 1e300 } else { 1e299 });
    let data = TrainingData::new(&samples, &sequences, 9).unwrap();
    let parameters = json!({ "regularisation": 1e-300 });
    let mut run = Run::silent(Seed::root(1));
    let error = entry.fit(&parameters, &data, &mut run).err().unwrap();
    assert!(matches!(error, FitError::NotConverged { .. }), "{error}");
    assert!(error.to_string().contains("raise `regularisation`"));
    let wants = json!({ "item_features": true });
    let error = entry.fit(&wants, &data, &mut run).err().unwrap();
    assert!(matches!(error, FitError::NoItems { .. }));
}

proptest! {
    #[test]
    fn copies_of_an_event_tell_a_sample_nothing(items in prop::collection::vec(0_u32..6, 2..7), copies in 1_u64..4) {
        // The features of samples are the same however often their own last event is repeated by copies.
        let mut sequences = Sequences::default();
        for (position, item) in (0_u32..).zip(&items) {
            sequences.push(0, position, *item).unwrap();
        }
        let build = |copies: u64| {
            let mut samples = Samples::default();
            let last = items.len() - 1;
            for (position, item) in (0_u32..).zip(&items) {
                let n = if position as usize == last { copies } else { 1 };
                for copy in 0..n {
                    samples.push(u64::from(position) * 10 + copy, 0, position, *item, 1.0);
                }
            }
            samples.sort();
            samples
        };
        let rows = |copies: u64| {
            let samples = build(copies);
            let data = TrainingData::new(&samples, &sequences, 6).unwrap();
            let statistics = Statistics::of(&data, 10, 1).unwrap();
            let attributes = Attributes::none();
            let negatives = Negatives::new(3, 4, 6);
            let source = Rows { statistics: &statistics, attributes: &attributes, negatives: &negatives };
            let own = Own::new(&data, 0..data.n_samples());
            source.of_sample(&data, &own, items.len() - 1)
        };
        prop_assert_eq!(rows(1), rows(copies));
    }
}
