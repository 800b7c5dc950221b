//! The copy of the workspace that the faults are built into.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Subject, tree,
    weave::{NUMBER, Woven},
};
use crate::{
    build::{self, Binaries, Profile},
    test::{
        binaries::TestBinary,
        libtest::Report,
        suite::{Runner, Suite},
    },
    workspace::Workspace,
};

/// A fault may make a test wait for ever.
const LIMIT: Duration = Duration::from_secs(240);

/// How the copy is built (mostly once) and tested.
const ENVIRONMENT: &[(&str, &str)] = &[("CARGO_INCREMENTAL", "0"), ("HOSTFW_JUDGES", "hasty")];

/// The copy.
pub(super) struct Copy<'a> {
    original: &'a Workspace,
    workspace: Workspace,
    binaries: Option<Binaries>,
    tests: BTreeMap<Suite, Vec<TestBinary>>,
}

impl<'a> Copy<'a> {
    /// One that is yet to be made.
    pub(super) fn of(original: &'a Workspace) -> Self {
        let folder = original.root.join("target/mutants");
        Self {
            original,
            workspace: Workspace {
                root: folder.join("tree"),
                target: Some(folder.join("build")),
                path: original.path.clone(),
            },
            binaries: None,
            tests: BTreeMap::new(),
        }
    }

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

impl Subject for Copy<'_> {
    fn build(&mut self, woven: &Woven, suites: &[Suite]) -> Result<bool> {
        tree::sync(&self.original.root, &self.workspace.root, woven)?;
        // xtask itself was built into the folder of the same profile.
        let xtask = std::env::current_exe().context("finding xtask's own executable")?;
        if let (Some(built), Some(target)) = (xtask.parent(), &self.workspace.target) {
            tree::share_dependencies(built, &target.join("debug"))?;
        }
        if suites.iter().any(|suite| suite.in_sandbox()) {
            match build::agent_with(&self.workspace, Profile::Dev, true, ENVIRONMENT) {
                Ok(binaries) => self.binaries = Some(binaries),
                Err(error) => {
                    println!("    {error:#}");
                    return Ok(false);
                }
            }
        }
        for suite in suites {
            match self.runner().test_binaries(*suite) {
                Ok(binaries) => self.tests.insert(*suite, binaries),
                Err(error) => {
                    println!("    {error:#}");
                    return Ok(false);
                }
            };
        }
        Ok(true)
    }

    fn test(&self, suite: Suite, tests: &[&str], fault: usize) -> Result<Report> {
        let runner = self.runner();
        let number = fault.to_string();
        let mut report = Report::default();
        for binary in self.tests.get(&suite).into_iter().flatten() {
            report.absorb(runner.run_binary(suite, binary, tests, &[(NUMBER, &number)])?);
        }
        Ok(report)
    }
}
