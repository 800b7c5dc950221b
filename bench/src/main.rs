//! hostfw beside its contenders, on the same traffic, in turn.
//!
//! Runs in a sandbox: `cargo xtask bench` builds it and puts it there.

mod bpf;
mod contender;
mod cost;
mod drops;
mod policy;
mod record;
mod throughput;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use hostfw_tests::sandbox;

use crate::{record::Record, wire::Wire};

/// Measures hostfw beside its contenders
#[derive(Debug, Parser)]
struct Cli {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A few short rounds, to see that everything runs: the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Folder for the raw data
    #[arg(long)]
    out: Option<PathBuf>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

/// How long and how often to measure.
struct Effort {
    rounds: usize,
    /// Packets of one round of `cost`.
    runs: u32,
    /// Seconds of one round of `drops` and `throughput`.
    seconds: f64,
}

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
    ensure!(
        sandbox::inside(),
        "run `cargo xtask bench`: programs are attached here"
    );
    let effort = if cli.quick {
        Effort {
            rounds: 2,
            runs: 10_000,
            seconds: 0.05,
        }
    } else {
        Effort {
            rounds: cli.rounds,
            runs: 1_000_000,
            seconds: 1.0,
        }
    };
    bpf::pin_to_cpu(0).context("choosing a CPU")?;
    let wire = Wire::up()?;
    let mut record = Record::default();
    eprintln!("cost of a packet in the kernel");
    cost::measure(&wire, &effort, &mut record)?;
    eprintln!("drops per second");
    drops::measure(&wire, &effort, &mut record)?;
    eprintln!("throughput of allowed connections");
    throughput::measure(&wire, &effort, &mut record)?;
    if let Some(folder) = &cli.out {
        record.write(folder)?;
    }
    if cli.json {
        println!("{:#}", record.to_json());
    } else {
        print!("{}", record.summary());
    }
    Ok(())
}
