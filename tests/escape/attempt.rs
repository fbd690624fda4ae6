//! An attempt to get out.

use egress::defence::Defence;

/// One way out that must be shut, and beside it the way that must be open.
pub struct Attempt {
    /// Name, in reports and for selection.
    pub name: &'static str,
    /// The sandbox it is made from.
    pub sandbox: &'static str,
    /// Python, with what `prelude.py` gives, `PROXY`, the port of the sandbox's own listener, and `T`, a token that is
    /// looked for in the world. Refused when it raises something and the token does not arrive.
    pub attack: &'static str,
    /// The same with what is allowed; raises nothing.
    pub control: &'static str,
    /// Whether the control's token arrives in the world; otherwise it has nothing to do there.
    pub arrives: bool,
    /// Whether the audit log has a record of the refusal; what never reaches the proxy has none.
    pub audited: bool,
    /// What stands in its way in the daemon. Any one of them is enough; without all of them it gets through.
    pub defences: &'static [Defence],
    /// What stands in its way by the engine's doing, as well as those.
    pub by_engine: Option<ByEngine>,
}

/// What the engine does, as the reconciler asks it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByEngine {
    /// No network leads out, and only members of common networks are reached.
    Networks,
    /// Processes have no capability, and mounts are read-only.
    Confinement,
    /// A network namespace of one's own.
    Namespace,
    /// Not to be turned off; why.
    Fixed(&'static str),
}

/// The sandbox that most attempts are made from: `mode: allowlist`.
pub const INNER: &str = "inner";
/// The one with `mode: direct`.
pub const DIRECT: &str = "direct";
/// The one with `transport: socket`.
pub const TUNNEL: &str = "tunnel";

/// An attempt with the usual control.
pub const fn attempt(name: &'static str, attack: &'static str, control: &'static str) -> Attempt {
    Attempt { name, sandbox: INNER, attack, control, arrives: true, audited: true, defences: &[], by_engine: None }
}

impl Attempt {
    pub const fn stays_inside(self) -> Self {
        Self { arrives: false, ..self }
    }

    pub const fn unaudited(self) -> Self {
        Self { audited: false, ..self }
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
