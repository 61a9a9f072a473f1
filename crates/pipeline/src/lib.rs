//! The command `touchstone`: what people write, expanded, checked, run once and never again.
//!
//! [`grammar`] parses a pipeline file, [`expand`] makes elements of its nodes, [`plan`] checks each
//! with its stage and resolves its inputs, [`resolve`] makes keys and looks them up, [`run`]
//! computes what is stale, [`why`] says what made it stale. No stage is linked; all are executables
//! that speak the stage protocol.

pub mod attempt;
pub mod cli;
pub mod console;
pub mod description;
pub mod diff;
pub mod editor;
pub mod executable;
pub mod expand;
pub mod export;
pub mod fingerprint;
pub mod gc;
pub mod grammar;
pub mod graph;
pub mod journal;
pub mod limits;
pub mod lineage;
pub mod list;
pub mod measure;
pub mod opening;
pub mod plan;
pub mod process;
pub mod reference;
pub mod resolve;
pub mod run;
pub mod show;
pub mod statistics;
pub mod verify;
pub mod why;
