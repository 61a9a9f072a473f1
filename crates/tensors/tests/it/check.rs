//! What every operation is put through.

use candle_core::Tensor;
use seed::{Seed, Sequence};
use tensors::reference::{Oracle, matrix, numbers};
use tensors::{Context, Gradients, Loss, ParameterId, Parameters, Real, Tape, Value};

/// What a program ends with.
pub(crate) enum Output {
    Value(Value),
    Loss(Loss),
}

/// A small computation, written once for our tape and once for the oracle.
pub(crate) trait Program: Sync {
    /// Inputs and weights.
    fn parameters(&self) -> Parameters<f64>;
    /// On our tape.
    fn forward<F: Real>(&self, tape: &mut Tape<'_, F>, ids: &Ids) -> Output;
    /// A matrix, or the scalar of a loss.
    fn oracle(&self, oracle: &Oracle) -> candle_core::Result<Tensor>;
}

/// Parameters by name.
pub(crate) struct Ids(Parameters<f64>);

impl Ids {
    pub(crate) fn get(&self, name: &str) -> ParameterId {
        self.0.id(name).unwrap_or_else(|| panic!("no `{name}`"))
    }
}

/// Draws for shapes and data.
pub(crate) fn draws(name: &str, index: u64) -> Sequence {
    Seed::root(7).child(name).index(index).sequence()
}

pub(crate) fn size(draws: &mut Sequence, from: usize, to: usize) -> usize {
    from + usize::try_from(draws.below((to - from) as u64 + 1)).unwrap()
}

/// Numbers in [-1, 1) that are exact in single precision.
pub(crate) fn values(draws: &mut Sequence, n: usize) -> Vec<f64> {
    (0..n)
        .map(|_| f64::from((2.0 * draws.uniform() - 1.0) as f32))
        .collect()
}

/// Parameters of the given names and shapes, each drawn from [-1, 1).
pub(crate) fn parameters(index: u64, shapes: &[(&str, [usize; 2])]) -> Parameters<f64> {
    let mut parameters = Parameters::new(Seed::root(index));
    for &(name, shape) in shapes {
        let id = parameters.insert(name, shape, tensors::Init::Uniform { bound: 1.0 });
        for x in parameters.get_mut(id) {
            *x = f64::from(*x as f32);
        }
    }
    parameters
}

pub(crate) fn cast<F: Real>(x: &[f64]) -> Vec<F> {
    x.iter().map(|&x| F::of(x)).collect()
}

/// The largest difference over the largest number.
pub(crate) fn distance<F: Real>(ours: &[F], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len(), "lengths");
    let top = exact.iter().fold(1e-3_f64, |top, x| top.max(x.abs()));
    ours.iter()
        .zip(exact)
        .map(|(ours, exact)| {
            let difference = (ours.to_f64() - exact).abs();
            assert!(difference.is_finite(), "not finite: {ours:?} for {exact}");
            difference / top
        })
        .fold(0.0, f64::max)
}

struct Run<F> {
    /// Values, or the loss alone.
    output: Vec<F>,
    scalar: f64,
    gradients: Gradients<F>,
}

/// Runs on our tape; the gradient of a value is that of its product with `weights`.
fn run<F: Real>(program: &impl Program, parameters: &Parameters<F>, weights: &[f64]) -> Run<F> {
    let ids = Ids(program.parameters());
    let mut gradients = Gradients::new(parameters);
    let mut tape = Tape::new(parameters, Context::training(None, &[]));
    let output = program.forward(&mut tape, &ids);
    let (output, scalar, losses, seeds) = match output {
        Output::Value(value) => {
            let numbers = tape.value(value).to_vec();
            let seed: Vec<F> = (0..numbers.len())
                .map(|at| F::of(weights[at % weights.len()]))
                .collect();
            let scalar = numbers
                .iter()
                .zip(&seed)
                .map(|(x, w)| x.to_f64() * w.to_f64())
                .sum();
            (numbers, scalar, vec![], vec![(value, seed)])
        }
        Output::Loss(loss) => {
            let scalar = tape.loss_value(loss);
            (vec![F::of(scalar)], scalar, vec![loss], vec![])
        }
    };
    tape.backward_from(&losses, seeds, &mut gradients);
    Run {
        output,
        scalar,
        gradients,
    }
}

/// The whole examination of a program.
pub(crate) fn check(program: &impl Program, name: &str) {
    let parameters = program.parameters();
    let weights = values(&mut draws("weights", 0), 1009);
    let oracle = Oracle::new(&parameters).unwrap();
    let output = program.oracle(&oracle).unwrap();
    let exact = numbers(&output).unwrap();
    let scalar = if exact.len() == 1 && output.rank() == 0 {
        output
    } else {
        let (rows, columns) = output.dims2().unwrap();
        let seed: Vec<f64> = (0..exact.len())
            .map(|at| weights[at % weights.len()])
            .collect();
        (output * matrix(&seed, rows, columns).unwrap())
            .unwrap()
            .sum_all()
            .unwrap()
    };
    let exact_gradients = oracle.gradients(&scalar).unwrap();

    let double = run(program, &parameters, &weights);
    let single_parameters = parameters.cast::<f32>();
    let single = run(program, &single_parameters, &weights);
    let error = distance(&double.output, &exact);
    assert!(error < 1e-9, "{name}: values differ by {error}");
    let error = distance(&single.output, &exact);
    assert!(
        error < 1e-5,
        "{name}: single precision values differ by {error}"
    );
    for id in parameters.ids() {
        let of = parameters.name(id);
        let exact = &exact_gradients[of];
        let error = distance(double.gradients.get(id), exact);
        assert!(
            error < 1e-9,
            "{name}: gradients of `{of}` differ by {error}"
        );
        let error = distance(single.gradients.get(id), exact);
        assert!(
            error < 1e-5,
            "{name}: single gradients of `{of}` differ by {error}"
        );
    }
    finite_differences(program, &parameters, &weights, &double.gradients, name);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let again = pool.install(|| run(program, &single_parameters, &weights));
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&again.output),
            bits(&single.output),
            "{name}, {threads} threads"
        );
        assert_eq!(
            bits(again.gradients.flat()),
            bits(single.gradients.flat()),
            "{name}: gradients, {threads} threads"
        );
    }
}

fn finite_differences(
    program: &impl Program,
    parameters: &Parameters<f64>,
    weights: &[f64],
    gradients: &Gradients<f64>,
    name: &str,
) {
    const STEP: f64 = 1e-5;
    let mut draws = draws("differences", 0);
    for id in parameters.ids() {
        let n = parameters.get(id).len();
        if n == 0 {
            continue;
        }
        for _ in 0..4 {
            let at = size(&mut draws, 0, n - 1);
            let scalar = |step: f64| {
                let mut moved = parameters.clone();
                moved.get_mut(id)[at] += step;
                run(program, &moved, weights).scalar
            };
            let slope = (scalar(STEP) - scalar(-STEP)) / (2.0 * STEP);
            let gradient = gradients.get(id)[at];
            let error = (slope - gradient).abs() / gradient.abs().max(1.0);
            assert!(
                error < 1e-5,
                "{name}: slope {slope} and gradient {gradient} of `{}`",
                parameters.name(id)
            );
        }
    }
}
