//! Commands that the sandbox and its tests call, from Debian packages.

use anyhow::{Context as _, Result, bail};

use super::{Lock, is_root, progress};
use crate::workspace::{Workspace, output};

/// A command, and the package that holds it.
struct Tool {
    command: &'static str,
    package: &'static str,
    /// What it is for.
    why: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        command: "ip",
        package: "iproute2",
        why: "makes namespaces and interfaces",
    },
    Tool {
        command: "tc",
        package: "iproute2",
        why: "shows clsact filters",
    },
    Tool {
        command: "iptables",
        package: "iptables",
        why: "writes kube-proxy's chains",
    },
    Tool {
        command: "ip6tables",
        package: "iptables",
        why: "writes kube-proxy's chains",
    },
    Tool {
        command: "nft",
        package: "nftables",
        why: "is a contender of the benchmark",
    },
    Tool {
        command: "bpftool",
        package: "bpftool",
        why: "reads the pinned maps in tests",
    },
    Tool {
        command: "unshare",
        package: "util-linux",
        why: "enters the sandbox",
    },
    Tool {
        command: "nsenter",
        package: "util-linux",
        why: "enters the sandbox",
    },
    Tool {
        command: "setpriv",
        package: "util-linux",
        why: "takes rights from the agent",
    },
    Tool {
        command: "mount",
        package: "mount",
        why: "mounts the sandbox's bpffs",
    },
    Tool {
        command: "ps",
        package: "procps",
        why: "lists what the sandbox runs",
    },
    Tool {
        command: "sysctl",
        package: "procps",
        why: "switches forwarding on",
    },
];

/// What the benchmark calls besides.
const BENCH_TOOLS: &[Tool] = &[
    Tool {
        command: "iptables-legacy",
        package: "iptables",
        why: "is a contender of the benchmark",
    },
    Tool {
        command: "iptables-nft",
        package: "iptables",
        why: "is a contender of the benchmark",
    },
    Tool {
        command: "ipset",
        package: "ipset",
        why: "is a contender of the benchmark",
    },
    Tool {
        command: "iperf3",
        package: "iperf3",
        why: "measures throughput",
    },
];

/// What makes a container image.
const IMAGE_TOOLS: &[Tool] = &[Tool {
    command: "buildah",
    package: "buildah",
    why: "makes the container image",
}];

/// What runs a container.
const CONTAINER_TOOLS: &[Tool] = &[
    Tool {
        command: "crun",
        package: "crun",
        why: "runs the container image in a test",
    },
    Tool {
        command: "tar",
        package: "tar",
        why: "unpacks the container image",
    },
];

/// Installs the packages of the commands that are missing.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    ensure_all(workspace, TOOLS)
}

/// The same for what the benchmark calls besides.
pub(super) fn ensure_bench(workspace: &Workspace) -> Result<()> {
    ensure_all(workspace, BENCH_TOOLS)
}

/// The same for what makes a container image.
pub(super) fn ensure_image(workspace: &Workspace) -> Result<()> {
    ensure_all(workspace, IMAGE_TOOLS)
}

/// The same for what runs a container.
pub(super) fn ensure_container(workspace: &Workspace) -> Result<()> {
    ensure_all(workspace, CONTAINER_TOOLS)
}

fn ensure_all(workspace: &Workspace, tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools
        .iter()
        .filter(|tool| workspace.which(tool.command).is_none())
        .collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    let packages_text = packages.join(" ");
    let what = format!("the command {} is missing ({})", first.command, first.why);
    if workspace.which("apt-get").is_none() {
        bail!("{what} and this system has no apt-get: install its equivalent of {packages_text}");
    }
    if !is_root() {
        bail!("{what}: as root, apt-get install {packages_text}");
    }
    // dpkg has a lock of its own; this one spares the second set-up the work.
    let _lock = Lock::take(&std::env::temp_dir().join("hostfw-apt.lock"))?;
    if missing
        .iter()
        .all(|tool| workspace.which(tool.command).is_some())
    {
        return Ok(());
    }
    progress(format_args!("installing {packages_text} with apt-get"));
    if install(workspace, &packages).is_err() {
        // A fresh image carries no package lists.
        progress(format_args!("apt-get update"));
        output(
            workspace.command("apt-get").args(["-q", "update"]),
            "apt-get update",
        )
        .with_context(|| format!("{what} and {packages_text} cannot be had without a network"))?;
        install(workspace, &packages)
            .with_context(|| format!("{what}; by hand: apt-get install {packages_text}"))?;
    }
    match missing
        .iter()
        .find(|tool| workspace.which(tool.command).is_none())
    {
        Some(tool) => bail!(
            "package {} is installed, but the command {} ({}) still is not on PATH",
            tool.package,
            tool.command,
            tool.why
        ),
        None => Ok(()),
    }
}

fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let mut command = workspace.command("apt-get");
    command
        .args(["-q", "-y", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=300", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    output(&mut command, "apt-get install").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose `PATH` holds a single folder.
    fn machine(folder: &std::path::Path) -> Workspace {
        let mut workspace = Workspace::here().unwrap();
        workspace.path = folder.into();
        workspace
    }

    #[test]
    fn without_apt_the_error_names_command_and_package() {
        let folder = tempfile::tempdir().unwrap();
        let error = ensure(&machine(folder.path())).unwrap_err().to_string();
        assert!(error.contains("the command ip is missing"), "{error}");
        assert!(error.contains("iproute2"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn nothing_is_asked_of_apt_when_nothing_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for tool in TOOLS {
            std::os::unix::fs::symlink("/bin/true", folder.path().join(tool.command)).unwrap();
        }
        std::os::unix::fs::symlink("/bin/false", folder.path().join("apt-get")).unwrap();
        ensure(&machine(folder.path())).unwrap();
    }
}
