//! Values that may be written in more than one way. The usual one comes first: it is what editors complain about.

use schemars::JsonSchema;
use serde::Deserialize;

use super::pattern::{CEILING, CPUS, SIZE};

/// Bytes, or a number with a unit: `512MiB`, `4GiB`, `4G`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Size {
    /// A number with a unit; `K`, `M`, `G` and `T` are powers of 1024 too.
    Text(#[schemars(extend("pattern" = SIZE))] String),
    /// Bytes.
    Bytes(#[schemars(range(min = Size::LEAST, max = Size::MOST), extend("x-help" = BYTES))] u64),
}

impl Size {
    /// A page: the least a tmpfs can have.
    pub(crate) const LEAST: u64 = 4096;
    /// 8 PiB, up to which every reader of JSON takes a number for the same.
    pub(crate) const MOST: u64 = 1 << 53;
}

/// A [`Size`] that may be lifted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Ceiling {
    /// A number with a unit, or `unlimited`; `K`, `M`, `G` and `T` are powers of 1024 too.
    Text(#[schemars(extend("pattern" = CEILING))] String),
    /// Bytes.
    Bytes(#[schemars(range(min = Ceiling::LEAST, max = Size::MOST), extend("x-help" = BYTES))] u64),
}

impl Ceiling {
    /// The least that engines take.
    pub(crate) const LEAST: u64 = 4 << 20;
}

/// For those who leave out the unit.
pub(crate) const BYTES: &str = "a number alone counts bytes; write a unit: `512MiB`, `4GiB`";

/// A number of CPUs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Cpus {
    /// A number as text, or `unlimited`.
    Text(#[schemars(extend("pattern" = CPUS))] String),
    /// A number.
    Number(#[schemars(extend("minimum" = 0.01, "maximum" = 8192))] f64),
}

/// A user or group id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Id {
    /// The id of whoever runs `sbx`.
    Caller(Caller),
    /// The id itself.
    Number(#[schemars(extend("maximum" = 4_294_967_294_u64))] u32),
}

/// The id of whoever runs `sbx`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Caller {
    /// The id of whoever runs `sbx`.
    Caller,
}

/// A name or a list of names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Text; numbers and booleans are taken as they are written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Scalar {
    /// Text.
    Text(String),
    /// A number, taken as it is written.
    Number(f64),
    /// A boolean, taken as it is written.
    Boolean(bool),
}

/// An environment variable's value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum EnvValue {
    /// The text itself; `${VAR}` is expanded.
    Plain(Scalar),
    /// The value of a secret, given by the engine when the process starts.
    Secret(SecretReference),
}

/// A reference to a secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretReference {
    /// Name of an entry of `secrets`.
    #[schemars(extend("examples" = ["gh-token"]))]
    pub secret: String,
}
