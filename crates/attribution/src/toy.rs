//! Small problems for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensors::Csr;

use crate::Seed;
use crate::directions::{Directed, Directions, Preconditioner};
use crate::gradients::{Gradients, State};
use crate::inside::{Attention, HiddenStates};
use crate::problem::{
    Counts, InMemory, Losses, Problem, Representations, Request, Samples, Target, Transition,
};
use crate::projected::{InMemoryProjected, Layer, Projected, ProjectedRows, ProjectedState, Rows};
use crate::reweighting::BlockInfluence;

const N_ITEMS: u32 = 12;
const N_FEATURES: u32 = 10;

/// Samples and requests of a few users, with every capability, ties, shared and empty histories.
#[expect(clippy::too_many_lines, reason = "one of everything")]
pub(crate) fn problem(seed: u64) -> InMemory {
    let mut draw = Seed::root(seed).child("toy").sequence();
    let mut histories: Vec<BTreeMap<u32, f32>> = vec![BTreeMap::new()];
    // Few shapes over few features: cosines tie, some at zero.
    histories.extend((0..20).map(|_| {
        (0..=draw.below(3))
            .map(|_| {
                (
                    number(draw.below(N_FEATURES.into())),
                    1.0 + draw.below(2) as f32,
                )
            })
            .collect()
    }));
    let n_histories = histories.len() as u64;
    let items = (0..N_ITEMS).map(|_| {
        (0..=draw.below(2))
            .map(|_| {
                (
                    number(draw.below(N_FEATURES.into())),
                    1.0 + draw.below(3) as f32,
                )
            })
            .collect::<BTreeMap<u32, f32>>()
    });
    let items: Vec<_> = items.collect();
    let mut samples = Samples::default();
    for index in 0..80_u64 {
        let history_row = number(draw.below(n_histories));
        // Identities are neither dense nor in order.
        samples.id.push((index * 37 + 11) % 80 * 1000 + 7);
        samples.sequence.push(number(draw.below(6)));
        samples
            .item
            .push(number(draw.below(u64::from(N_ITEMS) - 2)));
        samples.history_length.push(history_row);
        let last_item = number(draw.below(N_ITEMS.into()));
        samples
            .last_item
            .push((history_row > 0).then_some(last_item));
        samples.history_row.push(history_row);
        samples
            .occurred_at
            .push(Some(1_000_000 * i64::from(number(draw.below(500)))));
        samples
            .weight
            .push([1.0, 1.0, 0.5][number(draw.below(3)) as usize]);
    }
    let requests = (0..70).map(|request| {
        let history_row = number(draw.below(n_histories));
        let last_item = number(draw.below(N_ITEMS.into()));
        let mut relevant: Vec<u32> = (0..=draw.below(3))
            .map(|_| number(draw.below(N_ITEMS.into())))
            .collect();
        relevant.sort_unstable();
        relevant.dedup();
        Request {
            request,
            last_item: (history_row > 0).then_some(last_item),
            history_row,
            relevant,
            losses: None,
        }
    });
    let target = Target {
        requests: requests.collect(),
    };
    let losses = (0..samples.len())
        .map(|index| (index % 9 > 0).then(|| draw.uniform() * 5.0))
        .collect();
    let gradients = (1..=3).map(|step| {
        // Samples without a history have no gradient; some have a gradient of zero.
        let norms: Vec<Option<f64>> = (0..samples.len())
            .map(|at| (samples.history_row[at] > 0).then(|| draw.uniform() * f64::from(at % 5 > 0)))
            .collect();
        State {
            step,
            learning_rate: Some(0.1 / step as f64),
            target_norm: 0.5,
            norm_without_tables: norms
                .iter()
                .map(|norm| norm.map(|norm| norm / 3.0))
                .collect(),
            target_product: norms
                .iter()
                .map(|norm| norm.map(|norm| norm * (draw.uniform() - 0.5)))
                .collect(),
            error_norm: norms
                .iter()
                .map(|norm| norm.map(|norm| norm / 2.0))
                .collect(),
            norm: norms,
        }
    });
    let gradients = Gradients::new(gradients.collect()).unwrap();
    let projected = projected(&samples, &target, &mut draw);
    let representations = Representations::new(unit_rows(&histories), unit_rows(&items)).unwrap();
    let inside = Inside::drawn(&samples, &target, &mut draw);
    let problem = assemble(
        samples,
        target,
        representations,
        losses,
        gradients,
        projected,
    );
    inside.into(problem)
}

/// What is known of a network.
struct Inside {
    attention: Attention,
    directions: Directions,
    states: HiddenStates,
}

impl Inside {
    fn drawn(samples: &Samples, target: &Target, draw: &mut seed::Sequence) -> Self {
        Self {
            attention: attention(samples, draw),
            states: states(samples, target, draw),
            directions: directions(samples, draw),
        }
    }

    fn of(problem: &InMemory) -> Self {
        Self {
            attention: problem.attention().unwrap().clone(),
            directions: problem.directions().unwrap().clone(),
            states: problem.hidden_states().unwrap().clone(),
        }
    }

    fn into(self, problem: InMemory) -> InMemory {
        problem
            .with_attention(self.attention)
            .and_then(|problem| problem.with_hidden_states(self.states))
            .and_then(|problem| problem.with_directions(self.directions))
            .unwrap()
    }
}

/// Products under preconditioners at two states, for the Fisher matrix at the last alone; samples without
/// a history have none, and some are zero.
fn directions(samples: &Samples, draw: &mut seed::Sequence) -> Directions {
    let mut state = |step: u64, is_adam: bool| {
        let mut list = |from: f64| -> Vec<Option<f64>> {
            (0..samples.len())
                .map(|at| {
                    let number = (draw.uniform() - from) * f64::from(u8::from(at % 5 > 0));
                    (samples.history_row[at] > 0).then_some(number)
                })
                .collect()
        };
        Directed {
            step,
            learning_rate: Some(0.1 / step as f64),
            target_norm: 0.5,
            product: list(0.5),
            update: is_adam.then(|| [list(0.5), list(0.0)]),
        }
    };
    let adam = vec![state(1, true), state(2, true)];
    Directions::new(BTreeMap::from([
        (Preconditioner::Adam, adam),
        (Preconditioner::Kfac, vec![state(2, false)]),
        (Preconditioner::Ekfac, vec![state(2, false)]),
    ]))
    .unwrap()
}

/// The products of these positions.
fn pick_directions(directions: &Directions, places: &[usize]) -> Directions {
    let pick = |list: &Vec<Option<f64>>| places.iter().map(|&place| list[place]).collect();
    let states = directions.states().iter().map(|(&preconditioner, states)| {
        let states = states.iter().map(|state| Directed {
            product: pick(&state.product),
            update: state
                .update
                .as_ref()
                .map(|lists| lists.each_ref().map(pick)),
            ..*state
        });
        (preconditioner, states.collect())
    });
    Directions::new(states.collect()).unwrap()
}

/// Attention of some predictions; one event in seven is no input.
fn attention(samples: &Samples, draw: &mut seed::Sequence) -> Attention {
    let n_predictions: Vec<u64> = (0..samples.len() as u64)
        .map(|at| if at % 7 == 0 { 0 } else { 1 + draw.below(5) })
        .collect();
    let mut list = || -> Vec<f64> {
        n_predictions
            .iter()
            .map(|&n| n as f64 * (0.1 + draw.uniform()))
            .collect()
    };
    Attention {
        even: list(),
        raw: list(),
        rollout: list(),
        gradient: list(),
        n_predictions,
    }
}

/// States of four numbers of samples and requests with a history, and vectors of the vocabulary.
#[expect(
    clippy::cast_possible_truncation,
    reason = "draws are rounded to 32 bits"
)]
fn states(samples: &Samples, target: &Target, draw: &mut seed::Sequence) -> HiddenStates {
    const COLUMNS: usize = 4;
    let mut fill = |n: usize| -> Vec<f32> {
        (0..n * COLUMNS)
            .map(|_| (2.0 * draw.uniform() - 1.0) as f32)
            .collect()
    };
    let with_history = (0..).zip(&samples.history_row);
    let of_samples = with_history.filter(|(_, row)| **row > 0).map(|(at, _)| at);
    let requests = target.requests.iter();
    let of_requests = requests.filter(|request| request.history_row > 0);
    let mut rows = |numbers: Vec<u32>| Rows {
        values: fill(numbers.len()),
        numbers,
    };
    let of_samples = rows(of_samples.collect());
    let of_requests = rows(of_requests.map(|request| request.request).collect());
    let n_items = N_ITEMS as usize - 2;
    let (items, bias) = (fill(n_items), fill(n_items)[..n_items].to_vec());
    HiddenStates::new(COLUMNS, of_samples, of_requests, items, Some(bias)).unwrap()
}

/// A problem with counts that fit its samples.
fn assemble(
    samples: Samples,
    target: Target,
    representations: Representations,
    losses: Losses,
    gradients: Gradients,
    projected: Arc<dyn Projected>,
) -> InMemory {
    let rows = (0..samples.len())
        .map(|i| (samples.last_item[i], samples.item[i], samples.weight[i]))
        .collect::<Vec<_>>();
    let counts = counts(N_ITEMS as usize - 2, true, rows);
    // A function of identities, so that it follows samples wherever they go.
    let of_id = |purpose: &str| -> Vec<Option<f64>> {
        let stream = Seed::root(3).child(purpose).stream();
        let pairs = samples.id.iter().zip(&samples.history_row);
        pairs
            .map(|(&id, row)| (*row > 0).then(|| stream.uniform(id, 0) - 0.5))
            .collect()
    };
    let blocks = BlockInfluence {
        of_user: of_id("of_user"),
        of_item: of_id("of_item"),
    };
    let unrolled = of_id("unrolled");
    InMemory::new(samples, target)
        .and_then(|problem| problem.with_block_influence(blocks))
        .and_then(|problem| problem.with_unrolled(unrolled))
        .and_then(|problem| problem.with_representations(representations))
        .and_then(|problem| problem.with_losses(losses))
        .and_then(|problem| problem.with_counts(counts))
        .and_then(|problem| problem.with_gradients(gradients))
        .and_then(|problem| problem.with_projected(projected))
        .unwrap()
}

/// Rows of two layers, the second one projected, at two states; samples and requests without a history
/// have none, and some are zero.
fn projected(samples: &Samples, target: &Target, draw: &mut seed::Sequence) -> Arc<dyn Projected> {
    let layer = |name: &str, columns: std::ops::Range<usize>, is_exact| Layer {
        name: name.to_owned(),
        n_parameters: if is_exact { columns.len() } else { 40 },
        columns,
        is_exact,
    };
    let layers = vec![layer("first", 0..2, true), layer("second", 2..5, false)];
    // Multiples of 2^-7 are exact.
    let mut number = || (f32::from(u8::try_from(draw.below(128)).unwrap()) - 64.0) / 128.0;
    let mut row = |is_zero: bool| -> Vec<f32> {
        (0..5)
            .map(|_| number() * f32::from(u8::from(!is_zero)))
            .collect()
    };
    let states = [3, 9].map(|step| {
        let mut rows = ProjectedRows::default();
        for (position, history) in (0..).zip(&samples.history_row) {
            if *history > 0 {
                rows.samples.numbers.push(position);
                rows.samples.values.extend(row(position % 5 == 0));
            }
        }
        for request in target
            .requests
            .iter()
            .filter(|request| request.history_row > 0)
        {
            rows.requests.numbers.push(request.request);
            rows.requests.values.extend(row(false));
        }
        rows.curvature = Some((0..90).flat_map(|_| row(false)).collect());
        let state = ProjectedState {
            step,
            learning_rate: Some(0.1),
        };
        (state, rows)
    });
    let (n, m) = (samples.len(), target.requests.len());
    Arc::new(InMemoryProjected::new(layers, 0.01, n, m, states.to_vec()).unwrap())
}

/// The same gradients with other rows, made from those of each state.
pub(crate) fn change_projected(
    projected: &dyn Projected,
    n_samples: usize,
    change: impl Fn(ProjectedRows) -> ProjectedRows,
) -> Arc<dyn Projected> {
    Arc::new(in_memory(projected, n_samples, change))
}

fn in_memory(
    projected: &dyn Projected,
    n_samples: usize,
    change: impl Fn(ProjectedRows) -> ProjectedRows,
) -> InMemoryProjected {
    let states = (0..).zip(projected.states()).map(|(at, &state)| {
        let mut rows = ProjectedRows {
            requests: projected.requests(at).unwrap(),
            ..ProjectedRows::default()
        };
        projected
            .visit(at, &mut |samples, values| {
                rows.samples.numbers.extend(samples);
                rows.samples.values.extend(values);
                Ok(())
            })
            .unwrap();
        let mut roots = Vec::new();
        projected
            .visit_curvature(at, &mut |values| {
                roots.extend(values);
                Ok(())
            })
            .unwrap();
        rows.curvature = Some(roots);
        (state, change(rows))
    });
    let states: Vec<_> = states.collect();
    let layers = projected.layers().to_vec();
    let (penalty, n_requests) = (projected.regularisation(), projected.n_requests());
    InMemoryProjected::new(layers, penalty, n_samples, n_requests, states).unwrap()
}

/// The same gradients, with these of requests that are no target.
pub(crate) fn with_held_out_rows(
    projected: &dyn Projected,
    n_samples: usize,
    held_out: Rows,
) -> Arc<dyn Projected> {
    let same = in_memory(projected, n_samples, |rows| rows);
    Arc::new(same.with_held_out(held_out).unwrap())
}

/// The rows of these positions, numbered anew.
fn pick_rows(rows: &Rows, width: usize, places: &[usize]) -> Rows {
    let mut picked = Rows::default();
    for (new, &place) in (0..).zip(places) {
        let found = rows
            .numbers
            .iter()
            .position(|&number| number as usize == place);
        if let Some(at) = found {
            picked.numbers.push(new);
            picked
                .values
                .extend(&rows.values[at * width..(at + 1) * width]);
        }
    }
    picked
}

/// What a count model counts in samples (last item, target, weight).
pub(crate) fn counts(
    n_vocabulary: usize,
    is_markov: bool,
    samples: impl IntoIterator<Item = (Option<u32>, u32, f64)>,
) -> Counts {
    let mut item = vec![0.0; n_vocabulary];
    let mut transitions = BTreeMap::new();
    for (from, to, weight) in samples {
        item[to as usize] += weight;
        if let Some(from) = from {
            *transitions.entry((from, to)).or_insert(0.0) += weight;
        }
    }
    let transitions = transitions.into_iter();
    let transitions = transitions.map(|((from, to), weight)| Transition { from, to, weight });
    Counts {
        item,
        transitions: is_markov.then(|| transitions.collect()),
    }
}

/// Samples (sequence, item) in the order of their sequences, without any capability.
pub(crate) fn of_pairs(pairs: &[(u32, u32)]) -> InMemory {
    let mut samples = Samples::default();
    for (index, &(sequence, item)) in (0..).zip(pairs) {
        let before = &pairs[..samples.len()];
        let history: Vec<u32> = before
            .iter()
            .filter(|pair| pair.0 == sequence)
            .map(|pair| pair.1)
            .collect();
        samples.id.push(index);
        samples.sequence.push(sequence);
        samples.item.push(item);
        samples.history_length.push(number(history.len() as u64));
        samples.last_item.push(history.last().copied());
        samples.history_row.push(0);
        samples.occurred_at.push(None);
        samples.weight.push(1.0);
    }
    InMemory::new(samples, Target::default()).unwrap()
}

/// The samples at these places, in this order; a place may occur twice with a new identity.
pub(crate) fn rearrange(problem: &InMemory, places: &[usize]) -> InMemory {
    fn pick<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
        places.iter().map(|&place| values[place]).collect()
    }
    let samples = problem.samples();
    let mut taken = std::collections::BTreeSet::new();
    let id = pick(&samples.id, places).into_iter().map(|mut id| {
        while !taken.insert(id) {
            id += 1;
        }
        id
    });
    let samples = Samples {
        id: id.collect(),
        sequence: pick(&samples.sequence, places),
        item: pick(&samples.item, places),
        history_length: pick(&samples.history_length, places),
        last_item: pick(&samples.last_item, places),
        history_row: pick(&samples.history_row, places),
        occurred_at: pick(&samples.occurred_at, places),
        weight: pick(&samples.weight, places),
    };
    let projected = problem.projected().unwrap();
    let gradients = problem.gradients().unwrap().states().iter();
    let gradients = gradients.map(|state| State {
        norm: pick(&state.norm, places),
        norm_without_tables: pick(&state.norm_without_tables, places),
        target_product: pick(&state.target_product, places),
        error_norm: pick(&state.error_norm, places),
        ..*state
    });
    let attention = problem.attention().unwrap();
    let states = problem.hidden_states().unwrap();
    let inside = Inside {
        directions: pick_directions(problem.directions().unwrap(), places),
        attention: Attention {
            n_predictions: pick(&attention.n_predictions, places),
            even: pick(&attention.even, places),
            raw: pick(&attention.raw, places),
            rollout: pick(&attention.rollout, places),
            gradient: pick(&attention.gradient, places),
        },
        states: HiddenStates::new(
            states.n_columns(),
            pick_rows(states.samples(), states.n_columns(), places),
            states.requests().clone(),
            states.items().to_vec(),
            states.bias().map(<[f32]>::to_vec),
        )
        .unwrap(),
    };
    inside.into(assemble(
        samples,
        problem.target().clone(),
        problem.representations().unwrap().clone(),
        pick(problem.losses().unwrap(), places),
        Gradients::new(gradients.collect()).unwrap(),
        change_projected(projected, places.len(), |rows| ProjectedRows {
            samples: pick_rows(&rows.samples, projected.width(), places),
            ..rows
        }),
    ))
}

/// The samples whose place is chosen.
pub(crate) fn restrict(problem: &InMemory, is_chosen: impl Fn(usize) -> bool) -> InMemory {
    let places: Vec<usize> = (0..problem.samples().len())
        .filter(|&place| is_chosen(place))
        .collect();
    rearrange(problem, &places)
}

/// The same requests from last to first.
pub(crate) fn reverse_requests(problem: &InMemory) -> InMemory {
    let mut target = problem.target().clone();
    target.requests.reverse();
    let projected = problem.projected().unwrap();
    let width = projected.width();
    let turned = change_projected(projected, problem.samples().len(), |mut rows| {
        rows.requests.numbers.reverse();
        let values = rows.requests.values.chunks(width).rev().flatten();
        rows.requests.values = values.copied().collect();
        rows
    });
    Inside::of(problem).into(assemble(
        problem.samples().clone(),
        target,
        problem.representations().unwrap().clone(),
        problem.losses().unwrap().clone(),
        problem.gradients().unwrap().clone(),
        turned,
    ))
}

/// A problem none of whose requests has a history.
pub(crate) fn without_request_features() -> InMemory {
    let problem = problem(0);
    let mut target = problem.target().clone();
    for request in &mut target.requests {
        (request.history_row, request.last_item) = (0, None);
    }
    let mut inside = Inside::of(&problem);
    let states = &inside.states;
    inside.states = HiddenStates::new(
        states.n_columns(),
        states.samples().clone(),
        Rows::default(),
        states.items().to_vec(),
        None,
    )
    .unwrap();
    inside.into(assemble(
        problem.samples().clone(),
        target,
        problem.representations().unwrap().clone(),
        problem.losses().unwrap().clone(),
        problem.gradients().unwrap().clone(),
        change_projected(
            problem.projected().unwrap(),
            problem.samples().len(),
            |rows| rows,
        ),
    ))
}

fn unit_rows(rows: &[BTreeMap<u32, f32>]) -> Csr {
    let unit = |row: &BTreeMap<u32, f32>| {
        let norm = row.values().map(|value| value * value).sum::<f32>().sqrt();
        row.iter()
            .map(|(&column, &value)| (column, value / norm))
            .collect::<Vec<_>>()
    };
    Csr::from_rows(N_FEATURES as usize, rows.iter().map(unit)).unwrap()
}

fn number(draw: u64) -> u32 {
    u32::try_from(draw).unwrap()
}
