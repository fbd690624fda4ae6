//! The async runtime, started only by commands that talk to an engine.

use std::future::Future;

use crate::failure::Failure;

/// Runs `future` to its end.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start threads", &error))?;
    let result = runtime.block_on(future);
    // A blocking call that hangs, on a dead mount for instance, must not keep a finished run from ending.
    runtime.shutdown_background();
    result
}
