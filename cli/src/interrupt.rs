//! Signals: SIGINT, SIGTERM and SIGHUP end a run at once, or first let it finish the step in hand when it has asked for
//! that; the next one ends it at once in any case, unless both are SIGHUP: that comes twice by itself. Whoever was started to ignore SIGHUP (`nohup`) goes on ignoring it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;

/// How long a run that is to end at once may take for it. Dropping what is under way takes no time; a reader that does not
/// read, or a dead mount, would take for ever.
const GRACE: Duration = Duration::from_secs(2);

/// A signal that asks for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// SIGINT.
    #[default]
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal has gone.
    HangUp,
}

/// The signals of this run.
#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    number: u32,
    /// The last one.
    asked: Asked,
    /// Whether the first one is for an [`Interrupt`].
    heeded: bool,
}

impl Arrived {
    fn ends_at_once(self) -> bool {
        self.number > u32::from(self.heeded)
    }

    fn hear(&mut self, asked: Asked) {
        // A terminal that goes is told twice: by the shell to its jobs, and by the kernel to whoever had the terminal.
        if self.number > 0 && (self.asked, asked) == (Asked::HangUp, Asked::HangUp) {
            return;
        }
        self.number += 1;
        self.asked = asked;
    }
}

/// Nothing may keep a run from ending that has been asked to end at once.
#[expect(clippy::disallowed_methods, reason = "main cannot be returned to: it is stuck")]
fn end_now() -> ! {
    crate::terminal::restore();
    std::process::exit(i32::from(Exit::Interrupted.code()))
}

/// The signals, listened to from the first call on and for as long as the process lives: the default way of a signal does
/// not come back once there has been a handler, not even with the end of the runtime.
fn arrived() -> io::Result<&'static watch::Sender<Arrived>> {
    static ARRIVED: OnceLock<watch::Sender<Arrived>> = OnceLock::new();
    if let Some(arrived) = ARRIVED.get() {
        return Ok(arrived);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        Signals {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
        }
    };
    let arrived = ARRIVED.get_or_init(watch::Sender::default);
    std::thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || runtime.block_on(count(signals, arrived)))?;
    Ok(arrived)
}

/// What is listened to.
struct Signals {
    int: Signal,
    term: Signal,
    hup: Option<Signal>,
}

impl Signals {
    async fn next(&mut self) -> Asked {
        let hang_up = async {
            match &mut self.hup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.int.recv() => Asked::Interrupt,
            _ = self.term.recv() => Asked::Terminate,
            _ = hang_up => Asked::HangUp,
        }
    }
}

/// Whether this process was started to ignore SIGHUP; a handler of ours would undo that.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The signal of number 1 has the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

async fn count(mut signals: Signals, arrived: &watch::Sender<Arrived>) {
    loop {
        let asked = signals.next().await;
        arrived.send_modify(|arrived| arrived.hear(asked));
        if arrived.borrow().ends_at_once() {
            tokio::time::sleep(GRACE).await;
            end_now();
        }
    }
}

/// Begins a run: signals from now on are its own. The future returns when it is to be dropped where it stands.
pub fn begin() -> io::Result<impl Future<Output = ()>> {
    let arrived = arrived()?;
    // An earlier run of this process may have finished although it had been asked to stop.
    arrived.send_modify(|arrived| *arrived = Arrived::default());
    let mut receiver = arrived.subscribe();
    Ok(async move {
        // The sender is never dropped.
        let _ = receiver.wait_for(|arrived| arrived.ends_at_once()).await;
    })
}

/// A run that can be asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stop: watch::Sender<bool>,
    timed_out: Arc<AtomicBool>,
    asked: Arc<OnceLock<Asked>>,
}

impl Interrupt {
    /// Takes the first signal of this run, which ends nothing by itself from now on; `say` tells the user what it does.
    pub fn listen(say: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let (stop, _) = watch::channel(false);
        let interrupt = Self { stop, timed_out: Arc::default(), asked: Arc::default() };
        let arrived = arrived()?;
        // One that has come just before is not lost: whoever is told to end at once looks at both numbers.
        arrived.send_modify(|arrived| arrived.heeded = true);
        let (own, mut receiver) = (interrupt.clone(), arrived.subscribe());
        tokio::spawn(async move {
            // Not kept: it would hold up the next signal.
            let first = receiver.wait_for(|arrived| arrived.number > 0).await.map(|arrived| *arrived);
            let _ = own.asked.set(first.map_or_else(|_| Asked::default(), |arrived| arrived.asked));
            own.stop.send_replace(true);
            say("Interrupted: finishing the step in hand. Once more stops at once.");
        });
        Ok(interrupt)
    }

    /// Asks for a stop when `timeout` has passed.
    pub fn stop_after(&self, timeout: Duration) {
        let own = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            own.timed_out.store(true, Ordering::Relaxed);
            own.stop.send_replace(true);
        });
    }

    /// Turns true when the run is to stop.
    pub fn stop(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Whether a deadline, not a person, asked for the stop.
    pub fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// Which signal asked for the stop; `None` when none did.
    pub fn asked(&self) -> Option<Asked> {
        self.asked.get().copied()
    }

    /// Returns when the run is to stop.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_goes_is_one_request_however_often_it_is_told() {
        use Asked::{HangUp, Interrupt, Terminate};

        let after = |signals: &[Asked]| {
            let mut arrived = Arrived { heeded: true, ..Arrived::default() };
            for asked in signals {
                arrived.hear(*asked);
            }
            arrived.ends_at_once()
        };
        for goes_on in [&[HangUp][..], &[HangUp; 3], &[Interrupt]] {
            assert!(!after(goes_on), "{goes_on:?}");
        }
        for again in [[HangUp, Interrupt], [HangUp, Terminate], [Interrupt, HangUp], [Terminate, Terminate]] {
            assert!(after(&again), "{again:?}");
        }
    }
}
