//! The test binaries of each part, and how they are run.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::libtest::{Parser, Report};
use crate::{
    build::{Binaries, HOST},
    workspace::{Workspace, output, show_stderr},
};

/// Tests that run as `cargo test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Suite {
    /// Libraries, binaries and documentation; no root.
    Unit,
    /// YAML to map images; no root.
    Golden,
    /// A cluster's API server, by script; no root.
    Kube,
    /// Packet in, verdict out, by BPF_PROG_TEST_RUN; and the maps' BTF.
    Verdict,
    /// Made-up policies and packets, judged three times.
    Judges,
    /// Loading, pinning, attaching and taking over.
    Kernel,
    /// Real connections through network namespaces.
    Netns,
    /// The container image, run.
    Image,
}

impl Suite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Golden => "golden",
            Self::Kube => "kube",
            Self::Verdict => "verdict",
            Self::Judges => "judges",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
            Self::Image => "image",
        }
    }

    /// Whether its binaries run in the sandbox, as root.
    pub(crate) const fn in_sandbox(self) -> bool {
        match self {
            Self::Unit | Self::Golden | Self::Kube => false,
            Self::Verdict | Self::Judges | Self::Kernel | Self::Netns | Self::Image => true,
        }
    }

    /// How many tests run at a time for each processor. Those with namespaces
    /// mostly wait, for the kernel and for packets that must not come.
    const fn at_a_time(self) -> usize {
        match self {
            Self::Unit | Self::Golden | Self::Kube | Self::Verdict | Self::Judges => 1,
            Self::Kernel | Self::Netns | Self::Image => 3,
        }
    }

    /// Whether a test that fails is run once more, alone: those with real
    /// packets share the machine's queues and processors with all that runs.
    pub(crate) const fn again(self) -> bool {
        match self {
            Self::Unit | Self::Golden | Self::Kube | Self::Verdict | Self::Judges => false,
            Self::Kernel | Self::Netns | Self::Image => true,
        }
    }

    /// Whether an integration test of `hostfw-tests` belongs to it.
    fn owns(self, test: &str) -> bool {
        match self {
            Self::Unit | Self::Golden | Self::Kube | Self::Judges => false,
            Self::Verdict => test.starts_with("verdict_") || test == "maps_btf",
            Self::Kernel => test.starts_with("kernel_"),
            Self::Netns => test.starts_with("e2e_"),
            Self::Image => test.starts_with("image_"),
        }
    }

    /// The arguments of `cargo test` for each of its runs. `lean`: only the
    /// unit tests of libraries.
    fn runs(self, root: &Path, lean: bool) -> Result<Vec<Vec<String>>> {
        let targets: Vec<Vec<&str>> = match self {
            Self::Unit if lean => vec![vec!["--lib"]],
            Self::Unit => vec![vec!["--lib", "--bins"], vec!["--doc"]],
            Self::Golden
            | Self::Kube
            | Self::Judges
            | Self::Verdict
            | Self::Kernel
            | Self::Netns
            | Self::Image => {
                let tests = self.tests(root)?;
                if tests.is_empty() {
                    return Ok(Vec::new());
                }
                let of = |test: String| ["--test".to_owned(), test];
                return Ok(vec![
                    words(HOST).chain(tests.into_iter().flat_map(of)).collect(),
                ]);
            }
        };
        let run = |targets: Vec<&str>| words(HOST).chain(words(&targets)).collect();
        Ok(targets.into_iter().map(run).collect())
    }

    /// The names of its integration tests.
    fn tests(self, root: &Path) -> Result<Vec<String>> {
        let folder = match self {
            Self::Unit => return Ok(Vec::new()),
            Self::Golden | Self::Kube => "hostfw-agent/tests",
            Self::Judges => "proof/tests",
            Self::Verdict | Self::Kernel | Self::Netns | Self::Image => "tests/tests",
        };
        let mut tests = integration_tests(&root.join(folder))?;
        if folder == "tests/tests" {
            tests.retain(|test| self.owns(test));
        }
        if folder == "hostfw-agent/tests" {
            tests.retain(|test| (test == "kube") == (self == Self::Kube));
        }
        Ok(tests)
    }
}

/// How many processors there are to run on.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn words<'a>(words: &'a [&str]) -> impl Iterator<Item = String> + use<'a> {
    words.iter().map(|&word| word.to_owned())
}

/// Which tests of a suite to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter<'a> {
    All,
    /// Names that hold the text.
    Containing(&'a str),
    /// The test of this name.
    Exactly(&'a str),
}

/// Runs a suite's tests, showing what fails.
pub(crate) struct Runner<'a> {
    pub(crate) workspace: &'a Workspace,
    /// For the suites that start the agent.
    pub(crate) binaries: Option<&'a Binaries>,
    /// Show no output at all.
    pub(crate) quiet: bool,
    /// Only the unit tests of what is shipped.
    pub(crate) lean: bool,
    /// Ends a run that takes longer.
    pub(crate) limit: Option<Duration>,
    /// More for `cargo`'s environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

impl Runner<'_> {
    pub(crate) fn run(&self, suite: Suite, filter: Filter<'_>) -> Result<Report> {
        let commands = self.commands(suite)?;
        let mut report = Report::default();
        if commands.is_empty() {
            report
                .broken
                .push(format!("there is no test of the part {}", suite.name()));
        }
        for mut command in commands {
            command.args(["--", "--show-output", "--color=never"]);
            let threads = processors() * suite.at_a_time();
            command.arg(format!("--test-threads={threads}"));
            match filter {
                Filter::All => {}
                Filter::Containing(text) => {
                    command.arg(text);
                }
                Filter::Exactly(name) => {
                    command.args(["--exact", name]);
                }
            }
            report.absorb(execute(&mut command, self.quiet, self.limit)?);
        }
        Ok(report)
    }

    /// The calls of cargo that build the suite's binaries and run them.
    pub(super) fn commands(&self, suite: Suite) -> Result<Vec<Command>> {
        let mut commands = Vec::new();
        for arguments in suite.runs(&self.workspace.root, self.lean)? {
            let mut command = self.workspace.cargo("test");
            self.environment(&mut command);
            command.arg("--no-fail-fast").args(&arguments);
            if suite.in_sandbox() {
                command.args(["--config", &sandbox_runner(self.workspace)?]);
            }
            commands.push(command);
        }
        Ok(commands)
    }

    /// Sets what the tests learn from their environment.
    pub(super) fn environment(&self, command: &mut Command) {
        clear_settings(command);
        if let Some(binaries) = self.binaries {
            command
                .env("HOSTFW_AGENT", &binaries.agent)
                .env("HOSTFW_CTL", &binaries.ctl);
        }
        command.envs(self.environment.iter().copied());
    }
}

/// Cargo's setting that runs test binaries through `xtask sandbox`. As an
/// array: the form with spaces would cut a path that holds one.
fn sandbox_runner(workspace: &Workspace) -> Result<String> {
    let xtask = std::env::current_exe().context("finding xtask's own executable")?;
    let version = output(workspace.command("rustc").arg("-vV"), "rustc -vV")?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    // A JSON string is a TOML string too.
    let xtask = serde_json::Value::from(xtask.to_string_lossy());
    Ok(format!(
        "target.{host}.runner=[{xtask}, \"sandbox\", \"--\"]"
    ))
}

/// The names of the integration tests in a folder, sorted.
fn integration_tests(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path: PathBuf = entry?.path();
        let is_test = match path.extension() {
            Some(extension) => extension == "rs",
            None => path.join("main.rs").is_file(),
        };
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str())
            && is_test
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Runs `cargo test`, or a test binary, and reads its output.
pub(crate) fn execute(
    command: &mut Command,
    quiet: bool,
    limit: Option<Duration>,
) -> Result<Report> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if quiet { Stdio::null() } else { Stdio::piped() });
    if limit.is_some() {
        // A group of its own, so that the end of a run is the end of all of it.
        command.process_group(0);
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let stdout = child.stdout.take().context("the output is piped")?;
    let stderr = child.stderr.take().map(show_stderr);
    let done = Arc::new(AtomicBool::new(false));
    let timed_out = Arc::new(AtomicBool::new(false));
    let watchdog = limit.map(|limit| {
        let (done, timed_out) = (Arc::clone(&done), Arc::clone(&timed_out));
        let group = child.id() as libc::pid_t;
        std::thread::spawn(move || {
            let begin = Instant::now();
            while !done.load(Ordering::Relaxed) {
                if begin.elapsed() > limit {
                    timed_out.store(true, Ordering::Relaxed);
                    // SAFETY: plain system call; the child leads this group
                    // and has not been waited for yet.
                    unsafe { libc::kill(-group, libc::SIGKILL) };
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    });
    let mut parser = Parser::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        if parser.line(&line) && !quiet {
            println!("{line}");
        }
    }
    done.store(true, Ordering::Relaxed);
    if let Some(watchdog) = watchdog {
        // It cannot panic; and the child must not be reaped while it may kill.
        let _ = watchdog.join();
    }
    let status = child.wait().context("waiting for the tests")?;
    if let Some(stderr) = stderr {
        // It only shows; that it failed to is nothing to fail for.
        let _ = stderr.join();
    }
    let mut report = parser.finish(status.success());
    if timed_out.load(Ordering::Relaxed) {
        report
            .broken
            .push("took too long, and was ended".to_owned());
    }
    Ok(report)
}

/// Takes away what would point the tests at an agent of this machine, but not what
/// has them write down what they find (`HOSTFW_BLESS`).
fn clear_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_setting(&name) {
            command.env_remove(name);
        }
    }
}

fn is_setting(name: &OsString) -> bool {
    name.to_str()
        .filter(|name| name.starts_with("HOSTFW_"))
        .filter(|name| !["HOSTFW_TOOLS", "HOSTFW_BLESS"].contains(name))
        .is_some_and(|name| !name.starts_with("HOSTFW_SANDBOX"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integration_tests_belong_to_one_suite() {
        for (test, suite) in [
            ("verdict_failsafe", Some(Suite::Verdict)),
            ("maps_btf", Some(Suite::Verdict)),
            ("kernel_attach", Some(Suite::Kernel)),
            ("e2e_pre_dnat", Some(Suite::Netns)),
            ("image_start", Some(Suite::Image)),
            ("common", None),
        ] {
            let owners: Vec<Suite> = Suite::value_variants()
                .iter()
                .copied()
                .filter(|suite| suite.owns(test))
                .collect();
            assert_eq!(owners, suite.into_iter().collect::<Vec<_>>(), "{test}");
        }
    }

    #[test]
    fn every_integration_test_of_the_workspace_is_run() {
        let root = Workspace::here().unwrap().root;
        for test in integration_tests(&root.join("tests/tests")).unwrap() {
            assert!(
                Suite::value_variants()
                    .iter()
                    .any(|suite| suite.owns(&test)),
                "{test} belongs to no part of `cargo xtask test`"
            );
        }
    }

    #[test]
    fn folders_with_a_main_file_are_tests() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.rs"), "").unwrap();
        std::fs::write(folder.path().join("data.yaml"), "").unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/main.rs"), "").unwrap();
        std::fs::create_dir(folder.path().join("golden")).unwrap();
        assert_eq!(integration_tests(folder.path()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_run_that_takes_too_long_is_a_failure() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo running 1 test; sleep 60 & wait"]);
        let begin = Instant::now();
        let report = execute(&mut command, true, Some(Duration::from_millis(200))).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30));
        assert!(report.count().failed > 0);
        assert!(report.broken.iter().any(|why| why.contains("too long")));
    }
}
