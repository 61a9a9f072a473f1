//! preprocess.
fn main() {}
