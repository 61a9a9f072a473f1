//! Named parameters and their gradients, each in one flat buffer.

use std::collections::BTreeMap;

use seed::Seed;

use crate::require::require;
use crate::{Real, TensorError, Tensors};

/// Which parameter: valid for the [`Parameters`] that gave it and for their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterId(pub(crate) usize);

/// What a parameter starts with. `fan_in` is its number of columns, `fan_out` of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere.
    Ones,
    /// One number everywhere.
    Constant(f64),
    /// Uniform in [-bound, bound].
    Uniform {
        /// The largest magnitude.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal with mean 0, draws beyond two standard deviations drawn again.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
    },
    /// Uniform within sqrt(6 / (`fan_in` + `fan_out`)) (Glorot and Bengio 2010, eq. 16).
    XavierUniform,
    /// Normal with variance 2 / (`fan_in` + `fan_out`).
    XavierNormal,
    /// Uniform within sqrt(6 / `fan_in`) (He et al. 2015, eq. 10).
    KaimingUniform,
}

impl Init {
    /// One element; `draw` gives uniform numbers in [0, 1) by lane.
    fn element(self, [rows, columns]: [usize; 2], draw: impl Fn(u64) -> f64) -> f64 {
        let uniform = |bound: f64| (2.0 * draw(0) - 1.0) * bound;
        let normal = |lane: u64| {
            // Box and Muller; 1 - u is never 0.
            let radius = libm::sqrt(-2.0 * libm::log(1.0 - draw(lane)));
            radius * libm::cos(std::f64::consts::TAU * draw(lane + 1))
        };
        let fans = (rows + columns).max(1) as f64;
        match self {
            Self::Zeros => 0.0,
            Self::Ones => 1.0,
            Self::Constant(x) => x,
            Self::Uniform { bound } => uniform(bound),
            Self::Normal { std } => std * normal(0),
            Self::TruncatedNormal { std } => {
                // Ends soon: a draw is refused with probability 0.046. The bound is for the proof.
                let inside = (0..64).map(|n| normal(2 * n)).find(|x| x.abs() <= 2.0);
                std * inside.unwrap_or(0.0)
            }
            Self::XavierUniform => uniform(libm::sqrt(6.0 / fans)),
            Self::XavierNormal => libm::sqrt(2.0 / fans) * normal(0),
            Self::KaimingUniform => uniform(libm::sqrt(6.0 / columns.max(1) as f64)),
        }
    }
}

/// The parameters of a model: matrices [rows, columns] by name. A vector is one row.
#[derive(Clone, Debug)]
pub struct Parameters<F> {
    seed: Seed,
    names: Vec<String>,
    shapes: Vec<[usize; 2]>,
    starts: Vec<usize>,
    values: Vec<F>,
    by_name: BTreeMap<String, ParameterId>,
}

impl<F: Real> Parameters<F> {
    /// No parameters yet. What is inserted is drawn from `seed`, by name: neither the order of
    /// insertion nor other parameters change it.
    pub fn new(seed: Seed) -> Self {
        Self {
            seed: seed.child("initial_weights"),
            names: Vec::new(),
            shapes: Vec::new(),
            starts: Vec::new(),
            values: Vec::new(),
            by_name: BTreeMap::new(),
        }
    }

    /// Adds a parameter. A name that is taken is a bug of the model and panics.
    pub fn insert(&mut self, name: &str, shape: [usize; 2], init: Init) -> ParameterId {
        let stream = self.seed.child(name).stream();
        let n = shape[0] * shape[1];
        let values = (0..n as u64)
            .map(|index| F::of(init.element(shape, |lane| stream.uniform(index, lane))));
        let start = self.values.len();
        self.values.extend(values);
        let id = ParameterId(self.names.len());
        let before = self.by_name.insert(name.to_owned(), id);
        require(before.is_none(), || {
            format!("parameter `{name}` exists already")
        });
        self.names.push(name.to_owned());
        self.shapes.push(shape);
        self.starts.push(start);
        id
    }

    /// The values of a parameter, row after row.
    pub fn get(&self, id: ParameterId) -> &[F] {
        &self.values[self.range(id)]
    }

    /// The values of a parameter, to change.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [F] {
        let range = self.range(id);
        &mut self.values[range]
    }

    /// The parameter of a name.
    pub fn id(&self, name: &str) -> Option<ParameterId> {
        self.by_name.get(name).copied()
    }

    /// The values of the parameter of a name.
    pub fn by_name(&self, name: &str) -> Option<&[F]> {
        self.id(name).map(|id| self.get(id))
    }

    /// The values of the parameter of a name, to change.
    pub fn by_name_mut(&mut self, name: &str) -> Option<&mut [F]> {
        self.id(name).map(|id| self.get_mut(id))
    }

    /// [rows, columns].
    pub fn shape(&self, id: ParameterId) -> [usize; 2] {
        self.shapes[id.0]
    }

    /// The name of a parameter.
    pub fn name(&self, id: ParameterId) -> &str {
        &self.names[id.0]
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// All parameters, by sorted name.
    pub fn ids(&self) -> impl Iterator<Item = ParameterId> {
        self.by_name.values().copied()
    }

    /// How many numbers there are in all.
    pub fn n_values(&self) -> usize {
        self.values.len()
    }

    /// All numbers, in order of insertion: what optimisers walk along.
    pub(crate) fn flat_mut(&mut self) -> &mut [F] {
        &mut self.values
    }

    /// The place of a parameter in the flat buffer.
    pub(crate) fn range(&self, id: ParameterId) -> std::ops::Range<usize> {
        let [rows, columns] = self.shapes[id.0];
        let start = self.starts[id.0];
        start..start + rows * columns
    }

    /// All parameters as tensors of their names.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn to_tensors(&self) -> Result<Tensors, TensorError> {
        let mut tensors = Tensors::new();
        for id in self.ids() {
            let values = self.get(id).to_vec();
            F::insert(&mut tensors, self.name(id), &self.shape(id), values)?;
        }
        Ok(tensors)
    }

    /// Replaces the values of all parameters by those of the tensors of their names; tensors of
    /// other names are left alone.
    ///
    /// # Errors
    /// If a tensor is missing or of another type or size; then nothing is changed.
    pub fn load(&mut self, tensors: &Tensors) -> Result<(), TensorError> {
        let mut values = self.values.clone();
        for id in self.ids() {
            let name = self.name(id);
            let read = F::read(tensors, name)?;
            let range = self.range(id);
            if read.len() != range.len() || tensors.shape(name)? != self.shape(id) {
                return Err(TensorError::shape(name, &self.shape(id), read.len()));
            }
            values[range].copy_from_slice(read);
        }
        self.values = values;
        Ok(())
    }

    /// All matrices of a container as parameters.
    ///
    /// # Errors
    /// If a tensor is of another type than `F` or has not two dimensions.
    pub fn from_tensors(tensors: &Tensors) -> Result<Self, TensorError> {
        let mut parameters = Self::new(Seed::root(0));
        for name in tensors.names() {
            let values = F::read(tensors, name)?;
            let &[rows, columns] = tensors.shape(name)? else {
                return Err(TensorError::shape(name, &[0, 0], values.len()));
            };
            let id = parameters.insert(name, [rows, columns], Init::Zeros);
            parameters.get_mut(id).copy_from_slice(values);
        }
        Ok(parameters)
    }

    /// The same parameters, with the same ids, in another type of number.
    pub fn cast<G: Real>(&self) -> Parameters<G> {
        Parameters {
            seed: self.seed,
            names: self.names.clone(),
            shapes: self.shapes.clone(),
            starts: self.starts.clone(),
            values: self.values.iter().map(|x| G::of(x.to_f64())).collect(),
            by_name: self.by_name.clone(),
        }
    }

    /// Gradients of these parameters, zero.
    pub fn gradients(&self) -> Gradients<F> {
        Gradients {
            ranges: (0..self.names.len())
                .map(|index| self.range(ParameterId(index)))
                .collect(),
            values: vec![F::ZERO; self.values.len()],
        }
    }
}

/// One number per number of the parameters it was made for.
#[derive(Clone, Debug)]
pub struct Gradients<F> {
    ranges: Vec<std::ops::Range<usize>>,
    values: Vec<F>,
}

impl<F: Real> Gradients<F> {
    /// Zero, for these parameters.
    pub fn new(parameters: &Parameters<F>) -> Self {
        parameters.gradients()
    }

    /// The gradient of a parameter, in its shape.
    pub fn get(&self, id: ParameterId) -> &[F] {
        &self.values[self.ranges[id.0].clone()]
    }

    /// The gradient of a parameter, to change.
    pub fn get_mut(&mut self, id: ParameterId) -> &mut [F] {
        &mut self.values[self.ranges[id.0].clone()]
    }

    /// All numbers, in order of insertion of their parameters.
    pub fn flat(&self) -> &[F] {
        &self.values
    }

    /// All numbers, to change.
    pub fn flat_mut(&mut self) -> &mut [F] {
        &mut self.values
    }

    /// Forgets everything.
    pub fn zero(&mut self) {
        self.values.fill(F::ZERO);
    }

    /// Multiplies everything.
    pub fn scale(&mut self, factor: F) {
        for x in &mut self.values {
            *x *= factor;
        }
    }

    /// Adds the gradients of the same parameters.
    pub fn add(&mut self, other: &Self) {
        require(self.values.len() == other.values.len(), || {
            "gradients of different parameters".to_owned()
        });
        for (x, &y) in self.values.iter_mut().zip(&other.values) {
            *x += y;
        }
    }

    /// The Euclidean norm over all parameters, summed in double precision in fixed order.
    pub fn norm(&self) -> f64 {
        libm::sqrt(crate::kernels::squared_norm(&self.values))
    }
}
