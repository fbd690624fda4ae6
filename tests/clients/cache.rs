//! redis-cli and Redis, which speak neither HTTP nor, unless they are told to, TLS.

use std::os::unix::fs::chown;

use crate::client::AUTHORITY;
use crate::database::{AS_NOBODY, NOBODY};
use crate::engine::{Engine, Kind};
use crate::world::{SERVER, World};

fn serve(engine: &Engine) -> World<'_> {
    let mut world = World::new(engine);
    let dir = world.dir().display().to_string();
    let [certificate, key] = ["tls.pem", "tls.key"].map(|name| format!("{dir}/{name}"));
    chown(&key, Some(NOBODY), Some(NOBODY)).unwrap();
    let address = SERVER.to_string();
    let settings = ["--bind", &address, "--port", "6379", "--tls-port", "6380", "--requirepass", "let-me-in"];
    let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-auth-clients", "no", "--save", ""];
    let command = [&AS_NOBODY[..], &["/usr/bin/redis-server"], &settings, &files].concat();
    world.start(&command).listens(engine, SERVER, 6380);
    world
}

fn redis(kind: Kind) {
    let engine = Engine::start(kind);
    let world = serve(&engine);
    world.apply("", &["{ host: cache.example.org, ports: [6379, 6380] }"]);

    let redis = "redis-cli -h cache.example.org -a let-me-in --no-auth-warning";
    // Values, what does not fit into one packet, many commands at once, and a client that waits for another.
    let script = format!(
        "{redis} set greeting hello
{redis} get greeting
head -c 3000000 /dev/urandom >~/sent
{redis} -x set big <~/sent
{redis} get big | head -c 3000000 | cmp - ~/sent
seq 1 100000 | sed 's/.*/incrby sum &/' | {redis} --pipe >/dev/null
{redis} get sum
{redis} blpop queue 10 & {redis} rpush queue item >/dev/null; wait"
    );
    assert_eq!(world.works(&script), "OK\nhello\nOK\n5000050000\nqueue\nitem");
    world.refused_elsewhere("cache", &format!("{redis} ping"));
    world.fails_quickly(&format!("{redis} -p 6381 ping"));

    // It names the server only when it is told to, and a server that is not named is none that a rule names.
    let by_tls = format!("{redis} --tls --cacert {AUTHORITY} -p 6380");
    assert_eq!(world.works(&format!("{by_tls} --sni cache.example.org get greeting")), "hello");
    world.fails_quickly(&format!("{by_tls} get greeting"));
    world.recorded(&by_tls, |record| record["host"] == "cache.example.org" && record["because"] == "sni-missing");
    world.refused_elsewhere("cache", &format!("{by_tls} --sni cache.example.org ping"));
}

#[test]
fn redis_rootful_4() {
    redis(Kind::Rootful4);
}

#[test]
fn redis_rootless_4() {
    redis(Kind::Rootless4);
}
