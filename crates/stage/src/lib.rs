//! What all stages share: the protocol, arguments, YAML, failures with hints and exit codes, progress.
//!
//! A stage implements [`Stage`]; its executable is `fn main() -> ExitCode { stage::main::<MyStage>() }`.

mod cli;
mod describe;
mod failure;
mod io;
mod progress;
pub mod yaml;

pub use cli::{Stage, main};
pub use describe::{Description, Field, FieldKind, Input, Offer, Offers, Output};
pub use failure::{Exit, Failure, suggest};
pub use io::{Absent, Io, Label, Labelled};
pub use progress::Progress;
/// The seed tree, for stages that use chance.
pub use seed::Seed;

/// Version of the stage protocol.
pub const PROTOCOL: u32 = 1;

impl Description {
    /// What the outputs offer when nothing depends on the configuration.
    pub fn offers(&self) -> Offers {
        self.outputs
            .iter()
            .map(|output| {
                let offer = Offer {
                    kind: output.kind.to_owned(),
                    ..Offer::default()
                };
                (output.role.to_owned(), vec![offer])
            })
            .collect()
    }
}
