//! PID 1 inside a sandbox.
fn main() {}
