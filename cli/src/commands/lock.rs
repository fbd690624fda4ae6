//! `sbx lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reconciler::backend::{BackendError, Observe as _, Perform as _};
use reconciler::facts::Query;
use reconciler::op::Op;
use reconciler::spec::{ImageSpec, NewObject};
use schema::config::{Config, Image};
use serde::Serialize;

use super::Run;
use crate::configuration::{self, Surroundings};
use crate::engine::{Engine, Purpose, Reached};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lockfile;
use crate::render::json;
use crate::render::text::count;

/// Arguments of `lock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx lock                     pull every `ref` image and pin its digest
  sbx lock --timeout 2m        give up on a registry that says nothing
  sbx apply --locked           refuse what is not pinned")]
pub struct Args {
    /// Stop after so long: 90s, 10m; nothing is written then
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Document {
    format_version: &'static str,
    images: BTreeMap<String, String>,
}

/// Pins digests.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let surroundings = Surroundings::find(run)?;
    let config = configuration::load_quietly(run, &surroundings)?;
    let path = lockfile::path(&run.global.file);
    let references = references(&config);
    let images = if references.is_empty() {
        BTreeMap::new()
    } else {
        crate::runtime::block_on(async {
            let engine =
                Reached::find(run, &surroundings).await?.gather(run, &surroundings, &config, Purpose::Reach).await?;
            let work = resolve(run, &config, &engine, &references, args.timeout);
            match args.timeout {
                // Each pull is patient for as long; this bounds all of them together.
                Some(timeout) => {
                    tokio::time::timeout(timeout + GRACE, work).await.unwrap_or_else(|_| Err(late(timeout)))
                }
                None => work.await,
            }
        })?
    };
    surroundings.person.act(&path, || lockfile::write(&path, &images))?;
    if run.screen.json {
        run.screen.result(&json::document(&Document { format_version: json::FORMAT_VERSION, images }))?;
    } else {
        run.screen.say(&format!("Pinned {} in {}.", count(images.len(), "image"), path.display()));
    }
    Ok(Exit::Done)
}

/// What a silent registry gets beyond the bound, so that it is the one that is named.
const GRACE: Duration = Duration::from_millis(500);

fn late(timeout: Duration) -> Failure {
    let message =
        format!("not every image was pulled within {}; nothing was written", humantime::format_duration(timeout));
    Failure::new(Exit::TimedOut, "sbx::timed-out", message).with_help("give it more with --timeout, or run it again")
}

fn references(config: &Config) -> BTreeSet<String> {
    config
        .images
        .values()
        .filter_map(|image| match image {
            Image::Ref { reference, .. } => Some(reference.clone()),
            _ => None,
        })
        .collect()
}

async fn resolve(
    run: &Run<'_>,
    config: &Config,
    engine: &Engine,
    references: &BTreeSet<String>,
    timeout: Option<Duration>,
) -> Result<BTreeMap<String, String>, Failure> {
    let begun = Instant::now();
    for reference in references {
        let object = NewObject { name: reference.clone(), labels: BTreeMap::new() };
        let spec = ImageSpec::Ref { reference: reference.clone(), digest: None, pull: String::from("always") };
        let progress = |text: &str| {
            if run.screen.verbose > 0 {
                run.screen.say(&format!("{reference}: {text}"));
            }
        };
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let acting = engine.acting(config).patient_for(left);
        acting
            .perform(&Op::CreateImage { object, spec }, &progress)
            .await
            .map_err(|error| told(config, reference, error))?;
    }
    let query = Query { project: config.project.to_string(), images: references.clone(), ..Query::default() };
    let snapshot = engine.snapshot(&query).await.map_err(|error| Failure::backend("list images", error))?;
    references
        .iter()
        .map(|reference| {
            let image = snapshot
                .images
                .iter()
                .find(|image| image.tags.contains(reference) || image.digests.contains(reference));
            let digest = image
                .and_then(|image| {
                    // The same content may have come from other registries too, packed otherwise.
                    let repository = repository(reference);
                    let own = image.digests.iter().find(|digest| digest.split('@').next() == Some(repository));
                    own.or_else(|| image.digests.first())
                })
                .and_then(|digest| digest.rsplit_once('@'))
                .map(|(_, digest)| digest.to_owned())
                .filter(|digest| lockfile::is_digest(digest));
            let digest = digest.ok_or_else(|| {
                Failure::failed(
                    "sbx::no-digest",
                    format!("{reference} was pulled, but the engine tells no digest of it"),
                )
                .with_help("write the reference in full, with registry and tag")
            })?;
            Ok((reference.clone(), digest))
        })
        .collect()
}

/// What is said of a pull that failed: the image that asks for it first, and its line.
fn told(config: &Config, reference: &str, error: BackendError) -> Failure {
    let asks = |image: &Image| matches!(image, Image::Ref { reference: other, .. } if other == reference);
    match config.images.iter().find(|(_, image)| asks(image)) {
        Some((name, _)) => {
            let origin = config.origins.find(&format!("images.{name}")).map(|place| place.to_string());
            Failure::backend(&format!("image/{name}"), error).with_origin(origin)
        }
        None => Failure::backend(&format!("pull {reference}"), error),
    }
}

/// A reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for (reference, expected) in [
            ("registry.example:5000/team/app:1", "registry.example:5000/team/app"),
            ("registry.example:5000/team/app", "registry.example:5000/team/app"),
            ("example.org/app:1@sha256:00", "example.org/app"),
            ("app:1", "app"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }
}
