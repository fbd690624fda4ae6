//! The rules inside a sandbox's network namespace, and the program that gives them to the kernel.
//!
//! One table, `inet sbx`, whatever the policy: policy is data elsewhere. Only sets change: who the peers are and where they come
//! in, and in mode `direct` what is open.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};

use crate::attach::Refusal;

mod allowlist;
mod direct;
mod peers;

pub use allowlist::allowlist;
pub use direct::{Entry, Group, direct, entries, standing};

/// Where distributions put the program. A search path could be anybody's.
const PLACES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/run/current-system/sw/bin"];

/// The `nft` program, if it is installed.
pub fn program() -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join("nft")).find(|path| path.is_file())
}

/// Before a table that takes the place of the one that is there, if any, in the same transaction.
const IN_PLACE: &str = "add table inet sbx\ndelete table inet sbx\n";

/// Before a table where there is none.
const ANEW: &str = "create table inet sbx\n";

/// Starts giving a whole table to the kernel, which takes the place of the one that is there.
///
/// A sandbox that has just started has none. Then nothing has to go, and a transaction in which nothing goes takes a
/// quarter of the time: the kernel frees nothing before every processor has passed by. So that is tried first, and is
/// refused as a whole where there is a table.
pub fn install(table: &str) -> Result<Installing, Refusal> {
    let Some(definition) = table.strip_prefix(IN_PLACE) else {
        return Ok(Installing { running: start(table)?, otherwise: None });
    };
    Ok(Installing { running: start(&format!("{ANEW}{definition}"))?, otherwise: Some(table.to_owned()) })
}

/// A table on its way to the kernel.
#[derive(Debug)]
pub struct Installing {
    running: Running,
    /// What is given to the kernel when that is refused.
    otherwise: Option<String>,
}

impl Installing {
    /// Waits until it is in force. As [`Running::finish`].
    pub fn finish(self, asker: BorrowedFd<'_>) -> Result<(), Refusal> {
        self.finish_or(asker, start)
    }

    /// The same, where what is refused is followed by what `again` starts. Any other failure is the end of it: in
    /// particular nothing is started for an asker that has gone.
    fn finish_or(
        self,
        asker: BorrowedFd<'_>,
        again: impl FnOnce(&str) -> Result<Running, Refusal>,
    ) -> Result<(), Refusal> {
        match (self.running.finish(asker), self.otherwise) {
            (Err(Refusal::Rules { .. }), Some(table)) => again(&table)?.finish(asker),
            (finished, _) => finished,
        }
    }
}

/// Starts giving rules to the kernel, as one transaction: all of them or none.
///
/// The program has the standard output of ours, on which it says nothing: whoever holds the other end of that sees when
/// nobody is at work any more.
pub fn start(rules: &str) -> Result<Running, Refusal> {
    let Some(program) = program() else {
        return Err(Refusal::NoNft { places: PLACES.map(str::to_owned).to_vec() });
    };
    let failed = |error| Refusal::inside("run nft", error);
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take();
    let running = Running(child);
    if let Some(input) = &mut input {
        // One that ends without reading says why, which tells more than the broken pipe.
        let _ = input.write_all(rules.as_bytes());
    }
    Ok(running)
}

/// Rules on their way to the kernel.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Waits until they are in force. Where `asker` hangs up first, nobody does any more: the program is ended, lest its
    /// rules take the place of those that a successor gives.
    pub fn finish(mut self, asker: BorrowedFd<'_>) -> Result<(), Refusal> {
        if self.is_given_up(asker) {
            let _ = self.0.kill();
            let _ = self.0.wait();
            return Err(Refusal::Helper { what: "was left alone".to_owned() });
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        match self.0.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if said.trim().is_empty() => Err(Refusal::Rules { said: format!("nft: {status}") }),
            Ok(_) => Err(Refusal::Rules { said: said.trim().to_owned() }),
            Err(error) => Err(Refusal::inside("wait for nft", error)),
        }
    }

    /// Waits until it says something or ends; whether `asker` hung up before.
    fn is_given_up(&self, asker: BorrowedFd<'_>) -> bool {
        let Some(stderr) = &self.0.stderr else { return false };
        loop {
            let end = stderr.as_fd();
            // That it hangs up is told without being asked for.
            let mut both = [PollFd::new(&end, PollFlags::IN), PollFd::new(&asker, PollFlags::empty())];
            match poll(&mut both, None) {
                Ok(_) => return both[0].revents().is_empty(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// The table as the kernel has it, by `nft -j`; nothing where there is none.
pub fn listed() -> Option<String> {
    let mut command = Command::new(program()?);
    let listed = command.args(["-j", "list", "table", "inet", "sbx"]).env_clear().stdin(Stdio::null()).output().ok()?;
    listed.status.success().then(|| String::from_utf8_lossy(&listed.stdout).into_owned())
}

/// The rules without the defences that a test has turned off.
fn as_tested(rules: String) -> String {
    #[cfg(feature = "failpoints")]
    let rules = weakened(rules);
    rules
}

#[cfg(feature = "failpoints")]
fn weakened(mut rules: String) -> String {
    use crate::defence::Defence;

    if Defence::Ipv6.is_off() {
        rules = rules.replace("policy drop;", "policy drop; meta nfproto ipv6 accept");
    }
    if Defence::Inbound.is_off() {
        for chain in ["chain to_peers {", "chain from_peers {"] {
            rules = rules.replace(chain, &format!("{chain}\n    accept"));
        }
    }
    if Defence::Filter.is_off() {
        rules = rules.replace("policy drop;", "policy accept;");
    }
    let gone = |line: &str| {
        Defence::Filter.is_off() && line.contains("reject") || Defence::Redirect.is_off() && line.contains("redirect")
    };
    if rules.lines().any(gone) {
        rules = rules.lines().filter(|line| !gone(line)).flat_map(|line| [line, "\n"]).collect();
    }
    rules
}

/// The definition of a set of addresses.
fn set(name: &str, kind: &str, elements: &str) -> String {
    let elements = if elements.is_empty() { String::new() } else { format!(" elements = {{ {elements} }};") };
    format!("set {name} {{ type {kind};{elements} }}")
}

fn list(addresses: &BTreeSet<IpAddr>, wanted: fn(&IpAddr) -> bool) -> String {
    addresses.iter().filter(|address| wanted(address)).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A program in the place of `nft`.
    fn running(script: &str) -> Running {
        let program = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        Running(program.expect("a shell"))
    }

    #[test]
    fn only_a_table_that_is_refused_is_followed_by_another() {
        let (asker, other_end) = UnixStream::pair().expect("a pair");
        let given = Cell::new(0);
        let finish = |script: &str| {
            let installing = Installing { running: running(script), otherwise: Some("table".to_owned()) };
            installing.finish_or(asker.as_fd(), |table| {
                assert_eq!(table, "table");
                given.set(given.get() + 1);
                Ok(running("exit 0"))
            })
        };
        assert_eq!((finish("exit 0"), given.get()), (Ok(()), 0));
        assert_eq!((finish("echo exists >&2; exit 1"), given.get()), (Ok(()), 1));
        drop(other_end);
        let alone = finish("exec sleep 1000").expect_err("nobody asks any more");
        assert!(matches!(alone, Refusal::Helper { .. }), "{alone:?}");
        assert_eq!(given.get(), 1, "nothing more is started for nobody");
    }
}
