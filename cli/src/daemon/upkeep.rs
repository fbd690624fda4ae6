//! Keeping what is inside of a sandbox's namespace in line with what it should be, after it was attached to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use egress::attach::{self, Target};
use egress::listeners::Listeners;
use egress::networks::Networks;
use egress::service::Service;
use tokio::sync::watch;

use super::namespaces::{PROGRAM, told};

/// Pause before what failed is tried again; doubled for each further time.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest pause.
const AGAIN_AT_MOST: Duration = Duration::from_secs(10);

/// What is inside, or is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Ports for datagrams that have sockets, but those that it had from the beginning and that nothing is about by now.
    pub ports: BTreeSet<u16>,
    /// What the rules say of its networks.
    pub networks: Arc<Networks>,
    /// How often that was said: the same again may stand for another table of the kernel.
    pub said: u64,
}

/// Brings about what is wanted, one thing after another: what is there in the end is what was wanted last. What fails is
/// tried again. Ends when it is dropped.
#[derive(Debug)]
pub struct Upkeep {
    wanted: watch::Sender<Inside>,
    /// What came of what was said of its networks last, and of which time.
    told: watch::Receiver<(u64, Result<(), String>)>,
    /// Sockets made since the sandbox is served.
    more: Arc<Mutex<Listeners>>,
}

impl Upkeep {
    /// Of the sandbox at `target`, which has `there` inside already.
    pub fn of(service: &Arc<Service>, target: Target, there: Inside) -> Self {
        let (wanted, changes) = watch::channel(there.clone());
        let more = Arc::default();
        let sandbox = service.sandbox().name.clone();
        let namespace = Entered { service: Arc::downgrade(service), target, more: Arc::clone(&more) };
        let (tell, told) = watch::channel((there.said, Ok(())));
        let first = there.ports.clone();
        tokio::spawn(Keeper { sandbox, namespace, there, first, tell }.run(changes));
        Self { wanted, told, more }
    }

    /// Wants sockets for `ports`, and for no others that were made since the sandbox is served. Those that it had from the
    /// beginning are kept for a successor, who closes them; what comes to them is refused.
    pub fn listen_to(&self, ports: &BTreeSet<u16>) {
        self.wanted.send_if_modified(|inside| {
            let other = inside.ports != *ports;
            inside.ports.clone_from(ports);
            other
        });
    }

    /// Wants the rules to hold to `networks`, also where they were told the same before.
    pub fn meet(&self, networks: Networks) {
        self.wanted.send_modify(|inside| {
            inside.networks = Arc::new(networks);
            inside.said += 1;
        });
    }

    /// The same, unless they were told so before.
    pub fn hold_to(&self, networks: Networks) {
        if *self.wanted.borrow().networks != networks {
            self.meet(networks);
        }
    }

    /// Waits until the rules hold to what was said of its networks last.
    ///
    /// # Errors
    /// They do not yet. It is tried again.
    pub fn met(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let said = self.wanted.borrow().said;
        let mut told = self.told.clone();
        async move {
            match told.wait_for(|(of, _)| *of >= said).await {
                Ok(told) => told.1.clone(),
                Err(_) => Err("it is not served any more".to_owned()),
            }
        }
    }

    /// Takes the sockets that were made.
    pub fn more(&self) -> Listeners {
        std::mem::take(&mut *self.more.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A namespace that can be changed, piece by piece.
trait Namespace: Send + Sync {
    /// Has its rules hold to `networks`.
    fn meet(&self, networks: &Networks) -> impl Future<Output = Result<(), String>> + Send;
    /// Makes sockets for `ports`, which has none of them.
    fn listen_to(&self, ports: &BTreeSet<u16>) -> impl Future<Output = Result<(), String>> + Send;
    /// Closes the sockets for `ports`.
    fn close(&self, ports: &BTreeSet<u16>);
}

struct Keeper<N> {
    sandbox: String,
    namespace: N,
    there: Inside,
    /// Ports that had sockets from the beginning.
    first: BTreeSet<u16>,
    tell: watch::Sender<(u64, Result<(), String>)>,
}

impl<N: Namespace> Keeper<N> {
    async fn run(mut self, mut changes: watch::Receiver<Inside>) {
        let mut pause = AGAIN;
        loop {
            let wanted = changes.borrow_and_update().clone();
            let Err(why) = self.bring_about(&wanted).await else {
                pause = AGAIN;
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tracing::warn!(sandbox = self.sandbox, why, "its namespace is not as it should be");
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN_AT_MOST);
        }
    }

    async fn bring_about(&mut self, wanted: &Inside) -> Result<(), String> {
        if self.there.said != wanted.said {
            let met = self.namespace.meet(&wanted.networks).await;
            let met = met.map_err(|why| format!("its networks are held to as before: {why}"));
            drop(self.tell.send_replace((wanted.said, met.clone())));
            met?;
            (self.there.networks, self.there.said) = (Arc::clone(&wanted.networks), wanted.said);
        }
        let unwanted = |port: &&u16| !wanted.ports.contains(port) && !self.first.contains(port);
        let unwanted: BTreeSet<u16> = self.there.ports.iter().filter(unwanted).copied().collect();
        if !unwanted.is_empty() {
            self.namespace.close(&unwanted);
            self.there.ports.retain(|port| !unwanted.contains(port));
        }
        let missing: BTreeSet<u16> = wanted.ports.difference(&self.there.ports).copied().collect();
        if !missing.is_empty() {
            let added = self.namespace.listen_to(&missing).await;
            added.map_err(|why| format!("no sockets for datagrams: {why}"))?;
            self.there.ports.extend(missing);
        }
        Ok(())
    }
}

/// That of a container, by way of a process that enters it.
struct Entered {
    /// Whoever drops the service wants it to end.
    service: Weak<Service>,
    target: Target,
    more: Arc<Mutex<Listeners>>,
}

impl Namespace for Entered {
    async fn meet(&self, networks: &Networks) -> Result<(), String> {
        attach::update_networks(Path::new(PROGRAM), &self.target, networks).await.map_err(|error| told(&error))
    }

    async fn listen_to(&self, ports: &BTreeSet<u16>) -> Result<(), String> {
        let udp = attach::add_udp(Path::new(PROGRAM), &self.target, ports).await.map_err(|error| told(&error))?;
        let listeners = Listeners { udp, ..Listeners::default() };
        let spare = listeners.try_clone().map_err(|error| error.to_string())?;
        let Some(service) = self.service.upgrade() else { return Ok(()) };
        service.add_listeners(listeners).map_err(|error| error.to_string())?;
        self.more.lock().unwrap_or_else(PoisonError::into_inner).udp.extend(spare.udp);
        Ok(())
    }

    fn close(&self, ports: &BTreeSet<u16>) {
        if let Some(service) = self.service.upgrade() {
            service.close_udp(ports);
        }
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        more.udp.retain(|socket| socket.local_addr().is_ok_and(|address| !ports.contains(&address.port())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does one thing after another, and refuses for as long as it is told to.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        inside: Inside,
        refuse: usize,
        asked: Vec<String>,
        under_way: bool,
    }

    impl Told {
        async fn one(&self, asked: String, act: impl FnOnce(&mut Inside) + Send) -> Result<(), String> {
            assert!(!std::mem::replace(&mut self.state().under_way, true), "two at once");
            // Another wish may come while this is done.
            tokio::task::yield_now().await;
            let mut state = self.state();
            state.under_way = false;
            state.asked.push(asked);
            if state.refuse > 0 {
                state.refuse -= 1;
                return Err("nobody knows why".into());
            }
            act(&mut state.inside);
            Ok(())
        }

        fn state(&self) -> std::sync::MutexGuard<'_, State> {
            self.0.lock().expect("not poisoned")
        }
    }

    impl Namespace for Told {
        async fn meet(&self, networks: &Networks) -> Result<(), String> {
            let networks = networks.clone();
            let asked = format!("peers {:?}", networks.peers);
            self.one(asked, |inside| inside.networks = Arc::new(networks)).await
        }

        async fn listen_to(&self, ports: &BTreeSet<u16>) -> Result<(), String> {
            let ports = ports.clone();
            self.one(format!("ports {ports:?}"), |inside| inside.ports.extend(ports)).await
        }

        fn close(&self, ports: &BTreeSet<u16>) {
            let mut state = self.state();
            state.asked.push(format!("without {ports:?}"));
            state.inside.ports.retain(|port| !ports.contains(port));
        }
    }

    fn kept() -> (Told, Upkeep, tokio::task::JoinHandle<()>) {
        kept_of(BTreeSet::new())
    }

    /// What has sockets for `first` from the beginning.
    fn kept_of(first: BTreeSet<u16>) -> (Told, Upkeep, tokio::task::JoinHandle<()>) {
        let (told, there) = (Told::default(), Inside { ports: first.clone(), ..Inside::default() });
        told.state().inside = there.clone();
        let (wanted, changes) = watch::channel(there.clone());
        let (tell, heard) = watch::channel((0, Ok(())));
        let keeper = Keeper { sandbox: "api".into(), namespace: told.clone(), there, first, tell };
        let task = tokio::spawn(keeper.run(changes));
        (told, Upkeep { wanted, told: heard, more: Arc::default() }, task)
    }

    fn peers(last: u8) -> Networks {
        Networks { peers: [std::net::IpAddr::from([10, 0, 0, last])].into(), ..Networks::default() }
    }

    /// With time that stands still until nothing else is to be done: whatever is tried again has been by then.
    async fn settled() {
        tokio::time::sleep(Duration::from_mins(10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wanted_last_is_there_in_the_end() {
        let (told, upkeep, _task) = kept();
        for last in 1..=20 {
            upkeep.meet(peers(last));
            upkeep.listen_to(&(5001..=5000 + u16::from(last)).collect());
            if last % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        settled().await;
        let state = told.state();
        assert_eq!(*state.inside.networks, peers(20));
        assert_eq!(state.inside.ports, (5001..=5020).collect());
        assert!(state.asked.len() > 2, "some were under way when others came: {:?}", state.asked);
    }

    #[tokio::test(start_paused = true)]
    async fn ports_that_nothing_is_about_any_more_are_closed_but_those_of_the_beginning() {
        let (told, upkeep, _task) = kept_of([7].into());
        for (wanted, there) in
            [(vec![7, 8, 9], vec![7, 8, 9]), (vec![9, 10], vec![7, 9, 10]), (vec![8], vec![7, 8]), (vec![], vec![7])]
        {
            upkeep.listen_to(&wanted.into_iter().collect());
            settled().await;
            assert_eq!(told.state().inside.ports, there.into_iter().collect());
        }
        let asked = std::mem::take(&mut told.state().asked);
        let expected = ["ports {8, 9}", "without {8}", "ports {10}", "without {9, 10}", "ports {8}", "without {8}"];
        assert_eq!(asked, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_and_what_was_done_is_not() {
        let (told, upkeep, _task) = kept();
        told.state().refuse = 3;
        upkeep.meet(peers(2));
        settled().await;
        upkeep.listen_to(&BTreeSet::from([53]));
        settled().await;
        let asked = std::mem::take(&mut told.state().asked);
        assert_eq!(asked, [&["peers {10.0.0.2}"; 4][..], &["ports {53}"]].concat());
        // The same peers, said again, may stand for another table of the kernel.
        upkeep.meet(peers(2));
        upkeep.listen_to(&BTreeSet::from([53]));
        settled().await;
        assert_eq!(told.state().asked, ["peers {10.0.0.2}"]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_wish_does_not_wait_for_the_pause() {
        let (told, upkeep, _task) = kept();
        told.state().refuse = usize::MAX;
        upkeep.meet(peers(2));
        settled().await;
        // By now pauses are long.
        told.state().refuse = 0;
        upkeep.meet(peers(3));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*told.state().inside.networks, peers(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_what_came_of_what_was_said_last() {
        let (told, upkeep, _task) = kept();
        upkeep.met().await.expect("nothing was said");
        upkeep.meet(peers(2));
        upkeep.meet(peers(3));
        upkeep.met().await.expect("it is so");
        assert_eq!(*told.state().inside.networks, peers(3));
        let count = told.state().asked.len();
        upkeep.hold_to(peers(3));
        upkeep.met().await.expect("it was so before");
        assert_eq!(told.state().asked.len(), count, "the same is not said again");
        told.state().refuse = 1;
        upkeep.hold_to(peers(4));
        let why = upkeep.met().await.expect_err("it was refused");
        assert!(why.contains("nobody knows why"), "{why}");
        settled().await;
        upkeep.met().await.expect("it was tried again");
        assert_eq!(*told.state().inside.networks, peers(4));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_whoever_wants_something() {
        for refuse in [0, usize::MAX] {
            let (told, upkeep, task) = kept();
            told.state().refuse = refuse;
            upkeep.meet(peers(2));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!told.state().asked.is_empty() && !task.is_finished());
            drop(upkeep);
            task.await.expect("it ends");
        }
    }
}
