//! Directions: the gradient of the target after a preconditioner in the space of all parameters.
//!
//! A product of a sample's gradient with such a direction is the product of both gradients under the
//! preconditioner, which is symmetric. So what is exact for plain products is exact for these.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tensors::{Gradients, ParameterId};

use crate::sequence::{AdamState, Rotation};

/// What stands between the gradients of a sample and of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preconditioner {
    /// What `AdamW` divides each number of a gradient by: the root of its second moment, corrected for
    /// its start, plus epsilon.
    Adam,
    /// The damped Fisher matrix, a Kronecker product for each layer (Martens and Grosse 2015,
    /// arXiv:1503.05671).
    Kfac,
    /// The same with eigenvalues measured in the basis of that product (George et al. 2018,
    /// arXiv:1806.03884; Grosse et al. 2023, arXiv:2308.03296).
    Ekfac,
}

impl Preconditioner {
    /// The word in configurations and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::Kfac => "kfac",
            Self::Ekfac => "ekfac",
        }
    }
}

/// Whose labels the gradients of the Fisher matrix are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// Those of the samples: the empirical Fisher matrix.
    #[default]
    Observed,
    /// One for each sample, drawn from what the model expects: the Fisher matrix itself, by one draw.
    Sampled,
}

/// How a Fisher matrix is made and damped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Damped {
    /// Added to each eigenvalue of a parameter's block, as a share of their mean; above 0. The mean counts
    /// as 10^-8 of the largest of all blocks, at least: below that a gradient is nothing but rounding.
    pub share: f64,
    /// Whose labels.
    pub labels: Labels,
}

/// The block of one parameter in a preconditioner.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCard {
    /// Name of the parameter.
    pub parameter: String,
    /// Rows and columns of the parameter.
    pub shape: [usize; 2],
    /// Whether the block has the basis of a layer's factors; otherwise it is a diagonal.
    pub is_turned: bool,
    /// Mean of its eigenvalues, before damping.
    pub mean_eigenvalue: f64,
    /// What is added to each of them.
    pub damping: f64,
}

/// The gradient of the target after a preconditioner.
pub struct Direction {
    pub(crate) preconditioner: Preconditioner,
    pub(crate) gradient: Gradients<f32>,
    pub(crate) own: Own,
    pub(crate) blocks: Vec<BlockCard>,
}

/// What tells of a sample's gradient under the preconditioner with itself.
pub(crate) enum Own {
    /// The inverse of damped eigenvalues, in the basis where they stand.
    Turned {
        rotations: Arc<BTreeMap<ParameterId, Rotation<f32>>>,
        weights: Gradients<f32>,
    },
    /// The state of the optimiser, which says what its next step would be.
    Adam(Box<AdamState>),
}

impl Direction {
    /// Which preconditioner.
    pub fn preconditioner(&self) -> Preconditioner {
        self.preconditioner
    }

    /// Its blocks, by name of the parameter; none for [`Preconditioner::Adam`], which has no damping.
    pub fn blocks(&self) -> &[BlockCard] {
        &self.blocks
    }
}

/// A sample along one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Along {
    /// Product of the gradients of sample and target under the preconditioner.
    pub product: f64,
    /// Product of the sample's gradient with itself under the preconditioner; `None` for
    /// [`Preconditioner::Adam`].
    pub self_product: Option<f64>,
    /// For [`Preconditioner::Adam`]: of the step that `AdamW` would take next if its batch were this
    /// sample alone, per unit of learning rate.
    pub update: Option<Update>,
}

/// A step of the optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// Product with the gradient of the target.
    pub product: f64,
    /// Its length.
    pub norm: f64,
}
