//! The planted faults, as `tests/mutants/mutants.toml` lists them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::test::suite::Suite;

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The path of the function that says whether the fault of a number shows.
    pub(crate) shows: String,
    /// What makes that function part of the copy.
    #[serde(default)]
    pub(crate) switch: Vec<Switch>,
    /// The faults.
    pub(crate) mutant: Vec<Mutant>,
}

/// A change to the sources with all faults.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    /// The file that changes, relative to the workspace.
    pub(crate) file: PathBuf,
    /// A text that the file holds exactly once.
    pub(crate) find: String,
    /// What stands there instead.
    pub(crate) replace: String,
}

/// A change to the sources that some test must notice.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    /// What goes wrong, in a few words joined by hyphens.
    pub(crate) name: String,
    /// The file that changes, relative to the workspace.
    pub(crate) file: PathBuf,
    /// A text that the file holds exactly once.
    pub(crate) find: String,
    /// What stands there instead. If it has the word `PLANTED`, that is whether
    /// the fault shows, and this text serves with and without it; else both
    /// texts are expressions, or statements, to choose from.
    pub(crate) replace: String,
    /// The tests that must fail.
    pub(crate) breaks: Vec<TestName>,
    /// Why the judges are not among them.
    pub(crate) unseen: Option<String>,
    /// Takes a build of its own: for what cannot be chosen at run time.
    #[serde(default)]
    pub(crate) alone: bool,
}

/// `suite:name of the test`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TestName {
    pub(crate) suite: Suite,
    pub(crate) test: String,
}

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (suite, test) = text
            .split_once(':')
            .filter(|(_, test)| !test.is_empty() && !test.starts_with(':'))
            .ok_or_else(|| format!("expected suite:test, found {text:?}"))?;
        Ok(Self {
            suite: Suite::from_str(suite, false)?,
            test: test.to_owned(),
        })
    }
}

impl std::fmt::Display for TestName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.suite.name(), self.test)
    }
}

/// Reads the table.
pub(crate) fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Table::parse(&text).with_context(|| path.display().to_string())
}

impl Table {
    /// Reads its text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: Self = toml::from_str(text)?;
        let mut names: Vec<&str> = Vec::new();
        for mutant in &table.mutant {
            if names.contains(&mutant.name.as_str()) {
                bail!("two faults are called {}", mutant.name);
            }
            if mutant.breaks.is_empty() {
                bail!("{} breaks no test", mutant.name);
            }
            if mutant.unseen.is_some() == mutant.suites().contains(&Suite::Judges) {
                bail!(
                    "{}: either the judges find it, or `unseen` says why they cannot",
                    mutant.name
                );
            }
            names.push(&mutant.name);
        }
        Ok(table)
    }

    /// The number by which a fault is asked for; none has 0.
    pub(crate) fn number(&self, fault: &Mutant) -> Result<usize> {
        self.mutant
            .iter()
            .position(|mutant| mutant.name == fault.name)
            .map(|index| index + 1)
            .with_context(|| format!("{} is not in the table", fault.name))
    }
}

impl Mutant {
    /// The suites of the tests that it breaks, each once.
    pub(crate) fn suites(&self) -> Vec<Suite> {
        let mut suites: Vec<Suite> = self.breaks.iter().map(|name| name.suite).collect();
        suites.sort_unstable();
        suites.dedup();
        suites
    }

    /// The tests of one suite that it breaks.
    pub(crate) fn tests(&self, suite: Suite) -> Vec<&str> {
        self.breaks
            .iter()
            .filter(|name| name.suite == suite)
            .map(|name| name.test.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::weave::weave;

    #[test]
    fn test_names_have_a_suite() {
        let name = TestName::try_from("verdict:a::b".to_owned()).unwrap();
        assert_eq!((name.suite, name.test.as_str()), (Suite::Verdict, "a::b"));
        assert_eq!(name.to_string(), "verdict:a::b");
        for bad in ["a::b", "verdict:", "other:a", "plain"] {
            assert!(TestName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    /// Cheap, so that a change to the sources that takes the ground from under
    /// a fault shows at once, not at the end of a long run.
    #[test]
    fn every_fault_of_the_table_can_be_planted() {
        let root = crate::workspace::Workspace::here().unwrap().root;
        let table = read(&root.join(super::super::TABLE)).unwrap();
        let (alone, together): (Vec<_>, Vec<_>) =
            table.mutant.iter().partition(|mutant| mutant.alone);
        assert!(together.len() >= 50, "{}", together.len());
        weave(&root, &table, &together).unwrap();
        for mutant in alone {
            weave(&root, &table, &[mutant]).unwrap();
        }
    }

    #[test]
    fn what_the_judges_do_not_find_has_a_reason() {
        let entry = |more: &str| {
            Table::parse(&format!(
                "shows = \"is\"\n[[mutant]]\nname = \"m\"\nfile = \"a.rs\"\nfind = \"a\"\nreplace = \"b\"\n{more}"
            ))
        };
        entry("breaks = [\"judges:x\"]").unwrap();
        entry("breaks = [\"unit:x\"]\nunseen = \"why\"").unwrap();
        entry("breaks = [\"unit:x\"]").unwrap_err();
        entry("breaks = [\"judges:x\"]\nunseen = \"why\"").unwrap_err();
    }
}
