//! Gradients of single losses as rows of numbers, layer after layer: whole where a model is small,
//! projected where it is not.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::TrainingData;
use crate::history::History;

/// How gradients are made short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Which matrices.
    #[serde(default)]
    pub basis: Basis,
    /// Numbers left of each factor of a layer: a layer gives at most `rank * rank` numbers, a vector
    /// `rank`. At least 1.
    #[serde(default = "default_rank")]
    pub rank: usize,
    /// Numbers left of each table of items, positions or attributes. At least 1.
    #[serde(default = "default_table_width")]
    pub table_width: usize,
    /// Whether tables of items, positions and attributes are part of the gradient.
    #[serde(default = "yes")]
    pub tables: bool,
}

fn default_rank() -> usize {
    12
}

fn default_table_width() -> usize {
    1024
}

fn yes() -> bool {
    true
}

impl Default for Projection {
    fn default() -> Self {
        Self {
            basis: Basis::default(),
            rank: default_rank(),
            table_width: default_table_width(),
            tables: yes(),
        }
    }
}

/// What a request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Measure {
    /// The cross-entropy of each relevant item: the mean.
    #[default]
    Loss,
    /// One minus the normalised gain of the relevant items at smooth ranks among all items: what is
    /// ranked first counts, how sure the model is does not.
    Ndcg {
        /// Difference of scores at which one item stands clearly above another; above 0.
        temperature: f64,
    },
}

/// The matrices of a projection. Tables, whose gradients are too long to write down, are always
/// sketched (Pham and Pagh 2013, `TensorSketch`), except by `identity`. At equal width `gaussian` and
/// `sparse` keep products far better than the factored ones, whose error goes with one over the root
/// of the rank, not of its square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Both factors of a layer by normal numbers: LoGra (Choe et al. 2024, arXiv:2405.13954).
    Random,
    /// Both factors by their principal components, found on a selection of the samples: LoGra's
    /// other start.
    Pca,
    /// The whole gradient of a layer by normal numbers (Johnson and Lindenstrauss 1984).
    #[default]
    Gaussian,
    /// The whole gradient of a layer by a sparse matrix of signs (Kane and Nelson 2014,
    /// arXiv:1012.1577).
    Sparse,
    /// Nothing is projected: for small models.
    Identity,
}

impl Projection {
    /// Whether second moments of the factors are wanted.
    pub(crate) fn wants_components(&self) -> bool {
        self.basis == Basis::Pca
    }
}

/// Gradients of single losses as rows of numbers, layer after layer: exact for small models, a
/// projection for large ones.
///
/// A row has the columns of all layers, one layer after the other, and is the gradient of one loss
/// before weighting, in nats per unit of a parameter. It is computed in 64 bits where the model is,
/// and rounded at the end. Rows do not depend on the number of threads, nor on which other samples
/// are asked for.
pub trait GradientRows: Send + Sync {
    /// What the columns of a row belong to, in their order; there is at least one.
    fn layers(&self) -> Vec<GradientLayer>;

    /// Columns of a row: the widths of all layers.
    fn width(&self) -> usize {
        self.layers().iter().map(|layer| layer.width).sum()
    }

    /// What the objective adds for each squared parameter, times 2: the number that stands on the
    /// diagonal of the second derivative beside the mean over loss terms; from 0 up.
    fn regularisation(&self) -> f64;

    /// Whether a sample, given by its position in `data`, gives a loss term, and so a gradient.
    fn has_loss(&self, data: &TrainingData<'_>, sample: usize) -> bool;

    /// Gradients of the losses of samples, given by their positions in `data`:
    /// `[samples.len(), width]`, a row of zeros for a sample without a loss term.
    fn sample_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Vec<f32>;

    /// Gradient of the mean loss of the relevant items of a request, `[width]`; `None` where that
    /// loss depends on no parameter.
    fn request_row(&self, history: History<'_>, relevant: &[u32]) -> Option<Vec<f32>>;

    /// The same for many requests, in their order.
    fn request_rows(&self, requests: &[(History<'_>, &[u32])]) -> Vec<Option<Vec<f32>>> {
        requests
            .par_iter()
            .map(|(history, relevant)| self.request_row(*history, relevant))
            .collect()
    }

    /// Rows whose outer products, summed over the samples with a loss term and divided by their
    /// number, give the Gauss-Newton matrix of the mean loss before weighting and without
    /// regularisation. `[samples.len(), rows per sample, width]`, as many rows for each sample, rows
    /// of zeros among them; a sample's weight multiplies its outer products. `None`: not known.
    fn curvature_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Option<Vec<f32>>;
}

/// A part of a gradient: what the columns of a row of [`GradientRows`] belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GradientLayer {
    /// Name of the layer.
    pub name: String,
    /// Columns of a row that belong to it; from 1 up.
    pub width: usize,
    /// Parameters of the layer; from 1 up.
    pub n_parameters: usize,
    /// Whether the columns are the derivatives by its parameters, one by one, and not a projection.
    pub is_exact: bool,
}
