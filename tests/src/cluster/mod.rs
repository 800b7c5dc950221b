//! hostfw on the topology: a store, and an agent for each node on it.

mod binaries;
mod ctl;
mod places;

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

pub use binaries::Binaries;
pub use ctl::Output;
pub use places::{examples, log, pin_root, socket, store};

use crate::{
    netns,
    topology::{Host, Topology},
};
use places::{FOLDER, folder, tail};

/// An agent that dies more often than this will not recover.
const MOST_RESTARTS: usize = 5;

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
    environment: Vec<(String, String)>,
    agents: Vec<Agent>,
    notes: Vec<String>,
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
            environment: Vec::new(),
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

    /// The same with an agent on this node alone.
    #[must_use]
    pub fn on(mut self, node: Host) -> Self {
        self.agents.retain(|agent| agent.node == node);
        self
    }

    /// What agents are given that are started from now on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
    }

    /// What agents find in their environment that are started from now on.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
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
            self.start(index)?;
        }
        Ok(())
    }

    /// Starts the agent of this node, if it does not run.
    ///
    /// # Errors
    ///
    /// If the program cannot be run.
    pub fn start_agent(&mut self, node: Host) -> Result<()> {
        let index = self.agents.iter().position(|agent| agent.node == node);
        self.start(index.with_context(|| format!("{node} has no agent"))?)
    }

    fn start(&mut self, index: usize) -> Result<()> {
        if self.agents[index].child.is_none() {
            let node = self.agents[index].node;
            self.agents[index].child = Some(self.spawn(node)?);
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
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
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
