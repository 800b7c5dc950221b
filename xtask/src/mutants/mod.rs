//! `cargo xtask test --only mutants`: do the tests notice?
//!
//! All planted faults are built at once into a copy of the workspace, each
//! behind a switch. With its switch on, a fault has to break every test that
//! the table names for it, and these have to pass while all are off: a test
//! that cannot fail tests nothing.

mod copy;
mod table;
mod tree;
mod weave;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Result, bail};
use copy::Copy;
use table::{Mutant, Table};
use weave::{Woven, weave};

use crate::{
    test::{
        again,
        count::Count,
        libtest::{Outcome, Report},
        suite::{Suite, processors},
    },
    workspace::Workspace,
};

/// The table, relative to the workspace.
const TABLE: &str = "tests/mutants/mutants.toml";

/// Plants the faults whose names hold the filter's text.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> Result<Count> {
    let table = table::read(&workspace.root.join(TABLE))?;
    let faults: Vec<&Mutant> = table
        .mutant
        .iter()
        .filter(|mutant| filter.is_none_or(|text| mutant.name.contains(text)))
        .collect();
    judge(&table, &faults, &workspace.root, &mut Copy::of(workspace))
}

/// What faults are planted in.
trait Subject: Sync {
    /// Builds what a run of the suites needs, with other contents for some
    /// files. Returns whether it builds.
    fn build(&mut self, woven: &Woven, suites: &[Suite]) -> Result<bool>;
    /// Runs these tests of a suite while the fault of that number shows.
    fn test(&self, suite: Suite, tests: &[&str], fault: usize) -> Result<Report>;
}

/// Plants one fault after another and counts those that are found.
fn judge(
    table: &Table,
    faults: &[&Mutant],
    root: &Path,
    subject: &mut dyn Subject,
) -> Result<Count> {
    if faults.is_empty() {
        bail!("no planted fault has such a name");
    }
    let wanted = wanted(faults);
    let suites: Vec<Suite> = wanted.keys().copied().collect();
    let (alone, together): (Vec<&Mutant>, Vec<&Mutant>) =
        faults.iter().partition(|fault| fault.alone);
    println!("    building with {} faults, all off", together.len());
    if !subject.build(&weave(root, table, &together)?, &suites)? {
        bail!("the workspace does not build with the faults in it");
    }
    println!("    testing without a fault");
    let sound = baseline(&wanted, subject)?;
    let count = Mutex::new(Count::default());
    let show = |fault: &Mutant, begin: Instant, finding: Result<Finding>| {
        let (word, verdict, text) = match finding {
            Ok(Finding::Found(broken)) => ("found", Count::PASSED, broken.join(", ")),
            Ok(Finding::Skipped(why)) => ("skipped:", Count::SKIPPED, why),
            Err(error) => ("NOT FOUND", Count::FAILED, format!("{error:#}")),
        };
        let seconds = begin.elapsed().as_secs();
        println!("    {word} {}: {text} ({seconds} s)", fault.name);
        *count.lock().unwrap_or_else(PoisonError::into_inner) += verdict;
    };
    // The long ones first, so that nobody has to wait for them in the end.
    let mut in_order = together;
    in_order.sort_by_key(|fault| !fault.suites().contains(&Suite::Netns));
    side_by_side(&in_order, |fault| {
        let begin = Instant::now();
        let finding = table
            .number(fault)
            .and_then(|number| plant(fault, number, subject, &sound));
        show(fault, begin, finding);
    });
    for fault in alone {
        let begin = Instant::now();
        let finding = subject
            .build(&weave(root, table, &[fault])?, &fault.suites())
            .and_then(|built| match built {
                true => plant(fault, table.number(fault)?, subject, &sound),
                false => bail!("does not build"),
            });
        show(fault, begin, finding);
    }
    Ok(count.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Does something with each item, as many at a time as there are processors.
fn side_by_side<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

enum Finding {
    /// With all tests that failed.
    Found(Vec<String>),
    Skipped(String),
}

/// What the faults are to break.
fn wanted<'a>(faults: &[&'a Mutant]) -> BTreeMap<Suite, Vec<&'a str>> {
    let mut wanted: BTreeMap<Suite, Vec<&str>> = BTreeMap::new();
    for fault in faults {
        for suite in fault.suites() {
            wanted.entry(suite).or_default().extend(fault.tests(suite));
        }
    }
    for tests in wanted.values_mut() {
        tests.sort_unstable();
        tests.dedup();
    }
    wanted
}

/// Runs it without any fault.
///
/// What fails is run once more, alone: the suites themselves have judged it
/// before, here it is only to tell what a fault changes.
fn baseline(
    wanted: &BTreeMap<Suite, Vec<&str>>,
    subject: &dyn Subject,
) -> Result<BTreeMap<Suite, Report>> {
    let reports = Mutex::new(Vec::new());
    let in_order: Vec<(&Suite, &Vec<&str>)> = wanted.iter().rev().collect();
    side_by_side(&in_order, |(suite, tests)| {
        let report = subject.test(**suite, tests, 0);
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.push(report.map(|report| (**suite, report)));
    });
    let reports = reports.into_inner();
    let mut reports: BTreeMap<Suite, Report> = reports
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .collect::<Result<_>>()?;
    for (suite, report) in &mut reports {
        again::run_again(report, |test| subject.test(*suite, &[test], 0))?;
    }
    Ok(reports)
}

/// Lets a fault show that has been built.
fn plant(
    mutant: &Mutant,
    number: usize,
    subject: &dyn Subject,
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
    let mut broken = Vec::new();
    let mut passed = Vec::new();
    for suite in mutant.suites() {
        let declared = mutant.tests(suite);
        let report = subject.test(suite, &declared, number)?;
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
