//! The pinned toolchain and its components.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::progress;
use crate::workspace::{Workspace, output, run};

/// The toolchain that `rust-toolchain.toml` pins.
pub(super) fn channel(root: &Path) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct File {
        toolchain: Toolchain,
    }
    #[derive(serde::Deserialize)]
    struct Toolchain {
        channel: String,
    }
    let path = root.join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(file.toolchain.channel)
}

/// Adds the components that the pinned toolchain lacks, and the toolchain
/// itself: `RUSTUP_AUTO_INSTALL=0` keeps rustup from doing so unasked.
pub(super) fn ensure(workspace: &Workspace, components: &[&str]) -> Result<()> {
    let channel = channel(&workspace.root)?;
    if workspace.which("rustup").is_none() {
        bail!(
            "rustup is missing: the BPF programs are built by Rust {channel} with rust-src; get rustup from https://rustup.rs"
        );
    }
    let sysroot = output(
        rustup(workspace).args(["run", &channel, "rustc", "--print", "sysroot"]),
        "looking for the toolchain",
    );
    let Ok(sysroot) = sysroot else {
        progress(format_args!("installing Rust {channel}"));
        let mut install = rustup(workspace);
        install.args(["toolchain", "install", &channel, "--profile", "minimal"]);
        install.args(["--no-self-update"]);
        for component in components {
            install.args(["--component", component]);
        }
        return run(&mut install, "rustup").with_context(|| {
            format!(
                "Rust {channel} is missing and cannot be installed; with network: rustup toolchain install {channel} --component {}",
                components.join(",")
            )
        });
    };
    for component in components {
        if is_present(Path::new(sysroot.trim()), component) {
            continue;
        }
        progress(format_args!("adding {component} to Rust {channel}"));
        run(
            rustup(workspace).args(["component", "add", component, "--toolchain", &channel]),
            "rustup",
        )
        .with_context(|| {
            format!(
                "{component} of Rust {channel} is missing and cannot be added; with network: rustup component add {component} --toolchain {channel}"
            )
        })?;
    }
    Ok(())
}

fn rustup(workspace: &Workspace) -> Command {
    let mut command = workspace.command("rustup");
    // Set by the proxy that started us: it would win over `--toolchain`'s
    // manifest checks, and what is asked here is always explicit.
    command.env_remove("RUSTUP_TOOLCHAIN");
    command
}

/// Looks at the files: `rustup component list` takes a second and, with some
/// versions, the network.
fn is_present(sysroot: &Path, component: &str) -> bool {
    let file = match component {
        "rust-src" => "lib/rustlib/src/rust/library/core/Cargo.toml",
        "rustfmt" => "bin/rustfmt",
        "clippy" => "bin/cargo-clippy",
        _ => return false,
    };
    sysroot.join(file).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_channel_is_a_version() {
        let workspace = Workspace::here().unwrap();
        let channel = channel(&workspace.root).unwrap();
        assert_eq!(channel.split('.').count(), 3, "{channel}");
    }

    #[test]
    fn an_empty_sysroot_has_no_component() {
        let folder = tempfile::tempdir().unwrap();
        for component in ["rust-src", "rustfmt", "clippy"] {
            assert!(!is_present(folder.path(), component));
        }
    }
}
