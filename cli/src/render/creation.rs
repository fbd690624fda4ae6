//! What of something new is worth a line: what somebody chose, and not what every sandbox has.

use std::path::{Path, PathBuf};

use reconciler::kinds::{container, image, repository, worktree};
use reconciler::plan::{Action, Change, FieldChange};
use serde_json::{Value, json};

/// Reasons that say no more than the sign before the resource does.
const PLAIN: [&str; 3] = ["not there", "not on the engine", "destroyed"];

/// Whether `reason` is worth a line.
pub fn is_news(change: &Change, reason: &str) -> bool {
    !matches!(change.action, Action::Create | Action::Delete) || !PLAIN.contains(&reason)
}

/// The attributes of `change` that are worth a line each, and how many are not.
pub fn telling(change: &Change) -> (Vec<FieldChange>, usize) {
    let mut shown: Vec<FieldChange> = Vec::new();
    let mut hidden = 0;
    for field in &change.fields {
        let goes_without_saying = match change.kind.as_str() {
            container::NOUN => is_usual(&field.path, &field.after, &change.fields),
            image::NOUN => is_inside_image(&field.path),
            // They are the name of the resource, and of the one it belongs to.
            repository::NOUN | worktree::NOUN => matches!(field.path.as_str(), "path" | "clone"),
            _ => false,
        };
        if goes_without_saying {
            hidden += 1;
            continue;
        }
        let mut field = field.clone();
        if field.path == "mounts"
            && let Some(mounts) = field.after.as_array_mut()
        {
            let clones: Vec<PathBuf> = mounts.iter().filter_map(clone_of).collect();
            mounts.retain(|mount| !is_usual_mount(mount) && !is_of_git(mount, &clones));
            if mounts.is_empty() {
                hidden += 1;
                continue;
            }
        }
        shown.push(field);
    }
    (shown, hidden)
}

/// What a sandbox has whose file says nothing about it.
fn is_usual(path: &str, value: &Value, all: &[FieldChange]) -> bool {
    let other = |path: &str| all.iter().find(|field| field.path == path).map(|field| &field.after);
    match path {
        // Networks are listed; none is the default.
        "image.reference" | "image.key" | "hostname" | "env.HOME" | "env.LOGNAME" | "env.USER" | "network.mode"
        | "network.alias" | "userns" => true,
        "workdir" => other("user.home") == Some(value),
        "limits.cpus_milli" => *value == json!(2000),
        "limits.memory" => *value == json!(4_u64 << 30),
        "limits.pids" => *value == json!(2048),
        "restart" => *value == json!("no"),
        "read_only" => *value == json!(false),
        "no_new_privileges" => *value == json!(true),
        "cap_drop" => *value == json!(["ALL"]),
        _ => path.starts_with("user."),
    }
}

/// PID 1, and what an image of this machine shows of it.
fn is_usual_mount(mount: &Value) -> bool {
    let text = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default();
    let same = text("type") == "bind" && text("source") == text("target");
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"].contains(&text("target"));
    let read_only = mount.get("read_only") == Some(&Value::Bool(true));
    let ours = text("target").starts_with("/run/sbx/")
        || (read_only && ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"].contains(&text("target")));
    ours || (same && read_only && (system || text("target").starts_with("/etc/")))
}

/// Where a mount shows the part of a clone that a worktree's sandbox may see.
fn clone_of(mount: &Value) -> Option<PathBuf> {
    let target = mount.get("target")?.as_str()?;
    let roots = Path::new(target).join("sbx/roots");
    Path::new(mount.get("source")?.as_str()?).starts_with(roots).then(|| PathBuf::from(target))
}

/// What makes a worktree work inside; the worktree itself is shown.
fn is_of_git(mount: &Value, clones: &[PathBuf]) -> bool {
    let target = Path::new(mount.get("target").and_then(Value::as_str).unwrap_or_default());
    !clones.is_empty() && (target.ends_with(".git") || clones.iter().any(|clone| target.starts_with(clone)))
}

/// The directories and links that are made in it.
fn is_inside_image(path: &str) -> bool {
    path == "directories" || path.starts_with("links.") || path.starts_with("homes.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn field(path: &str, after: Value) -> FieldChange {
        FieldChange { path: path.to_owned(), before: Value::Null, after, forces_replacement: false }
    }

    #[test]
    fn what_was_chosen_is_shown_and_the_rest_counted() {
        let bind = |path: &str| json!({"type": "bind", "source": path, "target": path, "read_only": true});
        let change = Change {
            fields: vec![
                field("image.name", json!("host")),
                field("image.key", json!("sha256:00")),
                field("user.home", json!("/home/a")),
                field("workdir", json!("/home/a")),
                field("env.HOME", json!("/home/a")),
                field("env.MODE", json!("dev")),
                field("limits.memory", json!(4_u64 << 30)),
                field("limits.pids", json!(64)),
                field("read_only", json!(true)),
                field("mounts", json!([bind("/usr"), bind("/etc/ssl"), bind("/srv")])),
            ],
            ..sample::change(Action::Create, "container", "api")
        };
        let (shown, hidden) = telling(&change);
        let paths: Vec<&str> = shown.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["image.name", "env.MODE", "limits.pids", "read_only", "mounts"]);
        assert_eq!(shown[4].after, json!([bind("/srv")]));
        assert_eq!(hidden, 5);
        assert!(!is_news(&change, "not there") && is_news(&change, "its directory was deleted"));
    }
}
