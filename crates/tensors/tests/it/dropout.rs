//! Dropout: a function of (seed, operation, row key, column) and of nothing else.

use seed::Seed;
use tensors::{Attention, Context, Gradients, Init, Mask, Parameters, Tape, Value};

const COLUMNS: usize = 6;
const LENGTH: usize = 4;

/// Values of one operation for rows with the given keys, whose content depends on the key alone.
fn run(
    parameters: &Parameters<f32>,
    keys: &[u64],
    build: impl Fn(&mut Tape<'_, f32>, Value) -> Value,
) -> Vec<f32> {
    let mut tape = Tape::new(parameters, Context::training(Some(Seed::root(5)), keys));
    let data = keys
        .iter()
        .flat_map(|&key| (0..3 * COLUMNS as u64).map(move |at| ((key * 31 + at * 7) % 13) as f32))
        .collect();
    let x = tape.constant(keys.len(), 3 * COLUMNS, data);
    let out = build(&mut tape, x);
    tape.value(out).to_vec()
}

#[test]
fn dropout_of_a_row_does_not_depend_on_its_batch() {
    let parameters = Parameters::new(Seed::root(1));
    let together: Vec<u64> = (100..100 + 3 * LENGTH as u64).collect();
    let attention = |tape: &mut Tape<'_, f32>, x: Value| {
        let rows = tape.shape(x)[0];
        let settings = Attention {
            heads: 2,
            length: LENGTH,
            mask: Mask::Causal,
            valid: &vec![true; rows],
            dropout: 0.5,
            name: "a",
        };
        tape.attention(x, settings)
    };
    let plain = |tape: &mut Tape<'_, f32>, x: Value| tape.dropout_add(x, Some(x), 0.5, "d");
    let all = run(&parameters, &together, attention);
    let all_plain = run(&parameters, &together, plain);
    for sequence in 0..3 {
        let keys = &together[sequence * LENGTH..(sequence + 1) * LENGTH];
        let alone = run(&parameters, keys, attention);
        let size = alone.len();
        assert_eq!(alone, all[sequence * size..(sequence + 1) * size]);
        let alone = run(&parameters, keys, plain);
        let size = alone.len();
        assert_eq!(alone, all_plain[sequence * size..(sequence + 1) * size]);
    }
}

#[test]
fn rows_alone_are_dropped_as_among_all() {
    let parameters = Parameters::new(Seed::root(1));
    let keys: Vec<u64> = (100..112).collect();
    let chosen = [7, 0, 3, 3];
    let all = run(&parameters, &keys, |tape, x| {
        let out = tape.dropout_add(x, Some(x), 0.5, "d");
        tape.gather_rows(out, &chosen)
    });
    let some = run(&parameters, &keys, |tape, x| {
        let x = tape.gather_rows(x, &chosen);
        tape.dropout_add_at(x, Some(x), 0.5, "d", Some(&chosen))
    });
    assert_eq!(all, some);
}

#[test]
fn dropout_of_attention_does_not_depend_on_padding_before() {
    let parameters = Parameters::new(Seed::root(1));
    let keys: Vec<u64> = (7..7 + LENGTH as u64).collect();
    for mask in [Mask::Causal, Mask::Bidirectional] {
        let attend = |pad: usize| {
            let length = LENGTH + pad;
            let valid: Vec<bool> = (0..length).map(|at| at >= pad).collect();
            let keys: Vec<u64> = std::iter::repeat_n(0, pad).chain(keys.clone()).collect();
            let out = run(&parameters, &keys, |tape, x| {
                let settings = Attention {
                    heads: 2,
                    length,
                    mask,
                    valid: &valid,
                    dropout: 0.5,
                    name: "a",
                };
                tape.attention(x, settings)
            });
            out[pad * COLUMNS..].to_vec()
        };
        for (a, b) in attend(0).into_iter().zip(attend(3)) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
    }
}

#[test]
fn names_and_seeds_change_what_is_dropped() {
    let parameters = Parameters::<f32>::new(Seed::root(1));
    let run = |seed: u64, name: &str| {
        let mut tape = Tape::new(&parameters, Context::training(Some(Seed::root(seed)), &[]));
        let x = tape.constant(10, 10, vec![1.0; 100]);
        let out = tape.dropout_add(x, None, 0.5, name);
        tape.value(out).to_vec()
    };
    assert_eq!(run(1, "a"), run(1, "a"));
    assert_ne!(run(1, "a"), run(1, "b"));
    assert_ne!(run(1, "a"), run(2, "a"));
}

/// The gradient of a linear function of the output, against differences.
#[test]
fn gradients_pass_through_what_was_kept() {
    let mut parameters = Parameters::<f64>::new(Seed::root(1));
    let normal = Init::Normal { std: 1.0 };
    let items = parameters.insert("items", [5, 12], normal);
    let positions = parameters.insert("positions", [LENGTH, 12], normal);
    let keys: Vec<u64> = (0..2 * LENGTH as u64).map(|key| key * 1000).collect();
    let forward = |tape: &mut Tape<'_, f64>| {
        let ids = [0, 1, 2, u32::MAX, 4, 4, 1, 0];
        let at = [0, 1, 2, 3, 0, 1, 2, 3];
        let x = tape.embedding_with_positions(items, positions, &ids, &at, 2.0, 0.3, "e");
        let settings = Attention {
            heads: 2,
            length: LENGTH,
            mask: Mask::Causal,
            valid: &[true, true, true, false, true, true, true, true],
            dropout: 0.4,
            name: "a",
        };
        let mixed = tape.attention(x, settings);
        let twice = tape.dropout_add(mixed, None, 0.3, "d");
        tape.dropout_add(twice, Some(mixed), 0.3, "r")
    };
    let scalar = |parameters: &Parameters<f64>| {
        let mut tape = Tape::new(parameters, Context::training(Some(Seed::root(9)), &keys));
        let out = forward(&mut tape);
        let weights = (0_u32..).map(|at| f64::from(at % 7) - 2.5);
        tape.value(out)
            .iter()
            .zip(weights)
            .map(|(x, w)| x * w)
            .sum::<f64>()
    };
    let mut gradients = Gradients::new(&parameters);
    let mut tape = Tape::new(&parameters, Context::training(Some(Seed::root(9)), &keys));
    let out = forward(&mut tape);
    let seed = (0_u32..32).map(|at| f64::from(at % 7) - 2.5).collect();
    tape.backward_from(&[], vec![(out, seed)], &mut gradients);
    drop(tape);
    for id in [items, positions] {
        for at in 0..parameters.get(id).len() {
            let mut slope = 0.0;
            for sign in [1.0, -1.0] {
                let mut moved = parameters.clone();
                moved.get_mut(id)[at] += sign * 1e-5;
                slope += sign * scalar(&moved) / 2e-5;
            }
            let gradient = gradients.get(id)[at];
            assert!(
                (slope - gradient).abs() < 1e-6,
                "{slope} and {gradient} at {at}"
            );
        }
    }
}
