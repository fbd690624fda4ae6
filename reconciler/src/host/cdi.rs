//! Devices that the host offers by the Container Device Interface.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct Specification {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
}

/// Names of all devices, `vendor/class=name`, sorted; `None` when none of the directories exists.
///
/// Files that cannot be read are passed over, as engines do.
pub fn devices(directories: &[PathBuf]) -> Option<Vec<String>> {
    let mut found: Option<BTreeSet<String>> = None;
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let names = found.get_or_insert_default();
        for path in entries.flatten().map(|entry| entry.path()) {
            names.extend(of_file(&path).unwrap_or_default());
        }
    }
    found.map(|names| names.into_iter().collect())
}

fn of_file(path: &Path) -> Option<Vec<String>> {
    let extension = path.extension()?.to_str()?;
    if !matches!(extension, "yaml" | "yml" | "json") {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let Specification { kind, devices } = match extension {
        "json" => serde_json::from_str(&text).ok()?,
        _ => serde_yaml::from_str(&text).ok()?,
    };
    Some(devices.into_iter().map(|device| format!("{kind}={}", device.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_formats_and_passes_over_the_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        let yaml = "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n  - name: \"0\"\n    containerEdits: {}\n  - name: all\n";
        write("nvidia.yaml", yaml);
        write("acme.json", r#"{"cdiVersion":"0.6.0","kind":"acme.test/dev","devices":[{"name":"a"}]}"#);
        write("broken.json", "{");
        write("notes.txt", "kind: x/y");
        let names = devices(&[dir.path().join("missing"), dir.path().to_owned()]);
        assert_eq!(
            names,
            Some(["acme.test/dev=a", "nvidia.com/gpu=0", "nvidia.com/gpu=all"].map(str::to_owned).into())
        );
        assert_eq!(devices(&[dir.path().join("missing")]), None);
    }
}
