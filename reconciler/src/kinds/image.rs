//! Images: pulled, built, loaded, imported or derived; tagged by the hash of what they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schema::Name;
use schema::config::{EgressMode, Image, Pull, User};

use super::container::etc;
use super::{Change, Kind, PlanContext, fixed, policy};
use crate::desired::{DesireContext, Desired, DesiredState, to_spec};
use crate::diff;
use crate::facts::{ImageFacts, Snapshot};
use crate::host_facts::Fact;
use crate::op::Op;
use crate::ownership;
use crate::plan::Action;
use crate::resource::{ResourceId, label, sha256, short};
use crate::spec::{ImageSpec, ImageUse, NewObject};

/// The kind.
pub struct Images;

/// Its noun.
pub const NOUN: &str = "image";

/// Every directory an empty root has, so that mounts and programs find what they expect.
const HOST_DIRECTORIES: &[&str] =
    &["/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var", "/var/tmp", "/var/lib", "/var/cache"];

impl Kind for Images {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        for Used { name, user } in used(context) {
            let Some(image) = context.config.images.get(name) else { continue };
            let place = format!("images.{name}");
            match spec(context, name, image, user) {
                Ok(spec) => {
                    let mut desired = fixed(context, NOUN, name.as_str(), &place, &spec);
                    desired.id = id(context, name, user);
                    if let Image::Setup { from, .. } = image {
                        desired.after.push(id(context, from, None));
                    }
                    state.resources.push(desired);
                }
                Err(why) => state.notices.push(context.error(
                    "image-input",
                    &place,
                    format!("image {name}: {why}"),
                    "correct the path, or make what it names readable",
                )),
            }
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut current = BTreeSet::new();
        for desired in context.desired_of(NOUN) {
            let spec: ImageSpec = serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind");
            // Names of the language have no dot: what follows one tells images of the same entry apart.
            let name = desired.id.name.split('.').next().unwrap_or_default();
            let reference = reference(context.naming, name, &spec, &desired.hash);
            let found = find(context.snapshot, &reference);
            context.rests_on(&desired.id, Some(desired), found.map(serde_json::Value::from));
            current.insert(reference.clone());
            changes.push(compare(context, desired, spec, reference, found.is_some()));
        }
        changes.extend(leftovers(context, &current));
        changes
    }
}

/// An entry of the configuration in use, and whose home an empty root holds.
pub struct Used<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Whose home, for an empty root.
    pub user: Option<&'a User>,
}

/// Images that sandboxes use, and what those are made from, sources first.
pub fn used<'a>(context: &DesireContext<'a>) -> Vec<Used<'a>> {
    fn visit<'a>(
        images: &'a indexmap::IndexMap<Name, Image>,
        name: &'a Name,
        user: Option<&'a User>,
        order: &mut Vec<Used<'a>>,
    ) {
        let user = user.filter(|_| matches!(images.get(name), Some(Image::Host { .. })));
        if order.iter().any(|used| used.name == name && home(used.user) == home(user)) {
            return;
        }
        // Cycles are refused when the configuration is read.
        if let Some(Image::Setup { from, .. }) = images.get(name) {
            visit(images, from, None, order);
        }
        order.push(Used { name, user });
    }
    let mut order = Vec::new();
    for sandbox in context.config.sandboxes.values() {
        visit(&context.config.images, &sandbox.image, Some(&sandbox.user), &mut order);
    }
    order
}

/// What an empty root holds of a user.
fn home(user: Option<&User>) -> Option<(&Path, u32, u32)> {
    user.map(|user| (user.home.as_path(), user.uid, user.gid))
}

/// The image a sandbox of `user` runs on when its configuration says `name`.
///
/// An empty root holds one user's home: another user of another sandbox is another image, and leaves this one alone.
pub fn id(context: &DesireContext<'_>, name: &Name, user: Option<&User>) -> ResourceId {
    let first = context.config.sandboxes.values().find(|sandbox| sandbox.image == *name);
    let is_root = matches!(context.config.images.get(name), Some(Image::Host { .. }));
    match first {
        Some(first) if is_root && home(Some(&first.user)) != home(user) => {
            let key = user.map_or_else(
                || "bare".to_owned(),
                |user| {
                    let text = format!("{}:{}:{}", user.uid, user.gid, user.home.display());
                    short(&sha256(text.as_bytes())).to_owned()
                },
            );
            ResourceId::new(NOUN, format!("{name}.{key}"))
        }
        _ => ResourceId::new(NOUN, name.as_str()),
    }
}

/// How `name` is used by a container of `user`, or by another image.
pub fn image_use(context: &DesireContext<'_>, name: &Name, user: Option<&User>) -> Result<ImageUse, String> {
    let image = context.config.images.get(name).ok_or_else(|| format!("image {name} is not defined"))?;
    let spec = spec(context, name, image, user)?;
    let value = to_spec(&spec);
    let hash = crate::desired::spec_hash(&value);
    let reference = reference(context.naming, name.as_str(), &spec, &hash);
    // An unpinned reference has no key: which image it stands for is compared by the engine's own id.
    let key = match &spec {
        ImageSpec::Ref { digest, .. } => digest.clone().unwrap_or_default(),
        _ => hash,
    };
    Ok(ImageUse { name: name.to_string(), reference, key })
}

/// What the engine knows the image as.
fn reference(naming: &crate::resource::Naming, name: &str, spec: &ImageSpec, hash: &str) -> String {
    match spec {
        ImageSpec::Ref { reference, digest: Some(digest), .. } => pinned(reference, digest),
        ImageSpec::Ref { reference, digest: None, .. } => reference.clone(),
        _ => naming.image(name, hash),
    }
}

/// `reference` with its tag replaced by `digest`.
pub fn pinned(reference: &str, digest: &str) -> String {
    let repository = reference.split_once('@').map_or(reference, |(repository, _)| repository);
    let slash = repository.rfind('/').map_or(0, |index| index + 1);
    let end = repository[slash..].find(':').map_or(repository.len(), |index| slash + index);
    format!("{}@{digest}", &repository[..end])
}

/// Id of the image that `reference` stands for.
pub fn find<'a>(snapshot: &'a Snapshot, reference: &str) -> Option<&'a str> {
    facts(snapshot, reference).map(|image| image.id.as_str())
}

fn facts<'a>(snapshot: &'a Snapshot, reference: &str) -> Option<&'a ImageFacts> {
    snapshot
        .images
        .iter()
        .find(|image| image.tags.iter().chain(&image.digests).any(|name| name == reference) || image.id == reference)
}

fn spec(context: &DesireContext<'_>, name: &Name, image: &Image, user: Option<&User>) -> Result<ImageSpec, String> {
    let known = |path: &PathBuf, fact: Option<&Fact<String>>| match fact {
        Some(Ok(hash)) => Ok(hash.clone()),
        Some(Err(why)) => Err(format!("{}: {why}", path.display())),
        None => Err(format!("{} was not looked at", path.display())),
    };
    let inputs = |path: &PathBuf| known(path, context.host.inputs.get(path));
    Ok(match image {
        Image::Host { dirs, etc: _ } => {
            let links = host_links(context, dirs);
            let mut directories: BTreeSet<PathBuf> = HOST_DIRECTORIES.iter().map(PathBuf::from).collect();
            directories.extend(dirs.iter().filter(|dir| !links.contains_key(*dir)).cloned());
            ImageSpec::Host { directories: directories.into_iter().collect(), links, homes: homes(user) }
        }
        Image::Ref { reference, pull } => ImageSpec::Ref {
            reference: reference.clone(),
            digest: context.host.locked.get(reference).cloned(),
            pull: match pull {
                Pull::Missing => "missing",
                Pull::Always => "always",
                Pull::Never => "never",
            }
            .to_owned(),
        },
        Image::Build { context: directory, containerfile, args, target } => ImageSpec::Build {
            context: directory.clone(),
            containerfile: containerfile.clone(),
            args: args.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            target: target.clone(),
            inputs: known(directory, context.host.contexts.get(directory).and_then(|files| files.get(containerfile)))?,
        },
        Image::Archive { path } => ImageSpec::Archive { path: path.clone(), inputs: inputs(path)? },
        Image::Rootfs { path } => ImageSpec::Rootfs { path: path.clone(), inputs: inputs(path)? },
        Image::Setup { from, run, egress } => {
            let from = image_use(context, from, None)?;
            let base = Some(&from).filter(|from| from.key.is_empty());
            let base = base.and_then(|from| find(context.snapshot, &from.reference)).map(str::to_owned);
            let served = egress.mode == EgressMode::Allowlist && !egress.policy.allow.is_empty();
            let policy = served.then(|| Box::new(policy::canonical(&egress.policy)));
            let resolv_conf = served.then(|| etc::resolv_conf().path(&context.host.data));
            let egress = match egress.mode {
                EgressMode::Open => "open",
                EgressMode::Allowlist if served => "allowlist",
                EgressMode::None | EgressMode::Allowlist | EgressMode::Direct => "none",
            };
            let spec = |base| ImageSpec::Setup {
                from: from.clone(),
                run: run.clone(),
                egress: egress.to_owned(),
                policy: policy.clone(),
                resolv_conf: resolv_conf.clone(),
                base,
            };
            // Made in the run that pulled the base, before anybody knew its id: the label says that it is the same one.
            let early = spec(None);
            let tag = reference(context.naming, name.as_str(), &early, &crate::desired::spec_hash(&to_spec(&early)));
            let made_from = facts(context.snapshot, &tag).and_then(|image| image.labels.get(label::BASE));
            if base.is_none() || made_from == base.as_ref() { early } else { spec(base) }
        }
    })
}

/// The home of the one user of an empty root, whatever is mounted there: another kind of home leaves it as it is.
fn homes(user: Option<&User>) -> BTreeMap<PathBuf, (u32, u32)> {
    user.map(|user| (user.home.clone(), (user.uid, user.gid))).into_iter().collect()
}

/// Links of the host's root that lead into one of `dirs`: they are links inside too, and need no mount of their own.
pub fn host_links(context: &DesireContext<'_>, dirs: &[PathBuf]) -> BTreeMap<PathBuf, PathBuf> {
    let links = &context.host.root_links;
    let leads_inside = |link: &Path, target: &Path| {
        let target = Path::new("/").join(target);
        dirs.iter().any(|dir| dir != link && !links.contains_key(dir) && target.starts_with(dir))
    };
    links
        .iter()
        .filter(|(link, target)| leads_inside(link, target))
        .map(|(link, target)| (link.clone(), target.clone()))
        .collect()
}

fn compare(
    context: &mut PlanContext<'_>,
    desired: &Desired,
    spec: ImageSpec,
    reference: String,
    present: bool,
) -> Change {
    if present {
        let mut change = Change::of(desired, Action::Noop);
        change.unchanged = diff::leaves(&desired.spec);
        return change;
    }
    if matches!(&spec, ImageSpec::Ref { pull, .. } if pull == "never") {
        return Change::of(desired, Action::Forbidden)
            .because(format!("{reference} is not on the engine and `pull: never` forbids to fetch it"));
    }
    let title = match &spec {
        ImageSpec::Host { .. } => "make the empty root".to_owned(),
        ImageSpec::Ref { .. } => format!("pull {reference}"),
        ImageSpec::Build { context, .. } => format!("build {}", context.display()),
        ImageSpec::Archive { path, .. } => format!("load {}", path.display()),
        ImageSpec::Rootfs { path, .. } => format!("import {}", path.display()),
        ImageSpec::Setup { from, .. } => format!("set up from {}", from.name),
    };
    let labels = ownership::labels(context.naming, NOUN, &desired.id.name, (context.new_uid)(), &desired.hash);
    let mut change = Change::of(desired, Action::Create).because("not on the engine");
    if matches!(&spec, ImageSpec::Setup { policy: Some(_), .. }) {
        // Nobody else lets its commands reach what they may.
        change = change.step("have the daemon run", Op::EnsureDaemon);
    }
    let mut change = change.step(title, Op::CreateImage { object: NewObject { name: reference, labels }, spec });
    change.fields = diff::created(&desired.spec);
    change
}

/// Tags of ours that nothing asks for and no container uses.
fn leftovers(context: &mut PlanContext<'_>, current: &BTreeSet<String>) -> Vec<Change> {
    let prefix = context.naming.image("", "");
    let prefix = prefix.trim_end_matches(':').to_owned();
    let mut changes = Vec::new();
    for image in &context.snapshot.images {
        for tag in &image.tags {
            let Some(rest) = tag.strip_prefix(&prefix) else { continue };
            if current.contains(tag) || !ownership::is_our_tag(image, context.naming, tag) {
                continue;
            }
            let (name, key) = rest.split_once(':').unwrap_or((rest, "latest"));
            let id = ResourceId::deposed(NOUN, name, key);
            context.rests_on(&id, None, Some(image.id.as_str().into()));
            let mut change = Change::deletion(id, "no longer used")
                .step(format!("remove image {tag}"), Op::RemoveImage { image: tag.clone() });
            change.after = crate::kinds::AFTER_CONTAINERS.to_vec();
            changes.push(change);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use crate::host_facts::HostFacts;
    use crate::testing::{config, desired};

    /// The hash of an image that is set up under `egress`, and what it says of that.
    async fn set_up(before: &str, egress: &str) -> (String, serde_json::Value) {
        let config = config(&format!(
            "{before}images:\n  debian: {{ ref: docker.io/library/debian:bookworm }}\n  \
             tooled: {{ from: debian, setup: {{ run: [a], egress: {egress} }} }}\n\
             sandboxes: {{ api: {{ image: tooled }} }}\n"
        ));
        let state = desired(&config, &HostFacts::default()).await;
        let image = state.resources.into_iter().find(|resource| resource.id.name == "tooled").expect("it is used");
        (image.hash, image.spec)
    }

    #[tokio::test]
    async fn what_a_set_up_may_reach_is_part_of_what_its_image_is_made_from() {
        let rule = "{ allow: [{ host: a.example }] }";
        let (hash, spec) = set_up("", rule).await;
        assert_eq!(spec["egress"], "allowlist");
        assert_eq!(set_up("# further down\n", rule).await.0, hash, "where it is written is none");
        assert_ne!(set_up("", "{ allow: [{ host: b.example }] }").await.0, hash);
        let (nothing, spec) = set_up("", "{}").await;
        assert_ne!(nothing, hash);
        assert_eq!((&spec["egress"], spec.get("policy")), (&"none".into(), None), "as before there were any");
    }
}
