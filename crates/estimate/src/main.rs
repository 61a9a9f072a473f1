//! estimate.
fn main() {}
