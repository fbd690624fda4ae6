//! Signals: the first lets the step in hand finish, the second ends the run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::Exit;

/// The user has asked twice: what is still under way is left to the next run.
#[expect(clippy::disallowed_methods, reason = "nothing may keep this from ending")]
fn end_now() -> ! {
    crate::terminal::restore();
    std::process::exit(i32::from(Exit::Interrupted.code()))
}

/// A run that can be asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt {
    stop: watch::Sender<bool>,
    timed_out: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on; `say` tells the user what a first one does.
    pub fn listen(say: impl Fn(&str) + Send + 'static) -> std::io::Result<Self> {
        let (stop, _) = watch::channel(false);
        let interrupt = Self { stop, timed_out: Arc::default() };
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let own = interrupt.clone();
        tokio::spawn(async move {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            own.stop.send_replace(true);
            say("Interrupted: finishing the step in hand. Once more stops at once.");
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            end_now();
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

    /// Returns when the run is to stop.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}
