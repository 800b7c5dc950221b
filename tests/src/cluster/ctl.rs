//! What an administrator does: apply, look, wait.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    os::unix::net::UnixStream,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Cluster, examples, log, places::tail, socket, store};
use crate::{expectations::Step, topology::Host};

/// How long enforcing a change may take before it counts as failed.
const SETTLE: Duration = Duration::from_secs(40);

/// What a command printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cluster<'_> {
    /// Runs `hostfwctl` with this standard input, against the store and the
    /// agent of node1, whatever its exit status.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn try_ctl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut file = tempfile::tempfile()?;
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        let output = self
            .ctl_command(Host::Node1)
            .args(arguments)
            .stdin(file)
            .output()
            .with_context(|| self.binaries.ctl.display().to_string())?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// As [`try_ctl`](Self::try_ctl), but it must succeed.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn ctl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let output = self.try_ctl(arguments, input)?;
        ensure!(
            output.status.success(),
            "hostfwctl {}: {}: {}{}",
            arguments.join(" "),
            output.status,
            output.stdout,
            output.stderr
        );
        Ok(output)
    }

    fn ctl_command(&self, node: Host) -> Command {
        let mut command = Command::new(&self.binaries.ctl);
        command
            .env("HOSTFW_STORE", store())
            .env("HOSTFW_SOCKET", socket(node));
        command
    }

    /// Applies a file of examples/protect-hosts on standard input, as the
    /// tutorial does.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is refused.
    pub fn apply_example(&self, file: &str) -> Result<Output> {
        let path = examples().join(file);
        let yaml =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.ctl(&["apply", "-f", "-"], &yaml)
            .with_context(|| format!("cannot apply {file}"))
    }

    /// Applies all files up to that of this step.
    ///
    /// # Errors
    ///
    /// As [`apply_example`](Self::apply_example).
    pub fn apply_until(&self, last: Step) -> Result<()> {
        for step in Step::ALL.into_iter().filter(|step| *step <= last) {
            if let Some(file) = step.file() {
                self.apply_example(file)?;
            }
            if let Some(policy) = step.deletes() {
                self.ctl(&["delete", "gnp", policy], "")?;
            }
        }
        Ok(())
    }

    /// Waits until every agent enforces what the store holds, by
    /// `hostfwctl status --wait`.
    ///
    /// # Errors
    ///
    /// If that takes too long, or says that something is wrong.
    pub fn settle(&mut self) -> Result<()> {
        let nodes: Vec<_> = self.agents.iter().map(|agent| agent.node).collect();
        for node in nodes {
            let output = self.wait_for(node)?;
            ensure!(
                output.status.success(),
                "hostfwctl status --wait for {node}: {}: {}\nlog of its agent:\n{}",
                output.status,
                output.stderr.trim(),
                tail(&log(node))
            );
        }
        Ok(())
    }

    /// Waits until the agent of this node enforces what the store holds as far
    /// as it is valid: what `hostfwctl status --wait` then says.
    ///
    /// # Errors
    ///
    /// If it cannot be run, or does not return.
    pub fn wait_for(&mut self, node: Host) -> Result<Output> {
        let give_up = Instant::now() + SETTLE;
        let [mut stdout, mut stderr] = [tempfile::tempfile()?, tempfile::tempfile()?];
        let mut child = self
            .ctl_command(node)
            .args(["status", "--wait"])
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| self.binaries.ctl.display().to_string())?;
        let status = loop {
            self.tend()?;
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > give_up {
                child.kill()?;
                child.wait()?;
                bail!("hostfwctl status --wait does not return within {SETTLE:?}");
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ok(Output {
            status,
            stdout: read_back(&mut stdout)?,
            stderr: read_back(&mut stderr)?,
        })
    }

    /// The status document of a node's agent.
    ///
    /// # Errors
    ///
    /// If the agent does not answer with one.
    pub fn status(&self, node: Host) -> Result<Value> {
        let mut stream = UnixStream::connect(socket(node))
            .with_context(|| format!("socket of {node}'s agent"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"{\"request\":\"status\"}\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

fn read_back(file: &mut File) -> Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
