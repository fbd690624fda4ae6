//! The far side of PID 1's gate (see `init/src/protocol.rs`).

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;

/// The abstract socket on which `sbx-init --gate` waits, in the sandbox's network namespace.
pub const GATE: &[u8] = b"sbx-gate";

/// The byte that opens it.
pub const OPEN: u8 = b'o';

/// The name of a PID 1 that is past its gate, or never had one.
pub const READY: &str = "sbx-init:ready";

/// A connection to the gate of a PID 1 that waits. Dropping it leaves the gate shut, and PID 1 waiting for another.
#[derive(Debug)]
pub struct Gate(pub(super) UnixStream);

impl Gate {
    /// Lets PID 1 start the sandbox's command.
    ///
    /// # Errors
    /// PID 1 has ended, or another daemon has come to the gate since.
    pub fn open(mut self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        self.0.write_all(&[OPEN])
    }
}

#[cfg(test)]
mod tests {
    /// Both sides know the same words; `sbx-init` is a program, not a library that could be asked.
    #[test]
    fn both_sides_agree() {
        let other = include_str!("../../../init/src/protocol.rs");
        let gate = str::from_utf8(super::GATE).unwrap_or_default();
        assert!(other.contains(&format!("pub const GATE: &[u8] = b\"{gate}\";")));
        assert!(other.contains(&format!("pub const OPEN: u8 = b'{}';", char::from(super::OPEN))));
        assert!(other.contains(&format!("pub const READY: &CStr = c\"{}\";", super::READY)));
    }
}
