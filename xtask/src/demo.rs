//! `cargo xtask demo`: the tutorial on a small cluster, as a table.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    report::Report,
    sandbox::{self, Lifeline},
    scenario::{self, Fault},
    topology::{Host, Topology},
};

/// How to show it, and what to break.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Leave the cluster up, and say how to enter and to remove it
    #[arg(long)]
    keep: bool,
    /// Break something, to see which probes notice: no-dnat, no-pinhole,
    /// no-endpoints, kill-agent
    #[arg(long)]
    fault: Option<Fault>,
}

/// Plays the tutorial in a sandbox; success only if all is as expected.
///
/// `build` makes the programs: it is called once, outside of the sandbox, for
/// inside there is no network to fetch anything from.
pub(crate) fn run(args: &Args, build: impl FnOnce() -> Result<Binaries>) -> Result<ExitCode> {
    if sandbox::inside() {
        return inside(args);
    }
    let binaries = build()?;
    let mut again = Command::new(env::current_exe().context("finding xtask's own executable")?);
    again
        .args(env::args_os().skip(1))
        .env("HOSTFW_AGENT", binaries.agent)
        .env("HOSTFW_CTL", binaries.ctl);
    let code = if args.keep {
        sandbox::enter_detachable(&again)?
    } else {
        sandbox::enter(&again)?.code().unwrap_or(1)
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn inside(args: &Args) -> Result<ExitCode> {
    sandbox::end_on_signals();
    let lifeline = Lifeline::take();
    let binaries = Binaries::from_env().context("HOSTFW_AGENT and HOSTFW_CTL are not set")?;
    eprintln!("building the cluster in network namespaces");
    let topology = Topology::up().context("cannot build the cluster")?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    let mut progress = |line: &str| eprintln!("{line}");
    let report = scenario::play(&topology, Some(&mut cluster), args.fault, &mut progress)?;
    if args.json {
        println!("{:#}", report.to_json());
    } else {
        print!("\n{report}");
        if let Some(fault) = args.fault {
            print!("{}", verdict(fault, &report));
        }
    }
    let code = u8::from(!report.agrees());
    if let Some(lifeline) = lifeline {
        eprint!("{}", how_to_enter()?);
        lifeline.stay(code)?;
    }
    Ok(ExitCode::from(code))
}

/// Whether a fault changed just what it must.
fn verdict(fault: Fault, report: &Report) -> String {
    let (must, did) = (fault.changes(), report.differing());
    if must == did {
        return match must.len() {
            0 => format!("\nThe fault {fault} must change no probe, and changed none.\n"),
            count => {
                format!("\nThe fault {fault} changed exactly the {count} probes that it must.\n")
            }
        };
    }
    let mut text = format!("\nThe fault {fault} did not change exactly what it must:\n");
    for probe in must.difference(&did) {
        text += &format!("  {probe} did not change\n");
    }
    for probe in did.difference(&must) {
        text += &format!("  {probe} changed\n");
    }
    text
}

fn how_to_enter() -> Result<String> {
    let pid = env::var(sandbox::ENV_PID).context(sandbox::ENV_PID)?;
    let node = Host::Node1;
    let enter = format!("nsenter --target {pid} --mount --pid");
    let mut text = format!(
        "
The cluster stays up. Enter one of its hosts (outside, router, node1, node2, pod1, pod2):
  {enter} --net=/proc/{pid}/root/run/netns/{node} bash
Ask node1's agent:
  {enter} env HOSTFW_STORE={} HOSTFW_SOCKET={} {} status
Look at its maps:
",
        cluster::store().display(),
        cluster::socket(node).display(),
        env::var("HOSTFW_CTL").unwrap_or_else(|_| "hostfwctl".to_owned()),
    );
    let mut pins = Vec::new();
    find_files(&cluster::pin_root(node), &mut pins)
        .with_context(|| cluster::pin_root(node).display().to_string())?;
    pins.sort();
    // Links are pinned too.
    pins.retain(|pin| !pin.iter().any(|part| part == "links"));
    for pin in pins {
        text += &format!("  {enter} bpftool map dump pinned {}\n", pin.display());
    }
    text += &format!("Remove it:\n  kill {pid}\n");
    Ok(text)
}

fn find_files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
