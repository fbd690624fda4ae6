//! The certificate authority of a project, and the files by which its sandboxes trust it.
//!
//! Whoever comes first makes them, the command that makes a container or the daemon that serves it; both find the same by
//! way of a lock of the operating system. The key is in a file of its own, which no sandbox is shown.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use egress::tls::authority::{Authority, AuthorityError};
use egress::tls::bundle::{SYSTEM_BUNDLES, TrustFiles};
use jiff::{SignedDuration, Timestamp};
use reconciler::data;
use reconciler::kinds::container::trust;
use rustix::fs::{FlockOperation, OFlags, flock};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::placed;

/// An authority that ends sooner than this is made anew: what it signs is valid for a month.
const LEAST_LEFT: SignedDuration = SignedDuration::from_hours(60 * 24);
/// How long all is taken for good that was not touched.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(24);
/// Where the key begins in the file that has both.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// Where the authority of one project and its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPlace {
    data: PathBuf,
    project: String,
}

/// What was there the last time: a look at it costs next to nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    from: Timestamp,
    until: Timestamp,
    files: BTreeMap<PathBuf, Stamp>,
}

/// What tells that a file was exchanged or written to; nobody sets the time of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// That of the file at `path`, links followed; `None` when there is none.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    // Files come and go in a directory of ours only as they are exchanged.
    let size = if found.is_dir() { u64::from(found.mode()) } else { found.size() };
    let changed = if found.is_dir() { (0, 0) } else { (found.ctime(), found.ctime_nsec()) };
    Some(Stamp { inode: found.ino(), size, changed })
}

/// What was found, or made.
#[derive(Debug)]
pub struct Trusted {
    /// The authority.
    pub authority: Authority,
    /// Why one that was there could not be used any more: what runs inside still trusts that one.
    pub renewed: Option<String>,
}

impl TrustPlace {
    /// That of `project`, below the directory where the daemon's user keeps data.
    pub fn new(data: &Path, project: &str) -> Self {
        Self { data: data.to_owned(), project: project.to_owned() }
    }

    /// The directory that its sandboxes are shown.
    pub fn shown(&self) -> PathBuf {
        self.data.join(data::TRUST).join(&self.project)
    }

    /// Certificate and key, which nobody is shown.
    pub fn authority(&self) -> PathBuf {
        self.data.join(data::AUTHORITY).join(format!("{}.pem", self.project))
    }

    /// As [`TrustPlace::ensure`], for who only needs to know that all is there; `None` when it is as it was left.
    pub fn ensure_shown(&self) -> Result<Option<Trusted>, Failure> {
        let noted = std::fs::read(self.note()).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let now = Timestamp::now();
        if noted.is_some_and(|noted| noted.from <= now && now < noted.until && noted.files == self.stamps()) {
            return Ok(None);
        }
        self.ensure().map(Some)
    }

    /// What was left behind the last time.
    fn note(&self) -> PathBuf {
        self.authority().with_extension("json")
    }

    /// Everything that was read and written, and whether it has been touched since.
    fn stamps(&self) -> BTreeMap<PathBuf, Stamp> {
        let names = [trust::BUNDLE, trust::AUTHORITY, trust::JAVA, trust::APT, trust::WGET];
        let shown = names.map(|name| self.shown().join(name)).into_iter().chain([self.shown(), self.authority()]);
        let system = SYSTEM_BUNDLES.map(PathBuf::from);
        shown.chain(system).filter_map(|path| Some((path.clone(), stamp(&path)?))).collect()
    }

    /// The authority, made if there is none that can be used, and the files, written where they are not what they should
    /// be.
    ///
    /// # Guarantees
    /// Two that ask at once get the same. The key is never in a file that another user can read.
    pub fn ensure(&self) -> Result<Trusted, Failure> {
        let path = self.authority();
        let failed = |error: &std::io::Error| Failure::io(format!("certificate authority {}", path.display()), error);
        let directory = path.parent().unwrap_or(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| failed(&error))?;
        let _alone = lock(&path.with_extension("lock")).map_err(|error| failed(&error))?;
        let (authority, renewed) = match read(&path, Timestamp::now()) {
            Ok(authority) => (authority, None),
            Err(why) => {
                let authority = Authority::generate(&self.project).map_err(|error| unmade(&error))?;
                let both = format!("{}{}", authority.certificate_pem(), authority.key_pem().expose_secret());
                placed::place(&path, both.as_bytes(), 0o600)?;
                (authority, why)
            }
        };
        self.show(&authority)?;
        let from = Timestamp::now();
        let until = from.saturating_add(LOOK_AGAIN).unwrap_or(from);
        let note = Note { from, until, files: self.stamps() };
        // Without it the next one looks at everything again, which is worth no failure.
        if let Err(failure) = placed::place(&self.note(), crate::render::json::line(&note).as_bytes(), 0o600) {
            tracing::debug!(failure = failure.message, "note");
        }
        Ok(Trusted { authority, renewed })
    }

    /// Removes the authority and all that goes with it: nobody trusts it any more.
    pub fn remove(&self) -> Result<(), Failure> {
        let path = self.authority();
        let failed = |path: &Path, error: &std::io::Error| Failure::io(format!("remove {}", path.display()), error);
        let locked = path.with_extension("lock");
        let _alone = match lock(&locked) {
            Ok(lock) => lock,
            // Without its directory there is none.
            Err(error) if error.kind() == ErrorKind::NotFound => return self.hide(),
            Err(error) => return Err(failed(&locked, &error)),
        };
        self.hide()?;
        // The lock last: whoever waits for it sees that it has gone.
        for path in [path, self.note(), locked] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn hide(&self) -> Result<(), Failure> {
        let shown = self.shown();
        match std::fs::remove_dir_all(&shown) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Failure::io(format!("remove {}", shown.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// What is shown to sandboxes. Everybody inside reads it, as whoever they are.
    fn show(&self, authority: &Authority) -> Result<(), Failure> {
        let directory = self.shown();
        let failed = |error: &std::io::Error| Failure::io(directory.display(), error);
        std::fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let mode = std::fs::metadata(&directory).map_err(|error| failed(&error))?.mode();
        if mode & 0o777 != 0o755 {
            let open = Permissions::from_mode(0o755);
            std::fs::set_permissions(&directory, open).map_err(|error| failed(&error))?;
        }
        let files = TrustFiles::new(&system(), authority.certificate_pem())
            .map_err(|error| Failure::failed("sbx::authority", error.to_string()))?;
        let put = |name: &str, content: &[u8]| placed::place(&directory.join(name), content, 0o644);
        put(trust::BUNDLE, files.bundle.as_bytes())?;
        put(trust::AUTHORITY, files.authority.as_bytes())?;
        put(trust::JAVA, &files.java)?;
        trust::pointers().into_iter().try_for_each(|(name, text)| put(name, text.as_bytes()))
    }
}

/// Whom this host trusts. Not what a variable of the caller names: the files are the same whoever writes them.
fn system() -> String {
    let found = SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The authority of a file; or why there is none, `None` when there simply is no file.
fn read(path: &Path, now: Timestamp) -> Result<Authority, Option<String>> {
    let text = match owned(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(None),
        Err(error) => return Err(Some(error.to_string())),
    };
    let (certificate, key) = text.split_at(text.find(KEY).ok_or_else(|| Some("it has no key".to_owned()))?);
    let authority = Authority::from_pem(certificate, key).map_err(|error| Some(error.to_string()))?;
    let last = now.saturating_add(LEAST_LEFT).unwrap_or(Timestamp::MAX);
    if authority.is_valid_at(now) && authority.is_valid_at(last) {
        return Ok(authority);
    }
    Err(Some("it has ended, or will before long".to_owned()))
}

/// What is in a file of our own that nobody else could read or write.
fn owned(path: &Path) -> std::io::Result<String> {
    let mut options = OpenOptions::new();
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut file = options.read(true).custom_flags(no_link).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.mode() & 0o077 != 0 || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(std::io::Error::other("others could read or write it"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Held until it is dropped. Others hold it for some milliseconds.
fn lock(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    loop {
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::LockExclusive) {
            // The last holder may have removed it.
            Ok(()) if std::fs::metadata(path).is_ok_and(|there| Some(there.ino()) == inode(&file)) => return Ok(file),
            Ok(()) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|found| found.ino())
}

fn unmade(error: &AuthorityError) -> Failure {
    Failure::failed("sbx::authority", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, TrustPlace) {
        let data = tempfile::tempdir().expect("a directory");
        let place = TrustPlace::new(data.path(), "acme");
        (data, place)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").mode() & 0o777
    }

    #[test]
    fn it_is_made_once_and_the_key_is_in_its_own_file_only() {
        let (_data, place) = place();
        let first = place.ensure().expect("made");
        assert_eq!(first.renewed, None);
        let again = place.ensure().expect("found");
        assert_eq!((again.authority.certificate_pem(), again.renewed), (first.authority.certificate_pem(), None));
        assert_eq!(again.authority.key_pem().expose_secret(), first.authority.key_pem().expose_secret());
        assert_eq!((mode(&place.authority()), mode(place.authority().parent().expect("in one"))), (0o600, 0o700));
        assert!(!place.authority().starts_with(place.shown()));
        let key = first.authority.key_pem();
        let line = key.expose_secret().lines().nth(1).expect("PEM has lines");
        for file in std::fs::read_dir(place.shown()).expect("there").flatten() {
            let text = String::from_utf8_lossy(&std::fs::read(file.path()).expect("readable")).into_owned();
            assert!(!text.contains("PRIVATE") && !text.contains(line), "{}", file.path().display());
            assert_eq!(mode(&file.path()), 0o644);
        }
        assert_eq!(mode(&place.shown()), 0o755);
        let bundle = std::fs::read_to_string(place.shown().join(trust::BUNDLE)).expect("there");
        assert!(bundle.contains(first.authority.certificate_pem().trim_end()));
    }

    #[test]
    fn what_cannot_be_used_is_made_anew_and_said() {
        let (_data, place) = place();
        let first = place.ensure().expect("made").authority.certificate_pem().to_owned();
        let path = place.authority();
        let whole = std::fs::read(&path).expect("there");
        let damages: [(&str, &dyn Fn()); 4] = [
            ("half of it", &|| std::fs::write(&path, &whole[..whole.len() / 2]).expect("written")),
            ("open", &|| std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("set")),
            ("rubbish", &|| std::fs::write(&path, "rubbish").expect("written")),
            ("a link", &|| {
                std::fs::rename(&path, path.with_extension("real")).expect("renamed");
                std::os::unix::fs::symlink(path.with_extension("real"), &path).expect("linked");
            }),
        ];
        let mut before = first;
        for (what, damage) in damages {
            damage();
            let made = place.ensure().expect("made");
            assert!(made.renewed.is_some(), "{what}");
            let now = made.authority.certificate_pem().to_owned();
            assert_ne!(now, before, "{what}");
            let shown = std::fs::read_to_string(place.shown().join(trust::AUTHORITY)).expect("there");
            assert_eq!(shown.trim_end(), now.trim_end(), "{what}");
            assert_eq!(mode(&path), 0o600, "{what}");
            before = now;
        }
        let later = Timestamp::now().saturating_add(SignedDuration::from_hours(24 * 3600)).expect("in range");
        assert!(matches!(read(&path, later), Err(Some(_))));
        assert!(read(&path, Timestamp::now()).is_ok());
    }

    #[test]
    fn a_note_that_cannot_be_written_is_no_failure() {
        let (_data, place) = place();
        // Nothing can be put in the place of a directory.
        std::fs::create_dir_all(place.note().join("held")).expect("made");
        place.ensure().expect("made");
        assert!(place.ensure_shown().expect("looked at again").is_some());
        let beside: Vec<_> = std::fs::read_dir(place.authority().parent().expect("in one")).expect("there").collect();
        assert_eq!(beside.len(), 3, "the key, the lock and that directory: {beside:?}");
    }

    #[test]
    fn it_goes_with_all_that_belongs_to_it_and_nothing_else() {
        let (data, place) = place();
        place.remove().expect("there is none");
        let other = TrustPlace::new(data.path(), "acme2");
        other.ensure().expect("made");
        let first = place.ensure().expect("made").authority.certificate_pem().to_owned();
        place.remove().expect("removed");
        for directory in ["authority", "trust"] {
            let left = std::fs::read_dir(data.path().join(directory)).expect("there").flatten();
            let left: Vec<_> = left.map(|entry| entry.file_name().into_string().expect("text")).collect();
            assert!(!left.is_empty() && left.iter().all(|name| name.starts_with("acme2")), "{left:?}");
        }
        assert_ne!(place.ensure().expect("made anew").authority.certificate_pem(), first);
    }

    #[test]
    fn many_at_once_get_the_same() {
        let (_data, place) = place();
        let all: Vec<_> = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| place.ensure().expect("made").authority.certificate_pem().to_owned());
            (0..8).map(|_| ask()).collect::<Vec<_>>().into_iter().map(|it| it.join().expect("ended")).collect()
        });
        assert!(all.iter().all(|one| *one == all[0]));
    }

    #[test]
    fn touched_files_are_repaired_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let (_data, place) = place();
        place.ensure().expect("made");
        let inode = std::fs::metadata(place.shown()).expect("there").ino();
        assert!(place.ensure_shown().expect("looked at").is_none(), "nothing was touched");
        std::fs::write(place.shown().join(trust::JAVA), "").expect("written");
        assert!(place.ensure_shown().expect("repaired").is_some());
        assert!(place.ensure_shown().expect("looked at").is_none());
        assert!(std::fs::metadata(place.shown().join(trust::JAVA)).expect("there").len() > 100);
        assert_eq!(std::fs::metadata(place.shown()).expect("there").ino(), inode, "what is mounted stays");
    }
}
