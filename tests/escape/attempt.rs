//! An attempt to get out.

use egress::defence::Defence;

/// One way out that must be shut, and beside it the way that must be open.
pub struct Attempt {
    /// Name, in reports and for selection.
    pub name: &'static str,
    /// The sandbox it is made from.
    pub sandbox: &'static str,
    /// Python, with what `prelude.py` gives, `PROXY`, the port of the sandbox's own listener, `NEIGHBOUR`, the address of
    /// a sandbox on no common network, `BESIDE`, that of one on the engine's own, `LISTENING`, the ports that the host
    /// listens at, and `T`, a token that is looked for in the world. Refused when it raises something and the token does not
    /// arrive.
    pub attack: &'static str,
    /// The same with what is allowed; raises nothing.
    pub control: &'static str,
    /// Whether the control's token arrives in the world; otherwise it has nothing to do there.
    pub arrives: bool,
    /// What the audit log has of the refusal.
    pub recorded: Recorded,
    /// What stands in its way in the daemon. Any one of them is enough; without all of them it gets through.
    pub defences: &'static [Defence],
    /// What stands in its way by the engine's doing, as well as those.
    pub by_engine: Option<ByEngine>,
}

/// What the audit log has of a refusal.
#[derive(Debug, Clone, Copy)]
pub enum Recorded {
    /// Not said, which is a mistake of the table.
    Unsaid,
    /// Nothing: it never reaches the proxy.
    Never,
    /// This; `T` and `NEIGHBOUR` in the host are what they are to the attack.
    As { host: &'static str, port: u16, because: &'static str, own: Own },
}

/// Whether an attempt has a record that no other one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    Yes,
    /// What is refused before a connection is read, and names that do not exist, are recorded once a minute, and an earlier
    /// attempt is refused the very same.
    OnceAMinute,
}

/// What the engine does, as the reconciler asks it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByEngine {
    /// No network leads out, and only members of common networks are reached.
    Networks,
    /// Processes have no capability, and mounts are read-only.
    Confinement,
    /// Namespaces of one's own: no sockets, processes or files are seen but those that lead there on purpose.
    Namespaces,
    /// Not to be turned off; why.
    Fixed(&'static str),
}

/// The sandbox that most attempts are made from: `mode: allowlist`.
pub const INNER: &str = "inner";
/// The one with `mode: direct`.
pub const DIRECT: &str = "direct";
/// The one with `transport: socket`.
pub const TUNNEL: &str = "tunnel";

/// One on a network that none of these is on.
pub const NEIGHBOUR: &str = "neighbour";
/// One on the engine's own network, as [`DIRECT`] is, under no rules.
pub const BESIDE: &str = "beside";

/// An attempt with the usual control.
pub const fn attempt(name: &'static str, attack: &'static str, control: &'static str) -> Attempt {
    Attempt {
        name,
        sandbox: INNER,
        attack,
        control,
        arrives: true,
        recorded: Recorded::Unsaid,
        defences: &[],
        by_engine: None,
    }
}

impl Attempt {
    pub const fn stays_inside(self) -> Self {
        Self { arrives: false, ..self }
    }

    pub const fn unaudited(self) -> Self {
        Self { recorded: Recorded::Never, ..self }
    }

    pub const fn recorded(self, host: &'static str, port: u16, because: &'static str) -> Self {
        Self { recorded: Recorded::As { host, port, because, own: Own::Yes }, ..self }
    }

    pub const fn recorded_once_a_minute(self, host: &'static str, port: u16, because: &'static str) -> Self {
        Self { recorded: Recorded::As { host, port, because, own: Own::OnceAMinute }, ..self }
    }

    pub const fn from(self, sandbox: &'static str) -> Self {
        Self { sandbox, ..self }
    }

    pub const fn against(self, defences: &'static [Defence]) -> Self {
        Self { defences, ..self }
    }

    pub const fn against_engine(self, by_engine: ByEngine) -> Self {
        Self { by_engine: Some(by_engine), ..self }
    }
}
