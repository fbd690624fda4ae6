//! What a project has on this host for its sandboxes, and nobody needs without them: its certificate authority, the files
//! by which that is trusted, directories for sockets.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::configuration::Surroundings;
use crate::daemon::{Place, facts, start};
use crate::failure::Failure;
use crate::history::History;
use crate::placed_etc;
use crate::trust::TrustPlace;

/// How long the daemon may take to see that a project's sandboxes have gone.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Removes all of it, unless sandboxes of the same project are on another engine, which use it as well. Whether they are is
/// remembered here for engines that this state directory knows; of others the daemons tell.
pub async fn remove(
    surroundings: &Surroundings,
    daemon: &Place,
    history: &History,
    project: &str,
) -> Result<(), Failure> {
    let Surroundings { person, directories } = surroundings;
    let trust = TrustPlace::new(&daemon.data, project);
    let sockets = directories.data.join(reconciler::data::SOCKETS);
    if history.is_elsewhere() || !(trust.authority().exists() || trust.shown().exists() || sockets.exists()) {
        return Ok(());
    }
    // As long as the daemon serves the project it makes its authority anew where that is missing.
    let deadline = Instant::now() + SEEN_WITHIN;
    while serves(daemon, project).await? {
        if Instant::now() > deadline {
            return Err(Failure::failed("sbx::daemon", "the daemon still serves sandboxes of it"));
        }
        sleep(AGAIN).await;
    }
    for other in daemon.others() {
        if serves(&other, project).await? {
            return Ok(());
        }
    }
    trust.remove()?;
    person.act(&directories.data, || placed_etc::remove_sockets(&directories.data, project))
}

/// Whether a daemon runs at `place` and serves sandboxes of `project`.
async fn serves(place: &Place, project: &str) -> Result<bool, Failure> {
    let status = facts::status(place).await.map_err(|error| start::failure(&error))?;
    Ok(status.is_some_and(|status| status.sandboxes.iter().any(|sandbox| sandbox.project == project)))
}
