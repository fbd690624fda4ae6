//! Running commands in an image and keeping the result.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::Method;
use schema::policy::Policy;
use serde::Serialize;

use super::scaffold::Scaffold;
use super::{Tail, split_tag};
use crate::backend::{BackendError, ErrorKind};
use crate::kinds::policy::{LISTENER, passing};
use crate::ownership;
use crate::podman::client::{LONG_SILENCE, SLOW, with_query};
use crate::podman::create::{Mount, bind};
use crate::podman::exec::ExecSpec;
use crate::podman::logs::Output;
use crate::podman::{Podman, Progress};
use crate::resource::{Labels, Naming, label};
use crate::spec::{ImageUse, NewObject};

/// How long the daemon may take until it serves a builder.
const TAKEN_ON_WITHIN: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Builder<'a> {
    name: &'a str,
    image: &'a str,
    entrypoint: [&'a str; 3],
    command: [&'a str; 0],
    user: &'a str,
    labels: &'a Labels,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    netns: BTreeMap<&'a str, &'a str>,
    mounts: Vec<Mount>,
    env_host: bool,
    httpproxy: bool,
    image_volume_mode: &'a str,
    systemd: &'a str,
    stdin: bool,
    init: bool,
}

/// Commands, and the image they are run in.
pub(super) struct Setup<'a> {
    /// Where to start.
    pub from: &'a ImageUse,
    /// Shell commands.
    pub commands: &'a [String],
    /// `none`, `open` or `allowlist`.
    pub egress: &'a str,
    /// What they may reach, with `allowlist`.
    pub policy: Option<&'a Policy>,
    /// Says who is asked for names, with `allowlist`.
    pub resolv_conf: Option<&'a Path>,
    /// Id that `from` has to have.
    pub base: Option<&'a str>,
}

impl Podman {
    /// Runs `commands` one by one as root of a container made of `from`, and commits it.
    ///
    /// # Guarantees
    /// The container is removed whatever happens, also when this is given up, as long as
    /// [`settle`](crate::backend::Perform::settle) is waited for; one that a killed run left is found by its name and label
    /// and removed first.
    pub(super) async fn set_up(
        &self,
        object: &NewObject,
        setup: &Setup<'_>,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        let Setup { from, commands, egress, policy, resolv_conf, base } = setup;
        let there = self.reader().resolve_image(&from.reference).await?.ok_or_else(|| {
            BackendError::new(ErrorKind::NotFound, format!("{} is not on the engine", from.reference))
        })?;
        if base.is_some_and(|base| base != there) {
            let message = format!("{} has moved since the plan was made", from.reference);
            return Err(BackendError::new(ErrorKind::Stale, message).with_help("plan again"));
        }
        let project = object.labels.get(label::PROJECT).cloned().unwrap_or_default();
        let naming = Naming::new(project.as_str());
        let own = ownership::builder(&object.name);
        let name = naming.object(&own);
        if let Some(left) = self.reader().find_container(&name).await? {
            let labels = &left.config.labels;
            if labels.get(label::PROJECT) != Some(&project)
                || labels.get(label::KIND).map(String::as_str) != Some(ownership::BUILDER)
            {
                return Err(BackendError::new(
                    ErrorKind::Conflict,
                    format!("the name {name} is held by another container"),
                ));
            }
            self.discard_container(&left.id).await?;
        }
        // The labels of the image to be, with another kind: a container committed hands its labels on.
        let mut labels = object.labels.clone();
        labels.insert(label::KIND.to_owned(), ownership::BUILDER.to_owned());
        labels.insert(label::BASE.to_owned(), there.clone());
        let builder = Builder {
            name: &name,
            // By id: the name may move between that look and now.
            image: &there,
            // Waits for its standard input to end, which never happens; needs no program but the shell.
            entrypoint: ["/bin/sh", "-c", "read _"],
            command: [],
            user: "0:0",
            labels: &labels,
            netns: if *egress == "open" { BTreeMap::new() } else { BTreeMap::from([("nsmode", "none")]) },
            env_host: false,
            httpproxy: false,
            image_volume_mode: "ignore",
            systemd: "false",
            stdin: true,
            init: false,
            mounts: resolv_conf.map(|path| bind(path, "/etc/resolv.conf".to_owned(), true, None)).into_iter().collect(),
        };
        let uid = object.labels.get(label::UID).cloned().unwrap_or_default();
        let held = policy.map(|policy| passing(&naming, &own, policy, uid));
        let scaffold = Scaffold::new(self, &name, &labels, held.as_ref().map(|held| held.name.as_str()));
        // Before anybody can see the container: from its first moment there is something to hold it to.
        if let Some(held) = &held {
            self.create_volume(held).await?;
        }
        let made = async {
            self.client().post("/containers/create", &builder, SLOW).await?;
            self.run_and_commit(&name, object, commands, held.is_some(), progress).await
        }
        .await;
        made.and(scaffold.take_down().await)
    }

    /// Waits until the daemon has taken on the network of `builder`: its listener is there, and was made after the rules.
    /// What connects to it before it is served waits in its queue.
    async fn taken_on(&self, builder: &str) -> Result<(), BackendError> {
        let script = format!(
            "while read -r line; do case $line in *:{LISTENER:04X}\\ *) exit 0;; esac; done </proc/net/tcp; exit 1"
        );
        let spec = ExecSpec {
            command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
            user: Some("0:0".to_owned()),
            ..ExecSpec::default()
        };
        let deadline = Instant::now() + TAKEN_ON_WITHIN;
        loop {
            let mut session = self.exec(builder, &spec).await?;
            while session.next().await?.is_some() {}
            if session.exit_code().await? == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let message = "no daemon holds the set-up to its `egress`: its commands were not run";
                return Err(BackendError::new(ErrorKind::Failed, message).with_help("see `sbx daemon status`"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run_and_commit(
        &self,
        builder: &str,
        object: &NewObject,
        commands: &[String],
        held: bool,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        self.start_container(builder).await?;
        if held {
            // Without an interface that leads out there is nothing to be reached before.
            self.taken_on(builder).await?;
        }
        for (index, command) in commands.iter().enumerate() {
            progress(&format!("[{}/{}] {command}", index + 1, commands.len()));
            self.run(builder, command, progress).await.map_err(|error| {
                let help =
                    "it reaches what `setup.egress.allow` names; what was refused is in `sbx egress log --denied`";
                if held && error.help.is_none() { error.with_help(help) } else { error }
            })?;
        }
        progress("committing");
        let (repo, tag) = split_tag(&object.name);
        // The other labels come from the container. Here they would be read as a line of a Containerfile, quotes,
        // variables and all.
        let kind = object.labels.get(label::KIND).map_or("image", String::as_str);
        let change = format!("LABEL {}={kind}", label::KIND);
        let query = [
            ("container", builder),
            ("repo", repo),
            ("tag", tag),
            ("pause", "false"),
            ("format", "oci"),
            ("changes", &change),
        ];
        self.client().call(Method::POST, &with_query("/commit", &query), LONG_SILENCE).await.map(drop)
    }

    async fn run(&self, builder: &str, command: &str, progress: Progress<'_>) -> Result<(), BackendError> {
        let spec = ExecSpec {
            command: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
            user: Some("0:0".to_owned()),
            ..ExecSpec::default()
        };
        let mut session = self.exec(builder, &spec).await?;
        let mut tail = Tail::default();
        let mut partial = String::new();
        while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = session.next().await? {
            partial.push_str(&String::from_utf8_lossy(&bytes));
            while let Some(end) = partial.find('\n') {
                let line: String = partial.drain(..=end).collect();
                progress(line.trim_end());
                tail.push(line.trim_end());
            }
        }
        if !partial.is_empty() {
            tail.push(&partial);
        }
        match session.exit_code().await? {
            0 => Ok(()),
            code => Err(BackendError::new(
                ErrorKind::Failed,
                tail.with(&format!("the setup command `{command}` ended with exit code {code}")),
            )),
        }
    }
}
