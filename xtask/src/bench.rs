//! `cargo xtask bench`: hostfw beside its contenders, in a sandbox.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use hostfw_tests::sandbox;

use crate::{
    build::{self, Profile},
    setup::{self, Need},
    workspace::output,
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Only see that everything runs, and keep nothing
    #[arg(long)]
    quick: bool,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Where the raw data go; default: bench/runs/DATE-HOST
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Builds the benchmark and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build, Need::Kernel])?;
    let program = build::executables(
        &workspace,
        &["--package", "hostfw-bench"],
        Profile::Release,
        false,
        &[],
    )?
    .into_iter()
    .next()
    .context("the build left no executable")?;
    let mut command = workspace.command(&program.to_string_lossy());
    command.args(["--rounds", &args.rounds.to_string()]);
    if args.json {
        command.arg("--json");
    }
    if args.quick {
        command.arg("--quick");
    } else {
        let out = match &args.out {
            Some(out) => std::path::absolute(out)?,
            None => {
                let date = output(workspace.command("date").arg("+%F"), "date")?;
                let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
                let name = format!("{}-{}", date.trim(), host.trim());
                workspace.root.join("bench/runs").join(name)
            }
        };
        command.arg("--out").arg(out);
    }
    let status = sandbox::enter(&command)?;
    if !status.success() {
        bail!("the benchmark failed: {status}");
    }
    Ok(())
}
