//! hostfw on the topology: a store, and an agent for each node on it.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    netns,
    topology::{Host, Topology},
};

/// Where everything of the cluster is, on the sandbox's private /run.
const FOLDER: &str = "/run/hostfw";

/// Where agents pin what must survive them.
const PINS: &str = "/sys/fs/bpf";

/// How long enforcing a change may take before it counts as failed.
const SETTLE: Duration = Duration::from_secs(30);

/// An agent that dies more often than this will not recover.
const MOST_RESTARTS: usize = 5;

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub agent: PathBuf,
    /// The administrator's command.
    pub ctl: PathBuf,
}

impl Binaries {
    /// As given by `HOSTFW_AGENT` and `HOSTFW_CTL`; `None` if one is not.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        Some(Self {
            agent: env::var_os("HOSTFW_AGENT")?.into(),
            ctl: env::var_os("HOSTFW_CTL")?.into(),
        })
    }
}

/// The agent of a node.
#[derive(Debug)]
struct Agent {
    node: Host,
    child: Option<Child>,
    restarts: usize,
}

/// A store and the agents that follow it. When dropped, agents are killed and
/// everything that they pinned goes; what they wrote goes too.
#[derive(Debug)]
pub struct Cluster<'a> {
    topology: &'a Topology,
    binaries: Binaries,
    arguments: Vec<String>,
    agents: Vec<Agent>,
    notes: Vec<String>,
}

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

impl<'a> Cluster<'a> {
    /// An empty store, no agent running yet. `arguments` are given to each
    /// agent on top of those that keep two agents apart.
    ///
    /// # Errors
    ///
    /// If folders cannot be made.
    pub fn new(topology: &'a Topology, binaries: &Binaries, arguments: &[&str]) -> Result<Self> {
        fs::create_dir_all(store())?;
        for node in [Host::Node1, Host::Node2] {
            fs::create_dir_all(folder(node))?;
        }
        Ok(Self {
            topology,
            binaries: binaries.clone(),
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            agents: [Host::Node1, Host::Node2]
                .map(|node| Agent {
                    node,
                    child: None,
                    restarts: 0,
                })
                .into(),
            notes: Vec::new(),
        })
    }

    /// What else happened, since this was last asked.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Starts the agents that do not run.
    ///
    /// # Errors
    ///
    /// If a program cannot be run.
    pub fn start_agents(&mut self) -> Result<()> {
        for index in 0..self.agents.len() {
            if self.agents[index].child.is_none() {
                let node = self.agents[index].node;
                self.agents[index].child = Some(self.spawn(node)?);
            }
        }
        Ok(())
    }

    fn spawn(&self, node: Host) -> Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log(node))
            .context("log of the agent")?;
        self.agent_command(node)
            .args(["--log-format", "text"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| self.binaries.agent.display().to_string())
    }

    fn agent_command(&self, node: Host) -> Command {
        let mut command = self.topology.namespace(node).command(&self.binaries.agent);
        command
            .arg("--store")
            .arg(store())
            .arg("--state-dir")
            .arg(folder(node).join("state"))
            .arg("--socket")
            .arg(socket(node))
            .arg("--pin-root")
            .arg(pin_root(node))
            .args(["--node", node.name()]);
        command
    }

    /// Kills the agents as the kernel's out-of-memory killer would.
    ///
    /// # Errors
    ///
    /// If one of them does not run.
    pub fn kill_agents(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            let mut child = agent.child.take().context("the agent does not run")?;
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends the agents as an administrator would.
    ///
    /// # Errors
    ///
    /// If one of them does not end well within ten seconds.
    pub fn stop_agents(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            let mut child = agent.child.take().context("the agent does not run")?;
            let id = i32::try_from(child.id())?;
            // SAFETY: our own child, not waited for yet.
            unsafe { libc::kill(id, libc::SIGTERM) };
            let give_up = Instant::now() + Duration::from_secs(10);
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() > give_up {
                    child.kill()?;
                    child.wait()?;
                    bail!("the agent of {} ignores SIGTERM", agent.node);
                }
                thread::sleep(Duration::from_millis(10));
            };
            ensure!(status.success(), "the agent of {}: {status}", agent.node);
        }
        Ok(())
    }

    /// Runs `hostfw-agent --detach` for each node.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn detach(&self) -> Result<()> {
        for agent in &self.agents {
            netns::run(self.agent_command(agent.node).arg("--detach"), None)?;
        }
        Ok(())
    }

    /// Starts agents again that died by themselves, and notes it: so would a
    /// DaemonSet.
    ///
    /// # Errors
    ///
    /// If an agent dies over and over.
    pub fn tend(&mut self) -> Result<()> {
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            let node = agent.node;
            let ended = match &mut agent.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if let Some(status) = ended {
                agent.restarts += 1;
                agent.child = None;
                if agent.restarts > MOST_RESTARTS {
                    bail!("the agent of {node} dies: {status}\n{}", tail(&log(node)));
                }
                let note = format!("the agent of {node} died ({status}) and was started again");
                self.notes.push(note);
                thread::sleep(Duration::from_millis(200));
                self.agents[index].child = Some(self.spawn(node)?);
            }
        }
        Ok(())
    }

    /// Runs `hostfwctl` with this standard input, against the store and the
    /// agent of node1, whatever its exit status.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn try_ctl(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let file = tempfile::tempfile()?;
        io::Write::write_all(&mut &file, input.as_bytes())?;
        io::Seek::rewind(&mut &file)?;
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

    /// Waits until every agent enforces what the store holds, by
    /// `hostfwctl status --wait`.
    ///
    /// # Errors
    ///
    /// If that takes too long, or says that something is wrong.
    pub fn settle(&mut self) -> Result<()> {
        let give_up = Instant::now() + SETTLE;
        for node in [Host::Node1, Host::Node2] {
            self.settle_node(node, give_up)
                .with_context(|| format!("log of {node}'s agent:\n{}", tail(&log(node))))?;
        }
        Ok(())
    }

    fn settle_node(&mut self, node: Host, give_up: Instant) -> Result<()> {
        loop {
            self.tend()?;
            let mut child = self
                .ctl_command(node)
                .args(["status", "--wait"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            let status = loop {
                self.tend()?;
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() > give_up {
                    child.kill()?;
                    child.wait()?;
                    bail!("{node} does not enforce the store within {SETTLE:?}");
                }
                thread::sleep(Duration::from_millis(10));
            };
            if status.success() {
                return Ok(());
            }
            // The agent may not have made its socket yet.
            if Instant::now() > give_up || socket(node).exists() {
                let said = child.wait_with_output()?.stderr;
                bail!(
                    "hostfwctl status --wait for {node}: {status}: {}",
                    String::from_utf8_lossy(&said).trim()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The status document of a node's agent.
    ///
    /// # Errors
    ///
    /// If the agent does not answer with one.
    pub fn status(&self, node: Host) -> Result<Value> {
        use io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(socket(node))
            .with_context(|| format!("socket of {node}'s agent"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"{\"request\":\"status\"}\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Waits until the status of a node's agent is as wanted, and returns it.
    ///
    /// # Errors
    ///
    /// If it is not after some seconds: with the last one.
    pub fn wait_for_status(
        &mut self,
        node: Host,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let give_up = Instant::now() + SETTLE;
        loop {
            self.tend()?;
            let status = self.status(node);
            match status {
                Ok(status) if wanted(&status) => return Ok(status),
                Ok(status) if Instant::now() > give_up => {
                    bail!("status of {node} did not become what was awaited: {status:#}");
                }
                Err(error) if Instant::now() > give_up => return Err(error),
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            if let Some(mut child) = agent.child.take() {
                // It may have ended already.
                drop(child.kill());
                drop(child.wait());
            }
            // May never have been made. The sandbox goes in any case.
            drop(fs::remove_dir_all(pin_root(agent.node)));
        }
        drop(fs::remove_dir_all(FOLDER));
    }
}

/// The folder that holds the resources, the same for all agents.
#[must_use]
pub fn store() -> PathBuf {
    Path::new(FOLDER).join("store")
}

/// The agent's socket.
#[must_use]
pub fn socket(node: Host) -> PathBuf {
    folder(node).join("agent.sock")
}

/// Where the node's agent pins.
#[must_use]
pub fn pin_root(node: Host) -> PathBuf {
    Path::new(PINS).join(node.name())
}

/// What the node's agent has logged.
#[must_use]
pub fn log(node: Host) -> PathBuf {
    folder(node).join("agent.log")
}

/// The tutorial's files.
#[must_use]
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("examples")
        .join("protect-hosts")
}

fn folder(node: Host) -> PathBuf {
    Path::new(FOLDER).join(node.name())
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
