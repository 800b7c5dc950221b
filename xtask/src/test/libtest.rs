//! Reads what a libtest binary prints with `--show-output`.
//!
//! The JSON format is not stable yet; the lines read here have been the same
//! for years.

use std::collections::BTreeMap;

use super::count::Count;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Did not run, for the reason that it gave.
    Skipped(String),
}

/// The tests of one or several binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// By name, within the binary.
    pub(crate) tests: BTreeMap<String, Outcome>,
    /// The binaries that ended without saying how, or said that something
    /// failed without saying what.
    pub(crate) broken: Vec<String>,
    /// What the failed tests said, by name.
    pub(crate) said: BTreeMap<String, String>,
    /// Those that failed once and then passed alone.
    pub(crate) flaky: Vec<String>,
}

impl Report {
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for outcome in self.tests.values() {
            count += match outcome {
                Outcome::Passed => Count::PASSED,
                Outcome::Failed => Count::FAILED,
                Outcome::Skipped(_) => Count::SKIPPED,
            };
        }
        for _ in &self.broken {
            count += Count::FAILED;
        }
        count
    }

    /// The names of those that failed, as they are in this report.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        self.tests
            .iter()
            .filter(|(_, outcome)| **outcome == Outcome::Failed)
            .map(|(name, _)| name.as_str())
    }

    /// The test's own name, without the number that tells it apart.
    pub(crate) fn name(key: &str) -> &str {
        key.split_once('#').map_or(key, |(name, _)| name)
    }

    /// Adds the tests of another binary; the same name in both keeps the worse
    /// outcome and is told apart by a number.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        for (name, outcome) in other.tests {
            let mut key = name.clone();
            let mut number = 2;
            while self.tests.contains_key(&key) {
                key = format!("{name}#{number}");
                number += 1;
            }
            if let Some(said) = other.said.remove(&name) {
                self.said.insert(key.clone(), said);
            }
            self.tests.insert(key, outcome);
        }
        self.flaky.extend(other.flaky);
        self.broken.extend(other.broken);
    }
}

/// Where in the output the next line is.
#[derive(Default)]
enum Section {
    /// One line for each test.
    #[default]
    Progress,
    /// The output of passed tests.
    Successes { test: Option<String> },
    /// The output of failed tests, and their list.
    Failures { test: Option<String> },
}

/// Reads line by line. Binaries may follow one another.
#[derive(Default)]
pub(crate) struct Parser {
    section: Section,
    /// Of the binary being read.
    current: Report,
    whole: Report,
    begun: bool,
}

impl Parser {
    /// Takes a line; returns whether a reader wants to see it: the output of
    /// tests that passed is noise.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some(count) = line
            .strip_prefix("running ")
            .and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")))
            && count.parse::<usize>().is_ok()
        {
            self.end_binary("ended without a result");
            self.begun = true;
            self.section = Section::Progress;
            return false;
        }
        if line.starts_with("test result: ") {
            let said_failed = line.starts_with("test result: FAILED");
            let found_failed = self.current.count().failed > 0;
            self.begun = false;
            if said_failed && !found_failed {
                self.current.broken.push(line.to_owned());
            }
            self.whole.absorb(std::mem::take(&mut self.current));
            self.section = Section::Progress;
            return false;
        }
        match line {
            "successes:" if self.begun => {
                self.section = Section::Successes { test: None };
                return false;
            }
            "failures:" if self.begun => {
                self.section = Section::Failures { test: None };
                return true;
            }
            _ => {}
        }
        match &mut self.section {
            Section::Progress => self.progress(line),
            Section::Successes { test } => {
                if let Some(name) = header(line) {
                    *test = Some(name.to_owned());
                } else if let Some(reason) = skipped(line)
                    && let Some(name) = test.clone()
                {
                    println!("    {name}: skipped: {reason}");
                    self.current
                        .tests
                        .insert(name, Outcome::Skipped(reason.to_owned()));
                }
                false
            }
            Section::Failures { test } => {
                if let Some(name) = header(line) {
                    *test = Some(name.to_owned());
                } else if let Some(name) = test {
                    let said = self.current.said.entry(name.clone()).or_default();
                    said.push_str(line);
                    said.push('\n');
                }
                true
            }
        }
    }

    fn progress(&mut self, line: &str) -> bool {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return !line.is_empty();
        };
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        // With RUST_TEST_TIME or some harnesses a duration follows.
        let word = result.split([' ', ',']).next().unwrap_or_default();
        let outcome = match word {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            "ignored" => Outcome::Skipped(
                result
                    .split_once(", ")
                    .map_or("ignored", |(_, reason)| reason)
                    .to_owned(),
            ),
            _ => return true,
        };
        let failed = outcome == Outcome::Failed;
        self.current.tests.insert(name.to_owned(), outcome);
        failed
    }

    fn end_binary(&mut self, why: &str) {
        if std::mem::take(&mut self.begun) {
            self.current.broken.push(why.to_owned());
        }
        self.whole.absorb(std::mem::take(&mut self.current));
    }

    /// The report, once the output has ended. `succeeded` is what the exit
    /// code says.
    pub(crate) fn finish(mut self, succeeded: bool) -> Report {
        self.end_binary("ended without a result");
        if !succeeded && self.whole.count().failed == 0 {
            self.whole
                .broken
                .push("did not build, or failed outside of a test".to_owned());
        }
        self.whole
    }
}

/// The name of the test whose output follows.
fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// The reason behind `skipped: `, which may stand behind the test's name.
fn skipped(line: &str) -> Option<&str> {
    let (before, reason) = line.split_once("skipped: ")?;
    let name = before.strip_suffix(": ").unwrap_or(before);
    let named = before != name && !name.contains(char::is_whitespace);
    (named || before.is_empty()).then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, succeeded: bool) -> Report {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.line(line);
        }
        parser.finish(succeeded)
    }

    const OUTPUT: &str = "
running 4 tests
test a::one ... ok
test a::two ... ok
test b - should panic ... ok
test slow ... ignored, takes an hour

successes:

---- a::two stdout ----
skipped: no XDP here

---- b stdout ----
b: skipped: no TCX here

---- a::one stdout ----
not skipped: really ran

successes:
    a::one
    a::two

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_test_that_says_skipped_is_not_passed() {
        let report = parse(OUTPUT, true);
        assert_eq!(
            report.count(),
            Count {
                passed: 1,
                failed: 0,
                skipped: 3
            }
        );
        assert_eq!(
            report.tests["a::two"],
            Outcome::Skipped("no XDP here".to_owned())
        );
        assert_eq!(report.tests["a::one"], Outcome::Passed);
        assert_eq!(
            report.tests["b"],
            Outcome::Skipped("no TCX here".to_owned())
        );
    }

    #[test]
    fn failures_are_counted_by_name() {
        let text = "running 2 tests\ntest x ... FAILED\ntest y ... ok\n\nfailures:\n\n---- x stdout ----\ntest z ... ok\n\nfailures:\n    x\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let report = parse(text, false);
        assert_eq!(report.tests.len(), 2, "output of a test is not a result");
        assert_eq!(report.tests["x"], Outcome::Failed);
        assert!(report.broken.is_empty());
        assert_eq!(report.said["x"], "test z ... ok\n\n");
        let twice = parse(&text.repeat(2), false);
        assert_eq!(twice.failed().collect::<Vec<_>>(), ["x", "x#2"]);
        assert_eq!(twice.said["x#2"], report.said["x"]);
        assert_eq!(Report::name("x#2"), "x");
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let report = parse("running 2 tests\ntest x ... ok\n", false);
        assert_eq!(report.count().failed, 1);
        assert_eq!(parse("", false).count().failed, 1);
        assert_eq!(parse("", true).count(), Count::default());
    }

    #[test]
    fn the_same_name_in_two_binaries_counts_twice() {
        let text = "running 1 test\ntest x ... ok\ntest result: ok. 1 passed\n";
        let report = parse(&text.repeat(2), true);
        assert_eq!(report.count().passed, 2);
    }
}
