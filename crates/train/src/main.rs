//! The stage executable `train`.

fn main() -> std::process::ExitCode {
    stage::main::<train::Train>()
}
