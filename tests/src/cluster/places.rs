use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::topology::Host;

/// Where everything of the cluster is, on the sandbox's private /run.
pub(super) const FOLDER: &str = "/run/hostfw";

/// Where agents pin what must survive them.
const PINS: &str = "/sys/fs/bpf";

/// The folder that holds the resources, the same for all agents.
#[must_use]
pub fn store() -> PathBuf {
    Path::new(FOLDER).join("store")
}

/// The agent's socket.
#[must_use]
pub fn socket(node: Host) -> PathBuf {
    folder(node).join("agent.sock")
}

/// Where the node's agent pins.
#[must_use]
pub fn pin_root(node: Host) -> PathBuf {
    Path::new(PINS).join(node.name())
}

/// What the node's agent has logged.
#[must_use]
pub fn log(node: Host) -> PathBuf {
    folder(node).join("agent.log")
}

/// The tutorial's files.
#[must_use]
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("examples")
        .join("protect-hosts")
}

/// What belongs to the node alone.
pub(super) fn folder(node: Host) -> PathBuf {
    Path::new(FOLDER).join(node.name())
}

/// The last lines of a file.
pub(super) fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
