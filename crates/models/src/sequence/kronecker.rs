//! Curvature of one parameter as a diagonal in a turned basis: the core of K-FAC and EK-FAC, without
//! a network.
//!
//! A layer's gradient is a sum over positions of (output gradient) x (input), `G = Σ δ a'`. Its Fisher
//! matrix is taken to be diagonal in the basis of the eigenvectors of `S = E[δ δ']` and `A = E[a a']`:
//! `F = (Q_S x Q_A) Λ (Q_S x Q_A)'`. K-FAC has `Λ_ok = s_o a_k` (Martens and Grosse 2015,
//! arXiv:1503.05671, section 3), EK-FAC the best diagonal in that basis, `Λ_ok = E[(Q_S' G Q_A)_ok²]`
//! (George et al. 2018, arXiv:1806.03884, eq. 5), with G the whole gradient of a sample.
//!
//! A side that is one-hot has a diagonal moment, exactly: which row of a table is looked up. The side
//! of the items under a softmax is taken to be diagonal, since a matrix items x items would be too
//! large. So is a side of more than [`MOST`] numbers.

use tensors::{Matrix, Real, dense, multiply};

/// The longest side of a layer that gets a basis of its own: a matrix of that many rows and columns is
/// made and taken apart. A longer side keeps its own basis, and its moment is a diagonal.
const MOST: usize = 1024;

/// Sums of products of one factor of a gradient: all of them, or of each number with itself.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    n: usize,
    is_whole: bool,
    /// [n, n] or [n].
    sums: Vec<f64>,
}

impl Moment {
    /// Of a factor of `n` numbers.
    pub(super) fn new(n: usize) -> Self {
        let is_whole = n <= MOST;
        Self {
            n,
            is_whole,
            sums: vec![0.0; if is_whole { n * n } else { n }],
        }
    }

    /// Adds rows of the factor.
    pub(super) fn add<F: Real>(&mut self, rows: &[F]) {
        let n = rows.len() / self.n.max(1);
        if !self.is_whole {
            for row in rows.chunks_exact(self.n.max(1)) {
                for (sum, x) in self.sums.iter_mut().zip(row) {
                    *sum += x.to_f64() * x.to_f64();
                }
            }
            return;
        }
        let mut product = vec![F::ZERO; self.n * self.n];
        let rows = Matrix::new(rows, n, self.n);
        multiply(rows.transposed(), rows, &mut product, self.n, false, F::ONE);
        for (sum, x) in self.sums.iter_mut().zip(product) {
            *sum += x.to_f64();
        }
    }

    /// Adds the sums of other rows.
    pub(super) fn join(&mut self, other: &Self) {
        self.add_scaled(1.0, other);
    }

    /// Adds a multiple of the sums of other rows.
    fn add_scaled(&mut self, scale: f64, other: &Self) {
        for (sum, x) in self.sums.iter_mut().zip(&other.sums) {
            *sum += scale * x;
        }
    }

    /// The orthonormal basis in which the moment is diagonal, row after row; `None`: it is already.
    fn basis(&self) -> Option<Vec<f64>> {
        self.is_whole
            .then(|| dense::symmetric(self.sums.clone(), self.n).vectors)
    }

    /// `q' M q` for each vector of a basis, not below 0.
    fn diagonal(&self, basis: Option<&[f64]>) -> Vec<f64> {
        let Some(basis) = basis.filter(|_| self.is_whole) else {
            let step = if self.is_whole { self.n + 1 } else { 1 };
            return self.sums.iter().step_by(step).copied().collect();
        };
        let n = self.n;
        let mut products = vec![0.0; n * n];
        multiply(
            Matrix::new(basis, n, n),
            Matrix::new(&self.sums, n, n),
            &mut products,
            n,
            false,
            1.0,
        );
        let rows = products
            .chunks_exact(n.max(1))
            .zip(basis.chunks_exact(n.max(1)));
        rows.map(|(row, vector)| {
            let sum: f64 = row.iter().zip(vector).map(|(x, y)| x * y).sum();
            sum.max(0.0)
        })
        .collect()
    }
}

/// Both moments of a linear layer.
#[derive(Clone, Debug)]
pub(super) struct LayerMoments {
    outputs: Moment,
    inputs: Moment,
    positions: u64,
}

impl LayerMoments {
    /// Of a layer of this shape, [outputs, inputs].
    pub(super) fn new([outputs, inputs]: [usize; 2]) -> Self {
        Self {
            outputs: Moment::new(outputs),
            inputs: Moment::new(inputs),
            positions: 0,
        }
    }

    /// Adds positions: inputs [n, inputs] and gradients of outputs [n, outputs]. One whose gradient is
    /// zero adds nothing to any sample's gradient, and is left out: so padding does not count.
    pub(super) fn add<F: Real>(&mut self, inputs: &[F], gradients: &[F]) {
        let n_in = self.inputs.n.max(1);
        let (mut kept_inputs, mut kept_gradients) = (Vec::new(), Vec::new());
        let rows = gradients.chunks_exact(self.outputs.n.max(1));
        for (gradient, input) in rows.zip(inputs.chunks_exact(n_in)) {
            if gradient.iter().any(|&x| x != F::ZERO) {
                kept_gradients.extend_from_slice(gradient);
                kept_inputs.extend_from_slice(input);
                self.positions += 1;
            }
        }
        self.inputs.add(&kept_inputs);
        self.outputs.add(&kept_gradients);
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.outputs.join(&other.outputs);
        self.inputs.join(&other.inputs);
        self.positions += other.positions;
    }

    /// The basis, and what K-FAC takes for eigenvalues: the moment of output gradients summed over the
    /// positions of a sample, times that of inputs averaged over positions, as if positions were
    /// independent ("expand", Eschenhagen et al. 2023, arXiv:2311.00636).
    pub(super) fn block<F: Real>(&self, n_samples: u64) -> Block<F> {
        let shape = [self.outputs.n, self.inputs.n];
        let bases = [self.outputs.basis(), self.inputs.basis()];
        let outputs = self.outputs.diagonal(bases[0].as_deref());
        let inputs = self.inputs.diagonal(bases[1].as_deref());
        let scale = 1.0 / (n_samples.max(1) as f64 * self.positions.max(1) as f64);
        let mut kfac = Vec::with_capacity(outputs.len() * inputs.len());
        for s in &outputs {
            kfac.extend(inputs.iter().map(|a| scale * s * a));
        }
        Block::new(Rotation::new(shape, bases), kfac)
    }
}

/// Moments of a table, whose rows are looked up, or compared with hidden states, or both.
#[derive(Clone, Debug)]
pub(super) struct TableMoments {
    /// How often each row was looked up: the moment of the one-hot input, which is diagonal.
    lookups: Vec<u64>,
    /// Of the gradients that looked-up rows received.
    received: Moment,
    /// Of the gradient of logits, each with itself.
    logits: Vec<f64>,
    /// Of hidden states.
    hidden: Moment,
    terms: u64,
}

impl TableMoments {
    /// Of a table of this shape.
    pub(super) fn new([rows, columns]: [usize; 2]) -> Self {
        Self {
            lookups: vec![0; rows],
            received: Moment::new(columns),
            logits: vec![0.0; rows],
            hidden: Moment::new(columns),
            terms: 0,
        }
    }

    /// Adds rows that were looked up, with what they received.
    pub(super) fn add_lookups<F: Real>(&mut self, rows: &[u32], gradients: &[F]) {
        for &row in rows {
            self.lookups[row as usize] += 1;
        }
        self.received.add(gradients);
    }

    /// Adds loss terms: hidden states, and gradients of the logits of all rows or of those chosen.
    pub(super) fn add_terms<F: Real>(
        &mut self,
        hidden: &[F],
        logits: &[F],
        chosen: Option<&[u32]>,
    ) {
        let n = hidden.len() / self.hidden.n.max(1);
        self.hidden.add(hidden);
        self.terms += n as u64;
        for logits in logits.chunks_exact((logits.len() / n.max(1)).max(1)) {
            for (at, x) in logits.iter().enumerate() {
                let row = chosen.map_or(at, |rows| rows[at] as usize);
                self.logits[row] += x.to_f64() * x.to_f64();
            }
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        for (sum, x) in self.lookups.iter_mut().zip(&other.lookups) {
            *sum += x;
        }
        for (sum, x) in self.logits.iter_mut().zip(&other.logits) {
            *sum += x;
        }
        self.received.join(&other.received);
        self.hidden.join(&other.hidden);
        self.terms += other.terms;
    }

    /// The basis, and what K-FAC takes for eigenvalues. A table of inputs and outputs is one parameter
    /// and gets one block: the Fisher matrix of both uses is the sum of two Kronecker products, both
    /// diagonal on the side of the rows, so that only the columns need one basis. It is that of the sum
    /// of both moments, as they enter the Fisher matrix; what each has beside the diagonal there is
    /// dropped, as are products between the uses, which EK-FAC counts.
    pub(super) fn block<F: Real>(&self, n_samples: u64) -> Block<F> {
        let n = n_samples.max(1) as f64;
        let n_lookups = self.lookups.iter().sum::<u64>().max(1) as f64;
        let of_terms = self.logits.iter().sum::<f64>() / (n * self.terms.max(1) as f64);
        let mut both = Moment::new(self.received.n);
        both.add_scaled(1.0 / n, &self.received);
        both.add_scaled(of_terms, &self.hidden);
        let basis = both.basis();
        let received = self.received.diagonal(basis.as_deref());
        let hidden = self.hidden.diagonal(basis.as_deref());
        let mut kfac = Vec::with_capacity(self.lookups.len() * received.len());
        for (&count, logit) in self.lookups.iter().zip(&self.logits) {
            let frequency = count as f64 / (n_lookups * n);
            let logit = logit / (n * self.terms.max(1) as f64);
            let columns = received.iter().zip(&hidden);
            kfac.extend(columns.map(|(g, h)| frequency * g + logit * h));
        }
        let shape = [self.lookups.len(), self.received.n];
        Block::new(Rotation::new(shape, [None, basis]), kfac)
    }
}

/// An orthonormal basis of each side of a matrix; `None`: its own.
#[derive(Clone, Debug)]
pub(crate) struct Rotation<F> {
    shape: [usize; 2],
    /// [rows, rows] and [columns, columns]; row k is vector k.
    bases: [Option<Vec<F>>; 2],
}

impl<F: Real> Rotation<F> {
    /// Of matrices of this shape.
    pub(super) fn new(shape: [usize; 2], bases: [Option<Vec<f64>>; 2]) -> Self {
        let cast = |basis: Vec<f64>| basis.into_iter().map(F::of).collect();
        Self {
            shape,
            bases: bases.map(|basis| basis.map(cast)),
        }
    }

    /// `Q_rows G Q_columns'`: the coordinates of a matrix.
    pub(super) fn turn(&self, matrix: &[F]) -> Vec<F> {
        self.both(matrix, false)
    }

    /// Adds the square of each coordinate of a matrix.
    pub(super) fn add_squares(&self, matrix: &[F], sums: &mut [f64]) {
        for (sum, x) in sums.iter_mut().zip(self.turn(matrix)) {
            *sum += x.to_f64() * x.to_f64();
        }
    }

    /// The matrix of such coordinates.
    pub(super) fn turn_back(&self, turned: &[F]) -> Vec<F> {
        self.both(turned, true)
    }

    fn both(&self, matrix: &[F], is_back: bool) -> Vec<F> {
        let [rows, columns] = self.shape;
        let mut turned = self.columns(matrix, is_back);
        if let Some(basis) = &self.bases[0] {
            let basis = Matrix::new(basis, rows, rows);
            let basis = if is_back { basis.transposed() } else { basis };
            let half = std::mem::replace(&mut turned, vec![F::ZERO; matrix.len()]);
            let half = Matrix::new(&half, rows, columns);
            multiply(basis, half, &mut turned, columns, false, F::ONE);
        }
        turned
    }

    /// The coordinates of some rows, whose own side is not turned.
    pub(super) fn turn_rows(&self, rows: &[F]) -> Vec<F> {
        self.columns(rows, false)
    }

    fn columns(&self, rows: &[F], is_back: bool) -> Vec<F> {
        let columns = self.shape[1];
        let Some(basis) = &self.bases[1] else {
            return rows.to_vec();
        };
        let basis = Matrix::new(basis, columns, columns);
        let basis = if is_back { basis } else { basis.transposed() };
        let mut turned = vec![F::ZERO; rows.len()];
        let rows = Matrix::new(rows, rows.len() / columns.max(1), columns);
        multiply(rows, basis, &mut turned, columns, false, F::ONE);
        turned
    }
}

/// The curvature of one parameter.
#[derive(Clone, Debug)]
pub(super) struct Block<F> {
    pub(super) rotation: Rotation<F>,
    /// Eigenvalues by K-FAC, in the shape of the parameter; none for a vector, which has no factors.
    pub(super) kfac: Option<Vec<f64>>,
    /// Sums over samples of the squares of turned gradients.
    pub(super) squares: Vec<f64>,
}

impl<F: Real> Block<F> {
    fn new(rotation: Rotation<F>, kfac: Vec<f64>) -> Self {
        Self {
            squares: vec![0.0; kfac.len()],
            rotation,
            kfac: Some(kfac),
        }
    }

    /// That of a vector: a diagonal, whose numbers are second moments, for K-FAC and EK-FAC alike.
    pub(super) fn of_vector(n: usize) -> Self {
        Self {
            rotation: Rotation::new([1, n], [None, None]),
            kfac: None,
            squares: vec![0.0; n],
        }
    }

    /// The eigenvalues by K-FAC or EK-FAC, damped.
    pub(super) fn spectrum(&self, is_corrected: bool, n_samples: u64, share: f64) -> Spectrum {
        let values = match &self.kfac {
            Some(kfac) if !is_corrected => kfac.clone(),
            _ => {
                let scale = 1.0 / n_samples.max(1) as f64;
                self.squares.iter().map(|sum| scale * sum).collect()
            }
        };
        Spectrum::new(values, share)
    }

    /// `(F + damping)^-1 g`, and 0 where no sample has a gradient.
    pub(super) fn solve(&self, spectrum: &Spectrum, gradient: &[F]) -> Vec<F> {
        let mut turned = self.rotation.turn(gradient);
        for (x, weight) in turned.iter_mut().zip(spectrum.inverse()) {
            *x *= F::of(weight);
        }
        self.rotation.turn_back(&turned)
    }
}

/// Eigenvalues, and what is added to each.
#[derive(Clone, Debug)]
pub(super) struct Spectrum {
    values: Vec<f64>,
    /// Their mean.
    pub(super) mean: f64,
    /// A share of the mean, or more.
    pub(super) damping: f64,
}

impl Spectrum {
    fn new(values: Vec<f64>, share: f64) -> Self {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        Self {
            values,
            mean,
            damping: share * mean,
        }
    }

    /// Raises the damping to a least one.
    pub(super) fn damp_at_least(&mut self, least: f64) {
        self.damping = self.damping.max(least);
    }

    /// `1 / (value + damping)`; 0 where all values are 0: no sample has a gradient there.
    pub(super) fn inverse(&self) -> impl Iterator<Item = f64> {
        self.values.iter().map(|value| {
            let damped = value + self.damping;
            if damped > 0.0 { 1.0 / damped } else { 0.0 }
        })
    }
}

#[cfg(test)]
mod tests;
