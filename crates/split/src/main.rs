//! The executable of the stage `split`.

fn main() -> std::process::ExitCode {
    stage::main::<split::Split>()
}
