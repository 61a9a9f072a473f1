//! The stage `estimate`.

fn main() -> std::process::ExitCode {
    stage::main::<estimate::Estimate>()
}
