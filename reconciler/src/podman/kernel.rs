//! What the kernel knows about a running container of an engine on this host.
//!
//! The engine's own record can be wrong: 4.3 changes ceilings without noting it. Everything here is a look through
//! `/proc`, and a process number may have been given to somebody else meanwhile: its control group must name the
//! container.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::facts::{LimitFacts, Observed};

/// A process, told from later ones that have its number.
pub(crate) struct Process(OwnedFd);

impl Process {
    /// The one that has the number `pid`, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// The one that has the number `pid`, if it is one of the container `id`.
    pub(crate) fn of_container(pid: u32, id: &str) -> Option<Self> {
        let process = Self::of(pid)?;
        let mut buffer = [0; 16 * 1024];
        let groups = read_whole(Path::new(&format!("/proc/{pid}/cgroup")), &mut buffer).ok()?;
        // What was read was read of this process only if it is still there.
        (groups.contains(id) && process.lives()).then_some(process)
    }

    /// Whether it has not ended.
    pub(crate) fn lives(&self) -> bool {
        let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}

/// The ceilings in force for the container `id` whose PID 1 is `pid`.
pub(crate) fn limits(pid: u32, id: &str) -> Observed<LimitFacts> {
    let mut buffer = [0; 16 * 1024];
    let path = format!("/proc/{pid}/cgroup");
    let groups = match read_whole(Path::new(&path), &mut buffer) {
        Ok(text) => text,
        Err(error) => return Observed::Unknown(format!("control group of process {pid}: {error}")),
    };
    if !groups.contains(id) {
        return Observed::Unknown("its control group is not named after it".to_owned());
    }
    Observed::Present(ceilings(Path::new(GROUPS), groups))
}

/// Each by itself: a user's engine may have been given some controllers and not others.
fn ceilings(root: &Path, groups: &str) -> LimitFacts {
    let memory = read_control(root, groups, "memory", "memory.limit_in_bytes", "memory.max");
    let known = |read: Result<Option<u64>, String>| read.map_or_else(Observed::Unknown, Observed::Present);
    LimitFacts {
        cpus_milli: known(cpu(root, groups)),
        memory: known(memory.map(|memory| memory.filter(|bytes| *bytes < UNLIMITED))),
        pids: known(read_control(root, groups, "pids", "pids.max", "pids.max")),
    }
}

/// Where control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";

/// cgroup v1 writes "no ceiling" as the largest multiple of the page size.
const UNLIMITED: u64 = 1 << 60;

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn cpu(root: &Path, groups: &str) -> Result<Option<u64>, String> {
    if let Some(dir) = v1_dir(root, groups, "cpu") {
        let quota = read_line(&dir.join("cpu.cfs_quota_us"), number)?;
        let period = read_line(&dir.join("cpu.cfs_period_us"), number)?;
        return Ok(quota.zip(period).and_then(|(quota, period)| milli(quota, period)));
    }
    read_line(&v2_dir(root, groups)?.join("cpu.max"), |text| {
        let (quota, period) = text.split_once(' ')?;
        milli(number(quota)?, number(period)?)
    })
}

/// Thousandths of a CPU. `-1` and `max`, which say that there is no ceiling, are no numbers and do not come here.
fn milli(quota: u64, period: u64) -> Option<u64> {
    (period > 0).then(|| (quota * 1000 + period / 2) / period)
}

fn read_control(root: &Path, groups: &str, controller: &str, v1: &str, v2: &str) -> Result<Option<u64>, String> {
    match v1_dir(root, groups, controller) {
        Some(dir) => read_line(&dir.join(v1), number),
        None => read_line(&v2_dir(root, groups)?.join(v2), number),
    }
}

/// What `parse` makes of a file of the kernel that is one short line: it comes whole with the first read.
fn read_line<T>(path: &Path, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    let mut buffer = [0; 128];
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut buffer)).map_err(failed)?;
    Ok(std::str::from_utf8(&buffer[..read]).ok().and_then(parse))
}

/// The text of a file of the kernel that may be any number of lines, which come in any number of reads.
///
/// One that does not fit is an error: what is cut off could be the line that matters.
fn read_whole<'b>(path: &Path, buffer: &'b mut [u8]) -> std::io::Result<&'b str> {
    let mut file = fs::File::open(path)?;
    let mut length = 0;
    loop {
        match file.read(&mut buffer[length..])? {
            0 if length == buffer.len() => return Err(std::io::Error::other("it is longer than expected")),
            0 => break,
            read => length += read,
        }
    }
    std::str::from_utf8(&buffer[..length]).map_err(std::io::Error::other)
}

/// Directory of a v1 controller, when the process is in one of its own there.
fn v1_dir(root: &Path, groups: &str, controller: &str) -> Option<PathBuf> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        names.split(',').any(|name| name == controller).then(|| {
            // Joined controllers are mounted under both names.
            root.join(controller).join(path.trim_start_matches('/'))
        })
    })
}

fn v2_dir(root: &Path, groups: &str) -> Result<PathBuf, String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::")).ok_or("no unified control group")?;
    Ok(root.join(path.trim_start_matches('/')))
}

/// Which ceilings an engine on this host can enforce.
pub(crate) fn controllers(rootless: Option<u32>) -> Vec<String> {
    let root = Path::new(GROUPS);
    let unified = match rootless {
        None => root.join("cgroup.controllers"),
        Some(uid) => root.join(format!("user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers")),
    };
    if let Ok(text) = fs::read_to_string(unified) {
        return text.split_whitespace().map(str::to_owned).collect();
    }
    if rootless.is_some() {
        // Without a delegated v2 group an ordinary user has no say.
        return Vec::new();
    }
    ["cpu", "memory", "pids"].into_iter().filter(|name| root.join(name).is_dir()).map(str::to_owned).collect()
}

/// Sources of binds on this host, looked at once for however many containers share them.
#[derive(Default)]
pub(crate) struct Sources(HashMap<PathBuf, Source>);

#[derive(Clone, Copy)]
enum Source {
    There((u64, u64)),
    Gone,
    /// Looking was not allowed.
    Hidden,
}

impl Sources {
    fn look(&mut self, path: &Path) -> Source {
        if let Some(known) = self.0.get(path) {
            return *known;
        }
        let seen = match fs::metadata(path) {
            Ok(metadata) => Source::There((metadata.dev(), metadata.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Source::Gone,
            Err(_) => Source::Hidden,
        };
        self.0.insert(path.to_owned(), seen);
        seen
    }
}

/// Bind targets under which the container still sees a file that is no longer the one at the source's path.
pub(crate) fn replaced_binds<'a>(
    pid: u32,
    binds: impl Iterator<Item = (&'a Path, &'a Path)>,
    sources: &mut Sources,
) -> Vec<PathBuf> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let Ok(root) = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return Vec::new();
    };
    binds
        .filter(|(source, target)| match sources.look(source) {
            Source::There(outside) => inside(&root, target).is_ok_and(|inside| inside != outside),
            Source::Gone => inside(&root, target).is_ok(),
            Source::Hidden => false,
        })
        .map(|(_, target)| target.to_owned())
        .collect()
}

/// Device and inode of what the container sees at `target`. Links on the way are made by the sandbox and would be
/// followed on the host: they are followed within its root only.
pub(crate) fn inside(root: &OwnedFd, target: &Path) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(open_inside(root, target)?)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What is at `target` below `root`, however links lead there: none of them leads out.
fn open_inside(root: &OwnedFd, target: &Path) -> Result<OwnedFd, Errno> {
    let relative = target.strip_prefix("/").unwrap_or(target);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// The name PID 1 gave itself.
pub(crate) fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|text| text.trim_end().to_owned())
}

/// Files and bytes under `target` of the container, counted up to a bound.
pub(crate) fn usage(pid: u32, target: &Path) -> std::io::Result<(u64, u64)> {
    /// What nobody waits for to be counted exactly.
    const MANY: u64 = 100_000;
    let root = open(format!("/proc/{pid}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let target = open_inside(&root, target)?;
    let device = rustix::fs::fstat(&target)?.st_dev;
    let path = format!("/proc/self/fd/{}", target.as_raw_fd());
    let (mut files, mut bytes) = (0, 0);
    // Links are not followed and other mounts not entered: what a sandbox made must not lead outside.
    for entry in walkdir::WalkDir::new(path).min_depth(1).same_file_system(true).follow_links(false) {
        let entry = entry.map_err(std::io::Error::from)?;
        let metadata = entry.metadata().map_err(std::io::Error::from)?;
        if metadata.is_dir() || metadata.dev() != device {
            continue;
        }
        files += 1;
        bytes += metadata.len();
        if files >= MANY {
            break;
        }
    }
    Ok((files, bytes))
}

/// Mounts below `source` on this host, relative to it: read-only binds do not extend to them by themselves.
pub(crate) fn mounts_below(source: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let real = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter_map(|point| point.strip_prefix(&real).ok().map(Path::to_path_buf))
        .filter(|relative| !relative.as_os_str().is_empty())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// mountinfo writes blanks, tabs, newlines and backslashes in octal.
pub(crate) fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_and_not_a_moment_longer() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a process");
        let process = Process::of(child.id()).expect("it is there");
        assert!(process.lives());
        drop(child.stdin.take());
        let mut ended = [PollFd::new(&process.0, PollFlags::IN)];
        assert_eq!(poll(&mut ended, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })), Ok(1));
        // Nobody has waited for it yet.
        assert!(!process.lives());
        child.wait().expect("ended");
        assert!(!process.lives());
        assert!(Process::of(0).is_none() && Process::of(u32::MAX).is_none());
    }

    #[test]
    fn cpu_ceilings_in_thousandths() {
        assert_eq!(milli(150_000, 100_000), Some(1500));
        assert_eq!(milli(1000, 0), None);
        assert_eq!(["4096\n", "-1\n", "max\n"].map(number), [Some(4096), None, None]);
    }

    #[test]
    fn groups_of_both_versions() {
        let hybrid = "4:memory:/libpod_parent/libpod-ab\n1:cpu,cpuacct:/libpod_parent/libpod-ab\n0::/x\n";
        let root = Path::new(GROUPS);
        assert_eq!(v1_dir(root, hybrid, "cpu"), Some(PathBuf::from("/sys/fs/cgroup/cpu/libpod_parent/libpod-ab")));
        assert_eq!(v1_dir(root, hybrid, "pids"), None);
        assert_eq!(v2_dir(root, "0::/a/b\n"), Ok(PathBuf::from("/sys/fs/cgroup/a/b")));
    }

    #[test]
    fn a_controller_that_was_not_given_hides_no_other() {
        let root = tempfile::tempdir().expect("a directory");
        let group = root.path().join("user.slice/libpod-ab");
        fs::create_dir_all(&group).expect("made");
        fs::write(group.join("memory.max"), "4096\n").expect("written");
        fs::write(group.join("pids.max"), "max\n").expect("written");
        let LimitFacts { cpus_milli, memory, pids } = ceilings(root.path(), "0::/user.slice/libpod-ab\n");
        assert!(matches!(&cpus_milli, Observed::Unknown(why) if why.contains("cpu.max")), "{cpus_milli:?}");
        assert_eq!((memory, pids), (Observed::Present(Some(4096)), Observed::Present(None)));
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
    }
}
