//! What Podman needs to run for an ordinary user.

use super::Finding;
use crate::caller::{Directories, Person};

/// Ids an image usually spreads over.
const ENOUGH: u64 = 65_536;

pub(super) fn check(person: &Person, directories: &Directories) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        [("subuids", "/etc/subuid", "--add-subuids"), ("subgids", "/etc/subgid", "--add-subgids")]
            .into_iter()
            .map(|(check, file, flag)| subids(check, file, flag, person))
            .collect();
    findings.push(match &directories.runtime {
        Some(runtime) if runtime.is_dir() => Finding::ok("runtime directory", runtime.display().to_string()),
        Some(runtime) => Finding::error(
            "runtime directory",
            format!("XDG_RUNTIME_DIR is {}, which does not exist", runtime.display()),
            "log in through a session manager, or run `loginctl enable-linger`",
        ),
        None => Finding::warning(
            "runtime directory",
            "XDG_RUNTIME_DIR is not set",
            "log in through a session manager; with `su`, use `su -` or `machinectl shell`",
        ),
    });
    findings
}

fn subids(check: &'static str, file: &str, flag: &str, person: &Person) -> Finding {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let count = held(&text, &person.name, person.uid);
    if count >= ENOUGH {
        return Finding::ok(check, format!("{count} for {}", person.name));
    }
    let message = if count == 0 {
        format!("{file} has none for {}", person.name)
    } else {
        format!("{file} has only {count} for {}", person.name)
    };
    Finding::error(
        check,
        message,
        format!("sudo usermod {flag} 100000-165535 {}, then podman system migrate", person.name),
    )
}

fn held(text: &str, name: &str, uid: u32) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let holder = fields.next()?;
            let count = fields.nth(1)?.trim().parse::<u64>().ok()?;
            (holder == name || holder == uid.to_string()).then_some(count)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_what_a_user_holds() {
        let text = "alice:100000:65536\nbob:1:2\n1000:300000:10\nbroken\n";
        assert_eq!(super::held(text, "alice", 1000), 65_546);
        assert_eq!(super::held(text, "carol", 7), 0);
    }
}
