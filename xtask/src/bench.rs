//! `cargo xtask bench`: hostfw beside its contenders, in a sandbox; and what a large
//! cluster costs an agent, which needs none.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use hostfw_tests::sandbox;

use crate::{
    build::{self, Profile},
    setup::{self, Need},
    workspace::{Workspace, output},
};

/// How to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a line of JSON for each measure, instead of a table
    #[arg(long)]
    json: bool,
    /// Fewer sizes, rounds and packets, and keep nothing: an idea within five
    /// minutes
    #[arg(long)]
    quick: bool,
    /// Only these scenarios: letters of the table in docs/performance.md, or kube,
    /// what a large cluster costs, which is left out otherwise; keeps nothing, unless
    /// --out says where
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each measurement; default: 5, and 20 of kube
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the raw data go; default: bench/runs/DATE-HOST
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure nothing: write the results of this folder of bench/runs into
    /// docs/performance.md
    #[arg(long, value_name = "RUN", exclusive = true)]
    render: Option<PathBuf>,
}

/// Builds the benchmark and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(run) = &args.render {
        return render(run);
    }
    let (kube, scenarios): (Vec<&String>, Vec<&String>) =
        args.only.iter().partition(|scenario| *scenario == KUBE);
    if !kube.is_empty() {
        cluster(args)?;
        if scenarios.is_empty() {
            return Ok(());
        }
    }
    let scenarios: Vec<&str> = scenarios.iter().map(|it| it.as_str()).collect();
    let workspace = setup::ensure(&[Need::Build, Need::Kernel, Need::Bench])?;
    let program = program(&workspace, &["--bins"], "hostfw-bench")?;
    let binaries = build::agent(&workspace, Profile::Release, false)?;
    let mut command = workspace.command(&program.to_string_lossy());
    command.args(["--rounds", &args.rounds.unwrap_or(5).to_string()]);
    command.arg("--agent").arg(&binaries.agent);
    for (given, argument) in [(args.json, "--json"), (args.quick, "--quick")] {
        if given {
            command.arg(argument);
        }
    }
    if !scenarios.is_empty() {
        command.args(["--only", &scenarios.join(",")]);
    }
    let out = match &args.out {
        Some(out) => Some(std::path::absolute(out)?),
        None if args.quick || !args.only.is_empty() => None,
        None => {
            let date = output(workspace.command("date").arg("+%F"), "date")?;
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
            let name = format!("{}-{}", date.trim(), host.trim());
            Some(workspace.root.join("bench/runs").join(name))
        }
    };
    if let Some(out) = &out {
        command.arg("--out").arg(out);
    }
    let status = sandbox::enter(&command)?;
    if !status.success() {
        bail!("the benchmark failed: {status}");
    }
    Ok(())
}

/// The scenario that has a program of its own.
const KUBE: &str = "kube";

/// Measures what a large cluster costs an agent.
fn cluster(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build])?;
    let program = program(&workspace, &["--bench", KUBE], KUBE)?;
    let mut command = workspace.command(&program.to_string_lossy());
    if args.json {
        command.arg("--json");
    }
    if args.quick {
        command.args(["--nodes", "500", "--pods", "10000", "--policies", "1000"]);
        command.args(["--changes", "100"]);
    }
    if let Some(rounds) = args.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(out) = &args.out {
        command.arg("--out").arg(std::path::absolute(out)?);
    }
    let status = command.status().context("cannot run the benchmark")?;
    if !status.success() {
        bail!("the benchmark failed: {status}");
    }
    Ok(())
}

/// Builds the program of this name; `which` says where it is among the package's
/// targets. Cargo builds the package's binaries along with a benchmark.
fn program(workspace: &Workspace, which: &[&str], name: &str) -> Result<PathBuf> {
    build::executables(
        workspace,
        &[&["--package", "hostfw-bench"], which].concat(),
        Profile::Release,
        false,
        &[],
    )?
    .into_iter()
    .find(|path| {
        // That of a benchmark has a hash behind its name.
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let rest = stem.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
    .with_context(|| format!("the build left no executable {name}"))
}

/// Writes a run's results into the document.
fn render(run: &Path) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build])?;
    let run = std::path::absolute(run)?;
    if run.join("kube.csv").exists() {
        let program = program(&workspace, &["--bench", KUBE], KUBE)?;
        let mut command = workspace.command(&program.to_string_lossy());
        output(command.arg("--render").arg(&run), "the benchmark")?;
        if !run.join("raw.csv").exists() {
            return Ok(());
        }
    }
    let program = program(&workspace, &["--bins"], "hostfw-bench")?;
    let mut command = workspace.command(&program.to_string_lossy());
    command.arg("--render").arg(run);
    command.arg("--document").arg("docs/performance.md");
    output(&mut command, "the benchmark").map(drop)
}
