//! What a project has on this host for its sandboxes, and nobody needs without them: its certificate authority, the files
//! by which that is trusted, directories for sockets.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::configuration::Surroundings;
use crate::daemon::{Place, facts};
use crate::failure::Failure;
use crate::history::History;
use crate::placed_etc;
use crate::trust::TrustPlace;

/// How long the daemon may take to see that a project's sandboxes have gone.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Removes all of it, unless sandboxes of the same project are on another engine, which use it as well.
pub async fn remove(
    surroundings: &Surroundings,
    daemon: &Place,
    history: &History,
    project: &str,
) -> Result<(), Failure> {
    let Surroundings { person, directories } = surroundings;
    let trust = TrustPlace::new(&daemon.data, project);
    let sockets = directories.data.join("sockets");
    if history.is_elsewhere() || !(trust.authority().exists() || trust.shown().exists() || sockets.exists()) {
        return Ok(());
    }
    // As long as the daemon serves the project it makes its authority anew where that is missing.
    let deadline = Instant::now() + SEEN_WITHIN;
    while let Ok(Some(status)) = facts::status(daemon).await {
        if !status.sandboxes.iter().any(|sandbox| sandbox.project == project) || Instant::now() > deadline {
            break;
        }
        sleep(AGAIN).await;
    }
    trust.remove()?;
    person.act(&directories.data, || placed_etc::remove_sockets(&directories.data, project))
}
