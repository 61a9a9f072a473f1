//! pipeline.
fn main() {}
