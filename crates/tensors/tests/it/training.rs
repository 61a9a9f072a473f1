//! Initial weights, optimisers, schedules, workspaces.

use candle_core::{Device, Tensor};
use seed::Seed;
use tensors::{
    Activation, AdamW, AdamWSettings, Attention, Context, Gradients, Init, Mask, Negatives,
    Parameters, Schedule, Sgd, Tape, Workspace, clip_by_norm,
};

use crate::check::{distance, draws, values};

const ALL: [Init; 9] = [
    Init::Zeros,
    Init::Ones,
    Init::Constant(0.25),
    Init::Uniform { bound: 0.5 },
    Init::Normal { std: 2.0 },
    Init::TruncatedNormal { std: 2.0 },
    Init::XavierUniform,
    Init::XavierNormal,
    Init::KaimingUniform,
];

#[test]
fn initial_weights_do_not_depend_on_the_order_of_insertion() {
    let insert = |order: &mut dyn Iterator<Item = usize>| {
        let mut parameters = Parameters::<f32>::new(Seed::root(3));
        for k in order {
            parameters.insert(&format!("p{k}"), [k + 1, 7], ALL[k]);
        }
        parameters
    };
    let (up, down) = (insert(&mut (0..9)), insert(&mut (0..9).rev()));
    let some = insert(&mut [4, 8].into_iter());
    assert!(up.names().eq(down.names()));
    for name in up.names() {
        assert_eq!(up.by_name(name), down.by_name(name));
    }
    assert_eq!(some.by_name("p8"), up.by_name("p8"));
    assert_eq!(up.to_tensors().unwrap(), down.to_tensors().unwrap());
}

#[test]
fn initial_weights_have_the_spread_that_they_say() {
    let (rows, columns) = (300_usize, 200_usize);
    let fans = (rows + columns) as f64;
    // Standard deviation, largest magnitude. A normal cut at two deviations keeps 0.7737 of its
    // variance.
    let wanted = [
        (0.0, 0.0),
        (0.0, 1.0),
        (0.0, 0.25),
        (0.5 / 3.0_f64.sqrt(), 0.5),
        (2.0, 12.0),
        (2.0 * 0.7737_f64.sqrt(), 4.0),
        ((2.0 / fans).sqrt(), (6.0 / fans).sqrt()),
        ((2.0 / fans).sqrt(), 6.0 * (2.0 / fans).sqrt()),
        ((2.0 / columns as f64).sqrt(), (6.0 / columns as f64).sqrt()),
    ];
    for (init, (std, most)) in ALL.into_iter().zip(wanted) {
        let mut parameters = Parameters::<f64>::new(Seed::root(3));
        let id = parameters.insert("x", [rows, columns], init);
        let x = parameters.get(id);
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let spread = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(
            (spread - std).abs() < 0.02 * std + 1e-12,
            "{init:?}: {spread}"
        );
        assert!(x.iter().all(|x| x.abs() <= most + 1e-12), "{init:?}");
    }
}

#[test]
fn parameters_come_back_from_tensors() {
    let mut parameters = Parameters::<f32>::new(Seed::root(3));
    parameters.insert("b", [2, 3], Init::XavierNormal);
    parameters.insert("a", [1, 4], Init::XavierNormal);
    let tensors = parameters.to_tensors().unwrap();
    let read = Parameters::<f32>::from_tensors(&tensors).unwrap();
    assert_eq!(read.to_tensors().unwrap(), tensors);
    let mut other = Parameters::<f32>::new(Seed::root(4));
    let a = other.insert("a", [1, 4], Init::Zeros);
    other.load(&tensors).unwrap();
    assert_eq!(Some(other.get(a)), parameters.by_name("a"));
    other.insert("c", [1, 1], Init::Zeros);
    assert!(other.load(&tensors).is_err(), "`c` is missing");
    let mut other = Parameters::<f32>::new(Seed::root(4));
    other.insert("a", [2, 2], Init::Zeros);
    assert!(other.load(&tensors).is_err(), "another shape");
    assert!(
        Parameters::<f64>::from_tensors(&tensors).is_err(),
        "another type"
    );
}

/// The formula, written with the small operations of `candle`.
fn formula(
    start: &[f64],
    steps: &[Vec<f64>],
    settings: AdamWSettings,
    rate: f64,
) -> candle_core::Result<Vec<f64>> {
    let vector = |x: &[f64]| Tensor::from_slice(x, x.len(), &Device::Cpu);
    let [beta_1, beta_2] = settings.betas;
    let mut weights = vector(start)?;
    let (mut mean, mut square) = (weights.zeros_like()?, weights.zeros_like()?);
    for (step, gradient) in (1..).zip(steps) {
        let penalty = ((&weights * settings.l2)? + (weights.sign()? * settings.l1)?)?;
        let gradient = (vector(gradient)? + penalty)?;
        mean = ((mean * beta_1)? + (&gradient * (1.0 - beta_1))?)?;
        square = ((square * beta_2)? + (gradient.sqr()? * (1.0 - beta_2))?)?;
        let mean = (&mean / (1.0 - beta_1.powi(step)))?;
        let root = ((&square / (1.0 - beta_2.powi(step)))?.sqrt()? + settings.epsilon)?;
        let decay = (&weights * (rate * settings.weight_decay))?;
        weights = ((weights - decay)? - ((mean / root)? * rate)?)?;
    }
    weights.to_vec1()
}

#[test]
fn adamw_is_its_formula() {
    let settings = AdamWSettings {
        betas: [0.8, 0.98],
        epsilon: 1e-6,
        weight_decay: 0.1,
        l1: 0.01,
        l2: 0.02,
    };
    for settings in [settings, AdamWSettings::default()] {
        let mut double = Parameters::<f64>::new(Seed::root(1));
        let id = double.insert("x", [3, 11], Init::Normal { std: 1.0 });
        let plain = double.insert("y", [1, 5], Init::Normal { std: 1.0 });
        let mut single = double.cast::<f32>();
        let (start, start_plain) = (double.get(id).to_vec(), double.get(plain).to_vec());
        let mut draws = draws("adamw", 0);
        let steps: Vec<Vec<f64>> = (0..7).map(|_| values(&mut draws, 33)).collect();
        let mut optimiser = AdamW::new(&double, settings).without_decay(&[plain]);
        let mut optimiser_single = AdamW::new(&single, settings).without_decay(&[plain]);
        for step in &steps {
            let mut gradients = Gradients::new(&double);
            gradients.get_mut(id).copy_from_slice(step);
            gradients.get_mut(plain).copy_from_slice(&step[..5]);
            optimiser.step(&mut double, &gradients, 0.05);
            let mut gradients = Gradients::new(&single);
            for (g, &x) in gradients.get_mut(id).iter_mut().zip(step) {
                *g = x as f32;
            }
            for (g, &x) in gradients.get_mut(plain).iter_mut().zip(step) {
                *g = x as f32;
            }
            optimiser_single.step(&mut single, &gradients, 0.05);
        }
        let exact = formula(&start, &steps, settings, 0.05).unwrap();
        assert!(distance(double.get(id), &exact) < 1e-12);
        assert!(distance(single.get(id), &exact) < 1e-5);
        let steps: Vec<Vec<f64>> = steps.iter().map(|step| step[..5].to_vec()).collect();
        let free = AdamWSettings {
            weight_decay: 0.0,
            l1: 0.0,
            l2: 0.0,
            ..settings
        };
        let exact = formula(&start_plain, &steps, free, 0.05).unwrap();
        assert!(distance(double.get(plain), &exact) < 1e-12);
    }
}

/// One step of a small classifier, with dropout.
fn step(
    parameters: &mut Parameters<f32>,
    optimiser: &mut AdamW<f32>,
    workspace: &mut Workspace<f32>,
    index: u64,
) -> f64 {
    let table = parameters.id("table").unwrap();
    let weight = parameters.id("weight").unwrap();
    let keys: Vec<u64> = (0..40).map(|row| row + index * 40).collect();
    let seed = Some(Seed::root(8).index(index));
    let mut gradients = Gradients::new(parameters);
    let mut tape = Tape::with_workspace(parameters, Context::training(seed, &keys), workspace);
    let ids: Vec<u32> = (0..40).map(|row| (row * 7) % 30).collect();
    let targets: Vec<u32> = ids.iter().map(|id| (id + 1) % 30).collect();
    let x = tape.embedding(table, &ids);
    // A buffer that is not the workspace's.
    let nothing = tape.constant(40, 16, vec![0.0; 640]);
    let x = tape.dropout_add(x, Some(nothing), 0.1, "d");
    let hidden = tape.linear(x, weight, None, Activation::Gelu);
    let loss = tape.softmax_cross_entropy(hidden, table, None, &targets, &[1.0; 40], 40.0);
    let value = tape.loss_value(loss);
    tape.backward(&[loss], &mut gradients);
    drop(tape);
    clip_by_norm(&mut gradients, 5.0);
    optimiser.step(parameters, &gradients, 0.02);
    value
}

fn classifier() -> (Parameters<f32>, AdamW<f32>) {
    let mut parameters = Parameters::new(Seed::root(1));
    parameters.insert("table", [30, 16], Init::Normal { std: 0.5 });
    parameters.insert("weight", [16, 16], Init::XavierUniform);
    let optimiser = AdamW::new(&parameters, AdamWSettings::default());
    (parameters, optimiser)
}

#[test]
fn training_lowers_the_loss() {
    let (mut parameters, mut optimiser) = classifier();
    let mut workspace = Workspace::new();
    let first = step(&mut parameters, &mut optimiser, &mut workspace, 0);
    for index in 1..150 {
        step(&mut parameters, &mut optimiser, &mut workspace, index);
    }
    let last = step(&mut parameters, &mut optimiser, &mut workspace, 150);
    assert!(last < 0.1 * first, "from {first} to {last}");
}

#[test]
fn resumed_training_ends_with_the_same_bytes() {
    let (mut parameters, mut optimiser) = classifier();
    let mut workspace = Workspace::new();
    let mut saved = None;
    for index in 0..20 {
        if index == 11 {
            let state = optimiser.to_tensors(&parameters).unwrap();
            saved = Some((parameters.to_tensors().unwrap(), state));
        }
        step(&mut parameters, &mut optimiser, &mut workspace, index);
    }
    let (weights, state) = saved.unwrap();
    let (mut resumed, mut again) = classifier();
    resumed.load(&weights).unwrap();
    again.load(&resumed, &state).unwrap();
    assert_eq!(again.steps(), 11);
    for index in 11..20 {
        // Other buffers each time: what they held before must not matter.
        step(&mut resumed, &mut again, &mut Workspace::new(), index);
    }
    assert_eq!(
        resumed.to_tensors().unwrap(),
        parameters.to_tensors().unwrap()
    );
}

#[test]
fn a_workspace_stops_growing() {
    let (mut parameters, mut optimiser) = classifier();
    let mut workspace = Workspace::new();
    let sizes: Vec<usize> = (0..30)
        .map(|index| {
            step(&mut parameters, &mut optimiser, &mut workspace, index);
            workspace.bytes()
        })
        .collect();
    assert_eq!(sizes[5], sizes[29], "{sizes:?}");
}

#[test]
fn schedules_rise_and_fall() {
    let constant = Schedule::Constant { rate: 0.5 };
    assert!((constant.rate(1000) - 0.5).abs() < 1e-15);
    let warm = Schedule::LinearWarmup {
        rate: 1.0,
        warmup: 4,
    };
    let rates: Vec<f64> = (0..6).map(|step| warm.rate(step)).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    let decay = Schedule::LinearDecay {
        rate: 1.0,
        warmup: 2,
        steps: 6,
    };
    let rates: Vec<f64> = (0..8).map(|step| decay.rate(step)).collect();
    assert_eq!(rates, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    let cosine = Schedule::Cosine {
        rate: 1.0,
        last: 0.1,
        warmup: 1,
        steps: 5,
    };
    assert!((cosine.rate(0) - 1.0).abs() < 1e-15);
    assert!((cosine.rate(3) - 0.55).abs() < 1e-12);
    assert!((cosine.rate(9) - 0.1).abs() < 1e-12);
}

#[test]
fn clipping_keeps_the_direction() {
    let mut parameters = Parameters::<f64>::new(Seed::root(1));
    let id = parameters.insert("x", [1, 2], Init::Zeros);
    let mut gradients = Gradients::new(&parameters);
    gradients.get_mut(id).copy_from_slice(&[3.0, 4.0]);
    assert!((clip_by_norm(&mut gradients, 10.0) - 5.0).abs() < 1e-12);
    assert!((gradients.norm() - 5.0).abs() < 1e-12);
    clip_by_norm(&mut gradients, 1.0);
    assert!(distance(gradients.get(id), &[0.6, 0.8]) < 1e-12);
    gradients.get_mut(id)[0] = f64::NAN;
    assert!(clip_by_norm(&mut gradients, 1.0).is_nan());
}

#[test]
fn sgd_with_momentum_is_its_formula() {
    let mut parameters = Parameters::<f64>::new(Seed::root(1));
    let id = parameters.insert("x", [1, 1], Init::Constant(2.0));
    let mut gradients = Gradients::new(&parameters);
    gradients.get_mut(id)[0] = 1.0;
    let mut optimiser = Sgd::new(&parameters, 0.5, 0.1);
    optimiser.step(&mut parameters, &gradients, 0.1);
    // u = 1 + 0.2, w = 2 - 0.12; then u = 0.6 + 1 + 0.188, w = 1.88 - 0.1788.
    assert!((parameters.get(id)[0] - 1.88).abs() < 1e-12);
    optimiser.step(&mut parameters, &gradients, 0.1);
    assert!((parameters.get(id)[0] - 1.7012).abs() < 1e-12);
}

#[test]
fn what_is_not_a_number_reaches_the_loss() {
    let (mut parameters, mut optimiser) = classifier();
    let mut workspace = Workspace::new();
    parameters.by_name_mut("table").unwrap()[5] = f32::NAN;
    let loss = step(&mut parameters, &mut optimiser, &mut workspace, 0);
    assert!(loss.is_nan(), "{loss}");
    for activation in [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        let mut parameters = Parameters::<f32>::new(Seed::root(1));
        let weight = parameters.insert("w", [1, 1], Init::Constant(f64::NAN));
        let mut tape = Tape::new(&parameters, Context::inference());
        let x = tape.constant(1, 1, vec![1.0]);
        let out = tape.linear(x, weight, None, activation);
        assert!(tape.value(out)[0].is_nan(), "{activation:?}");
        let loss = tape.logistic(out, &[1.0], &[1.0], 1.0);
        assert!(tape.loss_value(loss).is_nan(), "{activation:?}");
    }
}

/// Weights after some steps of a model with every kind of parallel sum, dropout on.
fn trained(threads: usize) -> Vec<u32> {
    const BATCH: usize = 30;
    const LENGTH: usize = 40;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| {
        let mut parameters = Parameters::<f32>::new(Seed::root(1));
        let std = Init::Normal { std: 0.3 };
        let items = parameters.insert("items", [301, 20], std);
        let positions = parameters.insert("positions", [LENGTH, 20], std);
        let [gain, bias] = ["gain", "bias"].map(|name| parameters.insert(name, [1, 20], std));
        let qkv = parameters.insert("qkv", [60, 20], std);
        let gates = ["wi", "wh"].map(|name| parameters.insert(name, [60, 20], std));
        let biases = ["bi", "bh"].map(|name| parameters.insert(name, [1, 60], std));
        let mut optimiser = AdamW::new(&parameters, AdamWSettings::default());
        let mut workspace = Workspace::new();
        let mut gradients = Gradients::new(&parameters);
        let mut draws = draws("threads", 0);
        for step in 0..3 {
            let mut id = || u32::try_from(draws.below(301)).unwrap();
            let ids: Vec<u32> = (0..BATCH * LENGTH).map(|_| id()).collect();
            let targets: Vec<u32> = (0..BATCH * LENGTH).map(|_| id()).collect();
            let negatives: Vec<u32> = (0..50).map(|_| id()).collect();
            let at: Vec<u32> = (0..BATCH * LENGTH)
                .map(|row| (row % LENGTH) as u32)
                .collect();
            let valid: Vec<bool> = ids.iter().map(|id| id % 7 > 0).collect();
            let weights = vec![1.0; BATCH * LENGTH];
            let keys: Vec<u64> = (0..(BATCH * LENGTH) as u64).collect();
            let context = Context::training(Some(Seed::root(2).index(step)), &keys);
            let mut tape = Tape::with_workspace(&parameters, context, &mut workspace);
            let x = tape.embedding_with_positions(items, positions, &ids, &at, 2.0, 0.1, "e");
            let normed = tape.layer_norm(x, gain, bias, 1e-6);
            let packed = tape.linear(normed, qkv, None, Activation::None);
            let settings = Attention {
                heads: 2,
                length: LENGTH,
                mask: Mask::Causal,
                valid: &valid,
                dropout: 0.1,
                name: "a",
            };
            let mixed = tape.attention(packed, settings);
            let x = tape.dropout_add(mixed, Some(x), 0.1, "d");
            let [wi, wh] = gates;
            let [bi, bh] = biases;
            let x = tape.gru(x, LENGTH, wi, wh, bi, bh, &valid);
            let full = tape.softmax_cross_entropy(x, items, None, &targets, &weights, 1200.0);
            let negatives = Negatives::Shared(&negatives);
            let binary = tape
                .binary_cross_entropy(x, items, None, &targets, negatives, &weights, 1200.0, 1.0);
            gradients.zero();
            tape.backward(&[full, binary], &mut gradients);
            drop(tape);
            clip_by_norm(&mut gradients, 1.0);
            optimiser.step(&mut parameters, &gradients, 0.01);
            for id in parameters.ids() {
                let name = parameters.name(id);
                assert!(
                    gradients.get(id).iter().any(|&g| g != 0.0),
                    "`{name}` learns nothing"
                );
            }
        }
        parameters.flat().iter().map(|x| x.to_bits()).collect()
    })
}

#[test]
fn trained_weights_have_the_same_bits_for_any_number_of_threads() {
    let one = trained(1);
    assert_eq!(one, trained(2));
    assert_eq!(one, trained(3));
    assert_eq!(one, trained(4));
}
