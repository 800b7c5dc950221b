//! The planted faults, as `tests/mutants/mutants.toml` lists them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::test::suite::Suite;

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
    /// What stands there instead.
    pub(crate) replace: String,
    /// The tests that must fail.
    pub(crate) breaks: Vec<TestName>,
    /// Planted only when the faults are asked for by name of the part: each
    /// takes a build.
    #[serde(default)]
    pub(crate) thorough: bool,
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
pub(crate) fn read(path: &Path) -> Result<Vec<Mutant>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        mutant: Vec<Mutant>,
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let table: Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let mut names: Vec<&str> = Vec::new();
    for mutant in &table.mutant {
        if names.contains(&mutant.name.as_str()) {
            bail!("{}: two faults are called {}", path.display(), mutant.name);
        }
        if mutant.breaks.is_empty() {
            bail!("{}: {} breaks no test", path.display(), mutant.name);
        }
        names.push(&mutant.name);
    }
    Ok(table.mutant)
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

    /// Changes the file, until the returned guard is dropped.
    pub(crate) fn apply(&self, root: &Path) -> Result<Applied> {
        let path = root.join(&self.file);
        let original =
            std::fs::read_to_string(&path).with_context(|| self.file.display().to_string())?;
        let found = original.matches(&self.find).count();
        if found != 1 {
            bail!(
                "{}: expected the text to replace once, found it {found} times",
                self.file.display()
            );
        }
        let changed = original.replacen(&self.find, &self.replace, 1);
        if changed == original {
            bail!("{}: the fault changes nothing", self.file.display());
        }
        std::fs::write(&path, changed).with_context(|| path.display().to_string())?;
        Ok(Applied { path, original })
    }
}

/// A fault in place. Dropping it brings the file back.
#[derive(Debug)]
pub(crate) struct Applied {
    path: PathBuf,
    original: String,
}

impl Drop for Applied {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, &self.original) {
            eprintln!("{}: cannot be restored: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mutants = read(&root.join(super::super::TABLE)).unwrap();
        assert!(mutants.len() >= 12, "{}", mutants.len());
        let mut wrong = Vec::new();
        for mutant in mutants {
            let text = std::fs::read_to_string(root.join(&mutant.file)).unwrap_or_default();
            let found = text.matches(&mutant.find).count();
            if found != 1 || mutant.find == mutant.replace {
                wrong.push(format!("{}: found {found} times", mutant.name));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
