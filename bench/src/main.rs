//! hostfw beside its contenders, on the same traffic, in turn.
//!
//! Runs in a sandbox: `cargo xtask bench` builds it and puts it there.

mod agent;
mod bpf;
mod contender;
mod drive;
mod machine;
mod perf;
mod plot;
mod record;
mod report;
mod scenario;
mod template;
mod wire;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use hostfw_tests::sandbox;

use crate::{
    record::Record,
    scenario::{Effort, apply, cidrs, cost, drops, flows, rest, switches, traffic},
};

/// Measures hostfw beside its contenders
#[derive(Debug, Parser)]
struct Cli {
    /// Print a line of JSON for each measure, instead of a table
    #[arg(long)]
    json: bool,
    /// Fewer sizes, rounds and packets: an idea within five minutes
    #[arg(long)]
    quick: bool,
    /// Only these scenarios: letters of the table in docs/performance.md
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<String>,
    /// Folder for the raw data
    #[arg(long)]
    out: Option<PathBuf>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave out rule sets of more rules than this
    #[arg(long, value_name = "RULES", default_value_t = 10_000)]
    most: usize,
    /// The agent, without which j, k, m and n are not available
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Measure nothing: write the results of this run into the document
    #[arg(long, value_name = "RUN", requires = "document")]
    render: Option<PathBuf>,
    /// The document, for --render
    #[arg(long)]
    document: Option<PathBuf>,
}

type Scenario = fn(&Effort, &mut Record) -> Result<()>;

/// Letters of the table, what is measured, and how.
const SCENARIOS: [(&[&str], &str, Scenario); 8] = [
    (&["a", "b"], "cost of a packet in the kernel", cost::measure),
    (
        &["c", "d"],
        "cost with a large set of networks",
        cidrs::measure,
    ),
    (&["e", "f", "g", "g2"], "drops in a second", drops::measure),
    (&["h"], "established traffic", traffic::measure),
    (&["i"], "many established flows", flows::measure),
    (&["j", "k"], "from apply to enforced", apply::measure),
    (
        &["l"],
        "packets judged while generations are switched",
        switches::measure,
    ),
    (&["m", "n"], "memory, and rest", rest::measure),
];

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if let (Some(run), Some(document)) = (&cli.render, &cli.document) {
        return report::render(run, document);
    }
    for only in &cli.only {
        ensure!(
            SCENARIOS
                .iter()
                .any(|(letters, ..)| letters.contains(&&**only)),
            "there is no scenario {only}: expected {}",
            SCENARIOS.map(|(letters, ..)| letters.join(", ")).join(", ")
        );
    }
    ensure!(
        sandbox::inside(),
        "run `cargo xtask bench`: programs are attached here"
    );
    sandbox::end_on_signals();
    let effort = if cli.quick {
        Effort {
            quick: true,
            most: cli.most,
            rounds: cli.rounds.min(3),
            runs: 200_000,
            seconds: 0.2,
            agent: cli.agent.clone(),
        }
    } else {
        Effort {
            quick: false,
            most: cli.most,
            rounds: cli.rounds,
            runs: 1_000_000,
            seconds: 0.5,
            agent: cli.agent.clone(),
        }
    };
    bpf::pin_to_cpu(Some(0)).context("choosing a CPU")?;
    let mut record = Record::default();
    let begin = Instant::now();
    let mut failed = Vec::new();
    for (letters, what, measure) in SCENARIOS {
        if !cli.only.is_empty() && !cli.only.iter().any(|only| letters.contains(&&**only)) {
            continue;
        }
        eprintln!(
            "[{:.0} s] {}: {what}",
            begin.elapsed().as_secs_f64(),
            letters.join(", ")
        );
        // One that fails must not cost the others their figures.
        if let Err(error) = measure(&effort, &mut record) {
            eprintln!("  error: {error:#}");
            failed.push(format!("{}: {error:#}", letters.join(", ")));
        }
        // What is measured is kept, whatever becomes of the rest.
        if let Some(folder) = &cli.out {
            record.write(folder)?;
        }
    }
    eprintln!("[{:.0} s] done", begin.elapsed().as_secs_f64());
    if let Some(folder) = &cli.out {
        record.write(folder)?;
        machine::write(folder, &failed)?;
    }
    if cli.json {
        print!("{}", record.json());
    } else {
        print!("{}", report::table(&record.json())?);
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}
