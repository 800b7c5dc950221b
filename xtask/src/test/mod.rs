//! `cargo xtask test`: every check there is, part by part.

pub(crate) mod binaries;
pub(crate) mod count;
pub(crate) mod libtest;
pub(crate) mod suite;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;
use count::Count;
use suite::{Filter, Runner, Suite};

use crate::{
    build::{self, Binaries},
    layers, lint, mutants,
    setup::{self, Need},
    workspace::Workspace,
};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// Import order, lint inheritance, file length.
    Layers,
    /// Format, clippy, licences.
    Lint,
    /// Libraries, binaries and documentation; no root.
    Unit,
    /// YAML to map images; no root.
    Golden,
    /// A cluster's API server, by script; no root.
    Kube,
    /// Packet in, verdict out; and the maps' BTF.
    Verdict,
    /// Made-up policies and packets, judged three times.
    Judges,
    /// Loading, pinning, attaching and taking over.
    Kernel,
    /// Real connections through network namespaces.
    Netns,
    /// Planted faults, each of which a test must find.
    Mutants,
}

impl Part {
    const ALL: [Self; 10] = [
        Self::Layers,
        Self::Lint,
        Self::Unit,
        Self::Golden,
        Self::Kube,
        Self::Verdict,
        Self::Judges,
        Self::Kernel,
        Self::Netns,
        Self::Mutants,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Golden => "golden",
            Self::Kube => "kube",
            Self::Verdict => "verdict",
            Self::Judges => "judges",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Mutants => "mutants",
        }
    }

    const fn needs(self) -> &'static [Need] {
        match self {
            Self::Layers => &[],
            Self::Lint => &[Need::Build, Need::Lint],
            Self::Unit | Self::Golden | Self::Kube => &[Need::Build],
            Self::Verdict | Self::Judges | Self::Kernel | Self::Netns | Self::Mutants => {
                &[Need::Build, Need::Kernel]
            }
        }
    }
}

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run these parts only; may be given several times, or with commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Run only tests (or planted faults) whose name holds this text
    #[arg(long)]
    filter: Option<String>,
}

/// Runs the parts and prints what they came to.
pub(crate) fn run(args: &Args) -> Result<()> {
    let parts: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|part| args.only.is_empty() || args.only.contains(part))
        .collect();
    let mut needs: Vec<Need> = Vec::new();
    for part in &parts {
        needs.extend(part.needs());
    }
    let workspace = setup::ensure(&needs)?;
    let mut binaries = None;
    let mut total = Count::default();
    let mut lines = Vec::new();
    for part in parts {
        println!("== {} ==", part.name());
        let begin = Instant::now();
        let count = match run_part(part, args, &workspace, &mut binaries) {
            Ok(count) => count,
            Err(error) => {
                println!("{}: {error:#}", part.name());
                Count::FAILED
            }
        };
        let line = format!("{}: {count}", part.name());
        println!("{line}");
        lines.push(format!("{line} ({} s)", begin.elapsed().as_secs()));
        total += count;
    }
    println!("== summary ==");
    for line in lines {
        println!("{line}");
    }
    println!("{total}");
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    if total.passed == 0 {
        bail!("nothing passed: no test was run");
    }
    Ok(())
}

fn run_part(
    part: Part,
    args: &Args,
    workspace: &Workspace,
    binaries: &mut Option<Binaries>,
) -> Result<Count> {
    let filter = args.filter.as_deref();
    let suite = match part {
        Part::Layers => return layers::run(&workspace.root),
        Part::Lint => return lint::run(workspace),
        Part::Mutants => return mutants::run(workspace, filter),
        Part::Unit => Suite::Unit,
        Part::Golden => Suite::Golden,
        Part::Kube => Suite::Kube,
        Part::Verdict => Suite::Verdict,
        Part::Judges => Suite::Judges,
        Part::Kernel => Suite::Kernel,
        Part::Netns => Suite::Netns,
    };
    if suite.in_sandbox() && binaries.is_none() {
        *binaries = Some(build::agent(workspace, build::Profile::Dev, true)?);
    }
    let runner = Runner {
        workspace,
        binaries: binaries.as_ref(),
        quiet: false,
        lean: false,
        limit: None,
        environment: &[],
    };
    let filter = filter.map_or(Filter::All, Filter::Containing);
    let report = runner.run(suite, filter)?;
    for why in &report.broken {
        println!("{}: {why}", suite.name());
    }
    Ok(report.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_own_name() {
        let mut names: Vec<&str> = Part::ALL.into_iter().map(Part::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Part::value_variants().len());
        for part in Part::ALL {
            let value = part.to_possible_value().unwrap();
            assert_eq!(value.get_name(), part.name());
        }
    }
}
