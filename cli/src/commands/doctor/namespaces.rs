//! What attaching to a sandbox's network needs: tried in a network namespace of our own, which ends with the look.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::{Finding, Level};

const CHECK: &str = "egress policies";
const NAMESPACES: &str = "network namespaces";

/// How many the kernel allows in this user namespace.
const MOST: &str = "/proc/sys/user/max_net_namespaces";

/// Everything that the rules of a sandbox ask of the kernel, and of the version of `nft`.
const RULES: &str = "table inet sbx {
  set peers { type ipv4_addr; }
  set ports { type inet_proto . inet_service; flags interval; elements = { tcp . 1-2 }; }
  set inbound { type ipv6_addr . inet_proto . inet_service; flags interval; elements = { fd00::1 . tcp . 1-2 }; }
  set open { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 60s comment \"a.example\" }; }
  chain to_us { type nat hook output priority -100; policy accept; meta l4proto { tcp, udp } th dport 53 redirect to :1; }
  chain output {
    type filter hook output priority 0; policy drop;
    fib daddr type local accept
    ip daddr @peers ct direction original accept
    ip6 saddr . meta l4proto . th sport @inbound tcp flags & (fin | syn | rst | ack) != syn accept
    ip daddr @open meta l4proto . th dport @ports accept
    ct state established accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
}
";

pub(super) fn check(root: bool) -> Vec<Finding> {
    // Without one, nothing that is tried in it says anything of the rules.
    let namespaces = namespaces(root);
    if namespaces.level != Level::Ok {
        return vec![namespaces];
    }
    let Some(nft) = egress::attach::nft() else {
        let without = Finding::warning(
            CHECK,
            "nft is not installed: nothing can be allowed to a sandbox",
            "install the package nftables",
        );
        return vec![namespaces, without];
    };
    vec![namespaces, rules(root, &nft), adapter(root)]
}

/// Whether there are network namespaces at all: every sandbox has one of its own.
fn namespaces(root: bool) -> Finding {
    if std::fs::read_to_string(MOST).is_ok_and(|most| most.trim() == "0") {
        return Finding::error(
            NAMESPACES,
            "the kernel allows none, and no sandbox can be started",
            "sysctl -w user.max_net_namespaces=28633",
        );
    }
    match inside(root, "true", &[]) {
        Ok(output) if output.status.success() => Finding::ok(NAMESPACES, "can be made"),
        // What this program may not do the engine still may, where AppArmor tells programs apart.
        Ok(output) => Finding::warning(
            NAMESPACES,
            format!("none can be made from here, so that the rules are not tried: {}", first_line(&output)),
            "allow it: a kernel with CONFIG_NET_NS and CONFIG_USER_NS, and no seccomp or AppArmor profile against unshare",
        ),
        Err(error) => untried(&error),
    }
}

fn rules(root: bool, nft: &Path) -> Finding {
    // From standard input: inside another user namespace files of ours may not be ours.
    let tried = inside(root, "printf '%s' \"$1\" | \"$0\" -f -", &[&nft.display().to_string(), RULES]);
    match tried {
        Ok(output) if output.status.success() => Finding::ok(CHECK, format!("{} and the kernel can", nft.display())),
        Ok(output) => Finding::warning(
            CHECK,
            format!("the rules are not taken, and nothing can be allowed to a sandbox: {}", first_line(&output)),
            "the kernel needs nf_tables with inet, nat, redirect, reject and fib (CONFIG_NFT_*), nft 1.0 or later",
        ),
        Err(error) => untried(&error),
    }
}

/// What of the three the child will take, in its order of preference.
fn adapter(root: bool) -> Finding {
    const CHECK: &str = "dead-end device";
    let tried = |words: &str| inside(root, words, &[]).is_ok_and(|output| output.status.success());
    if tried("ip link add sbx0 type dummy") {
        Finding::ok(CHECK, "a dummy device")
    } else if tried("ip link add sbx0 type veth peer name sbx1") {
        Finding::ok(CHECK, "a closed pair of veth devices (the kernel has no dummy device)")
    } else {
        Finding::ok(CHECK, "a route on lo (neither a dummy nor a veth device can be made, or `ip` is missing)")
    }
}

/// Runs a shell command in a network namespace of its own.
fn inside(root: bool, script: &str, arguments: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--", "sh", "-c", script]).args(arguments);
    command.stdin(Stdio::null()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()
}

fn untried(error: &std::io::Error) -> Finding {
    Finding::warning(
        CHECK,
        format!("not tried: unshare cannot be run: {}", crate::failure::io_text(error)),
        "install the package util-linux",
    )
}

fn first_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
    // nft names the place first, which is ours and says nothing here.
    line.rsplit_once("Error: ").map_or(line, |(_, rest)| rest).trim().to_owned()
}
