//! Package managers and registries that the test makes: apt, pip, npm, cargo.

use std::process::Command;

use crate::client::AUTHORITY;
use crate::engine::{Engine, Kind};
use crate::world::World;

fn serve(engine: &Engine) -> World<'_> {
    let mut world = World::new(engine);
    for label in ["apt", "pip", "npm", "crates"] {
        world.www(label);
    }
    let script = world.write("registries.py", include_str!("registries.py"));
    world.make("/usr/bin/python3", &[&script.to_string_lossy()]);
    world.nginx();
    world
}

/// apt with no configuration of the machine's, and a root of its own.
fn apt(options: &str) -> String {
    format!(
        "rm -rf ~/apt ~/root && mkdir -p ~/apt/etc/apt ~/apt/state/lists/partial ~/apt/cache/archives/partial ~/root/var/lib/dpkg/{{info,updates,triggers}}
touch ~/root/var/lib/dpkg/{{status,available}}
echo 'deb [trusted=yes] https://apt.example.org/ ./' >~/apt/etc/apt/sources.list
apt=\"apt-get --quiet --quiet --yes -o Dir::Etc=$HOME/apt/etc/apt -o Dir::State=$HOME/apt/state -o Dir::Cache=$HOME/apt/cache
  -o Dir::State::status=$HOME/root/var/lib/dpkg/status -o Dir::Log=$HOME/apt -o APT::Sandbox::User= -o Acquire::Retries=0
  -o APT::Update::Error-Mode=any -o Debug::NoLocking=1 {options}\"
$apt update
$apt install --no-install-recommends sbx-hello -o Dpkg::Options::=--root=$HOME/root -o Dpkg::Options::=--force-not-root,script-chrootless,unsafe-io,bad-path,confnew,all >&2
cat ~/root/usr/share/hello/greeting"
    )
}

fn pip(options: &str) -> String {
    format!(
        "rm -rf ~/python
/usr/bin/python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --retries 0 --timeout 5 --target ~/python \\
  --index-url https://pip.example.org/simple {options} sbx-hello
PYTHONPATH=~/python /usr/bin/python3 -c 'import sbx_hello'"
    )
}

fn npm(options: &str) -> String {
    format!(
        "rm -rf ~/node && mkdir ~/node && cd ~/node
npm install --silent --no-audit --no-fund --no-update-notifier --fetch-retries=0 --cache ~/node/cache --registry https://npm.example.org/ {options} sbx-hello
node -e \"require('sbx-hello')\""
    )
}

fn cargo(environment: &str) -> String {
    format!(
        "rm -rf ~/crate ~/.cargo && mkdir -p ~/crate/src ~/crate/.cargo && cd ~/crate
cat >.cargo/config.toml <<'END'
[registries.ours]
index = \"sparse+https://crates.example.org/index/\"
[net]
retry = 0
END
cat >Cargo.toml <<'END'
[package]
name = \"uses-it\"
edition = \"2021\"
[dependencies]
sbx-hello = {{ version = \"1\", registry = \"ours\" }}
END
echo 'fn main() {{ println!(\"{{}}\", sbx_hello::greeting()) }}' >src/main.rs
{environment} PATH=/opt/rust/bin:$PATH cargo run --quiet"
    )
}

/// An engine on which the toolchain that runs this test is `rust` in its directory, and the field that mounts it:
/// rustup's may lie where an ordinary user cannot go.
fn with_toolchain(kind: Kind) -> (Engine, String) {
    let engine = Engine::without_service(kind);
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc is there");
    let sysroot = String::from_utf8(output.stdout).unwrap();
    let rust = engine.dir().join("rust");
    engine.as_root("mkdir").arg(&rust).ok();
    // Before the service, which may keep a view of its own of what is mounted.
    engine.as_root("mount").args(["--bind", sysroot.trim_end()]).arg(&rust).ok();
    engine.start_service();
    let mount = format!(", {{ source: {}, target: /opt/rust }}", rust.display());
    (engine, mount)
}

/// First passed through, with clients that are told whom to trust; then looked into, with clients as they come.
fn packages(kind: Kind) {
    let (engine, more) = with_toolchain(kind);
    let world = serve(&engine);
    let rules = ["apt", "pip", "npm", "crates"].map(|label| format!("{{ host: {label}.example.org, ports: [443] }}"));
    world.apply(&more, &rules.each_ref().map(String::as_str));
    let clients = [
        ("apt", apt(&format!("-o Acquire::https::CaInfo={AUTHORITY}"))),
        // What it is made with heeds a variable of the sandbox more than its own option.
        ("pip", format!("export REQUESTS_CA_BUNDLE={AUTHORITY}\n{}", pip(""))),
        ("npm", npm(&format!("--cafile {AUTHORITY}"))),
        ("crates", cargo(&format!("CARGO_HTTP_CAINFO={AUTHORITY}"))),
    ];
    for (label, script) in clients {
        assert_eq!(world.works(&script), format!("hello from {label}"));
        world.refused_elsewhere(label, &script);
    }

    world.apply(
        &more,
        &[
            "{ host: apt.example.org, ports: [443], methods: [GET], paths: ['/Packages*', /Release, /InRelease, '/pool/**'] }",
            "{ host: pip.example.org, ports: [443], methods: [GET], paths: [/simple/sbx-hello/, '/files/**'] }",
            "{ host: npm.example.org, ports: [443], methods: [GET], paths: [/sbx-hello, '/files/**'] }",
            "{ host: crates.example.org, ports: [443], methods: [GET], paths: ['/index/**/sbx-hello', /index/config.json, '/files/**'] }",
        ],
    );
    let clients = [("apt", apt("")), ("pip", pip("")), ("npm", npm("")), ("crates", cargo(""))];
    for (label, script) in clients {
        assert_eq!(world.works(&script), format!("hello from {label}"));
        let other = script.replace("org/ ./", "org/ sbx-private/").replace("sbx-hello", "sbx-private");
        world.refused_there(&format!("{label}.example.org"), "sbx-private", &other);
    }
}

#[test]
fn packages_rootful_4() {
    packages(Kind::Rootful4);
}

#[test]
fn packages_rootless_4() {
    packages(Kind::Rootless4);
}
