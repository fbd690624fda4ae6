//! What the directory where `sbx` keeps its data is divided into. Clones are there too, and worktrees.

/// Keys and certificates of the projects' authorities.
pub const AUTHORITY: &str = "authority";
/// What sandboxes trust, a directory for each project.
pub const TRUST: &str = "trust";
/// The first process of sandboxes.
pub const INIT: &str = "init";
/// Files that sandboxes are shown below `/etc`.
pub const ETC: &str = "etc";
/// Sockets of sandboxes, a directory for each.
pub const SOCKETS: &str = "sockets";

/// Those of which no sandbox may be shown anything that it asks for.
pub const OWN: [&str; 5] = [AUTHORITY, TRUST, INIT, ETC, SOCKETS];
