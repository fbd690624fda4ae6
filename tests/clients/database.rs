//! psql and PostgreSQL, whose TLS begins only after the client has asked for it.

use std::fs;
use std::os::unix::fs::chown;

use crate::client::AUTHORITY;
use crate::engine::{Engine, Kind};
use crate::world::{SERVER, World};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// PostgreSQL refuses to be root.
pub const NOBODY: u32 = 65_534;

/// As nobody, whatever comes after.
pub const AS_NOBODY: [&str; 4] = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

fn serve(engine: &Engine) -> World<'_> {
    let mut world = World::new(engine);
    let data = world.dir().join("data");
    fs::create_dir(&data).unwrap();
    world.write("password", "let-me-in\n");
    for path in ["data", "tls.key", "password"] {
        chown(world.dir().join(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let data = data.display().to_string();
    let initdb = format!("{PROGRAMS}/initdb");
    let initialize = [
        &initdb,
        "--pgdata",
        &data,
        "--username=tester",
        "--pwfile=password",
        "--auth=scram-sha-256",
        "--no-locale",
        "--encoding=UTF8",
        "--no-sync",
    ];
    world.make(AS_NOBODY[0], &[&AS_NOBODY[1..], &initialize].concat());
    fs::write(format!("{data}/pg_hba.conf"), "hostssl all all 0.0.0.0/0 scram-sha-256\n").unwrap();
    let dir = world.dir().display().to_string();
    let settings = [
        format!("listen_addresses={SERVER}"),
        "port=5432".to_owned(),
        "unix_socket_directories=".to_owned(),
        "dynamic_shared_memory_type=mmap".to_owned(),
        "shared_buffers=16MB".to_owned(),
        "fsync=off".to_owned(),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={dir}/tls.pem"),
        format!("ssl_key_file={dir}/tls.key"),
    ];
    let postgres = format!("{PROGRAMS}/postgres");
    let mut command = [&AS_NOBODY[..], &[&postgres, "-D", &data]].concat();
    command.extend(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
    let server = world.start(&command);
    server.ready(|| server.said().contains("ready to accept connections").then_some(()));
    world
}

fn psql(kind: Kind) {
    let engine = Engine::start(kind);
    let world = serve(&engine);
    world.apply("", &["{ host: db.example.org, ports: [5432] }"]);

    let connect = format!(
        "psql \"host=db.example.org user=tester password=let-me-in dbname=postgres connect_timeout=5 \
         sslmode=verify-full sslrootcert={AUTHORITY}\" --no-psqlrc --quiet --tuples-only --no-align"
    );
    let script = format!(
        "{connect} <<'SQL'\n\
         select ssl, version from pg_stat_ssl where pid = pg_backend_pid();\n\
         create table numbers as select generate_series(1, 200000) as number;\n\
         select sum(number) from numbers;\n\
         \\copy numbers to /tmp/numbers\n\
         \\copy numbers from /tmp/numbers\n\
         select sum(number) from numbers;\nSQL"
    );
    assert_eq!(world.works(&script), "t|TLSv1.3\n20000100000\n40000200000");
    world.refused_elsewhere("db", &format!("{connect} --command 'select 1'"));
    // The name, and this port.
    world.fails_quickly(&format!("{connect} --port 5433 --command 'select 1'"));
}

#[test]
fn psql_rootful_4() {
    psql(Kind::Rootful4);
}

#[test]
fn psql_rootless_4() {
    psql(Kind::Rootless4);
}
