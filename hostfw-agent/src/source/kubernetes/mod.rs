//! A cluster as a source of resources.
//!
//! Each object stands for a file that holds it alone, so that all that is true
//! of files is true of objects: they are decoded strictly, what is wrong with
//! one is told of that one, and the last good version stays in force. The name
//! of the file is kind and name: `HostEndpoint/node1-eth0`.
//!
//! ```text
//! discovery -> watch (a task for each kind) -> state -> Snapshot
//! ```
//!
//! Nothing is told before every kind that the cluster serves was listed once,
//! unless an earlier agent has left what was in force; and what cannot be told
//! any more stays as it was.

mod cluster;
mod discovery;
mod edit;
mod followed;
mod object;
mod state;
mod watch;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use tokio::{
    sync::{Notify, watch as watch_channel},
    task::JoinSet,
    time::Instant,
};

pub use edit::{Cluster, ClusterError};

use self::{
    discovery::Discovery,
    followed::{Followed, Needs},
    state::State,
};
use super::{Snapshot, Source, SourceFile, Text, Trust};

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between attempts after a failure: doubled each time, up to the last.
    pub retry: [Duration; 2],
    /// How long an answer, or a piece of a list, may take.
    pub patience: Duration,
    /// How often to look whether a kind that was not served is served now.
    pub rediscover: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            retry: [Duration::from_secs(1), Duration::from_secs(30)],
            patience: Duration::from_secs(60),
            rediscover: Duration::from_secs(60),
        }
    }
}

/// A connection that says nothing for this long is dead: a watch that has
/// nothing to tell is ended by the server after 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// Why there is no client for the cluster.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell how to reach the API server: {0}")]
pub struct ConnectError(String);

/// A client as a kubeconfig says; `None`: as the environment does (KUBECONFIG,
/// or the service account of the pod).
///
/// # Errors
///
/// If neither tells how to reach the API server. It need not be there yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    connect_as(kubeconfig, None).await
}

/// As [`connect`], with a context of the kubeconfig that is not the current
/// one.
async fn connect_as(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Client, ConnectError> {
    let error = |error: &dyn std::fmt::Display| ConnectError(error.to_string());
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|e| error(&e))?;
            Config::from_custom_kubeconfig(read, &options)
                .await
                .map_err(|e| error(&e))?
        }
        None if context.is_some() => Config::from_kubeconfig(&options)
            .await
            .map_err(|e| error(&e))?,
        None => Config::infer().await.map_err(|e| error(&e))?,
    };
    client_of(config)
}

/// A client for the API server at this address, without credentials.
///
/// # Errors
///
/// If the address is none.
pub fn client_at(address: &str) -> Result<Client, ConnectError> {
    let address = address
        .parse()
        .map_err(|error| ConnectError(format!("{address}: {error}")))?;
    client_of(Config::new(address))
}

fn client_of(mut config: Config) -> Result<Client, ConnectError> {
    config.read_timeout = Some(SILENCE);
    // What fails is tried again here, and told meanwhile.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ConnectError(error.to_string()))
}

/// What the tasks and the source share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// What something refers to.
    wanted: watch_channel::Sender<Needs>,
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // It is whole after every statement.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        if state.due().is_some() {
            self.changed.notify_one();
        }
        self.wanted.send_if_modified(|before| {
            let changed = before != state.wanted();
            if changed {
                *before = *state.wanted();
            }
            changed
        });
        result
    }

    fn read<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A cluster, followed.
#[derive(Debug)]
pub struct KubernetesSource {
    shared: Arc<Shared>,
    /// Ended when this is dropped.
    _tasks: JoinSet<()>,
}

impl KubernetesSource {
    /// Begins to follow the cluster, for the node of this name. `remembered`: what an earlier agent had in
    /// force, by file; what it has from elsewhere is left out.
    ///
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start(client: &Client, node: &str, remembered: Vec<SourceFile>, times: Times) -> Self {
        let state = State::new(remembered);
        let shared = Arc::new(Shared {
            wanted: watch_channel::Sender::new(*state.wanted()),
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let discovery = Arc::new(Discovery::new(times.patience));
        let mut tasks = JoinSet::new();
        for followed in Followed::all() {
            let (client, shared) = (client.clone(), Arc::clone(&shared));
            if let Some(resource) = followed.on_demand() {
                let node = node.to_owned();
                tasks.spawn(watch::follow_wanted(
                    followed, resource, node, client, shared, times,
                ));
            } else {
                let discovery = Arc::clone(&discovery);
                tasks.spawn(watch::follow(followed, client, discovery, shared, times));
            }
        }
        Self {
            shared,
            _tasks: tasks,
        }
    }
}

/// The objects that the cluster has given, for whoever is told of one by what
/// stands for its file.
#[derive(Clone, Debug)]
pub struct Known(Arc<Shared>);

impl Known {
    /// The object, as it was given last.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<Text> {
        self.0.read(|state| state.text(path))
    }
}

impl KubernetesSource {
    /// What is known of the cluster's objects, now and later.
    #[must_use]
    pub fn known(&self) -> Known {
        Known(Arc::clone(&self.shared))
    }
}

impl Source for KubernetesSource {
    async fn changed(&mut self) {
        loop {
            let now = Instant::now();
            match self.shared.read(|state| state.due()) {
                Some(due) if due <= now => {
                    self.shared.read(State::tell);
                    return;
                }
                Some(due) => tokio::time::sleep_until(due).await,
                None => self.shared.changed.notified().await,
            }
        }
    }

    fn has_changed(&mut self) -> bool {
        self.shared.read(State::tell)
    }

    fn read(&mut self, _: Trust, _: Option<&Snapshot>) -> Result<Snapshot, String> {
        self.shared.read(|state| state.snapshot())
    }

    fn being_written(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn kinds(&self) -> Vec<(&'static str, bool)> {
        self.shared.read(|state| state.followed())
    }
}

/// An error in one line, as short as it can be.
pub(crate) fn say(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return say_status(status);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn say_status(status: &Status) -> String {
    let message = if status.message.is_empty() {
        &status.reason
    } else {
        &status.message
    };
    format!("{message} ({})", status.code)
}
