//! Laws of attention and hidden states, for every model of the registry that has them.

use serde_json::json;

use super::training::{Recorder, entries, fit};
use super::{N_ITEMS, baskets, sequences};
use crate::conformance::in_pool;
use crate::inside::{AskedRequest, AttentionMaps, Predictions, Received};
use crate::recommender::{Capability, Entry, Model};
use crate::sequence::inside::rollout;
use crate::{History, Samples, Sequences, TrainingData};

/// Rows of probabilities in 32 bits sum to 1 up to some roundings for each key.
const ROUNDING: f64 = 2e-5;

fn fitted(entry: &Entry, data: &(Samples, Sequences)) -> Box<dyn Model> {
    let mut more = json!({ "epochs": 2 });
    for name in ["heads", "layers"] {
        if entry.parameters.iter().any(|one| one.name == name) {
            more[name] = json!(2);
        }
    }
    fit(entry, data, &more, &mut Recorder::default()).unwrap()
}

/// Runs a check on every model that has attention, on plain sequences and on baskets.
fn for_each(check: impl Fn(&Entry, &dyn AttentionMaps, &TrainingData<'_>)) {
    let mut n = 0;
    for data in [sequences(|_| 1.0), baskets(|_| 1.0)] {
        let training = TrainingData::new(&data.0, &data.1, N_ITEMS).unwrap();
        for entry in entries().filter(|e| e.capabilities.contains(&Capability::Attention)) {
            let model = fitted(entry, &data);
            check(entry, model.attention().unwrap(), &training);
            n += 1;
        }
    }
    assert!(n >= 6);
}

fn received(
    maps: &dyn AttentionMaps,
    data: &TrainingData<'_>,
    predictions: Predictions<'_>,
) -> Received {
    maps.received(data, predictions, &|_| {})
}

/// A request after each prefix of each sequence.
fn asked(data: &TrainingData<'_>) -> Vec<AskedRequest<'static>> {
    (0..12_u32)
        .flat_map(|sequence| (0..=2 + sequence).map(move |end| (sequence, end)))
        .filter(|&(sequence, end)| end == 0 || !data.events(sequence, end).is_empty())
        .map(|(sequence, history_end)| AskedRequest {
            sequence,
            history_end,
            relevant: [&[1, 7, 99][..], &[3], &[99]][history_end as usize % 3],
        })
        .collect()
}

fn is_near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() <= ROUNDING * (1.0 + a.abs()))
}

#[test]
fn rollout_by_hand() {
    // (A1 + I) / 2 = [1 0; .25 .75], (A2 + I) / 2 = [1 0; .125 .875]; the last row of their product:
    // .125 (1, 0) + .875 (.25, .75).
    let layers = [vec![1.0, 0.0, 0.5, 0.5], vec![1.0, 0.0, 0.25, 0.75]];
    assert_eq!(rollout(&layers, 2, &[1]), [0.34375, 0.65625]);
    assert_eq!(rollout(&layers, 2, &[0, 1])[..2], [1.0, 0.0]);
    // Where A1 looks ahead the order of layers counts: .125 (.5, .5) + .875 (.25, .75).
    let other = [vec![0.0, 1.0, 0.5, 0.5], vec![1.0, 0.0, 0.25, 0.75]];
    assert_eq!(rollout(&other, 2, &[1]), [0.28125, 0.71875]);
    // Nothing is rolled out through no layer.
    assert_eq!(rollout(&[], 2, &[1]), [0.0, 1.0]);
}

#[test]
fn every_prediction_gives_away_one_and_only_to_what_it_can_see() {
    for_each(|entry, maps, data| {
        let found = received(maps, data, Predictions::Samples);
        assert_eq!(found.raw.len(), data.n_events());
        let with_history = (0..data.n_samples()).filter(|&at| data.history_end(at) > 0);
        // A window of six, moved by the stride of the tests, bounds what is seen.
        let n = with_history.count() as f64;
        let has_mask = entry.name == "bert4rec";
        for list in [&found.even, &found.raw, &found.rollout] {
            let sum: f64 = list.iter().sum();
            // What looks at the mask itself is given to no event.
            let is_all = (sum - n).abs() < ROUNDING * n;
            assert!(
                if has_mask {
                    sum > 0.0 && sum < n
                } else {
                    is_all
                },
                "{}: {sum} of {n}",
                entry.name
            );
        }
        let mut n_zero = 0;
        for at in 0..data.n_events() {
            if found.n_predictions[at] == 0 {
                n_zero += 1;
                let all = [
                    found.even[at],
                    found.raw[at],
                    found.rollout[at],
                    found.gradient[at],
                ];
                assert!(all.iter().all(|&x| x == 0.0), "{}", entry.name);
            } else {
                assert!(found.raw[at] > 0.0 && found.rollout[at] > 0.0 && found.even[at] > 0.0);
                let most = found.n_predictions[at] as f64 * (1.0 + ROUNDING);
                assert!(found.raw[at] <= most && found.rollout[at] <= most);
            }
        }
        // The last event of a sequence is nobody's history.
        assert!(n_zero >= 12, "{n_zero}");
        assert!(found.gradient.iter().any(|&x| x > 0.0));
    });
}

#[test]
fn requests_side_by_side_are_those_alone() {
    for_each(|entry, maps, data| {
        let asked = asked(data);
        let mut sum = Received::new(data.n_events());
        for one in asked.chunks(1) {
            let alone = received(maps, data, Predictions::Requests(one));
            for at in 0..data.n_events() {
                sum.n_predictions[at] += alone.n_predictions[at];
                sum.even[at] += alone.even[at];
                sum.raw[at] += alone.raw[at];
                sum.rollout[at] += alone.rollout[at];
                sum.gradient[at] += alone.gradient[at];
                // Nothing that comes later, or of somebody else, is looked at.
                let first = data.first_event(one[0].sequence);
                let history = first..first + one[0].history_end as usize;
                assert!(history.contains(&at) || alone.n_predictions[at] == 0);
            }
            let has_known = one[0].relevant[0] < 20 && one[0].history_end > 0;
            assert_eq!(alone.gradient.iter().any(|&x| x > 0.0), has_known);
        }
        let found = received(maps, data, Predictions::Requests(&asked));
        assert_eq!(found.n_predictions, sum.n_predictions);
        for (found, sum) in [
            (&found.even, &sum.even),
            (&found.raw, &sum.raw),
            (&found.rollout, &sum.rollout),
            (&found.gradient, &sum.gradient),
        ] {
            assert!(is_near(found, sum), "{}", entry.name);
        }
        let mut turned = asked.clone();
        turned.reverse();
        let turned = received(maps, data, Predictions::Requests(&turned));
        assert!(is_near(&found.raw, &turned.raw) && is_near(&found.gradient, &turned.gradient));
    });
}

#[test]
fn samples_look_as_requests_with_the_same_history_do() {
    for_each(|entry, maps, data| {
        // Histories within the first window: there samples and requests see the same.
        let short: Vec<usize> = (0..data.n_samples())
            .filter(|&at| (1..=6).contains(&data.history_end(at)))
            .collect();
        let alike: Vec<AskedRequest<'_>> = short
            .iter()
            .map(|&at| AskedRequest {
                sequence: data.sequence(at),
                history_end: data.history_end(at),
                relevant: &[],
            })
            .collect();
        let of_requests = received(maps, data, Predictions::Requests(&alike));
        let of_samples = received(maps, data, Predictions::Samples);
        let mut n = 0;
        for sequence in 0..12_u32 {
            // Where no history is longer, all predictions are among them.
            if (0..data.n_samples())
                .all(|at| data.sequence(at) != sequence || data.history_end(at) <= 6)
            {
                let first = data.first_event(sequence);
                let events = first..data.first_event(sequence + 1);
                assert_eq!(
                    of_requests.n_predictions[events.clone()],
                    of_samples.n_predictions[events.clone()]
                );
                assert!(
                    is_near(
                        &of_requests.raw[events.clone()],
                        &of_samples.raw[events.clone()]
                    ),
                    "{}",
                    entry.name
                );
                assert!(is_near(
                    &of_requests.rollout[events.clone()],
                    &of_samples.rollout[events]
                ));
                n += 1;
            }
        }
        assert!(n >= 4);
    });
}

#[test]
fn threads_change_no_bit() {
    for_each(|_, maps, data| {
        let one = in_pool(1, || received(maps, data, Predictions::Samples));
        assert_eq!(
            one,
            in_pool(3, || received(maps, data, Predictions::Samples))
        );
    });
}

#[test]
fn states_times_vectors_are_scores() {
    let mut n = 0;
    for data in [sequences(|_| 1.0), baskets(|_| 1.0)] {
        let training = TrainingData::new(&data.0, &data.1, N_ITEMS).unwrap();
        for entry in entries().filter(|e| e.capabilities.contains(&Capability::HiddenStates)) {
            let model = fitted(entry, &data);
            let states = model.hidden_states().unwrap();
            let (columns, items) = (states.n_columns(), states.items());
            assert_eq!(items.vectors.len(), N_ITEMS * columns);
            let logits = |state: &[f32]| -> Vec<f64> {
                (0..N_ITEMS)
                    .map(|item| {
                        let vector = &items.vectors[item * columns..(item + 1) * columns];
                        let pairs = state.iter().zip(vector);
                        let bias = items
                            .bias
                            .as_ref()
                            .map_or(0.0, |bias| f64::from(bias[item]));
                        pairs
                            .map(|(&a, &b)| f64::from(a) * f64::from(b))
                            .sum::<f64>()
                            + bias
                    })
                    .collect()
            };
            let histories: Vec<Vec<u32>> = (0..40_u32)
                .map(|at| (0..at % 12).map(|k| (at * 7 + k * k) % 23).collect())
                .collect();
            let asked: Vec<History<'_>> =
                histories.iter().map(|items| History::of(items)).collect();
            let rows = states.of_requests(&asked);
            assert!(rows.numbers.is_sorted_by(|a, b| a < b) && rows.numbers.len() > 30);
            for (&at, state) in rows.numbers.iter().zip(rows.values.chunks_exact(columns)) {
                let mut scores = [0.0; N_ITEMS];
                model.score(None, asked[at as usize], &mut scores);
                assert!(is_near(&scores, &logits(state)), "{}", entry.name);
            }
            let losses = model.losses().unwrap().sample_losses(&training);
            let rows = states.of_samples(&training, &|_| {});
            let with_history = (0..training.n_samples()).filter(|&at| training.history_end(at) > 0);
            assert_eq!(rows.numbers.len(), with_history.count());
            assert!(rows.numbers.is_sorted_by(|a, b| a < b));
            for (&at, state) in rows.numbers.iter().zip(rows.values.chunks_exact(columns)) {
                let logits = logits(state);
                let sum: f64 = logits.iter().map(|&x| libm::exp(x)).sum();
                let loss = libm::log(sum) - logits[training.item(at as usize) as usize];
                let wanted = losses[at as usize];
                assert!(
                    (loss - wanted).abs() < 1e-4,
                    "{}: {loss} {wanted}",
                    entry.name
                );
            }
            n += 1;
        }
    }
    assert!(n >= 8);
}
