//! `cargo xtask build`: the agent and hostfwctl, programs included.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup::{self, Need},
    workspace::{Workspace, show_stderr},
};

/// Optimised or not. The BPF programs always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// What is shipped.
    Release,
}

/// The built executables.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) agent: PathBuf,
    pub(crate) ctl: PathBuf,
}

/// What cargo is to look at for whatever runs on the host. Always all of it: the
/// features of a dependency follow from what is looked at, and with others it
/// would be built once more.
pub(crate) const HOST: &[&str] = &["--workspace", "--exclude", "hostfw-ebpf"];

/// What to build.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Optimise
    #[arg(long)]
    release: bool,
}

/// Builds, and says where the results are.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build])?;
    let profile = if args.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    let binaries = agent(&workspace, profile, false)?;
    println!("{}", binaries.agent.display());
    println!("{}", binaries.ctl.display());
    Ok(())
}

/// Builds the package `hostfw-agent`.
pub(crate) fn agent(workspace: &Workspace, profile: Profile, quiet: bool) -> Result<Binaries> {
    agent_with(workspace, profile, quiet, &[])
}

/// As [`agent`], with more for cargo's environment.
pub(crate) fn agent_with(
    workspace: &Workspace,
    profile: Profile,
    quiet: bool,
    environment: &[(&str, &str)],
) -> Result<Binaries> {
    let arguments = match profile {
        Profile::Dev => HOST,
        Profile::Release => &["--package", "hostfw-agent"],
    };
    binaries(workspace, arguments, profile, quiet, environment)
}

fn binaries(
    workspace: &Workspace,
    arguments: &[&str],
    profile: Profile,
    quiet: bool,
    environment: &[(&str, &str)],
) -> Result<Binaries> {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--bin", "hostfw-agent", "--bin", "hostfwctl"]);
    let mut executables = executables(workspace, &arguments, profile, quiet, environment)?;
    let mut take = |name: &str| {
        let at = executables
            .iter()
            .position(|file| file.file_name().is_some_and(|found| found == name));
        at.map(|at| executables.swap_remove(at))
            .with_context(|| format!("the build left no executable {name}"))
    };
    Ok(Binaries {
        agent: take("hostfw-agent")?,
        ctl: take("hostfwctl")?,
    })
}

/// Builds `hostfw-agent` for this target, optimised and without shared libraries.
pub(crate) fn agent_static(workspace: &Workspace, target: &str, quiet: bool) -> Result<Binaries> {
    // Not RUSTFLAGS, which would concern the BPF programs too.
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.to_uppercase().replace('-', "_")
    );
    let arguments = ["--package", "hostfw-agent", "--target", target];
    let environment = [(variable.as_str(), "-C target-feature=+crt-static")];
    binaries(workspace, &arguments, Profile::Release, quiet, &environment)
}

/// Builds what the arguments name and returns its executables.
pub(crate) fn executables(
    workspace: &Workspace,
    arguments: &[&str],
    profile: Profile,
    quiet: bool,
    environment: &[(&str, &str)],
) -> Result<Vec<PathBuf>> {
    let mut command = workspace.cargo("build");
    command
        .envs(environment.iter().copied())
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match profile {
        Profile::Dev => {}
        Profile::Release => {
            command.arg("--release");
        }
    }
    if quiet {
        // Errors are still shown.
        command.arg("--quiet");
    }
    let mut child = command.spawn().context("cannot run cargo build")?;
    let stdout = child.stdout.take().context("cargo's output is piped")?;
    let stderr = child.stderr.take().map(show_stderr);
    let mut found = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("reading cargo's output")?;
        found.extend(executable(&line));
    }
    let status = child.wait().context("waiting for cargo build")?;
    if let Some(stderr) = stderr {
        // It only shows; that it failed to is nothing to fail for.
        let _ = stderr.join();
    }
    if !status.success() {
        bail!("cargo build {}: {status}", arguments.join(" "));
    }
    Ok(found)
}

/// The executable that a message of cargo's tells of. Lines that are no
/// messages come from build scripts.
fn executable(line: &str) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Message {
        reason: String,
        executable: Option<PathBuf>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    (message.reason == "compiler-artifact")
        .then_some(message.executable)
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_taken_from_cargos_messages() {
        let artifact = r#"{"reason":"compiler-artifact","target":{},"executable":"/t/debug/x"}"#;
        assert_eq!(executable(artifact), Some("/t/debug/x".into()));
        for other in [
            r#"{"reason":"compiler-artifact","executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "not a message",
        ] {
            assert_eq!(executable(other), None, "{other}");
        }
    }
}
