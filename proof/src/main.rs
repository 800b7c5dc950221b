//! Judges made-up policies and packets for as long as asked; see `cargo xtask
//! fuzz`.

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use hostfw_agent::judge::Kernel;
use hostfw_proof::{
    case::Cases,
    recorded::{Recorded, written},
    run::{Bench, Finding, Search},
};

/// Has the three judges judge made-up policies and packets
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make cases up until the time is over
    Run(Run),
    /// Add the reports of several runs up
    Sum {
        /// Files that `--report` has written
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// How long
    #[arg(long)]
    minutes: f64,
    /// Where the random choices begin: the same seed gives the same cases
    #[arg(long)]
    seed: u64,
    /// Packets for each set of policies
    #[arg(long, default_value_t = 100)]
    packets: usize,
    /// End after so many sets, if the time is not over before
    #[arg(long)]
    sets: Option<u64>,
    /// Leave the loaded programs out: needs no root
    #[arg(long)]
    no_kernel: bool,
    /// Folder for the cases that are found
    #[arg(long)]
    found: PathBuf,
    /// File for what was counted
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Command::Run(arguments) => run(arguments),
        Command::Sum { reports } => sum(reports),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(15);
/// More are not looked for: they are mostly the same one.
const MOST_FINDINGS: u64 = 20;

/// Whether the judges agreed about everything.
fn run(arguments: &Run) -> Result<bool> {
    let mut bench = Bench {
        // Explanations take ten times as long as answers.
        explain_one_of: 10,
        ..Bench::default()
    };
    if !arguments.no_kernel {
        bench.kernel = Some(Kernel::open().context("the programs cannot be loaded")?);
    }
    let seed = arguments.seed;
    let begin = Instant::now();
    let limit = Duration::try_from_secs_f64(arguments.minutes * 60.0)
        .with_context(|| format!("--minutes {}", arguments.minutes))?;
    let mut told = begin;
    let mut search = Search::new(seed);
    let cases = Cases {
        packets: arguments.packets,
    };
    loop {
        let finding = search.next(&mut bench, cases, |bench| {
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                println!("seed {seed}: {} s: {bench}", begin.elapsed().as_secs());
            }
            begin.elapsed() < limit
                && bench.findings < MOST_FINDINGS
                && arguments.sets.is_none_or(|sets| bench.scenes < sets)
        });
        let Some(finding) = finding else {
            break;
        };
        let name = format!("seed-{seed}-{}", bench.findings);
        println!("seed {seed}: {name}: {finding}");
        record(&finding, &bench, arguments, &name)?;
    }
    println!("seed {seed}: {} s: {bench}", begin.elapsed().as_secs());
    if let Some(report) = &arguments.report {
        fs::write(report, serde_json::to_string(&bench.report())?)
            .with_context(|| report.display().to_string())?;
    } else {
        print!("{}", bench.report());
    }
    Ok(bench.findings == 0 && bench.refused == 0)
}

/// Keeps a finding, with what the reference says for an answer: whether that
/// is right is for whoever mends it to see.
fn record(finding: &Finding, bench: &Bench, arguments: &Run, name: &str) -> Result<()> {
    let answer = bench.by_reference(&finding.case)?;
    let recorded = Recorded {
        case: finding.case.clone(),
        expected: written(&answer),
    };
    recorded.write(&arguments.found, name)?;
    println!(
        "written to {}; move it to proof/regressions once it is mended",
        arguments.found.join(name).display()
    );
    Ok(())
}

/// Whether all of the runs together reached everything, and found nothing.
fn sum(reports: &[PathBuf]) -> Result<bool> {
    let mut total = hostfw_proof::run::Report::default();
    for path in reports {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        total.absorb(&report);
    }
    print!("{total}");
    Ok(total.is_good())
}
