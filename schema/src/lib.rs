//! The `sandboxes.yaml` language.
