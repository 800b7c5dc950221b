//! `cargo xtask test`: every check there is, part by part.

pub(crate) mod again;
pub(crate) mod binaries;
pub(crate) mod count;
pub(crate) mod libtest;
pub(crate) mod suite;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use count::Count;
use libtest::Report;
use suite::{Filter, Runner, Suite};

use crate::{
    build::{self, Binaries},
    deploy, image, layers, lint, mutants,
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
    /// The manifests below deploy/; no root.
    Deploy,
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
    /// The container image, built and run.
    Image,
    /// Planted faults, each of which a test must find.
    Mutants,
}

impl Part {
    const ALL: [Self; 12] = [
        Self::Layers,
        Self::Lint,
        Self::Unit,
        Self::Golden,
        Self::Deploy,
        Self::Kube,
        Self::Verdict,
        Self::Judges,
        Self::Kernel,
        Self::Netns,
        Self::Image,
        Self::Mutants,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Golden => "golden",
            Self::Deploy => "deploy",
            Self::Kube => "kube",
            Self::Verdict => "verdict",
            Self::Judges => "judges",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Image => "image",
            Self::Mutants => "mutants",
        }
    }

    const fn needs(self) -> &'static [Need] {
        match self {
            Self::Layers => &[],
            Self::Lint => &[Need::Build, Need::Lint],
            Self::Unit | Self::Golden | Self::Deploy | Self::Kube => &[Need::Build],
            Self::Verdict | Self::Judges | Self::Kernel | Self::Netns | Self::Mutants => {
                &[Need::Build, Need::Kernel]
            }
            Self::Image => &[Need::Build, Need::Kernel],
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
    let mut failures = Vec::new();
    for part in parts {
        println!("== {} ==", part.name());
        let begin = Instant::now();
        let mut flaky = Vec::new();
        let count =
            match run_part(part, args, &workspace, &mut binaries) {
                Ok(Findings::Count(count)) => count,
                Ok(Findings::Report(report)) => {
                    failures.extend(report.said.iter().map(|(test, said)| {
                        format!("== {} failed: {test} ==\n{said}", part.name())
                    }));
                    let count = report.count();
                    flaky = report.flaky;
                    count
                }
                Err(error) => {
                    println!("{}: {error:#}", part.name());
                    failures.push(format!("== {} failed ==\n{error:#}\n", part.name()));
                    Count::FAILED
                }
            };
        let line = format!("{}: {count}", part.name());
        println!("{line}");
        lines.push(format!("{line} ({} s)", begin.elapsed().as_secs()));
        let of_part = |test| format!("    flaky: {test} failed once, then passed alone");
        lines.extend(flaky.into_iter().map(of_part));
        total += count;
    }
    // Once more, where the end of a log shows it.
    for failure in failures {
        print!("{failure}");
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

/// What became of a part.
enum Findings {
    /// What is no test of a binary.
    Count(Count),
    Report(Report),
}

fn run_part(
    part: Part,
    args: &Args,
    workspace: &Workspace,
    binaries: &mut Option<Binaries>,
) -> Result<Findings> {
    let filter = args.filter.as_deref();
    let suite = match part {
        Part::Layers => return layers::run(&workspace.root).map(Findings::Count),
        Part::Lint => return lint::run(workspace).map(Findings::Count),
        Part::Mutants => return mutants::run(workspace, filter).map(Findings::Count),
        Part::Deploy => {
            let binaries = built(workspace, binaries)?;
            return deploy::run(workspace, binaries, filter).map(Findings::Count);
        }
        Part::Unit => Suite::Unit,
        Part::Golden => Suite::Golden,
        Part::Kube => Suite::Kube,
        Part::Verdict => Suite::Verdict,
        Part::Judges => Suite::Judges,
        Part::Kernel => Suite::Kernel,
        Part::Netns => Suite::Netns,
        Part::Image => Suite::Image,
    };
    if suite.in_sandbox() {
        built(workspace, binaries)?;
    }
    let mut environment = Vec::new();
    let archive;
    if suite == Suite::Image {
        // Here, so that a machine where it cannot be built runs the other parts.
        setup::ensure(&[Need::Image, Need::Container])?;
        archive = image::build(workspace, None, true)?;
        environment.push((
            "HOSTFW_IMAGE",
            archive.to_str().context("the image's path")?,
        ));
    }
    let runner = Runner {
        workspace,
        binaries: binaries.as_ref(),
        quiet: false,
        lean: false,
        limit: None,
        environment: &environment,
    };
    let filter = filter.map_or(Filter::All, Filter::Containing);
    let mut report = runner.run(suite, filter)?;
    if suite.again() {
        again::run_again(&mut report, |test| runner.run(suite, Filter::Exactly(test)))?;
    }
    for why in &report.broken {
        println!("{}: {why}", suite.name());
    }
    Ok(Findings::Report(report))
}

/// The agent and hostfwctl, built once.
fn built<'a>(workspace: &Workspace, binaries: &'a mut Option<Binaries>) -> Result<&'a Binaries> {
    match binaries {
        Some(binaries) => Ok(binaries),
        None => Ok(binaries.insert(build::agent(workspace, build::Profile::Dev, true)?)),
    }
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
