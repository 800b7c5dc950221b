//! The agent of another node, asked through its pod: what its control socket
//! answers, by a command that is run in its container.

use std::{fmt, future::Future, io, path::Path, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::{AttachParams, ListParams},
};
use tokio::{io::AsyncReadExt as _, runtime::Runtime};

use super::{ConnectError, connect_as, say};

/// What the pods of agents are labelled with, in deploy/.
const LABELS: &str = "app.kubernetes.io/name=hostfw,app.kubernetes.io/component=agent";
/// The agent's container in its pod.
const CONTAINER: &str = "agent";
/// Where `hostfwctl` is in the image.
const PROGRAM: &str = "/bin/hostfwctl";
/// How long an answer may take: the agent itself takes up to 30 seconds.
const PATIENCE: Duration = Duration::from_secs(45);
/// Bytes of an answer that may wait to be read.
const WAITING: usize = 1 << 16;

/// Why the agent of a node cannot be asked through the API server.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// It is not known how to reach the cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel gives no means to wait for an answer.
    #[error("cannot wait for the API server: {0}")]
    Runtime(#[from] io::Error),
    /// It does not say which pods there are.
    #[error("the pods of namespace {namespace} cannot be listed: {why} (that takes the verb list)")]
    List {
        /// Where the agents' pods should be.
        namespace: String,
        /// What the API server says.
        why: String,
    },
    /// No pod is the agent's.
    #[error(
        "expected a pod of the agent on node {node}, found none in namespace {namespace} with the \
         labels {LABELS} (--agent-namespace names another one)"
    )]
    NoPod {
        /// The node.
        node: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The pod does not run.
    #[error("expected pod {pod} on node {node} to be Running, found {phase}")]
    NotRunning {
        /// The node.
        node: String,
        /// The agent's pod.
        pod: String,
        /// What the pod is instead.
        phase: String,
    },
    /// Nothing can be run in the pod.
    #[error(
        "nothing can be run in pod {pod}: {why} (that takes the verbs get and create for pods/exec)"
    )]
    Exec {
        /// The agent's pod.
        pod: String,
        /// What the API server says.
        why: String,
    },
    /// What was run there has failed.
    #[error("pod {pod}: {why}")]
    Failed {
        /// The agent's pod.
        pod: String,
        /// What it says itself, or the API server of it.
        why: String,
    },
    /// No answer comes.
    #[error("pod {pod}: no answer after {} s", PATIENCE.as_secs())]
    Silent {
        /// The agent's pod.
        pod: String,
    },
}

/// The agent of a node.
pub struct NodeAgent {
    runtime: Runtime,
    pods: Api<Pod>,
    pod: String,
}

impl fmt::Debug for NodeAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("NodeAgent");
        debug.field("pod", &self.pod).finish_non_exhaustive()
    }
}

impl NodeAgent {
    /// Finds the agent's pod on a node. `kubeconfig` and `context`: as for
    /// [`Cluster::connect`](super::Cluster::connect).
    ///
    /// # Errors
    ///
    /// If the cluster does not answer, or has no such pod, or it does not run.
    pub fn find(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        namespace: &str,
        node: &str,
    ) -> Result<Self, ReachError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (pods, pod) = runtime.block_on(async {
            let client = connect_as(kubeconfig, context).await?;
            let pods = Api::<Pod>::namespaced(client, namespace);
            let pod = pod_of(&pods, namespace, node).await?;
            Ok::<_, ReachError>((pods, pod))
        })?;
        Ok(Self { runtime, pods, pod })
    }

    /// What the agent answers to a request, a line for its control socket.
    ///
    /// # Errors
    ///
    /// If nothing can be run in its pod, or it does not answer there.
    pub fn ask(&self, request: &str) -> Result<Vec<u8>, ReachError> {
        self.runtime.block_on(async {
            let answer = run(&self.pods, &self.pod, request);
            within(answer).await.unwrap_or_else(|| {
                Err(ReachError::Silent {
                    pod: self.pod.clone(),
                })
            })
        })
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, answer).await.ok()
}

/// The name of the agent's pod on a node. While agents are being replaced there may
/// be more than one: one that runs, then.
async fn pod_of(pods: &Api<Pod>, namespace: &str, node: &str) -> Result<String, ReachError> {
    let list = ListParams::default()
        .labels(LABELS)
        .fields(&format!("spec.nodeName={node}"));
    let failed = |why: String| ReachError::List {
        namespace: namespace.to_owned(),
        why,
    };
    let found = match within(pods.list(&list)).await {
        Some(found) => found.map_err(|error| failed(say(&error)))?,
        None => return Err(failed("no answer".to_owned())),
    };
    let here = found.items.iter().filter(|pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.node_name.as_deref()) == Some(node)
    });
    let mut other = None;
    for pod in here {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        match phase.as_deref() {
            Some("Running") if pod.metadata.deletion_timestamp.is_none() => return Ok(name),
            Some("Running") => other = Some((name, "Terminating".to_owned())),
            _ => other = Some((name, phase.unwrap_or_else(|| "Unknown".to_owned()))),
        }
    }
    let node = node.to_owned();
    Err(match other {
        Some((pod, phase)) => ReachError::NotRunning { node, pod, phase },
        None => ReachError::NoPod {
            node,
            namespace: namespace.to_owned(),
        },
    })
}

/// Runs `hostfwctl relay` in the pod. The request is a word of the command line:
/// there is nothing to be sent to it.
async fn run(pods: &Api<Pod>, pod: &str, request: &str) -> Result<Vec<u8>, ReachError> {
    let parameters = AttachParams::default()
        .container(CONTAINER)
        .stdin(false)
        .stdout(true)
        .stderr(true)
        .max_stdout_buf_size(WAITING);
    let failed = |why: String| ReachError::Failed {
        pod: pod.to_owned(),
        why,
    };
    let mut process = pods
        .exec(pod, [PROGRAM, "relay", request], &parameters)
        .await
        .map_err(|error| ReachError::Exec {
            pod: pod.to_owned(),
            why: say(&error),
        })?;
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let read = async {
        let answer = async {
            match stdout {
                Some(mut stdout) => stdout.read_to_end(&mut answer).await.map(drop),
                None => Ok(()),
            }
        };
        let complaint = async {
            match stderr {
                Some(mut stderr) => stderr.read_to_end(&mut complaint).await.map(drop),
                None => Ok(()),
            }
        };
        tokio::try_join!(answer, complaint)
    };
    read.await.map_err(|error| failed(error.to_string()))?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(answer),
        status => Err(failed(why_of(&complaint, status.as_ref()))),
    }
}

/// What a command says that has failed; else what is said of it.
fn why_of(complaint: &[u8], status: Option<&Status>) -> String {
    let complaint = String::from_utf8_lossy(complaint);
    let message = status.and_then(|status| status.message.clone());
    match (complaint.trim(), message) {
        ("", Some(message)) => message,
        ("", None) => "the connection was closed before the end".to_owned(),
        (complaint, _) => complaint.to_owned(),
    }
}
