//! P8: requests inside TLS that is opened and closed again, beside Squid, which does the same by `ssl_bump`.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme};

use crate::data_path::NAME;
use crate::process::{Process, free_port, wait_for_port};
use crate::report::{Report, Row};
use crate::stopwatch::{in_turns, time};
use crate::{Scale, peer};

/// Keep-alive connections at once.
const CLIENTS: usize = 16;
const BODY: &str = "measured\n";

/// Requests of some clients that keep their connections.
pub fn intercepted(scale: &Scale, report: &mut Report) {
    let count = if scale.smoke { 32 } else { 8000 };
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Files::authority(directory.path());
    let (origin, ours, names) = (free_port(), free_port(), free_port());
    let text = |port: u16| port.to_string();
    let _origin =
        Process::role(&["https-origin", &text(origin), &authority.path("leaf.pem"), &authority.path("leaf.key")]);
    wait_for_port("the origin", origin);
    let trusted = authority.path("authority.pem");
    let _data_path = Process::role(&["intercepting", &text(ours), &text(names), &text(origin), &trusted]);
    wait_for_port("the data path", ours);
    let sbx = || time(|| requests(&|| connect(ours), origin, count));
    let title = "HTTPS that is opened: requests over 16 connections that are kept";
    let Some(program) = peer::server("squid") else {
        let [sbx] = in_turns(scale.rounds(11), &mut [&mut { sbx }]);
        return report.group("P8", title, vec![Row::new(count, "sbx", &sbx)]);
    };
    let squid = Squid::start(&program, &authority, origin);
    let through = || requests(&|| squid.tunnel(origin), origin, count);
    let [theirs, sbx] = in_turns(scale.rounds(11), &mut [&mut || time(through), &mut { sbx }]);
    let ratio = theirs.ratio(&sbx);
    let row = Row::new(count, "sbx", &sbx).beside("as fast as Squid", ratio, "≥ 2 ×", ratio >= 2.0);
    report.group("P8", title, vec![Row::new(count, "Squid", &theirs), row]);
}

/// An authority and one certificate of it, as files.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn authority(directory: &Path) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "measured");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let files = Self { directory: directory.to_owned() };
        files.write("authority.pem", &certificate.pem());
        files.write("authority.both", &(certificate.pem() + &key.serialize_pem()));
        let issuer = rcgen::Issuer::new(parameters, key);
        let leaf = rcgen::KeyPair::generate().expect("a key");
        let named = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("parameters");
        files.write("leaf.pem", &named.signed_by(&leaf, &issuer).expect("a certificate").pem());
        files.write("leaf.key", &leaf.serialize_pem());
        files
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.join(name), text).expect("written");
    }
}

/// Squid that opens everything for one name and judges each request, as a policy with a method and a path does.
struct Squid {
    process: Option<Process>,
    port: u16,
    name: String,
}

impl Drop for Squid {
    fn drop(&mut self) {
        drop(self.process.take());
        // Its shared memory outlives it.
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{}-", self.name)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Squid {
    fn start(program: &Path, files: &Files, origin: u16) -> Self {
        let port = free_port();
        let made = "/usr/lib/squid/security_file_certgen";
        let (database, hosts) = (files.path("certificates"), files.path("hosts"));
        std::fs::write(&hosts, format!("127.0.0.1 {NAME}\n")).expect("written");
        let created = Command::new(made).args(["-c", "-s", &database, "-M", "4MB"]).output().expect("it starts");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let configuration = format!(
            "http_port 127.0.0.1:{port} ssl-bump cert={both} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB\n\
             sslcrtd_program {made} -s {database} -M 4MB\nsslcrtd_children 5\nhosts_file {hosts}\n\
             acl first at_step SslBump1\nssl_bump peek first\nssl_bump bump all\n\
             tls_outgoing_options cafile={trusted}\n\
             acl named dstdomain {NAME}\nacl tunnels method CONNECT\nacl ports port {origin}\nacl reads method GET\n\
             acl paths urlpath_regex ^/measured/\nhttp_access deny !ports\nhttp_access allow tunnels named\n\
             http_access allow reads named paths\nhttp_access deny all\n\
             cache deny all\naccess_log none\ncache_log {log}\npid_filename none\ncoredump_dir none\n\
             shutdown_lifetime 1 seconds\n",
            both = files.path("authority.both"),
            trusted = files.path("authority.pem"),
            log = files.path("squid.log"),
        );
        files.write("squid.conf", &configuration);
        // It runs as the user of its package, who has to get at all of it.
        let owned =
            Command::new("chown").args(["-R", "proxy:proxy"]).arg(&files.directory).status().expect("it starts");
        assert!(owned.success(), "chown");
        let name = format!("sbx{port}");
        let process = Process::start(program, &["-N", "-n", &name, "-f", &files.path("squid.conf")]);
        wait_for_port("squid", port);
        Self { process: Some(process), port, name }
    }

    fn tunnel(&self, origin: u16) -> TcpStream {
        let mut stream = connect(self.port);
        write!(stream, "CONNECT {NAME}:{origin} HTTP/1.1\r\nHost: {NAME}:{origin}\r\n\r\n").expect("it reads");
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Makes `count` requests over connections that `connect` makes; each has to be answered by the origin.
fn requests(connect: &(dyn Fn() -> TcpStream + Sync), origin: u16, count: usize) {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let left = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let name = ServerName::try_from(NAME).expect("a name");
                let session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
                let mut stream = BufReader::new(rustls::StreamOwned::new(session, connect()));
                let request = format!(
                    "GET /measured/one HTTP/1.1\r\nHost: {NAME}:{origin}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
                );
                while left.fetch_add(1, Ordering::Relaxed) < count {
                    stream.get_mut().write_all(request.as_bytes()).expect("it reads");
                    answer(&mut stream);
                }
            });
        }
    });
}

fn answer(stream: &mut impl std::io::BufRead) {
    let mut first = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).expect("an answer") > 0, "the connection ended");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    assert!(first.starts_with("HTTP/1.1 200") && body == BODY.as_bytes(), "{first}{}", String::from_utf8_lossy(&body));
}

/// Answers until it is killed.
pub fn https_origin(port: u16, certificate: &str, key: &str) {
    use rustls::pki_types::pem::PemObject as _;
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    for stream in listener.incoming().map_while(Result::ok) {
        let config = Arc::clone(&config);
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let session = ServerConnection::new(config).expect("a session");
            // Who ends a connection is done with it.
            drop(answer_all(rustls::StreamOwned::new(session, stream)));
        });
    }
}

fn answer_all(stream: impl Read + Write) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
}

/// Believes everybody: whose certificates are shown is not what is measured.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
