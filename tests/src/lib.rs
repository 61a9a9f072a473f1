//! Drives the executables as a person would: from outside, by their command lines, in a folder of
//! its own with raw data, pipeline files and a store.
//!
//! ```no_run
//! use e2e::Pipeline;
//!
//! let pipeline = Pipeline::new().yaml("pipeline: tiny\nnodes: {}\n");
//! pipeline.run().success();
//! pipeline.run().success().executed(&[]);
//! ```

mod folder;
mod outcome;
mod pipeline;
pub mod retail;
mod safetensors;

pub use folder::{Folder, executable};
pub use outcome::Outcome;
pub use pipeline::{Pipeline, Run};
pub use safetensors::{Safetensors, SparseRow};
