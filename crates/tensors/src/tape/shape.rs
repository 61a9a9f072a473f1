//! Small operations: sums, products, columns, rows.

use super::{Operation, PADDING, Reverse, Tape, Value};
use crate::Real;
use crate::kernels::{add_scaled, dot, vectorised};
use crate::require::require;

/// An operation as a function from the output and its gradient.
struct Function<B>(B);

impl<F, B> Operation<F> for Function<B>
where
    F: Real,
    B: FnOnce(&[F], Vec<F>, &mut Reverse<'_, F>) + Send,
{
    fn backward(self: Box<Self>, output: &[F], gradient: Vec<F>, reverse: &mut Reverse<'_, F>) {
        (self.0)(output, gradient, reverse);
    }
}

impl<F: Real> Tape<'_, F> {
    fn push_function<B>(
        &mut self,
        value: Vec<F>,
        [rows, columns]: [usize; 2],
        inputs: &[Value],
        backward: B,
    ) -> Value
    where
        B: FnOnce(&[F], Vec<F>, &mut Reverse<'_, F>) + Send + 'static,
    {
        let needs = inputs.iter().any(|&input| self.needs(input));
        self.push(
            value,
            rows,
            columns,
            needs,
            Some(Box::new(Function(backward))),
        )
    }

    fn require_same_shape(&self, a: Value, b: Value) -> [usize; 2] {
        require(self.shape(a) == self.shape(b), || {
            format!("shapes {:?} and {:?}", self.shape(a), self.shape(b))
        });
        self.shape(a)
    }

    fn map(&mut self, x: Value, f: impl Fn(F) -> F) -> Vec<F> {
        let mut out = self.workspace.copy(&self.nodes[x.0].value);
        vectorised(
            #[inline(always)]
            || out.iter_mut().for_each(|x| *x = f(*x)),
        );
        out
    }

    fn zip(&mut self, a: Value, b: Value, f: impl Fn(F, F) -> F) -> Vec<F> {
        let mut out = self.workspace.copy(&self.nodes[a.0].value);
        let b = &self.nodes[b.0].value;
        vectorised(
            #[inline(always)]
            || out.iter_mut().zip(b).for_each(|(x, &y)| *x = f(*x, y)),
        );
        out
    }

    /// a + b.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        let shape = self.require_same_shape(a, b);
        let out = self.zip(a, b, |x, y| x + y);
        self.push_function(out, shape, &[a, b], move |_, gradient, reverse| {
            let copy = reverse.workspace.copy(&gradient);
            reverse.give(a, copy);
            reverse.give(b, gradient);
        })
    }

    /// a - b.
    pub fn subtract(&mut self, a: Value, b: Value) -> Value {
        let negative = self.scale(b, -F::ONE);
        self.add(a, negative)
    }

    /// a * b, element by element.
    pub fn multiply(&mut self, a: Value, b: Value) -> Value {
        let shape = self.require_same_shape(a, b);
        let out = self.zip(a, b, |x, y| x * y);
        self.push_function(out, shape, &[a, b], move |_, mut gradient, reverse| {
            let mut to_a = reverse.workspace.copy(&gradient);
            times(&mut to_a, reverse.value(b));
            times(&mut gradient, reverse.value(a));
            reverse.give(a, to_a);
            reverse.give(b, gradient);
        })
    }

    /// factor * x.
    pub fn scale(&mut self, x: Value, factor: F) -> Value {
        let out = self.map(x, |x| x * factor);
        let shape = self.shape(x);
        self.push_function(out, shape, &[x], move |_, mut gradient, reverse| {
            for g in &mut gradient {
                *g *= factor;
            }
            reverse.give(x, gradient);
        })
    }

    /// 1 / (1 + e^-x).
    pub fn sigmoid(&mut self, x: Value) -> Value {
        let out = self.map(x, F::logistic);
        let shape = self.shape(x);
        self.push_function(out, shape, &[x], move |output, mut gradient, reverse| {
            for (g, &y) in gradient.iter_mut().zip(output) {
                *g *= y * (F::ONE - y);
            }
            reverse.give(x, gradient);
        })
    }

    /// tanh(x).
    pub fn tanh(&mut self, x: Value) -> Value {
        let out = self.map(x, F::hyperbolic_tangent);
        let shape = self.shape(x);
        self.push_function(out, shape, &[x], move |output, mut gradient, reverse| {
            for (g, &y) in gradient.iter_mut().zip(output) {
                *g *= F::ONE - y * y;
            }
            reverse.give(x, gradient);
        })
    }

    /// max(0, x).
    pub fn relu(&mut self, x: Value) -> Value {
        let out = self.map(x, |x| if x < F::ZERO { F::ZERO } else { x });
        let shape = self.shape(x);
        self.push_function(out, shape, &[x], move |output, mut gradient, reverse| {
            for (g, &y) in gradient.iter_mut().zip(output) {
                *g = if y > F::ZERO { *g } else { F::ZERO };
            }
            reverse.give(x, gradient);
        })
    }

    /// Columns side by side: [rows, sum of columns].
    pub fn concatenate(&mut self, parts: &[Value]) -> Value {
        let rows = parts.first().map_or(0, |&part| self.shape(part)[0]);
        require(
            parts.iter().all(|&part| self.shape(part)[0] == rows),
            || format!("parts with other than {rows} rows"),
        );
        let widths: Vec<usize> = parts.iter().map(|&part| self.shape(part)[1]).collect();
        let columns: usize = widths.iter().sum();
        let mut out = self.workspace.take(rows * columns);
        let mut start = 0;
        for (&part, &width) in parts.iter().zip(&widths) {
            let rows = self.nodes[part.0].value.chunks_exact(width.max(1));
            for (out, row) in out.chunks_exact_mut(columns.max(1)).zip(rows) {
                out[start..start + width].copy_from_slice(row);
            }
            start += width;
        }
        let inputs = parts.to_vec();
        self.push_function(out, [rows, columns], parts, move |_, gradient, reverse| {
            let mut start = 0;
            for (part, width) in inputs.into_iter().zip(widths) {
                let mut own = reverse.workspace.take(rows * width);
                let rows = gradient.chunks_exact(columns.max(1));
                for (own, row) in own.chunks_exact_mut(width.max(1)).zip(rows) {
                    own.copy_from_slice(&row[start..start + width]);
                }
                reverse.give(part, own);
                start += width;
            }
            reverse.workspace.give(gradient);
        })
    }

    /// The given rows of x, in the given order; [`PADDING`] gives zeros.
    pub fn gather_rows(&mut self, x: Value, rows: &[u32]) -> Value {
        let [n, columns] = self.shape(x);
        require(
            rows.iter().all(|&row| row == PADDING || (row as usize) < n),
            || format!("a row beyond {n}"),
        );
        if rows.len() == n && (0..).zip(rows).all(|(at, &row)| at == row) {
            return x;
        }
        let mut out = self.workspace.zeros(rows.len() * columns);
        for (out, &row) in out.chunks_exact_mut(columns.max(1)).zip(rows) {
            if row != PADDING {
                let start = row as usize * columns;
                out.copy_from_slice(&self.nodes[x.0].value[start..start + columns]);
            }
        }
        let shape = [rows.len(), columns];
        let rows = rows.to_vec();
        self.push_function(out, shape, &[x], move |_, gradient, reverse| {
            let mut sum = reverse.workspace.zeros(n * columns);
            vectorised(
                #[inline(always)]
                || {
                    for (gradient, row) in gradient.chunks_exact(columns.max(1)).zip(rows) {
                        if row != PADDING {
                            let start = row as usize * columns;
                            add_scaled(&mut sum[start..start + columns], F::ONE, gradient);
                        }
                    }
                },
            );
            reverse.workspace.give(gradient);
            reverse.give(x, sum);
        })
    }

    /// Every row `times` times, one after the other: [rows * times, columns].
    pub fn repeat_rows(&mut self, x: Value, times: usize) -> Value {
        let rows: Vec<u32> = (0_u32..)
            .take(self.shape(x)[0])
            .flat_map(|row| std::iter::repeat_n(row, times))
            .collect();
        self.gather_rows(x, &rows)
    }

    /// The last valid row of each sequence of `length` rows; zeros where none is valid.
    pub fn last_rows(&mut self, x: Value, length: usize, valid: &[bool]) -> Value {
        let rows: Vec<u32> = (0_u32..)
            .step_by(length.max(1))
            .zip(valid.chunks(length.max(1)))
            .map(|(start, valid)| {
                let last = (0_u32..).zip(valid).filter(|(_, valid)| **valid).last();
                last.map_or(PADDING, |(at, _)| start + at)
            })
            .collect();
        self.gather_rows(x, &rows)
    }

    /// The mean of the valid rows of each sequence of `length` rows; zeros where none is valid.
    pub fn mean_rows(&mut self, x: Value, length: usize, valid: &[bool]) -> Value {
        let [rows, columns] = self.shape(x);
        let length = length.max(1);
        require(valid.len() == rows && rows.is_multiple_of(length), || {
            format!("{rows} rows are no sequences of {length}")
        });
        let n = rows / length;
        let shares: Vec<F> = valid
            .chunks(length)
            .flat_map(|valid| {
                let n = valid.iter().filter(|valid| **valid).count();
                let share = F::ONE / F::of(n.max(1) as f64);
                valid
                    .iter()
                    .map(move |&valid| if valid { share } else { F::ZERO })
            })
            .collect();
        let mut out = self.workspace.zeros(n * columns);
        let input = self.nodes[x.0].value.chunks_exact(columns.max(1));
        for (row, (input, &share)) in input.zip(&shares).enumerate() {
            let start = row / length * columns;
            add_scaled(&mut out[start..start + columns], share, input);
        }
        self.push_function(out, [n, columns], &[x], move |_, gradient, reverse| {
            let mut to_x = reverse.workspace.take(rows * columns);
            let pairs = to_x.chunks_exact_mut(columns.max(1)).zip(shares);
            for (row, (to_x, share)) in pairs.enumerate() {
                let start = row / length * columns;
                for (to_x, &g) in to_x.iter_mut().zip(&gradient[start..start + columns]) {
                    *to_x = g * share;
                }
            }
            reverse.workspace.give(gradient);
            reverse.give(x, to_x);
        })
    }

    /// The product of each row of a with the same row of b: [rows, 1].
    pub fn row_dot(&mut self, a: Value, b: Value) -> Value {
        let [rows, columns] = self.require_same_shape(a, b);
        let mut out = self.workspace.take(rows);
        vectorised(
            #[inline(always)]
            || {
                let pairs = self.nodes[a.0].value.chunks_exact(columns.max(1));
                let pairs = pairs.zip(self.nodes[b.0].value.chunks_exact(columns.max(1)));
                for (out, (a, b)) in out.iter_mut().zip(pairs) {
                    *out = dot(a, b);
                }
            },
        );
        self.push_function(out, [rows, 1], &[a, b], move |_, gradient, reverse| {
            for (to, other) in [(a, b), (b, a)] {
                if reverse.needs(to) {
                    let mut own = reverse.workspace.copy(reverse.value(other));
                    for (own, &g) in own.chunks_exact_mut(columns.max(1)).zip(&gradient) {
                        for x in own {
                            *x *= g;
                        }
                    }
                    reverse.give(to, own);
                }
            }
            reverse.workspace.give(gradient);
        })
    }
}

fn times<F: Real>(x: &mut [F], y: &[F]) {
    vectorised(
        #[inline(always)]
        || x.iter_mut().zip(y).for_each(|(x, &y)| *x *= y),
    );
}
