//! What is outside: names, certificates, and the servers behind them, on one address beyond the engine's uplink.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::engine::Engine;
use crate::name_server;
use crate::server::Server;

/// Where everything is served: the far end of the engine's uplink.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// What policies name.
pub const ALLOWED: &str = "example.org";

/// What no policy names. The same servers are behind it.
pub const DENIED: &str = "example.net";

/// First labels of all names.
const SERVICES: [&str; 9] = ["web", "chat", "java", "node", "git", "apt", "pip", "npm", "crates"];

/// And of those that are not the web's.
const OTHERS: [&str; 3] = ["ssh", "db", "cache"];

/// Names, certificates, a directory for what is served; servers are started by those who need them.
pub struct World<'e> {
    pub engine: &'e Engine,
    servers: Vec<Server>,
}

impl<'e> World<'e> {
    /// Makes names known and certificates available. Inside, the authority that signed them is `/opt/trust/ca.pem` where
    /// a sandbox mounts `./trust`.
    pub fn new(engine: &'e Engine) -> Self {
        let world = Self { engine, servers: Vec::new() };
        fs::create_dir(world.dir()).unwrap();
        let names = names();
        world.certify(&names);
        let bind = || UdpSocket::bind((SERVER, 53));
        let socket = engine.namespaces().outside(bind).expect("the far end has this address");
        std::thread::spawn(move || {
            let known: Vec<_> = names.iter().map(|name| (name.as_str(), IpAddr::V4(SERVER))).collect();
            name_server::serve(&socket, &known, &[], |_| ());
        });
        world
    }

    /// Files of servers; the same path inside and outside of the engine.
    pub fn dir(&self) -> PathBuf {
        self.engine.dir().join("world")
    }

    /// Writes a file for a server.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A program of this machine, outside of everything: what makes what is served. Gives what it prints.
    #[track_caller]
    pub fn make(&self, program: &str, args: &[&str]) -> String {
        let output = std::process::Command::new(program)
            .args(args)
            .current_dir(self.dir())
            .env("HOME", self.dir())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}: run ./dev, which installs it"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Starts a server, without waiting for it.
    pub fn start(&mut self, command: &[&str]) -> &Server {
        self.servers.push(Server::start(self.engine, &self.dir(), command));
        self.servers.last().expect("it was just added")
    }

    /// nginx, as `nginx.conf` says: every name of the web by TLS on 443 and without on 80, `www` below the directory for
    /// files, git's own server for repositories below `git`, the chat for WebSockets.
    pub fn nginx(&mut self) {
        for dir in ["www", "git", "temporary"] {
            fs::create_dir_all(self.dir().join(dir)).unwrap();
        }
        let dir = self.dir().display().to_string();
        let configuration = include_str!("nginx.conf").replace("DIR", &dir).replace("ADDRESS", &SERVER.to_string());
        let configuration = self.write("nginx.conf", configuration);
        let engine = self.engine;
        let nginx =
            self.start(&["/usr/sbin/nginx", "-p", &dir, "-e", "nginx.said", "-c", &configuration.to_string_lossy()]);
        nginx.listens(engine, SERVER, 443);
    }

    /// Requests that nginx got for `host` and that hold `text`, as `GET /path?query`.
    pub fn requests(&self, host: &str, text: &str) -> Vec<String> {
        let log = fs::read_to_string(self.dir().join("access.log")).unwrap_or_default();
        let requests = log.lines().filter_map(|line| line.split_once(' ')).filter(|(to, _)| *to == host);
        requests.map(|(_, request)| request.to_owned()).filter(|request| request.contains(text)).collect()
    }

    /// One certificate for all names.
    fn certify(&self, names: &[String]) {
        let name = |text: &str| {
            let mut name = rcgen::DistinguishedName::new();
            name.push(rcgen::DnType::CommonName, text);
            name
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.distinguished_name = name("the world's own authority");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let authority = parameters.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(parameters, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(names.to_vec()).unwrap();
        parameters.distinguished_name = name("the world");
        parameters.use_authority_key_identifier_extension = true;
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = parameters.signed_by(&key, &issuer).unwrap();
        self.engine.write("trust/ca.pem", authority);
        self.write("tls.pem", leaf.pem());
        let key = self.write("tls.key", key.serialize_pem());
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of egress\n{}", self.engine.sbx(&["egress", "log"]).run().stdout);
        }
    }
}

fn names() -> Vec<String> {
    let labels = SERVICES.iter().chain(&OTHERS);
    labels.flat_map(|label| [ALLOWED, DENIED].map(|domain| format!("{label}.{domain}"))).collect()
}
