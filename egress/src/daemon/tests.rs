use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use secrecy::ExposeSecret as _;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use schema::policy::Policy;

use super::attaching::TRY_AGAIN;
use super::world::{Attached, Gate, Serving, Stored, Unattached};
use super::*;
use crate::control::SandboxStatus;
use crate::generation::Generation;
use crate::sandbox::Sandbox;

mod attaching;
mod enforced;
mod forgotten;
mod handed_over;
mod learning;
mod protocol;

/// What the engine says.
struct Saying(Result<World, String>);

impl Default for Saying {
    fn default() -> Self {
        Self(Ok(World::default()))
    }
}

/// An engine, namespaces and a data path in memory.
#[derive(Default)]
struct Fake {
    world: Mutex<Saying>,
    attached: AtomicUsize,
    opened: AtomicUsize,
    refuse: AtomicBool,
    broken: AtomicBool,
    /// How often PID 1 of a sandbox is not at its gate.
    away: Mutex<BTreeMap<String, usize>>,
    /// Attaching waits for as long as somebody holds this.
    hold: tokio::sync::Mutex<()>,
    /// What the engine says waits for as long as somebody holds this.
    slow: tokio::sync::Mutex<()>,
    /// What was put in force is so once nobody holds this, unless it is refused.
    late: Arc<tokio::sync::Mutex<()>>,
    untaken: Arc<AtomicBool>,
    /// How often it was asked whether it is.
    asked: AtomicUsize,
    /// Looks at the engine that have begun.
    looked: AtomicUsize,
    /// Flows have their records when they end.
    records: AtomicBool,
    peers: Mutex<BTreeMap<String, Vec<std::net::IpAddr>>>,
    /// Generations in force, by sandbox; gone with what serves it.
    generations: Mutex<BTreeMap<String, Vec<Generation>>>,
    /// Ports for datagrams of what was served last.
    ports: Mutex<Vec<u16>>,
}

struct Handle(Arc<Fake>);

#[async_trait]
impl Engine for Handle {
    async fn look(&self) -> Result<World, String> {
        let world = self.0.world.lock().expect("not poisoned").0.clone();
        self.0.looked.fetch_add(1, Ordering::SeqCst);
        drop(self.0.slow.lock().await);
        world
    }
}

#[async_trait]
impl Attach for Handle {
    async fn attach(&self, running: &Running, _: &Policy) -> Result<Attached, Unattached> {
        if self.0.refuse.load(Ordering::SeqCst) {
            return Err(Unattached::Failed("no nft".into()));
        }
        if self.0.is_away(&running.sandbox) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Err(Unattached::NotAtGate("nobody at the gate".into()));
        }
        self.0.attached.fetch_add(1, Ordering::SeqCst);
        drop(self.0.hold.lock().await);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        let listeners = Listeners { tcp: vec![listener], ..Listeners::default() };
        Ok(Attached { listeners, gate: Some(Box::new(Handle(Arc::clone(&self.0)))), direct: None })
    }
}

impl Gate for Handle {
    fn open(self: Box<Self>) -> Result<(), String> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct FakeServing {
    fake: Arc<Fake>,
    sandbox: Arc<Sandbox>,
}

impl Serve for Handle {
    fn serve(
        &self,
        _: &Running,
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        _: Option<crate::direct::Direct>,
    ) -> Result<Box<dyn Serving>, String> {
        let ports = listeners.udp.iter().map(|socket| socket.local_addr().expect("bound").port());
        *self.0.ports.lock().expect("not poisoned") = ports.collect();
        self.0.generations.lock().expect("not poisoned").insert(sandbox.name.clone(), Vec::new());
        Ok(Box::new(FakeServing { fake: Arc::clone(&self.0), sandbox }))
    }
}

impl Serving for FakeServing {
    fn swap(&self, generation: Generation) {
        let mut generations = self.fake.generations.lock().expect("not poisoned");
        generations.entry(self.sandbox.name.clone()).or_default().push(generation);
    }
    fn enforced(&self) -> BoxFuture<'static, Result<(), String>> {
        self.fake.asked.fetch_add(1, Ordering::SeqCst);
        let (late, untaken) = (Arc::clone(&self.fake.late), Arc::clone(&self.fake.untaken));
        Box::pin(async move {
            drop(late.lock().await);
            if untaken.load(Ordering::SeqCst) { Err("no rules are taken".into()) } else { Ok(()) }
        })
    }
    fn set_peers(&self, running: &Running) {
        self.fake.peers.lock().expect("not poisoned").clone_from(&running.peers);
    }
    fn flows(&self) -> usize {
        2
    }
    fn broken(&self) -> Option<String> {
        self.fake.broken.load(Ordering::SeqCst).then(|| "no more rules".into())
    }
    fn more(&self) -> Listeners {
        Listeners::default()
    }
    fn cut_by(&self, generation: &Generation) -> Vec<String> {
        let name = "example.org".parse().expect("a name");
        if generation.compiled.resolves(&name, jiff::civil::date(2026, 1, 1)) {
            Vec::new()
        } else {
            vec![format!("{name}:443")]
        }
    }
}

impl Drop for FakeServing {
    fn drop(&mut self) {
        self.fake.generations.lock().expect("not poisoned").remove(&self.sandbox.name);
        if self.fake.records.load(Ordering::SeqCst) {
            self.sandbox.sink.record(forgotten::refusal(&self.sandbox.name));
        }
    }
}

impl Fake {
    fn daemon(self: &Arc<Self>, passed: Vec<Passed>) -> (Daemon, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let handle = || Box::new(Handle(Arc::clone(self)));
        let daemon = Daemon::new(Parts {
            engine: handle(),
            attach: handle(),
            serve: handle(),
            recorder: Arc::new(Recorder::open(dir.path().into()).expect("opened")),
            secrets: None,
            passed,
            version: "1.2.3".into(),
            // Fewer than the language allows, as with few descriptors.
            udp_ports: 100,
        });
        (daemon, dir)
    }

    fn is_away(&self, sandbox: &str) -> bool {
        let mut away = self.away.lock().expect("not poisoned");
        let Some(left) = away.get_mut(sandbox).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }

    fn says(&self, world: World) {
        *self.world.lock().expect("not poisoned") = Saying(Ok(world));
    }

    fn generations(&self, sandbox: &str) -> Option<Vec<u64>> {
        let generations = self.generations.lock().expect("not poisoned");
        generations.get(sandbox).map(|all| all.iter().map(|generation| generation.number).collect())
    }

    fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }

    /// Lets others go on until `counter` has come to `wanted`.
    async fn comes_to(counter: &AtomicUsize, wanted: usize) {
        while Self::count(counter) < wanted {
            tokio::task::yield_now().await;
        }
    }
}

fn running(container: &str, sandbox: &str) -> Running {
    Running {
        identity: Identity { container: container.into(), pid: 7, started_at: 1 },
        project: "acme".into(),
        sandbox: sandbox.into(),
        gated: true,
        way: Way::Proxy,
        own: BTreeMap::new(),
        peers: BTreeMap::new(),
    }
}

fn stored(hash: &str, hosts: &[&str]) -> Stored {
    let rules: Vec<String> = hosts
        .iter()
        .map(|host| {
            format!(
                r#"{{"host":"{host}","ports":[{{"first":443,"last":443}}],"place":{{"at":"x"}},
                "request":{{"set":[["authorization",{{"secret":"token"}}]]}}}}"#
            )
        })
        .collect();
    Stored {
        hash: hash.into(),
        text: format!(r#"{{"allow":[{}]}}"#, rules.join(",")),
        secrets: [(Name::new("token").expect("a name"), "sha256:1".to_owned())].into(),
    }
}

fn world(running: Vec<Running>, policies: &[(&str, Stored)]) -> World {
    let policies = policies.iter().map(|(sandbox, stored)| (("acme".into(), (*sandbox).into()), stored.clone()));
    World { running, policies: policies.collect() }
}

fn token() -> BTreeMap<Name, SecretValue> {
    let value = SecretValue { hash: "sha256:1".into(), value: b"hunter2".to_vec() };
    [(Name::new("token").expect("a name"), value)].into()
}

fn only(daemon: &Daemon) -> SandboxStatus {
    let mut sandboxes = daemon.status().sandboxes;
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
    sandboxes.remove(0)
}

#[tokio::test]
async fn what_is_broken_is_attached_to_anew() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    assert!(!daemon.is_due());
    fake.broken.store(true, Ordering::SeqCst);
    assert!(daemon.is_due());
    assert_eq!(only(&daemon).problem.as_deref(), Some("no more rules"));
    assert_eq!(only(&daemon).policy, None, "who knows what is in force");
    daemon.look().await.expect("a look");
    fake.broken.store(false, Ordering::SeqCst);
    daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("in force again");
    assert_eq!(Fake::count(&fake.attached), 2);
}

fn meeting(container: &str, peers: &[(&str, &str)]) -> Running {
    let peers = peers.iter().map(|(name, address)| ((*name).to_owned(), vec![address.parse().expect("an address")]));
    Running { peers: peers.collect(), ..running(container, "api") }
}

#[tokio::test]
async fn peers_that_come_while_a_sandbox_is_attached_to_are_told_once_it_is_served() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let held = fake.hold.lock().await;
    fake.says(world(vec![meeting("c1", &[("db", "10.0.0.2")])], &[]));
    daemon.look().await.expect("looked");
    let mut changed = daemon.shared.changed.subscribe();
    while Fake::count(&fake.attached) == 0 {
        tokio::task::yield_now().await;
    }
    let later = meeting("c1", &[("db", "10.0.0.2"), ("cache", "10.0.0.3")]);
    fake.says(world(vec![later.clone()], &[]));
    assert!(daemon.look().await.expect("looked"), "somebody has come");
    changed.mark_unchanged();
    assert!(fake.peers.lock().expect("not poisoned").is_empty(), "nothing serves it yet");
    drop(held);
    changed.changed().await.expect("it is served");
    assert_eq!(*fake.peers.lock().expect("not poisoned"), later.peers);
    assert_eq!(Fake::count(&fake.attached), 1);
}

#[tokio::test]
async fn a_successor_tells_again_who_the_peers_are() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![meeting("c1", &[("db", "10.0.0.2")])], &[]));
    daemon.enforce("acme", "api", None, BTreeMap::new()).await.expect("in force");
    assert!(fake.peers.lock().expect("not poisoned").is_empty(), "it was attached with them");
    let (sockets, _) = daemon.freeze().expect("not yet handed over");
    let passed = sockets.into_iter().map(|(identity, listeners)| Passed { identity, listeners });
    // Somebody else has come since, of whom the predecessor never heard.
    let later = meeting("c1", &[("db", "10.0.0.9")]);
    fake.says(world(vec![later.clone()], &[]));
    let (next, _dir) = fake.daemon(passed.collect());
    next.enforce("acme", "api", None, BTreeMap::new()).await.expect("in force");
    assert_eq!(Fake::count(&fake.attached), 1, "the sockets were taken over");
    assert_eq!(*fake.peers.lock().expect("not poisoned"), later.peers);
}

#[tokio::test]
async fn what_opens_addresses_is_not_handed_over() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let direct = Running { way: Way::Direct, ..running("c1", "api") };
    fake.says(world(vec![direct, running("c2", "web")], &[]));
    for sandbox in ["api", "web"] {
        daemon.enforce("acme", sandbox, None, BTreeMap::new()).await.expect("in force");
    }
    let (sockets, _) = daemon.freeze().expect("the first time");
    let handed: Vec<_> = sockets.into_iter().map(|(identity, _)| identity.container).collect();
    assert_eq!(handed, ["c2"]);
}

#[tokio::test]
async fn what_runs_is_attached_once_and_another_policy_is_swapped_in() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("still");
    assert_eq!((Fake::count(&fake.attached), Fake::count(&fake.opened)), (1, 1));
    assert_eq!(fake.generations("api"), Some(vec![]), "nothing was swapped");

    fake.says(world(vec![running("c1", "api")], &[("api", stored("b", &["example.net"]))]));
    daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect("in force");
    assert_eq!(Fake::count(&fake.attached), 1);
    assert_eq!(fake.generations("api"), Some(vec![2]));
    {
        let generations = fake.generations.lock().expect("not poisoned");
        let secrets = &generations["api"][0].secrets;
        assert_eq!(secrets.values().next().expect("the token").expose_secret(), b"hunter2");
    }
    let mut met = running("c1", "api");
    met.peers.insert("db".into(), vec!["10.0.0.2".parse().expect("an address")]);
    fake.says(world(vec![met.clone()], &[("api", stored("b", &["example.net"]))]));
    assert!(daemon.look().await.expect("looked"), "somebody is met");
    assert!(!daemon.look().await.expect("looked"), "nothing else has changed");
    assert_eq!(*fake.peers.lock().expect("not poisoned"), met.peers);
    assert_eq!(Fake::count(&fake.attached), 1);
    // Started anew: attached anew, though it is the same container.
    let mut again = running("c1", "api");
    again.identity.pid = 8;
    fake.says(world(vec![again], &[("api", stored("b", &["example.net"]))]));
    daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect("in force");
    assert_eq!((Fake::count(&fake.attached), Fake::count(&fake.opened)), (2, 2));
    assert!(!daemon.is_idle());

    fake.says(World::default());
    assert!(daemon.look().await.expect("looked"), "it is gone");
    assert!(!daemon.look().await.expect("looked"));
    assert_eq!(fake.generations("api"), None, "nobody serves it");
    assert!(daemon.is_idle());
}

#[tokio::test]
async fn a_policy_that_does_not_load_leaves_the_last_good_one() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    let broken = Stored { hash: "b".into(), text: "{".into(), secrets: BTreeMap::new() };
    fake.says(world(vec![running("c1", "api")], &[("api", broken.clone())]));
    let why = daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect_err("does not load");
    assert!(why.contains("does not load"), "{why}");
    let status = only(&daemon);
    assert_eq!(status.policy.as_deref(), Some("a"));
    assert!(status.problem.expect("said").contains("does not load"));
    assert_eq!(fake.generations("api"), Some(vec![]));

    // One that begins with it is not let in.
    fake.says(world(vec![running("c2", "api")], &[("api", broken)]));
    daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect_err("does not load");
    assert_eq!(Fake::count(&fake.opened), 1);
    assert_eq!(only(&daemon).policy, None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_attached_says_why_and_is_tried_again() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.refuse.store(true, Ordering::SeqCst);
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    let why = daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect_err("refused");
    assert_eq!(why, "no nft");
    assert_eq!(Fake::count(&fake.opened), 0, "nothing starts open");
    fake.refuse.store(false, Ordering::SeqCst);
    daemon.look().await.expect("looked");
    assert!(!daemon.is_due() && only(&daemon).policy.is_none(), "not at once");
    tokio::time::advance(TRY_AGAIN).await;
    assert!(daemon.is_due());
    daemon.look().await.expect("looked");
    daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("in force");
    assert_eq!(only(&daemon).missing_secrets, ["token"], "nobody gave it");
}

#[tokio::test]
async fn without_an_engine_it_goes_on_serving() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    *fake.world.lock().expect("not poisoned") = Saying(Err("nobody answers".into()));
    daemon.look().await.expect_err("nobody answers");
    assert_eq!(daemon.status().engine.as_deref(), Some("nobody answers"));
    assert_eq!(only(&daemon).policy.as_deref(), Some("a"));
    assert!(!daemon.is_idle());
}

#[tokio::test]
async fn another_policy_than_the_one_asked_for_is_an_error() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    let why = daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect_err("not there");
    assert!(why.contains("policy a"), "{why}");
    daemon.enforce("acme", "api", None, BTreeMap::new()).await.expect_err("there is one");
    daemon.enforce("acme", "elsewhere", None, BTreeMap::new()).await.expect("nothing to serve");
    fake.says(world(vec![running("c1", "api")], &[]));
    daemon.enforce("acme", "api", None, BTreeMap::new()).await.expect("the empty policy is in force");
    assert_eq!(fake.generations("api"), Some(vec![2]));
}

#[tokio::test]
async fn the_control_socket_answers_and_a_successor_takes_over() {
    use crate::control::Request;
    use crate::control::client::{Client, take_over};
    use crate::control::{Hello, Starter, server};

    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    let hello = Hello::own("1.2.3".to_owned(), Starter::Sbx);
    let socket = dir.path().join("daemon.sock");
    Client::connect(&socket, "0").await.expect_err("nobody listens");
    let listener = server::listen(&socket).expect("listening");
    let over = Arc::new(tokio::sync::Notify::new());
    tokio::spawn(server::serve(listener, daemon, hello, Arc::clone(&over)));
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o600);
    }

    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    let mut client = Client::connect(&socket, "9").await.expect("connected");
    assert_eq!((client.daemon.version.as_str(), client.daemon.starter), ("1.2.3", Starter::Sbx));
    let enforce = |policy: &str| Request::Enforce {
        project: "acme".into(),
        sandbox: "api".into(),
        policy: Some(policy.into()),
        secrets: token(),
    };
    client.order(&enforce("a")).await.expect("in force");
    let refused = client.order(&enforce("b")).await.expect_err("not there");
    assert!(!refused.is_end(), "nobody else would answer otherwise: {refused:?}");
    let status = client.status().await.expect("answered");
    assert_eq!((status.sandboxes.len(), status.sandboxes[0].flows), (1, 2));
    let text = format!("{:?}", enforce("a"));
    assert!(!text.contains("104, 117"), "values of secrets are not for logs: {text}");
    let would =
        |policy: Policy| Request::WouldCut { project: "acme".into(), sandbox: "api".into(), policy: Box::new(policy) };
    let answer = client.ask(&would(Policy::default())).await.expect("answered");
    assert!(matches!(answer, crate::control::Response::Flows { flows } if flows == ["example.org:443"]));

    let successor = Client::connect(&socket, "10").await.expect("connected");
    let inheritance = take_over(successor).await.expect("handed over");
    over.notified().await;
    assert_eq!(fake.generations("api"), None, "the old one serves nothing");
    let refused = client.order(&enforce("a")).await.expect_err("it is being replaced");
    assert!(refused.is_end(), "{refused:?}");
    let refused = client.status().await.expect_err("nothing is served, for now");
    assert!(refused.is_end(), "{refused:?}");
    let late = Client::connect(&socket, "10").await.expect("connected");
    let refused = take_over(late).await.expect_err("another one was quicker");
    assert!(refused.is_end(), "{refused:?}");
    assert_eq!(inheritance.sandboxes.len(), 1);

    let (next, _dir) = fake.daemon(inheritance.sandboxes);
    next.inherit(inheritance.secrets).expect("kept");
    next.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("in force");
    assert_eq!(Fake::count(&fake.attached), 1, "the sockets were taken over");
    assert!(only(&next).missing_secrets.is_empty());
}
