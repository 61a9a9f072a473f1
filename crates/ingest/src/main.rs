//! ingest.
fn main() {}
