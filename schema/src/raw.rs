//! The language as it is written: one type per mapping, fields named as in the file, everything optional that may be
//! left to a layer beneath.
//!
//! These types are the single source of the JSON Schema (see [`crate::json_schema()`]) and of the structural check
//! (`structure`), which runs before serde does. Two annotations of ours steer it: `x-later` lists fields and
//! values that are reserved but not available yet, `x-meant` maps names from neighbouring tools to ours. Both are absent from
//! the published schema.

mod allowlist;
mod check;
mod document;
mod egress;
mod gui;
mod home;
mod image;
mod lifecycle;
mod limits;
mod mount;
mod network;
mod pattern;
mod quotas;
mod rule;
mod sandbox;
mod secret;
mod security;
mod user;
mod value;
mod volume;
mod worktree;

pub(crate) use allowlist::{AllowItem, Allowlist, ParameterKind};
pub(crate) use check::{Assertion, PolicyTest};
pub(crate) use document::Document;
pub(crate) use egress::Egress;
pub(crate) use gui::Gui;
pub(crate) use home::Home;
pub(crate) use image::{Build, HostImage, Image};
pub(crate) use lifecycle::Lifecycle;
pub(crate) use limits::Limits;
pub(crate) use mount::Mount;
pub(crate) use network::{Network, NetworkItem};
pub(crate) use quotas::Quotas;
pub(crate) use rule::{Port, Rule};
pub(crate) use sandbox::Sandbox;
pub(crate) use secret::Secret;
pub(crate) use security::Security;
pub(crate) use user::User;
pub(crate) use value::{BYTES, Ceiling, Cpus, EnvValue, Id, OneOrMany, Scalar, SecretReference, Size};
pub(crate) use volume::Volume;
pub(crate) use worktree::Worktree;
