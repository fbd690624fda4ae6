//! Building from a context directory.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::Method;

use super::{Tail, stream_item, upload};
use crate::backend::{BackendError, ErrorKind};
use crate::host::context;
use crate::podman::client::{LONG_SILENCE, TAR, with_query};
use crate::podman::{Podman, Progress};
use crate::spec::NewObject;

/// What to build.
pub(super) struct Build<'a> {
    pub context: &'a Path,
    pub containerfile: &'a Path,
    pub args: &'a BTreeMap<String, String>,
    pub target: Option<&'a str>,
    pub inputs: &'a str,
}

impl Podman {
    pub(super) async fn build(
        &self,
        object: &NewObject,
        build: &Build<'_>,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        let failed = |error: &dyn std::fmt::Display| BackendError::new(ErrorKind::Failed, error.to_string());
        let containerfile = if build.containerfile.is_absolute() {
            build.containerfile.to_path_buf()
        } else {
            build.context.join(build.containerfile)
        };
        let inside = containerfile.strip_prefix(build.context).ok();
        let dockerfile = inside.unwrap_or(Path::new(context::OUTSIDE_NAME)).display().to_string();
        let args = serde_json::to_string(build.args).map_err(|error| failed(&error))?;
        // Podman 5 expands variables in label values. Ours that can hold a dollar sign are JSON, which has another way
        // to write it.
        let labels: BTreeMap<_, _> =
            object.labels.iter().map(|(key, value)| (key, value.replace('$', "\\u0024"))).collect();
        let labels = serde_json::to_string(&labels).map_err(|error| failed(&error))?;
        let mut query = vec![
            ("dockerfile", dockerfile.as_str()),
            ("t", object.name.as_str()),
            ("buildargs", args.as_str()),
            ("labels", labels.as_str()),
            ("layers", "true"),
            ("rm", "true"),
            ("forcerm", "true"),
            // The caller's proxies are the caller's: an argument of the file passes what is meant to be seen.
            ("httpproxy", "false"),
        ];
        query.extend(build.target.map(|target| ("target", target)));
        let directory = build.context.to_path_buf();
        let body = upload::written(move |writer| context::tar(&directory, &containerfile, writer).map(drop));
        tracing::debug!(inputs = build.inputs, "build");
        let path = with_query("/build", &query);
        let mut pieces = self.client().stream(Method::POST, &path, TAR, body, LONG_SILENCE).await?;
        let mut tail = Tail::default();
        pieces.lines(|line| stream_item(line, &mut tail, progress)).await
    }
}
