//! The async runtime, started only by commands that talk to an engine.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reconciler::podman::Reader;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;

/// How long what an interrupted step had made may take to be removed; less than the grace after which the process ends in
/// any case.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long blocking calls that were begun may take after that.
const LINGER: Duration = Duration::from_millis(300);

/// The engines of this run, which may have to remove something when it is cut short.
static ENGINES: Mutex<Vec<Reader>> = Mutex::new(Vec::new());

/// Has what is left behind by way of a connection that was just opened removed, should this run be cut short.
pub fn settles(engine: Reader) {
    engines().push(engine);
}

fn engines() -> std::sync::MutexGuard<'static, Vec<Reader>> {
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `future` to its end, or until a signal ends it.
///
/// # Guarantees
/// SIGINT, SIGTERM and SIGHUP drop `future` where it stands, with all that it has started, and fail with exit code 130; the
/// first one does not where an [`interrupt::Interrupt`] listens. What a dropped step had made is removed, if the engine is
/// quick; the next apply removes what is left.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start threads", &error))?;
    let ended = interrupt::begin().map_err(|error| Failure::io("cannot listen for signals", &error))?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            result = future => Some(result),
            () = ended => None,
        }
    });
    // Dropped with the last of them: a tunnel, or a service started for the run.
    let engines = std::mem::take(&mut *engines());
    let Some(result) = result else {
        // The runtime drops what it still runs when it is shut down.
        let settle = async {
            for engine in &engines {
                engine.settle().await;
            }
        };
        let _ = runtime.block_on(async { tokio::time::timeout(SETTLE, settle).await });
        drop(engines);
        runtime.shutdown_timeout(LINGER);
        return Err(Failure::new(Exit::Interrupted, "sbx::interrupted", "interrupted"));
    };
    drop(engines);
    // A blocking call that hangs, on a dead mount for instance, must not keep a finished run from ending.
    runtime.shutdown_background();
    result
}
