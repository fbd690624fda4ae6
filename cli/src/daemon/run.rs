//! The daemon itself: one per user and engine.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use egress::control::client::{Client, Inheritance, take_over};
use egress::control::{Hello, Starter, server};
use egress::daemon::{Daemon, Parts, world};
use egress::limits::Limits;
use egress::recorder::Recorder;
use egress::shared::Shared;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::authorities::Authorities;
use super::engine::Engine;
use super::{Place, start, version};
use crate::exit::Exit;
use crate::failure::Failure;

/// How long a predecessor may take to end after it has handed over.
const LEAVE: Duration = Duration::from_secs(10);
/// How long the engine may take to say what runs before anything is taken over.
const ANSWER: Duration = Duration::from_secs(5);
/// How long what is under way may take when it ends. Where that does not do, the end of the process ends it.
const END: Duration = Duration::from_secs(2);
/// Pause before an engine that did not say so is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often what failed is looked at again, and whether anybody needs this daemon.
const TICK: Duration = Duration::from_secs(1);
/// How long nobody needs a daemon in the background until it ends.
const IDLE: Duration = Duration::from_mins(5);
/// Most descriptors that are of use: for as many connections as there may be at all.
const DESCRIPTORS: u64 = 1 << 20;
/// Threads that serve connections, at most.
const THREADS: usize = 4;

/// How it runs.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Who starts it. What `sbx` started ends when nobody needs it.
    pub starter: Starter,
    /// Takes the place of an older daemon, or of one that `sbx` started.
    pub replace: bool,
    /// Where metrics are served: a loopback address, or the socket in the runtime directory.
    pub metrics: Option<std::net::SocketAddr>,
}

impl Manner {
    fn is_background(&self) -> bool {
        self.starter == Starter::Sbx
    }
}

/// Runs until it is told to end.
pub fn run(place: &Place, connect: reconciler::podman::Connect, manner: &Manner) -> Result<Exit, Failure> {
    if manner.is_background() {
        // A session of its own: the terminal of whoever started it says nothing to it. It may be one's own already.
        let _ = rustix::process::setsid();
    }
    server::private_directory(&place.directory)
        .map_err(|error| Failure::io(format!("runtime directory {}", place.directory.display()), &error))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start threads", &error))?;
    let mut lock = None;
    let ended = runtime.block_on(serve(place, connect, manner, &mut lock));
    end(runtime, lock);
    ended
}

/// Ends all that is at work, and lets another daemon begin only then: what is still under way changes rules of sandboxes.
fn end(runtime: Runtime, lock: Option<File>) {
    runtime.shutdown_timeout(END);
    drop(lock);
}

/// Serves; what it holds as long as that takes is in `held`.
async fn serve(
    place: &Place,
    connect: reconciler::podman::Connect,
    manner: &Manner,
    held: &mut Option<File>,
) -> Result<Exit, Failure> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let engine = Engine::new(connect);
    let (lock, inheritance) = take(place, manner, &engine).await?;
    *held = Some(lock);
    let recorder = Recorder::open(place.records.clone())
        .map_err(|error| Failure::io(format!("records {}", place.records.display()), &error))?;
    let recorder = Arc::new(recorder);
    let Inheritance { sandboxes, secrets } = inheritance;
    let authorities = Arc::new(Authorities::new(place.data.clone(), shared()));
    let udp_ports = authorities.shared().limits.udp_ports;
    let daemon = Daemon::new(Parts {
        engine: Box::new(engine.clone()),
        attach: Box::new(super::namespaces::Namespaces),
        serve: Box::new(super::data_path::DataPath::new(Arc::clone(&authorities))),
        recorder: Arc::clone(&recorder),
        secrets: Some(place.secrets()),
        passed: sandboxes,
        version: version(),
        udp_ports,
    });
    daemon.inherit(secrets).map_err(|error| Failure::io("secrets", &error))?;

    let over = Arc::new(Notify::new());
    let socket = server::listen(&place.socket())
        .map_err(|error| Failure::io(format!("control socket {}", place.socket().display()), &error))?;
    let hello = Hello::own(version(), manner.starter);
    tokio::spawn(server::serve(socket, daemon.clone(), hello, Arc::clone(&over)));
    metrics(place, manner, &daemon, &recorder).await?;
    let watched = daemon.clone();
    tokio::spawn(async move { engine.watch(&watched).await });
    tracing::info!(version = version(), socket = %place.socket().display(), "the daemon runs");
    ready(manner.is_background());

    let mut looking = Looking::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut needed = Instant::now();
    let why = loop {
        tokio::select! {
            _ = terminate.recv() => break "terminated",
            _ = interrupt.recv() => break "interrupted",
            () = over.notified() => break "asked to",
            _ = hangup.recv() => looking.ask(),
            _ = tick.tick() => {
                tell(&[NotifyState::Watchdog]);
                authorities.refresh();
                if daemon.is_due() {
                    looking.hint();
                }
                if !daemon.is_idle() {
                    needed = Instant::now();
                }
                if manner.is_background() && needed.elapsed().min(daemon.quiet_for()) > IDLE {
                    break "nobody needs it";
                }
            }
        }
        let looks = daemon.clone();
        looking.go(async move {
            // What stands in the way is in `status`.
            let _ = looks.look().await;
        });
    };
    tracing::info!(why, "the daemon ends");
    tell(&[NotifyState::Stopping]);
    // After a handover the socket at this path is the successor's.
    let handed_over = daemon.is_frozen();
    if !handed_over {
        let _ = std::fs::remove_file(place.socket());
        let _ = std::fs::remove_file(place.metrics());
    }
    drop(daemon.freeze());
    if handed_over && manner.starter == Starter::ServiceManager {
        // It is to start what stands at the program's path by now, and that takes the place back. An end that was
        // ordered stays one.
        return Err(Failure::failed("sbx::daemon", "a newer daemon has taken over"));
    }
    Ok(Exit::Done)
}

/// Looks at the engine, one at a time and beside everything else: an engine that does not answer must keep neither a
/// service manager waiting nor whoever ends this daemon.
#[derive(Debug, Default)]
struct Looking {
    under_way: Option<JoinHandle<()>>,
    wanted: bool,
}

impl Looking {
    /// Wants a look that begins from now on.
    fn ask(&mut self) {
        self.wanted = true;
    }

    /// Wants a look; one that is under way will do.
    fn hint(&mut self) {
        self.wanted |= !self.is_under_way();
    }

    /// Begins with `look` if one is wanted and none is under way.
    fn go(&mut self, look: impl Future<Output = ()> + Send + 'static) {
        if self.wanted && !self.is_under_way() {
            self.wanted = false;
            self.under_way = Some(tokio::spawn(look));
        }
    }

    fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|look| !look.is_finished())
    }
}

/// What the data paths share, with as many connections as this process may have descriptors for.
fn shared() -> Arc<Shared> {
    let descriptors = descriptors();
    let limits = Limits::within(descriptors);
    let (of_all, sockets_of_all) = (limits.connections_of_all, limits.sockets_of_all);
    tracing::info!(descriptors, connections = limits.connections, of_all, sockets_of_all, "bounds");
    Arc::new(Shared::within(limits))
}

/// Raises the bound on descriptors, which is low for the sake of programs that use `select`; what it is then.
fn descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is without bound.
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    match current {
        Some(current) if current < wanted => {
            match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
                Ok(()) => wanted,
                Err(error) => {
                    tracing::warn!(%error, "the bound on descriptors stays");
                    current
                }
            }
        }
        Some(current) => current,
        None => DESCRIPTORS,
    }
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::io("cannot listen for signals", &error))
}

/// The lock, and what an older daemon had. That one goes on where `engine` does not answer.
pub(super) async fn take(
    place: &Place,
    manner: &Manner,
    engine: &impl world::Engine,
) -> Result<(File, Inheritance), Failure> {
    let lock = open(&place.lock())?;
    let mut inheritance = Inheritance { sandboxes: Vec::new(), secrets: std::collections::BTreeMap::new() };
    // The process that gave it, and is about to end.
    let mut heard = None;
    let mut deadline = Instant::now() + LEAVE;
    while !try_lock(&lock, &place.lock())? {
        if Instant::now() > deadline {
            return Err(Failure::new(Exit::TimedOut, "sbx::daemon", "another daemon runs, and does not answer")
                .with_help(format!("end whatever holds {}", place.lock().display())));
        }
        match Client::connect(&place.socket(), &version()).await {
            Ok(client) if heard == Some(client.daemon.pid) => {}
            // Also of one that had the lock before us: what it serves was attached to since.
            Ok(client) => {
                may_replace(manner, &client.daemon, &version())?;
                answers(engine).await?;
                deadline = Instant::now() + LEAVE;
                let Hello { version: before, pid, .. } = client.daemon.clone();
                match take_over(client).await {
                    Ok(taken) => {
                        tracing::info!(before, "taking over");
                        inheritance.sandboxes = taken.sandboxes;
                        inheritance.secrets.extend(taken.secrets);
                        heard = Some(pid);
                    }
                    // Another one was quicker, which is met next; or it has ended.
                    Err(error) if error.is_end() => tracing::debug!(%error, "nothing was handed over"),
                    // What was not handed over is attached anew once the other has ended.
                    Err(error) => {
                        tracing::warn!(%error, "not all was handed over");
                        heard = Some(pid);
                    }
                }
            }
            // It has just begun, or is about to end.
            Err(error) if error.is_end() || error.is_absent() => {}
            Err(error) => return Err(start::failure(&error)),
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok((lock, inheritance))
}

/// Waits until `engine` says what runs. Who had taken sockets over without knowing whose they are could serve nobody in them.
async fn answers(engine: &impl world::Engine) -> Result<(), Failure> {
    let mut why = "it does not answer".to_owned();
    let looks = async {
        while let Err(error) = engine.look().await {
            why = error;
            sleep(ASK_AGAIN).await;
        }
    };
    if timeout(ANSWER, looks).await.is_ok() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unreachable,
        "sbx::engine-unreachable",
        format!("the engine cannot be asked what runs: {why}"),
    )
    .with_help("the daemon that runs goes on; run the command again once the engine answers"))
}

/// Refuses to take the place of the daemon that said `there`. A newer one stays: what it serves may be beyond this one.
fn may_replace(manner: &Manner, there: &Hello, own: &str) -> Result<(), Failure> {
    let refused =
        |message: String, help: &str| Err(Failure::new(Exit::TryAgain, "sbx::daemon", message).with_help(help));
    let pid = there.pid;
    if manner.replace && start::is_older(own, &there.version) {
        return refused(
            format!("a newer daemon runs: version {}, process {pid}; this one is {own}", there.version),
            "run it with the newer sbx; `sbx daemon install` of that one writes a unit for it",
        );
    }
    // Whoever wants it to stay takes it from those who only needed one.
    let to_stay = there.starter == Starter::Sbx && !manner.is_background();
    if manner.replace && (to_stay || start::is_older(&there.version, own)) {
        return Ok(());
    }
    refused(format!("a daemon runs already: process {pid}"), "stop it with `sbx daemon stop`")
}

fn open(path: &Path) -> Result<File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map_err(|error| Failure::io(format!("lock {}", path.display()), &error))
}

/// Whether a daemon runs, has begun to, or is about to end.
pub fn is_there(place: &Place) -> bool {
    // Whoever tries to lock it meanwhile tries again.
    File::open(place.lock())
        .is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK))
}

fn try_lock(lock: &File, path: &Path) -> Result<bool, Failure> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Failure::io(format!("lock {}", path.display()), &error.into())),
    }
}

async fn metrics(place: &Place, manner: &Manner, daemon: &Daemon, recorder: &Arc<Recorder>) -> Result<(), Failure> {
    use egress::metrics::endpoint;
    let (daemon, recorder) = (daemon.clone(), Arc::clone(recorder));
    let text = move || recorder.metrics().text(&daemon.flows(), recorder.lost()).unwrap_or_default();
    if let Some(address) = manner.metrics {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Failure::io(format!("metrics on {address}"), &error))?;
        tokio::spawn(endpoint::serve_tcp(listener, text));
    } else {
        let path = place.metrics();
        let listener = server::listen(&path);
        let listener = listener.map_err(|error| Failure::io(format!("metrics on {}", path.display()), &error))?;
        tokio::spawn(endpoint::serve_unix(listener, text));
    }
    Ok(())
}

/// Says that it answers: to a service manager, and to the `sbx` that started it.
fn ready(background: bool) {
    tell(&[NotifyState::Ready]);
    if background {
        // Whoever started it may have gone; then nobody needs to know.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{}", start::READY).and_then(|()| out.flush());
        drop(out);
        // The pipe ends here, or whoever waits for its end would wait for the end of the daemon.
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(null);
        }
    }
}

/// Tells a service manager, if there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests;
