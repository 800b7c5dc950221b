//! Questions to an agent: the one of this node, or through the cluster that of
//! another.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::{
    observe::{
        live::{Enforced, Flows},
        reports::Reports,
        rules::RuleCounts,
        socket::{Refusal, Request},
        status::Status,
    },
    source::kubernetes::{NodeAgent, ReachError},
};

/// How long the agent may take for an answer. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Flows it must read first, and there may be a million: as long as it lets a
/// client wait.
const PATIENCE_FOR_FLOWS: Duration = Duration::from_secs(30);

/// The least time between two questions to another node.
const PAUSE_ON_NODE: Duration = Duration::from_secs(2);

/// Longest answer: thousands of objects and endpoints fit.
const MAX_ANSWER: u64 = 256 << 20;

/// The agent gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or nobody answers.
    #[error("no agent answers on {}: {error} (is hostfw-agent running?)", socket.display())]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// What answers is not an agent of this version.
    #[error("expected an answer from the agent on {agent}, found: {found}")]
    Answer {
        /// Its socket, or its node.
        agent: String,
        /// Why the answer cannot be understood.
        found: String,
    },
    /// The agent of another node cannot be asked.
    #[error(transparent)]
    Node(#[from] ReachError),
    /// What is to be relayed is no question.
    #[error("expected a request, as --on sends it, found: {0}")]
    Request(serde_json::Error),
}

/// An agent that can be asked.
#[derive(Debug)]
pub(super) enum Agent {
    /// The one that listens on a socket of this machine.
    Here(PathBuf),
    /// That of a node of the cluster.
    On(String, Box<NodeAgent>),
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(socket) => socket.display().fmt(f),
            Self::On(node, _) => write!(f, "node {node}"),
        }
    }
}

impl Agent {
    /// How long to wait between two questions of the same kind: each one to another
    /// node is a connection through the API server.
    pub(super) fn pause(&self, here: Duration) -> Duration {
        match self {
            Self::Here(_) => here,
            Self::On(..) => here.max(PAUSE_ON_NODE),
        }
    }
}

/// Asks the agent for its status.
pub(super) fn status(agent: &Agent) -> Result<Status, ClientError> {
    ask(agent, Request::Status)
}

/// Asks the agent what it enforces.
pub(super) fn enforced(agent: &Agent) -> Result<Enforced, ClientError> {
    ask(agent, Request::Enforced)
}

/// Asks the agent for the flows that it knows.
pub(super) fn flows(agent: &Agent) -> Result<Flows, ClientError> {
    ask(agent, Request::Flows)
}

/// Asks the agent what rules have reported, from a number on.
pub(super) fn reports(agent: &Agent, from: Option<u64>) -> Result<Reports, ClientError> {
    ask(agent, Request::Reports { from })
}

/// Asks the agent what its rules have counted.
pub(super) fn rules(agent: &Agent) -> Result<RuleCounts, ClientError> {
    ask(agent, Request::Rules)
}

/// The answer of the agent of this node to a request, both as they are.
pub(super) fn relay(socket: &Path, request: &str) -> Result<Vec<u8>, ClientError> {
    let request = serde_json::from_str(request).map_err(ClientError::Request)?;
    here(socket, request)
}

fn here(socket: &Path, request: Request) -> Result<Vec<u8>, ClientError> {
    exchange(socket, request).map_err(|error| ClientError::NoAgent {
        socket: socket.to_path_buf(),
        error,
    })
}

fn ask<T: DeserializeOwned>(agent: &Agent, request: Request) -> Result<T, ClientError> {
    let not_understood = |found: String| ClientError::Answer {
        agent: agent.to_string(),
        found,
    };
    let answer = match agent {
        Agent::Here(socket) => here(socket, request)?,
        Agent::On(_, node) => {
            let request = serde_json::to_string(&request);
            node.ask(&request.map_err(|error| not_understood(error.to_string()))?)?
        }
    };
    serde_json::from_slice(&answer).map_err(|error| {
        not_understood(match serde_json::from_slice::<Refusal>(&answer) {
            Ok(refusal) => refusal.error,
            Err(_) => error.to_string(),
        })
    })
}

fn exchange(socket: &Path, request: Request) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(match request {
        Request::Flows => PATIENCE_FOR_FLOWS,
        Request::Status
        | Request::Brief
        | Request::Enforced
        | Request::Metrics
        | Request::Health
        | Request::Rules
        | Request::Reports { .. } => PATIENCE,
    }))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
