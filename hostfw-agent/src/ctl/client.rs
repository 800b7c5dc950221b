use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::observe::{
    live::{Enforced, Flows},
    reports::Reports,
    rules::RuleCounts,
    socket::{Refusal, Request},
    status::Status,
};

/// How long the agent may take for an answer. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Flows it must read first, and there may be a million: as long as it lets a
/// client wait.
const PATIENCE_FOR_FLOWS: Duration = Duration::from_secs(30);

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
    #[error("expected an answer from the agent on {}, found: {found}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// Why the answer cannot be understood.
        found: String,
    },
}

/// Asks the agent for its status.
pub(super) fn status(socket: &Path) -> Result<Status, ClientError> {
    ask(socket, Request::Status)
}

/// Asks the agent what it enforces.
pub(super) fn enforced(socket: &Path) -> Result<Enforced, ClientError> {
    ask(socket, Request::Enforced)
}

/// Asks the agent for the flows that it knows.
pub(super) fn flows(socket: &Path) -> Result<Flows, ClientError> {
    ask(socket, Request::Flows)
}

/// Asks the agent what rules have reported, from a number on.
pub(super) fn reports(socket: &Path, from: Option<u64>) -> Result<Reports, ClientError> {
    ask(socket, Request::Reports { from })
}

/// Asks the agent what its rules have counted.
pub(super) fn rules(socket: &Path) -> Result<RuleCounts, ClientError> {
    ask(socket, Request::Rules)
}

fn ask<T: DeserializeOwned>(socket: &Path, request: Request) -> Result<T, ClientError> {
    let answer = exchange(socket, request).map_err(|error| ClientError::NoAgent {
        socket: socket.to_path_buf(),
        error,
    })?;
    serde_json::from_slice(&answer).map_err(|error| ClientError::Answer {
        socket: socket.to_path_buf(),
        found: match serde_json::from_slice::<Refusal>(&answer) {
            Ok(refusal) => refusal.error,
            Err(_) => error.to_string(),
        },
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
