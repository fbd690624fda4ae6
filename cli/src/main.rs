//! The sbx command.

#[allow(dead_code, reason = "mounted once sandboxes are created")]
mod carried;

fn main() {}
