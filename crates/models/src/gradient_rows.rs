//! Gradients of single losses as rows of numbers, layer after layer: whole where a model is small,
//! projected where it is not.

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
    /// Whether tables of items, positions and attributes are part of the gradient.
    #[serde(default = "yes")]
    pub tables: bool,
}

fn default_rank() -> usize {
    16
}

fn yes() -> bool {
    true
}

impl Default for Projection {
    fn default() -> Self {
        Self {
            basis: Basis::default(),
            rank: default_rank(),
            tables: yes(),
        }
    }
}

/// The matrices of a projection. Tables, whose gradients are too long to write down, are always
/// projected by their factors, except by `identity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Both factors of a layer by normal numbers: LoGra (Choe et al. 2024, arXiv:2405.13954).
    #[default]
    Random,
    /// Both factors by their principal components, found on a selection of the samples: LoGra's
    /// other start.
    Pca,
    /// The whole gradient of a layer by normal numbers (Johnson and Lindenstrauss 1984).
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

/// A part of the parameters, and of each row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GradientLayer {
    /// Its name.
    pub name: String,
    /// Its numbers in a row.
    pub width: usize,
    /// Its parameters.
    pub n_parameters: usize,
    /// Whether products of rows are those of whole gradients.
    pub is_exact: bool,
}

/// Gradients of single losses as rows of numbers. The loss is that of
/// [`crate::LossGradients`] for neural models, and of [`crate::Losses`] for others; before weighting,
/// without dropout and without regularisation.
pub trait GradientRows: Send + Sync {
    /// The layers, in the order in which they lie in a row.
    fn layers(&self) -> Vec<GradientLayer>;

    /// Strength of the squared norm in what was minimised: `(strength / 2) |θ|²` beside the mean
    /// loss. 0 where there is none, or where its curvature is not that of a minimum.
    fn regularisation(&self) -> f64;

    /// Whether a sample gives a loss term.
    fn has_loss(&self, data: &TrainingData<'_>, sample: usize) -> bool;

    /// Rows [samples, width] of these samples, which all give a loss term.
    fn sample_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Vec<f32>;

    /// Of each request, the gradient of the mean loss of its relevant items; `None` for one that no
    /// parameter changes.
    fn request_rows(&self, requests: &[(History<'_>, &[u32])]) -> Vec<Option<Vec<f32>>>;

    /// Rows whose outer products, summed over all samples and divided by their number, are the
    /// Gauss-Newton matrix of the mean loss; some for each of these samples. `None`: not known.
    fn curvature_rows(&self, data: &TrainingData<'_>, samples: &[u32]) -> Option<Vec<f32>> {
        let _ = (data, samples);
        None
    }
}
