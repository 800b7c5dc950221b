//! Test binaries that run without cargo, which would look each time whether
//! they are still what the sources say.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    libtest::Report,
    suite::{Runner, Suite, execute},
};
use crate::workspace::output;

/// A built test binary.
#[derive(Clone, Debug)]
pub(crate) struct TestBinary {
    file: PathBuf,
    /// Where it runs: the folder of its package.
    folder: PathBuf,
    tests: BTreeSet<String>,
}

impl Runner<'_> {
    /// Builds the binaries of a suite.
    pub(crate) fn test_binaries(&self, suite: Suite) -> Result<Vec<TestBinary>> {
        let mut binaries = Vec::new();
        for mut command in self.commands(suite)? {
            command
                .args(["--no-run", "--message-format=json-render-diagnostics"])
                .stdin(Stdio::null());
            let built = command.output().context("cannot run cargo test")?;
            if !built.status.success() {
                bail!(
                    "{}cargo test --no-run: {}",
                    String::from_utf8_lossy(&built.stderr),
                    built.status
                );
            }
            for (file, manifest) in String::from_utf8_lossy(&built.stdout)
                .lines()
                .filter_map(test_binary)
            {
                let list = output(
                    Command::new(&file).args(["--list", "--format=terse"]),
                    "listing tests",
                )?;
                binaries.push(TestBinary {
                    folder: manifest.parent().unwrap_or(Path::new("/")).to_owned(),
                    tests: list
                        .lines()
                        .filter_map(|line| line.strip_suffix(": test"))
                        .map(str::to_owned)
                        .collect(),
                    file,
                });
            }
        }
        Ok(binaries)
    }

    /// Runs those of the tests that the binary has.
    pub(crate) fn run_binary(
        &self,
        suite: Suite,
        binary: &TestBinary,
        tests: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Report> {
        let mut tests = tests
            .iter()
            .copied()
            .filter(|test| binary.tests.contains(*test))
            .peekable();
        if tests.peek().is_none() {
            return Ok(Report::default());
        }
        let mut command = if suite.in_sandbox() {
            let xtask = std::env::current_exe().context("finding xtask's own executable")?;
            let mut command = Command::new(xtask);
            command.args(["sandbox", "--"]).arg(&binary.file);
            command
        } else {
            Command::new(&binary.file)
        };
        command
            .current_dir(&binary.folder)
            .env("PATH", &self.workspace.path)
            .env("CARGO_MANIFEST_DIR", &binary.folder);
        self.environment(&mut command);
        command
            .envs(environment.iter().copied())
            .args(["--show-output", "--color=never", "--exact"])
            .args(tests);
        execute(&mut command, self.quiet, self.limit)
    }
}

/// Executable and manifest of a test binary that a message of cargo's tells of.
fn test_binary(line: &str) -> Option<(PathBuf, PathBuf)> {
    #[derive(serde::Deserialize)]
    struct Profile {
        test: bool,
    }
    #[derive(serde::Deserialize)]
    struct Message {
        manifest_path: PathBuf,
        profile: Profile,
        executable: Option<PathBuf>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    let executable = message.executable.filter(|_| message.profile.test)?;
    Some((executable, message.manifest_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_binaries_are_taken_from_cargos_messages() {
        let artifact = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        assert_eq!(
            test_binary(&artifact(true, r#""/t/x-1""#)),
            Some(("/t/x-1".into(), "/a/Cargo.toml".into()))
        );
        for other in [
            artifact(false, r#""/t/x""#),
            artifact(true, "null"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ] {
            assert_eq!(test_binary(&other), None, "{other}");
        }
    }
}
