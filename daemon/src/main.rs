//! chand
fn main() {}
