//! git over HTTPS and over ssh: clone, push, fetch; and ssh by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::client::AUTHORITY;
use crate::engine::{Engine, Kind};
use crate::world::{SERVER, World};

/// `somewhere.git` and `elsewhere.git`, with one commit, for git's own servers.
fn serve(engine: &Engine) -> World<'_> {
    let mut world = World::new(engine);
    let who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"];
    world.write("seed/file", "content\n");
    let git = |args: &[&str]| world.make("git", &[&who, args].concat());
    git(&["init", "--quiet", "--initial-branch", "main", "seed"]);
    git(&["-C", "seed", "add", "."]);
    git(&["-C", "seed", "commit", "--quiet", "--message", "first"]);
    for repository in ["git/somewhere.git", "git/elsewhere.git"] {
        git(&["clone", "--quiet", "--bare", "seed", repository]);
        // Anybody may push: nginx asks nobody who they are.
        git(&["-C", repository, "config", "http.receivepack", "true"]);
    }

    let socket = world.dir().join("fcgi.sock");
    let fcgiwrap = world.start(&["/usr/sbin/fcgiwrap", "-s", &format!("unix:{}", socket.display())]);
    fcgiwrap.ready(|| socket.exists().then_some(()));
    world.nginx();
    sshd(&mut world);
    world
}

/// Whoever has the one key may use git's commands, and no others; with the other one, any command.
fn sshd(world: &mut World<'_>) {
    let dir = world.dir().display().to_string();
    for key in ["host_key", "user_key", "command_key"] {
        world.make("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
    }
    let git = "cd GIT && exec git-shell -c \"$SSH_ORIGINAL_COMMAND\"".replace("GIT", &format!("{dir}/git"));
    let authorized = [("user_key", git.as_str()), ("command_key", "exec sh -c \"$SSH_ORIGINAL_COMMAND\"")];
    let authorized = authorized.map(|(key, command)| {
        let key = fs::read_to_string(world.dir().join(key).with_extension("pub")).unwrap();
        format!("restrict,command=\"{}\" {key}", command.replace('"', "\\\""))
    });
    world.write("authorized_keys", authorized.concat());
    let configuration = format!(
        "ListenAddress {SERVER}:22\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin forced-commands-only\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         HostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\n"
    );
    let configuration = world.write("sshd_config", configuration);
    let engine = world.engine;
    world.start(&["/usr/sbin/sshd", "-D", "-e", "-f", &configuration.to_string_lossy()]).listens(engine, SERVER, 22);
    let host = fs::read_to_string(world.dir().join("host_key.pub")).unwrap();
    engine.write("trust/known_hosts", format!("ssh.example.org {host}ssh.example.net {host}"));
    for (inside, key) in [("trust/key", "user_key"), ("trust/command_key", "command_key")] {
        let key = engine.write(inside, fs::read(world.dir().join(key)).unwrap());
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Clones from `url`, commits something that no pack makes small, pushes it, and finds it in another clone.
fn round_trip(environment: &str, url: &str, name: &str) -> String {
    format!(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org {environment}
rm -rf ~/one ~/two
git clone --quiet {url} ~/one
cat ~/one/file
head -c 3000000 /dev/urandom >~/one/{name}
git -C ~/one add .
git -C ~/one commit --quiet --message second
git -C ~/one push --quiet origin HEAD:{name}
git clone --quiet --branch {name} {url} ~/two
cmp ~/one/{name} ~/two/{name}
git -C ~/two rev-parse HEAD"
    )
}

fn pushed(world: &World<'_>, branch: &str) -> String {
    world.make("git", &["-C", "git/somewhere.git", "rev-parse", branch])
}

fn git(kind: Kind) {
    let engine = Engine::start(kind);
    let world = serve(&engine);
    world.apply("", &["{ host: git.example.org, ports: [443] }", "{ host: ssh.example.org, ports: [22] }"]);

    let environment = format!("GIT_SSL_CAINFO={AUTHORITY}");
    let url = "https://git.example.org/somewhere.git";
    let said = world.works(&round_trip(&environment, url, "by-https"));
    assert_eq!(said, format!("content\n{}", pushed(&world, "by-https")));
    assert!(!world.requests("git.example.org", "POST /somewhere.git/git-receive-pack").is_empty());
    world.refused_elsewhere("git", &format!("{environment} git clone {url} ~/never"));
    // A repository of an allowed host leads to another host only as far as that is allowed, too.
    world.refused_elsewhere("git", &format!("{environment} git -C ~/one push {url} HEAD:never"));

    let environment = "GIT_SSH_COMMAND='ssh -F none -i /opt/trust/key -o UserKnownHostsFile=/opt/trust/known_hosts'";
    let url = "ssh://root@ssh.example.org/~/somewhere.git".replace("/~/", &format!("{}/git/", world.dir().display()));
    let said = world.works(&round_trip(environment, &url, "by-ssh"));
    assert_eq!(said, format!("content\n{}", pushed(&world, "by-ssh")));
    world.refused_elsewhere("ssh", &format!("{environment} git clone {url} ~/never"));
    world
        .fails_quickly(&format!("{environment} git clone {} ~/never", url.replace("example.org/", "example.org:443/")));

    let ssh = "ssh -F none -o BatchMode=yes -i /opt/trust/command_key -o UserKnownHostsFile=/opt/trust/known_hosts \
               root@ssh.example.org";
    let said = world.works(&format!(
        "head -c 3000000 /dev/urandom >~/sent
{ssh} sha256sum <~/sent
sha256sum <~/sent
{ssh} cat <~/sent | cmp - ~/sent
{ssh} 'exit 7' || echo $?"
    ));
    let [there, here, code] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(there == here && code == "7", "{said}");
    world.refused_elsewhere("ssh", &format!("{ssh} true"));

    // Looked into, with git as it comes: all of one repository, and of the other only what reading takes.
    world.apply(
        "",
        &[
            "{ host: git.example.org, ports: [443], paths: ['/somewhere.git/**'] }",
            "{ host: git.example.org, ports: [443], paths: [/elsewhere.git/info/refs, /elsewhere.git/git-upload-pack] }",
        ],
    );
    let url = "https://git.example.org/somewhere.git";
    let said = world.works(&round_trip("", url, "looked-into"));
    assert_eq!(said, format!("content\n{}", pushed(&world, "looked-into")));
    let elsewhere = url.replace("somewhere", "elsewhere");
    assert_eq!(world.works(&format!("git clone --quiet {elsewhere} ~/three && cat ~/three/file")), "content");
    let push = format!("git -C ~/one push {elsewhere} HEAD:never");
    world.refused_there("git.example.org", "/elsewhere.git/git-receive-pack", &push);
}

#[test]
fn git_rootful_4() {
    git(Kind::Rootful4);
}

#[test]
fn git_rootless_5() {
    git(Kind::Rootless5);
}
