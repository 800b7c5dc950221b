//! `cargo xtask fuzz`: the three judges on made-up policies and packets, for as
//! long as asked.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    setup::{self, Need},
    workspace::Workspace,
};

/// How long to search, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, value_name = "N")]
    minutes: f64,
    /// Where the random choices begin: the same seed gives the same cases;
    /// default: the time. Each further process takes the next number
    #[arg(long)]
    seed: Option<u64>,
    /// How many processes search
    #[arg(long, default_value_t = 1)]
    processes: u64,
    /// Packets for each set of policies
    #[arg(long, default_value_t = 100)]
    packets: usize,
    /// Folder for what is found; default: target/fuzz
    #[arg(long)]
    found: Option<PathBuf>,
}

/// Builds the search and runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = setup::ensure(&[Need::Build, Need::Kernel])?;
    let program = build::executables(
        &workspace,
        &["--package", "hostfw-proof", "--bins"],
        Profile::Release,
        false,
        &[],
    )?
    .into_iter()
    .next()
    .context("the build left no executable")?;
    let found = match &args.found {
        Some(found) => std::path::absolute(found)?,
        None => workspace.root.join("target/fuzz"),
    };
    std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let first = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let last = first.checked_add(args.processes);
    let last = last.context("--seed: expected a number that leaves room for all processes")?;
    let seeds: Vec<u64> = (first..last).collect();
    let report = |seed: &u64| found.join(format!("seed-{seed}.report.json"));
    let children = seeds
        .iter()
        .map(|seed| search(args, &workspace, &program, *seed, &found, &report(seed)))
        .collect::<Result<Vec<_>>>()?;
    let mut agreed = true;
    for mut child in children {
        agreed &= child.wait().context("waiting for the search")?.success();
    }
    let reports: Vec<PathBuf> = seeds.iter().map(report).collect();
    println!("== seeds {seeds:?}, {} minutes ==", args.minutes);
    let total = Command::new(&program).arg("sum").args(&reports).status();
    agreed &= total.context("adding the reports up")?.success();
    if !agreed {
        bail!("see above; cases are in {}", found.display());
    }
    Ok(())
}

/// One process, in a sandbox: it loads programs, and attaches none.
fn search(
    args: &Args,
    workspace: &Workspace,
    program: &Path,
    seed: u64,
    found: &Path,
    report: &Path,
) -> Result<Child> {
    let xtask = std::env::current_exe().context("finding xtask's own executable")?;
    let mut command = workspace.command(&xtask.to_string_lossy());
    command
        .args(["sandbox", "--"])
        .arg(program)
        .args(["run", "--minutes", &args.minutes.to_string()])
        .args(["--seed", &seed.to_string()])
        .args(["--packets", &args.packets.to_string()])
        .arg("--found")
        .arg(found)
        .arg("--report")
        .arg(report);
    command.spawn().context("cannot start the search")
}
