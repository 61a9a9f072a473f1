//! The executable of the stage `ingest`.

fn main() -> std::process::ExitCode {
    stage::main::<ingest::Ingest>()
}
