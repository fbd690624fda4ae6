//! One daemon after another, as those who need one see it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use egress::control::client::{Client, take_over};
use egress::control::{Hello, Request, Response, Starter, server};
use egress::daemon::world::{Attach, Attached, Engine, Running, Serve, Serving, Stored, Unattached, World};
use egress::daemon::{Daemon, Parts};
use egress::listeners::Listeners;
use egress::recorder::Recorder;
use egress::sandbox::Sandbox;
use reconciler::backend::{BackendError, ErrorKind, SecretSource};
use reconciler::kinds::container::{self, etc};
use reconciler::resource::Naming;
use rustix::fs::{FlockOperation, flock};
use secrecy::SecretSlice;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::Place;
use super::facts::{enforce, order};
use super::run::{Manner, take};
use crate::args::Global;
use crate::caller::{Directories, Person, schema_caller};
use crate::exit::Exit;
use crate::placed_init;
use crate::trust::TrustPlace;

/// Longest that anything may take here.
const LONG: Duration = Duration::from_secs(20);

/// An engine that has one policy, `a` of `acme/api`, and nothing that runs.
struct Policies {
    asked: AtomicUsize,
    /// Answers that may be given.
    answers: Semaphore,
}

struct Handle(Arc<Policies>);

#[async_trait]
impl Engine for Handle {
    async fn look(&self) -> Result<World, String> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.0.answers.acquire().await.map_err(|error| error.to_string())?.forget();
        let stored = Stored { hash: "a".into(), text: "{}".into(), secrets: BTreeMap::new() };
        Ok(World { running: Vec::new(), policies: [(("acme".to_owned(), "api".to_owned()), stored)].into() })
    }
}

#[async_trait]
impl Attach for Handle {
    async fn attach(&self, _: &Running, _: &schema::policy::Policy) -> Result<Attached, Unattached> {
        Err(Unattached::Failed("nothing runs".into()))
    }
}

impl Serve for Handle {
    fn serve(
        &self,
        _: &Running,
        _: Arc<Sandbox>,
        _: Listeners,
        _: Option<egress::direct::Direct>,
    ) -> Result<Box<dyn Serving>, String> {
        Err("nothing runs".into())
    }
}

struct NoSecrets;

#[async_trait]
impl SecretSource for NoSecrets {
    async fn read(&self, name: &str) -> Result<SecretSlice<u8>, BackendError> {
        Err(BackendError::new(ErrorKind::NotFound, name.to_owned()))
    }
}

fn place(dir: &Path) -> Place {
    Place {
        directory: dir.to_owned(),
        log: dir.join("log"),
        records: dir.join("records"),
        state: dir.to_owned(),
        data: dir.to_owned(),
        engine_url: None,
    }
}

/// The lock that a daemon holds, and in the midst of a replacement one or the other of two.
fn held(place: &Place) -> File {
    let lock = File::create(place.lock()).expect("made");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("nobody else's");
    lock
}

/// A daemon that answers on the socket as process `pid`, in the place of whoever did; its engine gives so many answers.
fn daemon(place: &Place, pid: u32, answers: usize) -> Arc<Policies> {
    daemon_of(place, Hello { pid, ..Hello::own(crate::daemon::version(), Starter::Sbx) }, answers)
}

/// The same that says `hello`.
fn daemon_of(place: &Place, hello: Hello, answers: usize) -> Arc<Policies> {
    let policies = Arc::new(Policies { asked: AtomicUsize::new(0), answers: Semaphore::new(answers) });
    let handle = || Box::new(Handle(Arc::clone(&policies)));
    let daemon = Daemon::new(Parts {
        engine: handle(),
        attach: handle(),
        serve: handle(),
        recorder: Arc::new(Recorder::open(place.records.clone()).expect("opened")),
        secrets: None,
        passed: Vec::new(),
        version: crate::daemon::version(),
        udp_ports: 0,
    });
    let listener = server::listen(&place.socket()).expect("listening");
    tokio::spawn(server::serve(listener, daemon, hello, Arc::default()));
    policies
}

/// An engine that gives so many answers, as a successor asks it.
fn engine(answers: usize) -> Handle {
    Handle(Arc::new(Policies { asked: AtomicUsize::new(0), answers: Semaphore::new(answers) }))
}

/// Asks for policy `a`.
fn ask(place: &Place) -> tokio::task::JoinHandle<Result<(), BackendError>> {
    let place = place.clone();
    tokio::spawn(async move { enforce(&place, &NoSecrets, "acme", "api", Some("a"), &BTreeMap::new()).await })
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it takes no longer")
}

/// Waits until the daemon that answers has given what it had to a successor.
async fn frozen(place: &Place) {
    let mut client = Client::connect(&place.socket(), "99").await.expect("connected");
    within(async {
        while client.status().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn asked(policies: &Policies) {
    within(async {
        while policies.asked.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// As when a unit starts anew as a newer version in the middle of an `apply`.
#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_a_daemon_that_is_replaced_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let _lock = held(&place);
    let old = daemon(&place, 1, 0);
    let enforced = ask(&place);
    asked(&old).await;
    let successor = Client::connect(&place.socket(), "99").await.expect("connected");
    take_over(successor).await.expect("handed over");
    // The question is answered now, and so is one to the old daemon, which still listens.
    old.answers.add_permits(9);
    let late = Request::Learn { project: "acme".into(), sandbox: "api".into(), seconds: 1 };
    let refused = order(&place, false, &late, Duration::ZERO).await;
    refused.expect_err("it serves nothing any more");
    assert!(!enforced.is_finished(), "nobody can answer yet");
    let new = daemon(&place, 2, 9);
    within(enforced).await.expect("no panic").expect("in force");
    assert_eq!((old.asked.load(Ordering::SeqCst), new.asked.load(Ordering::SeqCst)), (1, 1));
}

/// One that ends says nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_successor_of_a_daemon_that_has_ended_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let _lock = held(&place);
    let listener = UnixListener::bind(place.socket()).expect("listening");
    let enforced = ask(&place);
    within(ends(&listener, 1)).await;
    drop(listener);
    let new = daemon(&place, 2, 9);
    within(enforced).await.expect("no panic").expect("in force");
    assert_eq!(new.asked.load(Ordering::SeqCst), 1);
}

/// Says hello as process `pid`, hears a question, and ends.
async fn ends(listener: &UnixListener, pid: u32) {
    let (stream, _) = listener.accept().await.expect("somebody");
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("hello");
    let hello = Response::Hello(Hello { pid, ..Hello::own(crate::daemon::version(), Starter::Sbx) });
    let hello = serde_json::to_string(&hello).expect("plain data") + "\n";
    stream.write_all(hello.as_bytes()).await.expect("said");
    stream.read_line(&mut line).await.expect("a question");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_refuses_is_not_asked_for_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let _lock = held(&place);
    let there = daemon(&place, 1, 9);
    let refused = enforce(&place, &NoSecrets, "acme", "api", Some("b"), &BTreeMap::new()).await;
    assert!(refused.expect_err("another one is there").message.contains("policy a"));
    assert_eq!(there.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_an_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let lock = held(&place);
    let request =
        Request::Enforce { project: "acme".into(), sandbox: "api".into(), policy: None, secrets: BTreeMap::new() };
    let listener = UnixListener::bind(place.socket()).expect("listening");
    // One daemon after another, none of which answers.
    let endless = tokio::spawn(async move {
        for pid in 1.. {
            ends(&listener, pid).await;
        }
    });
    let failure = within(order(&place, false, &request, Duration::from_millis(200))).await;
    assert!(failure.expect_err("nobody answers").message.contains("control socket"));
    endless.abort();
    let _ = endless.await;
    // Nobody is there, and nobody is about to be.
    drop(lock);
    within(order(&place, false, &request, LONG)).await.expect("nobody serves it");
}

/// Of two that take the place of an older one, the one that comes second gives up at once, with what it was handed: as long
/// as it holds sockets of sandboxes, nobody else can attach to them.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_was_overtaken_gives_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let lock = held(&place);
    daemon_of(&place, Hello { pid: 1, ..Hello::own("0.0.1".into(), Starter::ServiceManager) }, 9);
    let own = place.clone();
    let manner = Manner { starter: Starter::Sbx, replace: true, metrics: None };
    let taken = async move { take(&own, &manner, &engine(9)).await.map(drop).map_err(|failure| failure.exit) };
    let taken = tokio::spawn(taken);
    frozen(&place).await;
    assert!(!taken.is_finished(), "the lock is not free yet");
    let hello = Hello { pid: 2, ..Hello::own(crate::daemon::version(), Starter::ServiceManager) };
    daemon_of(&place, hello, 9);
    let begun = std::time::Instant::now();
    assert_eq!(within(taken).await.expect("no panic"), Err(Exit::TryAgain), "a daemon runs already");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(lock);
}

/// It would have the sockets of sandboxes, without a word about whose they are.
#[tokio::test(start_paused = true)]
async fn a_daemon_goes_on_where_its_successor_cannot_ask_the_engine() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let lock = held(&place);
    daemon_of(&place, Hello { pid: 1, ..Hello::own("0.0.1".into(), Starter::Sbx) }, 9);
    let manner = Manner { starter: Starter::Sbx, replace: true, metrics: None };
    let (silent, away) = (engine(0), engine(0));
    away.0.answers.close();
    for engine in [silent, away] {
        let refused = take(&place, &manner, &engine).await.expect_err("nobody answers");
        assert_eq!(refused.exit, Exit::Unreachable, "{}", refused.message);
        let mut client = Client::connect(&place.socket(), "99").await.expect("connected");
        client.status().await.expect("it serves as before");
    }
    let own = place.clone();
    let taken = tokio::spawn(async move { take(&own, &manner, &engine(9)).await.map(drop) });
    frozen(&place).await;
    drop(lock);
    within(taken).await.expect("no panic").expect("taken over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_has_the_lock_once_the_other_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = place(dir.path());
    let lock = held(&place);
    daemon_of(&place, Hello { pid: 1, ..Hello::own("0.0.1".into(), Starter::Sbx) }, 9);
    let own = place.clone();
    let manner = Manner { starter: Starter::Sbx, replace: true, metrics: None };
    let taken = async move { take(&own, &manner, &engine(9)).await.map(drop).map_err(|failure| failure.exit) };
    let taken = tokio::spawn(taken);
    frozen(&place).await;
    // It answers until it ends: it is not taken for another one.
    assert!(!taken.is_finished());
    drop(lock);
    assert_eq!(within(taken).await.expect("no panic"), Ok(()));
}

/// The directory for the socket of a sandbox of `person`.
fn sockets(person: &Person, directories: &Directories) -> PathBuf {
    let text = "apiVersion: sbx/v1\nproject: acme\nsandboxes: { api: { image: host, egress: { transport: socket } } }";
    let source = schema::Source { name: "sandboxes.yaml".into(), directory: "/".into(), text: text.into() };
    let config = schema::load(&[source], &schema_caller(person, directories)).config.expect("no errors");
    let sandbox = config.sandboxes.values().next().expect("one");
    container::sockets(&Naming::new("acme"), &directories.data, sandbox).expect("it has one")
}

#[test]
fn what_is_its_own_is_where_any_daemon_of_the_person_may_have_it() {
    let person = Person { name: "alice".into(), uid: 7, gid: 7, home: "/home/alice".into(), through_sudo: true };
    let directories = Directories {
        data: "/home/alice/.local/share/sbx".into(),
        state: "/project/state".into(),
        state_is_named: true,
        runtime: None,
    };
    let global = Global { engine_url: Some("unix:///x".into()), ..Global::default() };
    let own = Place::find(&global, &person, &directories).own(&person, &directories);
    for path in [
        // Sockets and secrets, whether or not a variable names the session's directory.
        "/run/sbx",
        "/run/user/7/sbx",
        // Records, locks, and sockets where there is no such directory; also of runs without --state-dir.
        "/project/state",
        "/home/alice/.local/state/sbx",
        "/root/.local/state/sbx",
        // Keys are root's with sudo.
        "/root/.local/share/sbx/authority",
        "/home/alice/.local/share/sbx/authority",
        "/home/alice/.local/share/sbx/init",
    ] {
        assert!(own.iter().any(|own| own == Path::new(path)), "{path}: {own:?}");
    }
    // Whatever is placed for sandboxes, and not by one.
    let data = &directories.data;
    let trust = TrustPlace::new(data, "acme");
    let (init, etc) = (placed_init::path(data, "sha256:0"), etc::resolv_conf().path(data));
    for path in [trust.authority(), trust.shown(), init, etc, sockets(&person, &directories)] {
        assert!(own.iter().any(|own| path.starts_with(own)), "{}: {own:?}", path.display());
    }
    // Clones and worktrees are sandboxes' to use.
    assert!(!own.iter().any(|own| Path::new("/home/alice/.local/share/sbx/clones").starts_with(own)), "{own:?}");
}
