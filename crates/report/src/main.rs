//! The executable of the stage `report`.

fn main() -> std::process::ExitCode {
    stage::main::<report::Report>()
}
