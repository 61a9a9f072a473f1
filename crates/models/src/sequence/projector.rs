//! The thin matrices of a projection: which parameter gets which, and how wide the result is.
//!
//! Random matrices have entries of variance 1 / rank, so that products of projected gradients are
//! those of whole ones in expectation; a matrix that would be square is the identity, and then they
//! are exact. Entries follow from the seed, the name of the parameter and their place, so that all
//! states of a training share them.

use std::collections::BTreeMap;
use std::ops::Range;

use seed::Seed;
use tensors::{Matrix, ParameterId, Parameters, multiply};

use super::projection::{Kind, Moments};
use crate::gradient_rows::{Basis, GradientLayer, Projection};

/// Numbers of a gradient that are multiplied with a dense matrix at a time: as many as a product sums
/// in one go.
const TILE: usize = 512;

/// How one parameter's gradient is projected.
pub(super) enum Plan {
    /// Both factors of the gradient, by a thin matrix each.
    Factors(Factors),
    /// The whole gradient, by a dense matrix [width, parameters].
    Dense { matrix: Vec<f32>, width: usize },
    /// The whole gradient: every number of it is added to a few places of the result, with signs
    /// (sparse Johnson-Lindenstrauss: Kane and Nelson 2014, arXiv:1012.1577).
    Sparse {
        /// Place and sign of each number, several times: twice the place, plus 1 for a minus.
        places: Vec<u32>,
        per_number: usize,
        scale: f32,
    },
    /// A table's, by a sketch of products: number (row, column) is added, with a sign, to one place
    /// that follows from both.
    Sketch(Sketch),
    /// The whole gradient, as it is.
    Whole,
}

/// `TensorSketch` (Pham and Pagh 2013, "Fast and scalable polynomial kernels via explicit feature
/// maps"): number (i, j) goes to place `(h(i) + g(j)) mod width` with sign `s(i) t(j)`. Products of
/// sketches are those of whole tables in expectation, with an error of the order of the lengths over
/// the root of the width; and what the softmax gives, (p - y) h', is sketched without being written
/// down.
pub(super) struct Sketch {
    /// Place and sign of each row.
    rows: Vec<(u32, f32)>,
    /// Place and sign of each column.
    columns: Vec<(u32, f32)>,
    width: usize,
}

impl Sketch {
    fn new([n_rows, n_columns]: [usize; 2], width: usize, seed: Seed) -> Self {
        let places = |n: usize, name: &str| -> Vec<(u32, f32)> {
            let stream = seed.child(name).stream();
            (0..n as u64)
                .map(|at| {
                    let place = stream.below(width as u64, at, 0);
                    let sign = if stream.bits(at, 1) & 1 == 0 {
                        1.0
                    } else {
                        -1.0
                    };
                    #[expect(clippy::cast_possible_truncation, reason = "below the width")]
                    (place as u32, sign)
                })
                .collect()
        };
        Self {
            rows: places(n_rows, "rows"),
            columns: places(n_columns, "columns"),
            width,
        }
    }

    /// Adds a row of the table's gradient.
    pub(super) fn add_row(&self, row: usize, values: &[f32], out: &mut [f32]) {
        let (from, sign) = self.rows[row];
        for (&value, &(place, other)) in values.iter().zip(&self.columns) {
            let mut at = (from + place) as usize;
            if at >= self.width {
                at -= self.width;
            }
            out[at] += sign * other * value;
        }
    }

    /// The sketch of what a product has for rows: `logits`, of all rows or of those named.
    pub(super) fn of_rows(&self, logits: &[f32], chosen: Option<&[u32]>) -> Vec<f32> {
        let mut sum = vec![0.0; self.width];
        for (at, &logit) in logits.iter().enumerate() {
            let (place, sign) = self.rows[chosen.map_or(at, |ids| ids[at] as usize)];
            sum[place as usize] += sign * logit;
        }
        sum
    }

    /// Adds the product of what [`Self::of_rows`] gave with a row of hidden states.
    pub(super) fn add_product(&self, of_rows: &[f32], hidden: &[f32], out: &mut [f32]) {
        for (&value, &(place, sign)) in hidden.iter().zip(&self.columns) {
            let scale = sign * value;
            // Round the end: the places of rows, moved by that of the column.
            let (start, end) = out.split_at_mut(place as usize);
            let (first, rest) = of_rows.split_at(end.len());
            for (sum, x) in end.iter_mut().zip(first) {
                *sum += scale * x;
            }
            for (sum, x) in start.iter_mut().zip(rest) {
                *sum += scale * x;
            }
        }
    }
}

/// Thin matrices of the two factors of a layer.
pub(super) struct Factors {
    /// Ranks of outputs and inputs.
    pub(super) rank: [usize; 2],
    /// [rank, outputs].
    pub(super) outputs: Vec<f32>,
    /// [rank, inputs].
    pub(super) inputs: Vec<f32>,
    is_exact: bool,
}

impl Plan {
    /// Stretches of a gradient of `size` numbers that are projected one after the other. Products cut
    /// their sums there too, so that tiles change no bit.
    pub(super) fn tiles(&self, size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = match self {
            Self::Dense { .. } => TILE,
            Self::Factors(_) | Self::Sparse { .. } | Self::Sketch(_) | Self::Whole => size.max(1),
        };
        (0..size)
            .step_by(step)
            .map(move |from| from..(from + step).min(size))
    }

    /// Adds the projection of a stretch of a whole gradient, one of [`Self::tiles`]. What is projected
    /// by its factors has none.
    pub(super) fn project(&self, gradient: &[f32], tile: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Factors(_) | Self::Sketch(_) => {}
            Self::Dense { matrix, width } => multiply(
                Matrix::strided(&matrix[tile.start..], *width, tile.len(), gradient.len()),
                Matrix::new(&gradient[tile.clone()], tile.len(), 1),
                out,
                1,
                true,
                1.0,
            ),
            Self::Sparse {
                places,
                per_number,
                scale,
            } => {
                for (&number, places) in gradient.iter().zip(places.chunks_exact(*per_number)) {
                    let number = number * scale;
                    for &place in places {
                        let sign = if place & 1 == 0 { number } else { -number };
                        out[place as usize / 2] += sign;
                    }
                }
            }
            Self::Whole => {
                for (sum, number) in out.iter_mut().zip(gradient) {
                    *sum += number;
                }
            }
        }
    }

    fn is_exact(&self) -> bool {
        match self {
            Self::Factors(factors) => factors.is_exact,
            Self::Whole => true,
            Self::Dense { .. } | Self::Sparse { .. } | Self::Sketch(_) => false,
        }
    }
}

/// The plans of all parameters, and where the result of each lies in a row.
pub(super) struct Projector {
    plans: BTreeMap<ParameterId, (Plan, Range<usize>)>,
    width: usize,
}

impl Projector {
    /// Chooses plans for what the pass back reports, in the order of names.
    pub(super) fn new(
        parameters: &Parameters<f32>,
        moments: &Moments<'_>,
        projection: &Projection,
        seed: Seed,
    ) -> Self {
        let mut named: Vec<(&str, ParameterId, Kind)> = moments
            .kinds
            .iter()
            .filter(|(_, kind)| projection.tables || **kind != Kind::Table)
            .map(|(&id, &kind)| (parameters.name(id), id, kind))
            .collect();
        named.sort_unstable_by_key(|(name, ..)| *name);
        let mut plans = BTreeMap::new();
        let mut width = 0;
        for (name, id, kind) in named {
            let shape = parameters.shape(id);
            let seed = seed.child(name);
            let basis = moments.factors.get(&id);
            let (plan, columns) = plan(projection, kind, shape, basis, seed);
            plans.insert(id, (plan, width..width + columns));
            width += columns;
        }
        Self { plans, width }
    }

    /// Numbers of a projected gradient.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The plan of a parameter and its part of a row; `None` where it is left out.
    pub(super) fn of(&self, id: ParameterId) -> Option<(&Plan, Range<usize>)> {
        let (plan, columns) = self.plans.get(&id)?;
        Some((plan, columns.clone()))
    }

    /// The layers, in the order of their columns.
    pub(super) fn layers(&self, parameters: &Parameters<f32>) -> Vec<GradientLayer> {
        let mut layers: Vec<(usize, GradientLayer)> = self
            .plans
            .iter()
            .map(|(&id, (plan, columns))| {
                let layer = GradientLayer {
                    name: parameters.name(id).to_owned(),
                    width: columns.len(),
                    n_parameters: parameters.get(id).len(),
                    is_exact: plan.is_exact(),
                };
                (columns.start, layer)
            })
            .collect();
        layers.sort_by_key(|(start, _)| *start);
        layers.into_iter().map(|(_, layer)| layer).collect()
    }
}

/// The plan of one parameter, and the numbers it gives.
fn plan(
    projection: &Projection,
    kind: Kind,
    shape: [usize; 2],
    moments: Option<&[Vec<f64>; 2]>,
    seed: Seed,
) -> (Plan, usize) {
    let [n_out, n_in] = shape;
    let n = n_out * n_in;
    let square = projection.rank * projection.rank;
    match (projection.basis, kind) {
        (Basis::Identity, _) => (Plan::Whole, n),
        // The softmax gives every row of a table a gradient: too many numbers to write down.
        (_, Kind::Table) => {
            let width = projection.table_width;
            if n <= width {
                return (Plan::Whole, n);
            }
            (Plan::Sketch(Sketch::new(shape, width, seed)), width)
        }
        // A vector has no factors; it is short, or as long as the vocabulary.
        (_, Kind::Vector) => dense(n, projection.rank, seed),
        (Basis::Random | Basis::Pca, Kind::Linear) => {
            let rank = [n_out.min(projection.rank), n_in.min(projection.rank)];
            let factors = factors(shape, rank, moments, seed);
            (Plan::Factors(factors), rank[0] * rank[1])
        }
        (Basis::Gaussian, Kind::Linear) => dense(n, square, seed),
        (Basis::Sparse, Kind::Linear) => sparse(n, square, seed),
    }
}

/// A whole gradient by a random matrix, or as it is if it is short.
fn dense(n: usize, width: usize, seed: Seed) -> (Plan, usize) {
    if n <= width {
        return (Plan::Whole, n);
    }
    let matrix = gaussian(width * n, width, seed);
    (Plan::Dense { matrix, width }, width)
}

/// Places in the result that each number of a sparsely projected gradient is added to.
const PLACES: usize = 4;

#[expect(
    clippy::cast_possible_truncation,
    reason = "a projection has far fewer columns than 2^31"
)]
fn sparse(n: usize, width: usize, seed: Seed) -> (Plan, usize) {
    if n <= width {
        return (Plan::Whole, n);
    }
    let per_number = PLACES.min(width).max(1);
    let stream = seed.child("places").stream();
    // One place in each of as many stretches, so that none is hit twice.
    let places = (0..n as u64)
        .flat_map(|number| (0..per_number).map(move |part| (number, part)))
        .map(|(number, part)| {
            let from = part * width / per_number;
            let to = (part + 1) * width / per_number;
            let place = from as u64 + stream.below((to - from) as u64, number, 2 * part as u64);
            let sign = stream.bits(number, 2 * part as u64 + 1) & 1;
            (place * 2 + sign) as u32
        })
        .collect();
    let scale = 1.0 / libm::sqrtf(per_number as f32);
    let plan = Plan::Sparse {
        places,
        per_number,
        scale,
    };
    (plan, width)
}

fn factors(
    [n_out, n_in]: [usize; 2],
    rank: [usize; 2],
    moments: Option<&[Vec<f64>; 2]>,
    seed: Seed,
) -> Factors {
    let side = |n: usize, rank: usize, moment: Option<&Vec<f64>>, name: &str| -> Vec<f32> {
        match moment {
            _ if rank == n => identity(n),
            Some(moment) if moment.len() == n * n => components(moment, n, rank),
            _ => gaussian(rank * n, rank, seed.child(name)),
        }
    };
    Factors {
        rank,
        outputs: side(n_out, rank[0], moments.map(|both| &both[0]), "outputs"),
        inputs: side(n_in, rank[1], moments.map(|both| &both[1]), "inputs"),
        is_exact: rank == [n_out, n_in],
    }
}

fn identity(n: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; n * n];
    for at in 0..n {
        matrix[at * n + at] = 1.0;
    }
    matrix
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded to the type of gradients"
)]
/// Normal numbers of variance `1 / rank`, by the method of Box and Muller.
fn gaussian(n: usize, rank: usize, seed: Seed) -> Vec<f32> {
    let stream = seed.stream();
    let scale = 1.0 / libm::sqrt(rank as f64);
    (0..n as u64)
        .map(|at| {
            // 1 - u lies in (0, 1], of which there is a logarithm.
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - stream.uniform(at, 0)));
            let angle = std::f64::consts::TAU * stream.uniform(at, 1);
            (scale * radius * libm::cos(angle)) as f32
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounded to the type of gradients"
)]
/// The directions in which rows vary most, [rank, n], by a symmetric second moment [n, n].
fn components(moment: &[f64], n: usize, rank: usize) -> Vec<f32> {
    let found = tensors::dense::symmetric(moment.to_vec(), n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| found.values[b].total_cmp(&found.values[a]).then(a.cmp(&b)));
    order
        .into_iter()
        .take(rank)
        .flat_map(|at| &found.vectors[at * n..(at + 1) * n])
        .map(|&x| x as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(seed: u64, n: usize) -> Vec<f32> {
        gaussian(n, 1, Seed::root(seed))
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    /// Row after row, or as a product: the same sketch.
    #[test]
    fn a_product_is_sketched_as_the_table_it_makes() {
        let (n_rows, n_columns) = (37, 5);
        let sketch = Sketch::new([n_rows, n_columns], 16, Seed::root(2));
        let (logits, hidden) = (table(3, n_rows), table(4, n_columns));
        let mut of_table = vec![0.0; 16];
        for (row, &logit) in logits.iter().enumerate() {
            let values: Vec<f32> = hidden.iter().map(|h| logit * h).collect();
            sketch.add_row(row, &values, &mut of_table);
        }
        let mut of_product = vec![0.0; 16];
        sketch.add_product(&sketch.of_rows(&logits, None), &hidden, &mut of_product);
        for (a, b) in of_table.iter().zip(&of_product) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    /// The mean over seeds is the product itself, and the error is that of the width.
    #[test]
    fn products_of_short_gradients_are_right_on_average() {
        let (shape, width) = ([40, 6], 64);
        let n = shape[0] * shape[1];
        let (a, b) = (table(5, n), table(6, n));
        let exact = dot(&a, &b);
        let length = dot(&a, &a).sqrt() * dot(&b, &b).sqrt();
        let of = |plan: &Plan, gradient: &[f32]| {
            let mut out = vec![0.0; width];
            match plan {
                Plan::Sketch(sketch) => {
                    for (row, values) in gradient.chunks_exact(shape[1]).enumerate() {
                        sketch.add_row(row, values, &mut out);
                    }
                }
                plan => {
                    for tile in plan.tiles(gradient.len()) {
                        plan.project(gradient, tile, &mut out);
                    }
                }
            }
            out
        };
        let makers: [fn(Seed) -> Plan; 3] = [
            |seed| Plan::Sketch(Sketch::new([40, 6], 64, seed)),
            |seed| dense(240, 64, seed).0,
            |seed| sparse(240, 64, seed).0,
        ];
        for make in makers {
            let errors: Vec<f64> = (0..400)
                .map(|seed| {
                    let plan = make(Seed::root(seed));
                    (dot(&of(&plan, &a), &of(&plan, &b)) - exact) / length
                })
                .collect();
            let mean = errors.iter().sum::<f64>() / 400.0;
            let spread = (errors.iter().map(|e| e * e).sum::<f64>() / 400.0).sqrt();
            // One over the root of 64 is 0.125; the mean of 400 is 20 times as good.
            assert!(spread < 0.2, "{spread}");
            assert!(mean.abs() < 4.0 * spread / 20.0, "{mean} {spread}");
        }
    }
}
