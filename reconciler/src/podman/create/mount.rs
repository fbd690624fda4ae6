//! What a mount is in the terms of `containers/create`.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use serde::Serialize;

use crate::facts::EngineFacts;
use crate::podman::kernel;
use crate::spec::{MountOrigin, MountSpec};

#[derive(Serialize)]
pub(crate) struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: &'static str,
    source: String,
    options: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NamedVolume {
    name: String,
    dest: String,
    options: Vec<String>,
}

pub(super) fn place(mount: &MountSpec, engine: &EngineFacts, mounts: &mut Vec<Mount>, volumes: &mut Vec<NamedVolume>) {
    let MountSpec { source, target, read_only, relabel } = mount;
    let destination = target.display().to_string();
    match source {
        MountOrigin::Bind { source } => {
            mounts.push(bind(source, destination, *read_only, relabel.as_deref()));
            if *read_only && engine.local {
                // "Read-only" holds for one mount, not for those below it.
                mounts.extend(
                    kernel::mounts_below(source)
                        .into_iter()
                        .map(|below| bind(&source.join(&below), target.join(&below).display().to_string(), true, None)),
                );
            }
        }
        MountOrigin::Volume { volume } => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
            // What is in an image at this place may belong to root: the user owns a volume, always.
            options.push(if *read_only { "ro" } else { "U" }.to_owned());
            options.extend(relabel.clone());
            volumes.push(NamedVolume { name: volume.clone(), dest: destination, options });
        }
        MountOrigin::Tmpfs { size, mode, copied } => {
            let (size, bits) = (format!("size={size}"), format!("mode={mode:04o}"));
            // The user's, also where all may write: runc gives it the mode that its place had in the image, and a place that
            // it had to make itself for an earlier start is root's alone.
            let copy = if *copied { "tmpcopyup" } else { "notmpcopyup" };
            let mut made = tmpfs(destination, &[copy, &size, &bits, "U"]);
            if *read_only {
                made.options.push("ro".to_owned());
            }
            mounts.push(made);
        }
    }
}

pub(super) fn tmpfs(destination: String, options: &[&str]) -> Mount {
    let fixed = ["nosuid", "nodev"];
    let options = fixed.iter().chain(options).map(|option| (*option).to_owned()).collect();
    Mount { destination, kind: "tmpfs", source: "tmpfs".to_owned(), options }
}

pub(crate) fn bind(source: &Path, destination: String, read_only: bool, relabel: Option<&str>) -> Mount {
    let mut options: Vec<String> =
        ["rbind", "rprivate", "nosuid", if read_only { "ro" } else { "rw" }].map(str::to_owned).to_vec();
    let device = std::fs::metadata(source)
        .is_ok_and(|metadata| metadata.file_type().is_char_device() || metadata.file_type().is_block_device());
    if !device && !source.starts_with("/dev") {
        options.push("nodev".to_owned());
    }
    options.extend(relabel.map(str::to_owned));
    Mount { destination, kind: "bind", source: source.display().to_string(), options }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::host_facts::{HostFacts, PathKind};
    use crate::kinds::container::NOUN;
    use crate::podman::create::CreateBody;
    use crate::resource::Labels;
    use crate::spec::ContainerSpec;
    use crate::testing::{config, desired, engine};

    /// The body for the sandbox `one` of a configuration, on a host with the sources.
    async fn body(text: &str) -> Value {
        let there = ["/project/data", "/usr", "/lib", "/lib64"];
        let paths = there.iter().map(|path| (path.into(), PathKind::Directory)).collect();
        let host = HostFacts { paths, ..HostFacts::default() };
        let state = desired(&config(text), &host).await;
        assert_eq!(state.notices, []);
        let container = state.resources.into_iter().find(|desired| desired.id.kind == NOUN).expect("a container");
        let spec: ContainerSpec = serde_json::from_value(container.spec).expect("reads back");
        serde_json::to_value(CreateBody::new("acme_one", &Labels::new(), &spec, &engine())).expect("plain data")
    }

    /// Options that ask for a label, by where they are sent for.
    fn labels(body: &Value) -> Vec<(&str, Vec<&str>)> {
        let rows = |list: &'static str, target: &'static str| {
            body[list].as_array().expect("a list").iter().map(move |row| {
                let options = row.get("options").or_else(|| row.get("Options")).expect("options");
                let options = options.as_array().expect("a list").iter().filter_map(Value::as_str);
                let asked = options.filter(|option| option.eq_ignore_ascii_case("z")).collect();
                (row[target].as_str().expect("a path"), asked)
            })
        };
        rows("mounts", "destination").chain(rows("volumes", "Dest")).collect()
    }

    #[tokio::test]
    async fn selinux_labels_are_changed_only_where_asked() {
        let body = body(
            "volumes: { data: {}, kept: {} }\n\
             sandboxes:\n\
             \x20 one:\n\
             \x20   image: host\n\
             \x20   home: { volume: kept }\n\
             \x20   mounts:\n\
             \x20     - { source: /project/data, target: /private, relabel: private }\n\
             \x20     - { source: /project/data, target: /shared, mode: rw, relabel: shared }\n\
             \x20     - { source: /project/data, target: /plain }\n\
             \x20     - { volume: data, target: /volume/private, mode: rw, relabel: private }\n\
             \x20     - { volume: data, target: /volume/shared, relabel: shared }\n\
             \x20     - { volume: data, target: /volume/plain }\n",
        )
        .await;
        let labels = labels(&body);
        let asked: Vec<_> = labels.iter().filter(|(_, asked)| !asked.is_empty()).cloned().collect();
        let expected = [
            ("/private", vec!["Z"]),
            ("/shared", vec!["z"]),
            ("/volume/private", vec!["Z"]),
            ("/volume/shared", vec!["z"]),
        ];
        assert_eq!(asked, expected);
        // Beside them: what nobody asked for is there, and keeps its labels.
        for target in ["/plain", "/volume/plain", "/home/alice", "/run/sbx/init"] {
            assert!(labels.contains(&(target, Vec::new())), "{target}: {labels:?}");
        }
    }
}
