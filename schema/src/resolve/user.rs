use std::path::{Path, PathBuf};

use super::{Resolver, child};
use crate::codes::{INVALID_PATH, WRONG_VALUE};
use crate::config::User;
use crate::document::Node;
use crate::raw;
use crate::raw::Id;
use crate::structure::show;

impl Resolver<'_> {
    /// The user inside; by default the caller.
    pub(super) fn user(&mut self, raw: Option<raw::User>, sandbox: &Node) -> User {
        let node = child(sandbox, "user");
        let raw = raw.unwrap_or_default();
        let id = |raw: Option<Id>, caller: u32| match raw {
            Some(Id::Number(id)) => id,
            Some(Id::Caller(_)) | None => caller,
        };
        let name = match raw.name {
            Some(name) => {
                if !is_login(&name) {
                    self.problem(
                        WRONG_VALUE
                            .at(child(node, "name").span, format!("`{}` is not a login name", show(&name)))
                            .with_help("use a-z, 0-9, `_` and `-`, at most 32, the first a letter or `_`"),
                    );
                }
                name
            }
            // Directory services allow names that no passwd file can hold.
            None if is_login(&self.caller.user) => self.caller.user.clone(),
            None => "dev".to_owned(),
        };
        let home = match node.get("home").filter(|_| raw.home.is_some()) {
            Some(home) => {
                let path = self.inside_path(home).unwrap_or_else(|| PathBuf::from("/home"));
                // It becomes a field of a line of `passwd`.
                if path == Path::new("/") || path.to_string_lossy().contains(|c: char| c == ':' || c.is_control()) {
                    self.problem(
                        INVALID_PATH
                            .at(home.span, format!("`{}` cannot be a home directory", show(&path.to_string_lossy())))
                            .with_help("write a directory of its own, without `:` and line breaks: `/home/dev`"),
                    );
                }
                path
            }
            None if name == "root" => PathBuf::from("/root"),
            None => Path::new("/home").join(&name),
        };
        User { name, uid: id(raw.uid, self.caller.uid), gid: id(raw.gid, self.caller.gid), home }
    }
}

fn is_login(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= 32
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}
