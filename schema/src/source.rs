//! What the caller read for us: texts and the facts of the host a file may refer to.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One input text.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the user named it; `<stdin>` for standard input.
    pub name: String,
    /// Absolute directory that relative paths of this text are relative to.
    pub directory: PathBuf,
    /// The text.
    pub text: String,
}

/// The texts of one run, later ones merged over earlier ones.
pub type Sources = [Source];

/// Facts of the caller, passed in so that this crate reads neither environment nor disk.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Environment for `${VAR}`.
    pub env: BTreeMap<String, String>,
    /// Home directory for `~`.
    pub home: PathBuf,
    /// Login name, the default owner.
    pub user: String,
    /// What `uid: caller` means.
    pub uid: u32,
    /// What `gid: caller` means.
    pub gid: u32,
    /// Today (UTC), for rules that expire.
    pub today: jiff::civil::Date,
    /// Directory for bare clones and other user data of `sbx`.
    pub data_dir: PathBuf,
    /// Sockets of container engines on this host; mounting one or a parent of one is refused.
    pub engine_sockets: Vec<PathBuf>,
}
