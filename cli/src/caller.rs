//! The edge to the environment: who calls, where their directories are, which engine sockets this host has.
//!
//! Libraries are told; only this module and `screen` look.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use rustix::process::{getegid, geteuid};

use reconciler::identity::Identity;

use crate::failure::Failure;

/// Who runs `sbx`. With `sudo` this is the user who called it, for `uid: caller`, `~` and the default owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
    /// Whether this is not the user the process runs as.
    pub through_sudo: bool,
}

/// Directories of `sbx` itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Clones, and what is mounted into sandboxes.
    pub data: PathBuf,
    /// Locks and history; losing it loses nothing else.
    pub state: PathBuf,
    /// Whether somebody said where that is.
    pub state_is_named: bool,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
}

impl Person {
    /// Reads user database and environment.
    pub fn find() -> Self {
        let euid = geteuid().as_raw();
        if euid == 0
            && let Some(uid) = variable("SUDO_UID").and_then(|uid| uid.parse().ok()).filter(|uid| *uid != 0)
        {
            let entry = passwd_entry(uid);
            let gid = variable("SUDO_GID").and_then(|gid| gid.parse().ok());
            let name = variable("SUDO_USER").or_else(|| entry.as_ref().map(|entry| entry.name.clone()));
            return Self {
                name: name.unwrap_or_else(|| uid.to_string()),
                uid,
                gid: gid.or(entry.as_ref().map(|entry| entry.gid)).unwrap_or(uid),
                home: entry.map_or_else(|| PathBuf::from("/"), |entry| entry.home),
                through_sudo: true,
            };
        }
        let entry = passwd_entry(euid);
        let home = variable("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Self {
            // The user database knows better than a variable anybody can set.
            name: entry
                .as_ref()
                .map(|entry| entry.name.clone())
                .or_else(|| variable("USER"))
                .unwrap_or_else(|| euid.to_string()),
            uid: euid,
            gid: getegid().as_raw(),
            home: home.or_else(|| entry.map(|entry| entry.home)).unwrap_or_else(|| PathBuf::from("/")),
            through_sudo: false,
        }
    }
}

impl Person {
    /// Whose the files made on the host are, when that is not the user this process runs as.
    pub fn identity(&self) -> Option<Identity> {
        self.through_sudo.then(|| Identity { uid: self.uid, gid: self.gid, groups: groups(&self.name, self.gid) })
    }

    /// Does `work`, which writes to `place`, so that what it makes there belongs to this person where the place does.
    pub fn act<T: Send>(&self, place: &Path, work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
        match self.identity().filter(|_| self.owns(place)) {
            Some(identity) => identity.act(work).map_err(|error| Failure::io("sudo", &error))?,
            None => work(),
        }
    }

    /// Whether the nearest directory of `place` that is there is this person's, or in their home.
    fn owns(&self, place: &Path) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let place = std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf());
        let nearest = place.ancestors().find_map(|path| path.metadata().ok().filter(std::fs::Metadata::is_dir));
        place.starts_with(&self.home) || nearest.is_some_and(|directory| directory.uid() == self.uid)
    }
}

/// Groups of a user; their own when nobody knows more.
fn groups(name: &str, gid: u32) -> Vec<u32> {
    let listed = std::process::Command::new("id").args(["-G", "--", name]).output().ok();
    let listed =
        listed.filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    let groups = listed.map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect());
    groups.unwrap_or_else(|| vec![gid])
}

impl Directories {
    /// The directories of `person`; `state` overrides the state directory.
    pub fn find(person: &Person, state: Option<&Path>) -> Result<Self, Failure> {
        let (data, default_state) = if person.through_sudo {
            // The variables, if any, are those of root.
            (person.home.join(".local/share"), person.home.join(".local/state"))
        } else {
            let base = etcetera::base_strategy::Xdg::new().ok();
            let data = base.as_ref().map_or_else(|| person.home.join(".local/share"), etcetera::BaseStrategy::data_dir);
            let state = base.and_then(|base| base.state_dir()).unwrap_or_else(|| person.home.join(".local/state"));
            (data, state)
        };
        let state_is_named = state.is_some();
        let state = match state {
            Some(state) => std::path::absolute(state).map_err(|error| Failure::io(state.display(), &error))?,
            None => default_state.join("sbx"),
        };
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        Ok(Self { data: data.join("sbx"), state, state_is_named, runtime })
    }
}

/// What the language needs to know of the caller.
pub fn schema_caller(person: &Person, directories: &Directories) -> schema::Caller {
    // Variables that are not text cannot be written into a text file; they do not exist for `${VAR}`.
    let mut env: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    if person.through_sudo {
        // `${USER}` in a file means the person, as `~` does.
        env.insert(String::from("USER"), person.name.clone());
        env.insert(String::from("HOME"), person.home.display().to_string());
    }
    env.entry(String::from("USER")).or_insert_with(|| person.name.clone());
    env.entry(String::from("HOME")).or_insert_with(|| person.home.display().to_string());
    schema::Caller {
        env,
        home: person.home.clone(),
        user: person.name.clone(),
        uid: person.uid,
        gid: person.gid,
        today: jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date(),
        data_dir: directories.data.clone(),
        engine_sockets: engine_sockets(person, directories),
    }
}

/// Where engines listen on this host, whether or not they do right now.
pub fn engine_sockets(person: &Person, directories: &Directories) -> Vec<PathBuf> {
    let mut sockets: Vec<PathBuf> = schema::WELL_KNOWN_SOCKETS.iter().map(PathBuf::from).collect();
    let user = PathBuf::from(format!("/run/user/{}", person.uid));
    for runtime in directories.runtime.iter().chain([&user]) {
        sockets.push(runtime.join("podman/podman.sock"));
        sockets.push(runtime.join("docker.sock"));
    }
    sockets.extend(
        ["CONTAINER_HOST", "DOCKER_HOST"]
            .into_iter()
            .filter_map(variable)
            .filter_map(|url| url.strip_prefix("unix://").map(PathBuf::from)),
    );
    sockets.sort();
    sockets.dedup();
    sockets
}

/// The whole environment; with `sudo`, what in it says who one is says who called.
pub fn environment(person: &Person) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<OsString, OsString> = env::vars_os().collect();
    if person.through_sudo {
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR"] {
            all.remove(OsStr::new(name));
        }
        all.insert("HOME".into(), person.home.clone().into());
        for name in ["USER", "LOGNAME"] {
            all.insert(name.into(), person.name.clone().into());
        }
    }
    all
}

/// Where directories that live for one call of git are made: by the person who called.
pub fn scratch(person: &Person, directories: &Directories) -> PathBuf {
    if person.through_sudo {
        let own = PathBuf::from(format!("/run/user/{}", person.uid));
        return if own.is_dir() { own } else { PathBuf::from("/tmp") };
    }
    directories.runtime.clone().filter(|dir| dir.is_dir()).unwrap_or_else(env::temp_dir)
}

/// An environment variable that is set, not empty, and text.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Directories of `PATH`.
pub fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// A program of `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    gid: u32,
    home: PathBuf,
    shell: PathBuf,
}

/// The login shell of `uid`, when the user database names one.
pub fn login_shell(uid: u32) -> Option<PathBuf> {
    passwd_entry(uid).map(|entry| entry.shell).filter(|shell| shell.is_absolute())
}

fn passwd_entry(uid: u32) -> Option<Entry> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    entry_of(&text, uid).or_else(|| {
        // Users of a directory service are not in the file.
        let found = std::process::Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
        entry_of(&String::from_utf8(found.stdout).ok()?, uid)
    })
}

fn entry_of(passwd: &str, uid: u32) -> Option<Entry> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, gid, _, home, shell] = fields[..] else { return None };
        (id.parse() == Ok(uid)).then(|| Entry {
            name: name.to_owned(),
            gid: gid.parse().unwrap_or(uid),
            home: PathBuf::from(home),
            shell: PathBuf::from(shell),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_user_database() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken line\nalice:x:1000:1001:A,B:/home/alice:/bin/zsh\n";
        let alice = entry_of(passwd, 1000).expect("alice is there");
        assert_eq!((alice.name.as_str(), alice.gid), ("alice", 1001));
        assert_eq!(alice.home, PathBuf::from("/home/alice"));
        assert_eq!(entry_of(passwd, 7), None);
    }
}
