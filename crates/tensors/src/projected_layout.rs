//! Where a probe keeps projected gradients: names of files and tensors, and what `projected.json` says.
//!
//! Who writes them and who reads them share this, so that neither has half of a format.
//!
//! ```text
//! projected.json                                  a ProjectedIndex
//! projected/00000120/samples-00000.safetensors    `sample` u32 [n], `gradient` f32 [n, width]
//! projected/00000120/requests.safetensors         `request` u32 [m], `gradient` f32 [m, width]
//! projected/00000120/held_out.safetensors         as `requests`, of requests that are no target
//! projected/00000120/curvature-00000.safetensors  `root` f32 [r, width]
//! ```
//!
//! The number of a folder is the step of a state. Samples are positions in the list of the probe's
//! samples; they ascend over all blocks of a state. Requests ascend too; the gradient of a request is
//! that of the mean loss over its relevant items. Requests that are held out, to choose settings by, have
//! gradients at the last state alone. The outer products of all rows `root` of a state,
//! summed and divided by its number of samples with a gradient, are the Gauss-Newton matrix.

use serde::{Deserialize, Serialize};

/// The file that says what there is, a JSON object.
pub const INDEX: &str = "projected.json";

/// Tensor with the positions of the samples of a block.
pub const SAMPLE: &str = "sample";

/// Tensor with the numbers of requests.
pub const REQUEST: &str = "request";

/// Tensor with gradients, one row per sample or request.
pub const GRADIENT: &str = "gradient";

/// Tensor with rows whose outer products make the Gauss-Newton matrix.
pub const ROOT: &str = "root";

/// What `projected.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedIndex {
    /// Layers in the order of their columns, which lie one beside the other from 0 to `width`.
    pub layers: Vec<ProjectedLayer>,
    /// Numbers in a row.
    pub width: usize,
    /// Strength s of the penalty s/2 |parameters|^2 in the mean loss; 0 where there is none.
    pub regularisation: f64,
    /// Samples of the probe, those without a gradient included.
    pub n_samples: usize,
    /// Requests of the target, those without a gradient included: what the mean loss is divided by.
    pub n_requests: usize,
    /// States of the training, oldest first; the last one is the fitted model.
    pub states: Vec<ProjectedStep>,
    /// Requests that are no target, to choose settings by; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<ProjectedHeldOut>,
}

/// Requests that are no target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedHeldOut {
    /// Their part, as tables have it.
    pub part: String,
    /// How many, those without a gradient included.
    pub n_requests: usize,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedLayer {
    /// Its name.
    pub name: String,
    /// First column.
    pub start: usize,
    /// Column after the last.
    pub end: usize,
    /// Parameters before projection.
    pub parameters: usize,
    /// Whether a column is a parameter: nothing is projected.
    pub exact: bool,
}

/// One state of the training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedStep {
    /// Steps that led there.
    pub step: u64,
    /// Learning rate of the last of them; null where it was not kept.
    pub learning_rate: Option<f64>,
    /// Files with gradients of samples.
    pub blocks: usize,
    /// Files with rows of the Gauss-Newton matrix; 0 where it was not taken.
    pub curvature_blocks: usize,
}

/// The folder of a state, from the probe's directory.
pub fn folder(step: u64) -> String {
    format!("projected/{step:08}")
}

/// The file with a block of gradients of samples, from the probe's directory.
pub fn samples(step: u64, block: usize) -> String {
    format!("{}/samples-{block:05}.safetensors", folder(step))
}

/// The file with the gradients of requests, from the probe's directory.
pub fn requests(step: u64) -> String {
    format!("{}/requests.safetensors", folder(step))
}

/// The file with the gradients of requests that are held out, from the probe's directory.
pub fn held_out(step: u64) -> String {
    format!("{}/held_out.safetensors", folder(step))
}

/// The file with a block of rows of the Gauss-Newton matrix, from the probe's directory.
pub fn curvature(step: u64, block: usize) -> String {
    format!("{}/curvature-{block:05}.safetensors", folder(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out_of(index: &ProjectedIndex) -> Option<(&str, usize)> {
        let held_out = index.held_out.as_ref()?;
        Some((&held_out.part, held_out.n_requests))
    }

    /// The format is a promise to probes that exist: words and names are written out here.
    #[test]
    fn the_format_is_what_the_documentation_says() {
        let text = r#"{"layers":[{"name":"head","start":0,"end":2,"parameters":9,"exact":false}],"width":2,"regularisation":0.5,"n_samples":3,"n_requests":1,"states":[{"step":120,"learning_rate":null,"blocks":1,"curvature_blocks":0}]}"#;
        let index: ProjectedIndex = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&index).unwrap(), text);
        assert_eq!(index.states[0].learning_rate, None);
        let held_out = r#","held_out":{"part":"valuation.tune","n_requests":4}}"#;
        let text = text.replace("}]}", &format!("}}]{held_out}"));
        let index: ProjectedIndex = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&index).unwrap(), text);
        assert_eq!(held_out_of(&index), Some(("valuation.tune", 4)));
        assert_eq!(
            samples(120, 0),
            "projected/00000120/samples-00000.safetensors"
        );
        assert_eq!(requests(120), "projected/00000120/requests.safetensors");
        assert_eq!(
            curvature(120, 3),
            "projected/00000120/curvature-00003.safetensors"
        );
        assert_eq!(
            super::held_out(120),
            "projected/00000120/held_out.safetensors"
        );
    }
}
