use schemars::JsonSchema;
use serde::Deserialize;

/// Desktop access. Everything is off until asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gui {
    /// The Wayland socket of the session.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub wayland: Option<bool>,

    /// The PipeWire and PulseAudio sockets.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub audio: Option<bool>,

    /// The D-Bus session socket.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub dbus: Option<bool>,

    /// The GPU's render nodes, `/dev/dri`.
    #[schemars(extend("default" = false, "examples" = [true]))]
    pub dri: Option<bool>,
}
