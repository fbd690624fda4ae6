//! What a sandbox wrote.

use futures_util::StreamExt as _;
use podman_api::opts::ContainerLogsOpts;
use tokio::time::timeout;

use super::client::QUICK;
use super::{Reader, error};
use crate::backend::BackendError;

/// Which lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Wait for more.
    pub follow: bool,
    /// Only so many from the end.
    pub tail: Option<u64>,
    /// Not older than this, as the engine writes times: seconds since the epoch, or RFC 3339.
    pub since: Option<String>,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// From standard output, or from the terminal.
    Stdout(Vec<u8>),
    /// From standard error.
    Stderr(Vec<u8>),
}

impl Reader {
    /// Gives each piece of the log to `each`, until the log ends or `each` says false.
    pub async fn logs(
        &self,
        container: &str,
        query: &LogQuery,
        mut each: impl FnMut(Output) -> bool + Send,
    ) -> Result<(), BackendError> {
        let mut options = ContainerLogsOpts::builder().stdout(true).stderr(true).follow(query.follow);
        if let Some(tail) = query.tail {
            options = options.tail(tail.to_string());
        }
        if let Some(since) = &query.since {
            options = options.since(since);
        }
        let container = self.api().containers().get(container);
        let mut pieces = std::pin::pin!(container.logs(&options.build()));
        loop {
            let piece = if query.follow {
                pieces.next().await
            } else {
                timeout(QUICK, pieces.next()).await.map_err(|_| error::timed_out("logs", QUICK))?
            };
            let output = match piece {
                None => return Ok(()),
                Some(Ok(podman_api::conn::TtyChunk::StdErr(bytes))) => Output::Stderr(bytes),
                Some(Ok(podman_api::conn::TtyChunk::StdOut(bytes) | podman_api::conn::TtyChunk::StdIn(bytes))) => {
                    Output::Stdout(bytes)
                }
                Some(Err(failure)) => return Err(error::from_api(&failure)),
            };
            if !each(output) {
                return Ok(());
            }
        }
    }

    /// The last lines, for messages.
    pub(crate) async fn log_tail(&self, container: &str, lines: u64) -> Result<Vec<String>, BackendError> {
        let query = LogQuery { tail: Some(lines), ..LogQuery::default() };
        let mut text = Vec::new();
        self.logs(container, &query, |output| {
            match output {
                Output::Stdout(bytes) | Output::Stderr(bytes) => text.extend_from_slice(&bytes),
            }
            text.len() < 64 * 1024
        })
        .await?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}
