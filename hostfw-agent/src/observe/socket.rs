//! The control socket: one request, one answer, closed.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};
use tracing::{debug, warn};

use super::{
    live::{Enforced, Flows},
    reports::Reports,
    rules::RuleCounts,
    status::Status,
};

/// Owner and group may ask.
const MODE: u32 = 0o660;
/// A request is a short line.
const MAX_REQUEST_BYTES: u64 = 4096;
/// A client that does not send its request, or does not take its answer, is
/// let go after this long. The agent answers between two passes, so this is
/// longer than a pass over a very large store takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients served at the same time; more wait in the kernel's queue.
const MAX_CLIENTS: usize = 32;

/// What a client may ask: one line of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Answered with a [`Status`].
    Status,
    /// Answered with a [`Status`] without the objects of which there is nothing to be
    /// told. Only inside the agent.
    #[serde(skip)]
    Brief,
    /// Answered with an [`Enforced`].
    Enforced,
    /// Answered with [`Flows`].
    Flows,
    /// Answered with a string: the metrics in the text format of Prometheus.
    Metrics,
    /// Answered with [`Health`].
    Health,
    /// Answered with [`RuleCounts`].
    Rules,
    /// Answered with [`Reports`].
    Reports {
        /// [`Reports::next`] of an earlier answer; without it, all that are kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To [`Request::Status`] and [`Request::Brief`].
    Status(Box<Status>),
    /// To [`Request::Enforced`].
    Enforced(Enforced),
    /// To [`Request::Flows`].
    Flows(Flows),
    /// To [`Request::Metrics`].
    Metrics(String),
    /// To [`Request::Health`].
    Health(Health),
    /// To [`Request::Rules`].
    Rules(RuleCounts),
    /// To [`Request::Reports`].
    Reports(Reports),
    /// To what cannot be answered.
    Refusal(Refusal),
}

/// Whether the node is as the source wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Why what the source wants is not enforced on every governed interface;
    /// `None` if it is.
    pub not_ready: Option<String>,
}

/// The answer to a request that is not understood, or cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was expected and what was found.
    pub error: String,
}

/// What a client asks, and where the answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub request: Request,
    /// Takes the answer.
    pub reply: oneshot::Sender<Reply>,
}

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers on it.
    #[error("control socket {}: another agent answers on it", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in its place.
    #[error("control socket {}: expected a socket or nothing, found another kind of file", path.display())]
    NotASocket {
        /// The socket.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("control socket {}: cannot {what}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// The socket, bound. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket, making its folder if it is missing and replacing a
    /// socket that nobody answers on.
    ///
    /// # Errors
    ///
    /// If another agent answers on it, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |what| {
            move |error| SocketError::Io {
                path: path.to_owned(),
                what,
                error,
            }
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io("make its folder"))?;
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io("look at it")(error)),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(SocketError::NotASocket {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(SocketError::InUse {
                        path: path.to_owned(),
                    });
                }
                fs::remove_file(path).map_err(io("replace it"))?;
            }
        }
        let listener = UnixListener::bind(path).map_err(io("bind it"))?;
        // Between bind and here the umask's mode holds, which is never wider
        // for others than connecting needs: root's umask is 022, and to
        // connect one must be allowed to write.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(io("set its mode"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves clients; asks `requests` for what to answer. Ends when nobody
    /// receives requests any more.
    pub async fn serve(self, requests: mpsc::Sender<Question>) {
        let clients = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
        loop {
            let Ok(permit) = clients.clone().acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = requests.closed() => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        warn!(%error, "cannot accept on the control socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let requests = requests.clone();
            tokio::spawn(async move {
                match tokio::time::timeout(PATIENCE, answer(stream, &requests)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "a client of the control socket went away"),
                    Err(_) => debug!("a client of the control socket took too long"),
                }
                drop(permit);
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If it is not there, the better.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, requests: &mpsc::Sender<Question>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_REQUEST_BYTES))
        .read_line(&mut line)
        .await?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => {
            let (reply, answer) = oneshot::channel();
            // Fails while the agent stops: then there is no answer.
            if requests.send(Question { request, reply }).await.is_err() {
                return Ok(());
            }
            let Ok(answer) = answer.await else {
                return Ok(());
            };
            answer
        }
        Err(error) => Reply::Refusal(Refusal {
            error: format!(
                "expected {{\"request\":\"status\"}}, enforced, flows, metrics, health, rules or reports: {error}"
            ),
        }),
    };
    let mut answer = serde_json::to_vec(&reply).map_err(io::Error::other)?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn(path: &Path) -> mpsc::Receiver<Question> {
        let socket = ControlSocket::bind(path).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(socket.serve(sender));
        receiver
    }

    async fn ask(path: &Path, request: &str) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn status_is_answered_with_the_document() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/agent.sock");
        let mut requests = spawn(&path);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        let status = Status {
            node: "node1".to_owned(),
            generation: 5,
            ..Status::default()
        };
        let expected = status.clone();
        tokio::spawn(async move {
            while let Some(Question { request, reply }) = requests.recv().await {
                assert_eq!(request, Request::Status);
                reply.send(Reply::Status(Box::new(status.clone()))).unwrap();
            }
        });
        let answer = ask(&path, "{\"request\":\"status\"}\n").await;
        assert_eq!(serde_json::from_str::<Status>(&answer).unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_not_understood_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let _requests = spawn(&path);
        for request in ["{\"request\":\"reboot\"}\n", "hello\n", "\n"] {
            let answer = ask(&path, request).await;
            let refusal: Refusal = serde_json::from_str(&answer).unwrap();
            assert!(refusal.error.contains("expected"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = ControlSocket::bind(&path).unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::InUse { .. })
        ));
        drop(live);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(
            ControlSocket::bind(&path),
            Err(SocketError::NotASocket { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
