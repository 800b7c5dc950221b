//! `cargo xtask lint`: format, clippy, licences.

use anyhow::Result;

use crate::{
    test::count::Count,
    workspace::{Workspace, run as run_command},
};

/// Runs every linter; one that finds something does not hide the others.
pub(crate) fn run(workspace: &Workspace) -> Result<Count> {
    let mut count = Count::default();
    let mut check = |name: &str, command: &mut std::process::Command| {
        count += match run_command(command, name) {
            Ok(()) => {
                println!("    {name}: ok");
                Count::PASSED
            }
            Err(error) => {
                println!("    {error:#}");
                Count::FAILED
            }
        };
    };

    let mut format = workspace.command("cargo");
    format.args(["fmt", "--all", "--check"]);
    check("format", &mut format);

    let mut host = workspace.cargo("clippy");
    host.args(["--quiet", "--workspace", "--exclude", "hostfw-ebpf"])
        .args(["--all-targets", "--", "-D", "warnings"]);
    check("clippy of the host's crates", &mut host);

    let mut programs = workspace.cargo("clippy");
    programs
        .args(["--quiet", "--package", "hostfw-ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .args(["--", "-D", "warnings"])
        // For a stable compiler to accept -Z; see hostfw-agent's build script.
        .env("RUSTC_BOOTSTRAP", "1");
    check("clippy of the BPF programs", &mut programs);

    if workspace.which("cargo-deny").is_some() {
        let mut deny = workspace.command("cargo");
        deny.args(["deny", "--log-level", "error", "check"])
            .args(["bans", "licenses", "sources"]);
        check("licences and sources", &mut deny);
    } else {
        println!("    skipped: licences and sources: cargo-deny is not installed");
        count += Count::SKIPPED;
    }
    Ok(count)
}
