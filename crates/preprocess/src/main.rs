//! The executable of the stage `preprocess`.

fn main() -> std::process::ExitCode {
    stage::main::<preprocess::Preprocess>()
}
