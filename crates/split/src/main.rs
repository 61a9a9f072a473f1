//! split.
fn main() {}
