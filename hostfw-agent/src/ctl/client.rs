use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::observe::status::Status;

/// How long the agent may take for an answer. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer: thousands of objects and endpoints fit.
const MAX_ANSWER: u64 = 256 << 20;

/// The agent gives no status.
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
    #[error("expected a status from the agent on {}, found: {found}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// Why the answer cannot be understood.
        found: String,
    },
}

/// Asks the agent for its status.
pub(super) fn status(socket: &Path) -> Result<Status, ClientError> {
    let answer = exchange(socket).map_err(|error| ClientError::NoAgent {
        socket: socket.to_path_buf(),
        error,
    })?;
    serde_json::from_slice(&answer).map_err(|error| ClientError::Answer {
        socket: socket.to_path_buf(),
        found: error.to_string(),
    })
}

fn exchange(socket: &Path) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"{\"request\":\"status\"}\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
