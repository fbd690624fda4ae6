//! Converges sandboxes on a container engine.
