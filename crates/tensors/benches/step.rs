//! CPU milliseconds (of all threads together, so that other load on the machine matters less) of
//! each operation and of whole training steps: batch 128, 64 columns, two
//! layers, one head, AdamW. Prints; asserts nothing. `RAYON_NUM_THREADS=1` for one thread.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use seed::Seed;
use tensors::{
    Activation, AdamW, AdamWSettings, Attention, Context, Gradients, Init, Mask, Negatives,
    ParameterId, Parameters, Tape, Value, Workspace,
};

const BATCH: usize = 128;
const COLUMNS: usize = 64;
const LAYERS: usize = 2;

/// A reading of the clock that counts CPU time of this process.
#[derive(Clone, Copy)]
struct Instant(f64);

impl Instant {
    fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self(now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 * 1e-6)
    }

    /// Milliseconds since.
    fn elapsed(self) -> f64 {
        Self::now().0 - self.0
    }
}

/// The fastest of several runs, in milliseconds.
fn best(n: usize, mut run: impl FnMut()) -> f64 {
    (0..n)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .fold(f64::INFINITY, f64::min)
}

fn ids(n: usize, below: usize, name: &str) -> Vec<u32> {
    let mut draws = Seed::root(1).child(name).sequence();
    (0..n)
        .map(|_| u32::try_from(draws.below(below as u64)).unwrap_or(0))
        .collect()
}

struct Layer {
    norm: [[ParameterId; 2]; 2],
    qkv: [ParameterId; 2],
    out: [ParameterId; 2],
    first: [ParameterId; 2],
    second: [ParameterId; 2],
}

struct Model {
    items: ParameterId,
    positions: ParameterId,
    layers: Vec<Layer>,
    last: [ParameterId; 2],
}

impl Model {
    fn new(parameters: &mut Parameters<f32>, items: usize, length: usize) -> Self {
        let std = Init::TruncatedNormal { std: 0.02 };
        let norm = |parameters: &mut Parameters<f32>, name: &str| {
            [
                parameters.insert(&format!("{name}.gain"), [1, COLUMNS], Init::Ones),
                parameters.insert(&format!("{name}.bias"), [1, COLUMNS], Init::Zeros),
            ]
        };
        let linear = |parameters: &mut Parameters<f32>, name: &str, out: usize| {
            [
                parameters.insert(&format!("{name}.weight"), [out, COLUMNS], std),
                parameters.insert(&format!("{name}.bias"), [1, out], Init::Zeros),
            ]
        };
        Self {
            items: parameters.insert("items", [items, COLUMNS], std),
            positions: parameters.insert("positions", [length, COLUMNS], std),
            layers: (0..LAYERS)
                .map(|k| Layer {
                    norm: [
                        norm(parameters, &format!("{k}.norm.0")),
                        norm(parameters, &format!("{k}.norm.1")),
                    ],
                    qkv: linear(parameters, &format!("{k}.qkv"), 3 * COLUMNS),
                    out: linear(parameters, &format!("{k}.out"), COLUMNS),
                    first: linear(parameters, &format!("{k}.first"), COLUMNS),
                    second: linear(parameters, &format!("{k}.second"), COLUMNS),
                })
                .collect(),
            last: norm(parameters, "last"),
        }
    }

    fn forward(&self, tape: &mut Tape<'_, f32>, data: &Data) -> Value {
        let mut x = tape.embedding_with_positions(
            self.items,
            self.positions,
            &data.ids,
            &data.positions,
            8.0,
            0.2,
            "embedding",
        );
        for (k, layer) in self.layers.iter().enumerate() {
            let [gain, bias] = layer.norm[0];
            let normed = tape.layer_norm(x, gain, bias, 1e-8);
            let qkv = tape.linear(normed, layer.qkv[0], Some(layer.qkv[1]), Activation::None);
            let name = format!("{k}.attention");
            let settings = Attention {
                heads: 1,
                length: data.length,
                mask: Mask::Causal,
                valid: &data.valid,
                dropout: 0.2,
                name: &name,
            };
            let mixed = tape.attention(qkv, settings);
            let out = tape.linear(mixed, layer.out[0], Some(layer.out[1]), Activation::None);
            x = tape.dropout_add(out, Some(x), 0.2, &format!("{k}.out"));
            let [gain, bias] = layer.norm[1];
            let normed = tape.layer_norm(x, gain, bias, 1e-8);
            let first = layer.first;
            let inner = tape.linear(normed, first[0], Some(first[1]), Activation::Relu);
            let inner = tape.dropout_add(inner, None, 0.2, &format!("{k}.first"));
            let second = layer.second;
            let inner = tape.linear(inner, second[0], Some(second[1]), Activation::None);
            x = tape.dropout_add(inner, Some(x), 0.2, &format!("{k}.second"));
        }
        tape.layer_norm(x, self.last[0], self.last[1], 1e-8)
    }
}

struct Data {
    length: usize,
    ids: Vec<u32>,
    positions: Vec<u32>,
    valid: Vec<bool>,
    targets: Vec<u32>,
    negatives: Vec<u32>,
    weights: Vec<f32>,
    keys: Vec<u64>,
}

impl Data {
    fn new(length: usize, items: usize) -> Self {
        let rows = BATCH * length;
        Self {
            length,
            ids: ids(rows, items, "ids"),
            positions: (0_u32..).take(length).cycle().take(rows).collect(),
            valid: vec![true; rows],
            targets: ids(rows, items, "targets"),
            negatives: ids(rows, items, "negatives"),
            weights: vec![1.0; rows],
            keys: (0..rows as u64).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum LossKind {
    None,
    Softmax,
    Binary,
    Sampled,
}

fn step(length: usize, items: usize, kind: LossKind) {
    let mut parameters = Parameters::<f32>::new(Seed::root(1));
    let model = Model::new(&mut parameters, items, length);
    let data = Data::new(length, items);
    let mut gradients = Gradients::new(&parameters);
    let mut optimiser = AdamW::new(&parameters, AdamWSettings::default());
    let mut workspace = Workspace::new();
    let mut times = [f64::INFINITY; 5];
    let rows = BATCH * length;
    let shared = ids(1024, items, "shared");
    let whole = best(if length > 100 { 8 } else { 20 }, || {
        let start = Instant::now();
        let mut lap = {
            let mut last = start;
            move |slot: &mut f64| {
                let now = Instant::now();
                *slot = slot.min(now.0 - last.0);
                last = now;
            }
        };
        let context = Context::training(Some(Seed::root(3)), &data.keys);
        let mut tape = Tape::with_workspace(&parameters, context, &mut workspace);
        let hidden = model.forward(&mut tape, &data);
        lap(&mut times[0]);
        let (targets, weights, divisor) = (&data.targets, &data.weights, rows as f64);
        let loss = match kind {
            LossKind::Softmax => Some(tape.softmax_cross_entropy(
                hidden,
                model.items,
                None,
                targets,
                weights,
                divisor,
            )),
            LossKind::Binary => Some(tape.binary_cross_entropy(
                hidden,
                model.items,
                None,
                targets,
                Negatives::PerRow(&data.negatives),
                weights,
                divisor,
                1.0,
            )),
            LossKind::Sampled => Some(tape.sampled_softmax(
                hidden,
                model.items,
                None,
                targets,
                Negatives::Shared(&shared),
                None,
                weights,
                divisor,
            )),
            LossKind::None => None,
        };
        lap(&mut times[1]);
        gradients.zero();
        let (losses, seeds) = match loss {
            Some(loss) => (vec![loss], vec![]),
            None => (vec![], vec![(hidden, vec![0.01; rows * COLUMNS])]),
        };
        tape.backward_from(&losses, seeds, &mut gradients);
        lap(&mut times[2]);
        drop(tape);
        optimiser.step(&mut parameters, &gradients, 1e-3);
        lap(&mut times[3]);
    });
    let [forward, loss, backward, update, _] = times;
    println!(
        "{kind:?} {items} items, length {length}: {whole:.1} ms = forward {forward:.1} + loss \
         {loss:.1} + backward {backward:.1} + update {update:.1}; pool {} MiB",
        workspace.bytes() >> 20
    );
}

/// Forward and backward of one operation over 6,400 positions.
fn operation(
    name: &str,
    columns: usize,
    build: impl Fn(&mut Tape<'_, f32>, Value, &Parameters<f32>) -> Value,
    shapes: &[(&str, [usize; 2])],
) {
    let rows = 6400;
    let mut parameters = Parameters::<f32>::new(Seed::root(1));
    let x = parameters.insert("x", [rows, columns], Init::Normal { std: 1.0 });
    for &(name, shape) in shapes {
        parameters.insert(name, shape, Init::Normal { std: 0.1 });
    }
    let mut gradients = Gradients::new(&parameters);
    let keys: Vec<u64> = (0..rows as u64).collect();
    let mut workspace = Workspace::new();
    let (mut forward, mut backward) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..60 {
        let context = Context::training(Some(Seed::root(3)), &keys);
        let mut tape = Tape::with_workspace(&parameters, context, &mut workspace);
        let input = tape.parameter(x);
        let start = Instant::now();
        let out = build(&mut tape, input, &parameters);
        forward = forward.min(start.elapsed());
        let [_, width] = tape.shape(out);
        let seed = vec![(out, vec![0.5; rows * width])];
        // Without this, the first backward pays for the copy of the input's gradient.
        let start = Instant::now();
        tape.backward_from(&[], seed, &mut gradients);
        backward = backward.min(start.elapsed());
    }
    println!("{name}: {forward:.2} / {backward:.2} ms");
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    let id = |parameters: &Parameters<f32>, name: &str| {
        parameters
            .id(name)
            .unwrap_or_else(|| unreachable!("inserted"))
    };
    operation(
        "nothing (copy of the input's gradient)",
        64,
        |_, x, _| x,
        &[],
    );
    operation(
        "linear 64 to 192 with bias",
        64,
        |tape, x, p| tape.linear(x, id(p, "w"), Some(id(p, "b")), Activation::None),
        &[("w", [192, 64]), ("b", [1, 192])],
    );
    operation(
        "linear 64 to 64, Relu",
        64,
        |tape, x, p| tape.linear(x, id(p, "w"), Some(id(p, "b")), Activation::Relu),
        &[("w", [64, 64]), ("b", [1, 64])],
    );
    operation(
        "linear 64 to 256, Gelu",
        64,
        |tape, x, p| tape.linear(x, id(p, "w"), Some(id(p, "b")), Activation::Gelu),
        &[("w", [256, 64]), ("b", [1, 256])],
    );
    operation(
        "layer norm",
        64,
        |tape, x, p| tape.layer_norm(x, id(p, "g"), id(p, "b"), 1e-8),
        &[("g", [1, 64]), ("b", [1, 64])],
    );
    for (name, dropout) in [("attention", 0.0), ("attention with dropout", 0.2)] {
        operation(
            name,
            192,
            |tape, x, _| {
                let settings = Attention {
                    heads: 1,
                    length: 50,
                    mask: Mask::Causal,
                    valid: &[true; 6400],
                    dropout,
                    name: "a",
                };
                tape.attention(x, settings)
            },
            &[],
        );
    }
    operation(
        "dropout + residual",
        64,
        |tape, x, _| tape.dropout_add(x, Some(x), 0.2, "d"),
        &[],
    );
    operation(
        "GRU 64 to 64",
        64,
        |tape, x, p| {
            let [a, b, c, d] = ["wi", "wh", "bi", "bh"].map(|name| id(p, name));
            tape.gru(x, 50, a, b, c, d, &[true; 6400])
        },
        &[
            ("wi", [192, 64]),
            ("wh", [192, 64]),
            ("bi", [1, 192]),
            ("bh", [1, 192]),
        ],
    );
    for (length, items, kind) in [
        (50, 3500, LossKind::None),
        (50, 3500, LossKind::Softmax),
        (50, 3500, LossKind::Binary),
        (50, 3500, LossKind::Sampled),
        (50, 12_000, LossKind::Softmax),
        (200, 3500, LossKind::Softmax),
        (200, 3500, LossKind::Binary),
    ] {
        step(length, items, kind);
    }
}
