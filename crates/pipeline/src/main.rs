//! The command `touchstone`.
fn main() {}
