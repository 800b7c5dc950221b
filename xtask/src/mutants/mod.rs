//! `cargo xtask test --only mutants`: do the tests notice?
//!
//! Each planted fault is built and tested in a copy of the workspace. It has
//! to break every test that the table names for it, and these have to pass
//! without it: a test that cannot fail tests nothing.

mod table;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use table::Mutant;

use crate::{
    build::{self, Binaries, Profile},
    test::{
        count::Count,
        libtest::{Outcome, Report},
        suite::{Filter, Runner, Suite},
    },
    workspace::Workspace,
};

/// The table, relative to the workspace.
const TABLE: &str = "tests/mutants/mutants.toml";

/// A fault may make a test wait for ever.
const LIMIT: Duration = Duration::from_secs(240);

/// Debug information is for reading; nobody reads these builds.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("CARGO_PROFILE_TEST_DEBUG", "0"),
];

/// Plants the faults whose names hold the filter's text; if not `all`, those of
/// them that are meant for every run.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>, all: bool) -> Result<Count> {
    let mut mutants = table::read(&workspace.root.join(TABLE))?;
    mutants.retain(|mutant| filter.is_none_or(|text| mutant.name.contains(text)));
    let mut left_out = Count::default();
    mutants.retain(|mutant| {
        let planted = all || !mutant.thorough;
        if !planted {
            println!(
                "    skipped: {}: only with --only mutants, for the time that it takes",
                mutant.name
            );
            left_out += Count::SKIPPED;
        }
        planted
    });
    let folder = workspace.root.join("target/mutants");
    let copy = Workspace {
        root: folder.join("tree"),
        target: Some(folder.join("build")),
        path: workspace.path.clone(),
    };
    tree::sync(&workspace.root, &copy.root)?;
    let mut subject = Copy {
        workspace: copy.clone(),
        binaries: None,
    };
    left_out += judge(&mutants, &copy.root, &mut subject)?;
    Ok(left_out)
}

/// What faults are planted in.
trait Subject {
    /// Builds what a run of the suites needs. Returns whether it builds.
    fn build(&mut self, suites: &[Suite]) -> Result<bool>;
    /// Runs a suite: at least these tests, or more where that costs little.
    fn test(&mut self, suite: Suite, tests: &[&str]) -> Result<Report>;
}

/// Plants one fault after another and counts those that are found.
fn judge(mutants: &[Mutant], root: &std::path::Path, subject: &mut dyn Subject) -> Result<Count> {
    if mutants.is_empty() {
        bail!("no planted fault has such a name");
    }
    let sound = baseline(mutants, subject)?;
    let mut count = Count::default();
    for mutant in mutants {
        let begin = Instant::now();
        let (word, verdict, text) = match plant(mutant, root, subject, &sound) {
            Ok(Finding::Found(broken)) => (
                "found",
                Count::PASSED,
                format!("broke {}: {}", broken.len(), broken.join(", ")),
            ),
            Ok(Finding::Skipped(why)) => ("skipped:", Count::SKIPPED, why),
            Err(error) => ("NOT FOUND", Count::FAILED, format!("{error:#}")),
        };
        println!(
            "    {word} {}: {text} ({} s)",
            mutant.name,
            begin.elapsed().as_secs()
        );
        count += verdict;
    }
    Ok(count)
}

enum Finding {
    /// With all tests that failed.
    Found(Vec<String>),
    Skipped(String),
}

/// Runs what the faults are to break, without any fault.
fn baseline(mutants: &[Mutant], subject: &mut dyn Subject) -> Result<BTreeMap<Suite, Report>> {
    let mut wanted: BTreeMap<Suite, Vec<&str>> = BTreeMap::new();
    for mutant in mutants {
        for suite in mutant.suites() {
            wanted.entry(suite).or_default().extend(mutant.tests(suite));
        }
    }
    println!("    building and testing without a fault");
    let suites: Vec<Suite> = wanted.keys().copied().collect();
    if !subject.build(&suites)? {
        bail!("the workspace does not build");
    }
    let mut reports = BTreeMap::new();
    for (suite, mut tests) in wanted {
        tests.sort_unstable();
        tests.dedup();
        reports.insert(suite, subject.test(suite, &tests)?);
    }
    Ok(reports)
}

fn plant(
    mutant: &Mutant,
    root: &std::path::Path,
    subject: &mut dyn Subject,
    sound: &BTreeMap<Suite, Report>,
) -> Result<Finding> {
    for name in &mutant.breaks {
        match sound
            .get(&name.suite)
            .and_then(|report| outcome(report, &name.test))
        {
            Some(Outcome::Passed) => {}
            Some(Outcome::Skipped(why)) => {
                return Ok(Finding::Skipped(format!("{name} was skipped: {why}")));
            }
            Some(Outcome::Failed) => bail!("{name} fails without the fault"),
            None => bail!("{name} does not exist, or its binary ended before it"),
        }
    }
    let _applied = mutant.apply(root)?;
    let suites = mutant.suites();
    if !subject.build(&suites)? {
        bail!("does not build");
    }
    let mut broken = Vec::new();
    let mut passed = Vec::new();
    for suite in suites {
        let declared = mutant.tests(suite);
        let report = subject.test(suite, &declared)?;
        // A binary that died has failed every test that it did not get to.
        let died = !report.broken.is_empty();
        for test in declared {
            match outcome(&report, test) {
                Some(Outcome::Failed) => {}
                None if died => broken.push(format!("{}:{test} (died)", suite.name())),
                None | Some(Outcome::Passed | Outcome::Skipped(_)) => {
                    passed.push(format!("{}:{test}", suite.name()));
                }
            }
        }
        for (test, outcome) in &report.tests {
            if *outcome == Outcome::Failed {
                broken.push(format!("{}:{test}", suite.name()));
            }
        }
    }
    if !passed.is_empty() {
        bail!(
            "expected to break {}; broke {}",
            passed.join(", "),
            if broken.is_empty() {
                "nothing".to_owned()
            } else {
                broken.join(", ")
            }
        );
    }
    Ok(Finding::Found(broken))
}

/// The outcome of a test; the worst, if several binaries have one of its name.
fn outcome<'a>(report: &'a Report, test: &str) -> Option<&'a Outcome> {
    let same = report.tests.iter().filter(|(name, _)| {
        name.strip_prefix(test)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    });
    let mut outcomes: Vec<&Outcome> = same.map(|(_, outcome)| outcome).collect();
    outcomes.sort_by_key(|outcome| match outcome {
        Outcome::Failed => 0,
        Outcome::Passed => 1,
        Outcome::Skipped(_) => 2,
    });
    outcomes.first().copied()
}

/// The copy of the workspace.
struct Copy {
    workspace: Workspace,
    binaries: Option<Binaries>,
}

impl Copy {
    fn runner(&self) -> Runner<'_> {
        Runner {
            workspace: &self.workspace,
            binaries: self.binaries.as_ref(),
            quiet: true,
            lean: true,
            limit: Some(LIMIT),
            environment: ENVIRONMENT,
        }
    }
}

impl Subject for Copy {
    fn build(&mut self, suites: &[Suite]) -> Result<bool> {
        if suites.iter().any(|suite| suite.in_sandbox()) {
            match build::agent_with(&self.workspace, Profile::Dev, true, ENVIRONMENT) {
                Ok(binaries) => self.binaries = Some(binaries),
                Err(error) => {
                    println!("    {error:#}");
                    return Ok(false);
                }
            }
        }
        let runner = self.runner();
        for suite in suites {
            if !runner.build(*suite)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn test(&mut self, suite: Suite, tests: &[&str]) -> Result<Report> {
        let filter = match suite {
            // Quick enough to see all that breaks.
            Suite::Unit | Suite::Golden | Suite::Verdict | Suite::Judges => Filter::All,
            Suite::Kernel | Suite::Netns => Filter::Exactly(tests),
        };
        self.runner().run(suite, filter)
    }
}
