//! Secret values on their way from files that only the sandbox's user can read into a program's environment.
//!
//! The container's configuration carries their names and places only, so whoever may look at that sees no value.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use crate::protocol::SECRET_ENV;

/// Variables with the places of their values, in the order they were given in.
#[derive(Debug, Default)]
pub struct Secrets(Vec<(OsString, PathBuf)>);

impl Secrets {
    /// Those that [`SECRET_ENV`] names.
    pub fn of_environment() -> Result<Self, Unusable> {
        env::var_os(SECRET_ENV).map_or_else(|| Ok(Self::default()), |text| Self::parse(&text))
    }

    fn parse(text: &OsStr) -> Result<Self, Unusable> {
        let words = text.as_bytes().split(|byte| *byte == b':').filter(|word| !word.is_empty());
        let parts = words.map(|word| match word.iter().position(|byte| *byte == b'=') {
            Some(at @ 1..) => Ok((OsStr::from_bytes(&word[..at]).into(), OsStr::from_bytes(&word[at + 1..]).into())),
            _ => Err(Unusable::Malformed(OsStr::from_bytes(word).to_owned())),
        });
        parts.collect::<Result<_, _>>().map(Self)
    }

    /// Leaves out those that the caller has set by itself.
    pub fn without(mut self, names: &[OsString]) -> Self {
        self.0.retain(|(name, _)| !names.contains(name));
        self
    }

    /// Leaves out those that belong to another user than the one we run as.
    pub fn readable(mut self) -> Self {
        self.0.retain(
            |(_, path)| !matches!(fs::File::open(path), Err(error) if error.kind() == io::ErrorKind::PermissionDenied),
        );
        self
    }

    /// Puts the values into the environment of `command`, byte for byte, and takes out where they came from.
    pub fn give(&self, command: &mut Command) -> Result<(), Unusable> {
        for (name, path) in &self.0 {
            let value = fs::read(path).map_err(|error| Unusable::Unreadable {
                name: name.clone(),
                path: path.clone(),
                error,
            })?;
            if value.contains(&0) {
                return Err(Unusable::Nul(name.clone()));
            }
            command.env(name, OsStr::from_bytes(&value));
        }
        // Without secrets the environment is passed on untouched.
        if env::var_os(SECRET_ENV).is_some() {
            command.env_remove(SECRET_ENV);
        }
        Ok(())
    }
}

/// Why a secret cannot be given. Never holds any of its value.
#[derive(Debug)]
pub enum Unusable {
    Malformed(OsString),
    Unreadable { name: OsString, path: PathBuf, error: io::Error },
    Nul(OsString),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(word) => {
                write!(f, "{SECRET_ENV} holds {:?}, which is not NAME=PATH", word.to_string_lossy())
            }
            Self::Unreadable { name, path, error } => {
                let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
                let reason = error.to_string();
                let reason = reason.split(" (os error").next().unwrap_or(&reason);
                write!(f, "cannot read the secret for {name} from {path:?}: {reason}")
            }
            Self::Nul(name) => {
                write!(f, "the secret for {} holds a NUL byte, which no variable can", name.to_string_lossy())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places() {
        let secrets = Secrets::parse(OsStr::new("A=/run/a:B=/run/b=c:")).expect("well formed");
        let expected = [("A", "/run/a"), ("B", "/run/b=c")].map(|(name, path)| (name.into(), path.into()));
        assert_eq!(secrets.0, expected);
        assert_eq!(secrets.without(&["A".into(), "C".into()]).0, expected[1..]);
        assert!(Secrets::parse(OsStr::new("")).expect("nothing is well formed").0.is_empty());
        for bad in ["A", "=/run/a", "A=/run/a:B"] {
            assert!(Secrets::parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }
}
