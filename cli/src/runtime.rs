//! The async runtime, started only by commands that talk to an engine.

use std::future::Future;
use std::time::Duration;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt;

/// How long what was started beside an interrupted run may take to end, such as the removal of what a step had made.
const LINGER: Duration = Duration::from_millis(300);

/// Runs `future` to its end, or until a signal ends it.
///
/// # Guarantees
/// SIGINT and SIGTERM drop `future` where it stands, with all that it has started, and fail with exit code 130; the first
/// one does not where an [`interrupt::Interrupt`] listens.
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
    // A blocking call that hangs, on a dead mount for instance, must not keep a finished run from ending.
    let Some(result) = result else {
        runtime.shutdown_timeout(LINGER);
        return Err(Failure::new(Exit::Interrupted, "sbx::interrupted", "interrupted"));
    };
    runtime.shutdown_background();
    result
}
