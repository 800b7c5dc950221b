//! Where resources are: in a folder of this machine, or in a cluster.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    CtlError,
    client::{Agent, ClientError},
};
use crate::{
    model::{Kind, ObjectRef},
    resource::Resource,
    source::{
        Snapshot,
        kubernetes::{Cluster, ClusterError, NodeAgent},
        read_folder,
        store::{self, Change, StoreError},
    },
};

/// What the command line says of it.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The resources are those of a cluster: so too with --kubeconfig or
    /// --context, and as a plugin of kubectl.
    #[arg(long, global = true)]
    cluster: bool,
    /// How to reach the cluster [default: KUBECONFIG, else ~/.kube/config, else
    /// the service account of the pod].
    #[arg(long, global = true, value_name = "FILE", env = "HOSTFW_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of the current one.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Ask the agent of this node of the cluster, through its pod, instead of the one
    /// that runs here. The resources are those of the cluster, then.
    #[arg(long, global = true, value_name = "NODE")]
    on: Option<String>,
    /// Namespace of the agents' pods, for --on.
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "HOSTFW_AGENT_NAMESPACE",
        default_value = "hostfw"
    )]
    agent_namespace: String,
    /// Folder that holds the resources.
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        env = "HOSTFW_STORE",
        default_value = "/var/lib/hostfw/resources"
    )]
    store: PathBuf,
}

impl Where {
    /// The folder, unless a cluster is meant. `plugin`: called by kubectl.
    pub(super) fn folder(&self, plugin: bool) -> Option<&Path> {
        let cluster = self.cluster
            || self.kubeconfig.is_some()
            || self.context.is_some()
            || self.on.is_some();
        (!plugin && !cluster).then_some(self.store.as_path())
    }

    /// The agent that is meant. `socket`: where that of this machine listens.
    ///
    /// # Errors
    ///
    /// If it is that of a node of a cluster, and has no pod that can be reached.
    pub(super) fn agent(&self, socket: &Path) -> Result<Agent, ClientError> {
        let Some(node) = &self.on else {
            return Ok(Agent::Here(socket.to_path_buf()));
        };
        let found = NodeAgent::find(
            self.kubeconfig.as_deref(),
            self.context.as_deref(),
            &self.agent_namespace,
            node,
        )?;
        Ok(Agent::On(node.clone(), Box::new(found)))
    }

    /// Where that is.
    ///
    /// # Errors
    ///
    /// If it is a cluster that cannot be reached.
    pub(super) fn open(&self, plugin: bool) -> Result<Place, ClusterError> {
        match self.folder(plugin) {
            Some(folder) => Ok(Place::Folder(folder.to_path_buf())),
            None => Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref())
                .map(|cluster| Place::Cluster(Box::new(cluster))),
        }
    }
}

/// Where resources are.
#[derive(Debug)]
pub(super) enum Place {
    Folder(PathBuf),
    Cluster(Box<Cluster>),
}

impl Place {
    /// All that it holds.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub(super) fn read(&self) -> Result<Snapshot, CtlError> {
        Ok(match self {
            Self::Folder(folder) => read_folder(folder)?,
            Self::Cluster(cluster) => cluster.read(),
        })
    }

    /// All that it holds of a kind, and maybe of others.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or the cluster has no such kind.
    pub(super) fn read_kind(&self, kind: Kind) -> Result<Snapshot, CtlError> {
        Ok(match self {
            Self::Folder(folder) => read_folder(folder)?,
            Self::Cluster(cluster) => cluster.read_kind(kind)?,
        })
    }

    /// What messages call a file of it, or what stands for one.
    pub(super) fn name(&self, file: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(file).display().to_string(),
            Self::Cluster(_) => file.to_owned(),
        }
    }

    /// Begins to change it.
    ///
    /// # Errors
    ///
    /// If the folder cannot be.
    pub(super) fn writer(&self) -> Result<Writer<'_>, StoreError> {
        Ok(match self {
            Self::Folder(folder) => Writer::Folder(store::Writer::lock(folder)?),
            Self::Cluster(cluster) => Writer::Cluster(cluster),
        })
    }
}

/// Changes single objects.
#[derive(Debug)]
pub(super) enum Writer<'a> {
    /// Nobody else does meanwhile.
    Folder(store::Writer),
    Cluster(&'a Cluster),
}

impl Writer<'_> {
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        match self {
            Self::Folder(writer) => writer.snapshot(),
            Self::Cluster(cluster) => Ok(cluster.read()),
        }
    }

    pub(super) fn create(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self {
            Self::Folder(writer) => writer.create(resource),
            Self::Cluster(cluster) => cluster.create(&resource),
        }
    }

    pub(super) fn replace(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self {
            Self::Folder(writer) => writer.replace(resource),
            Self::Cluster(cluster) => cluster.replace(&resource),
        }
    }

    pub(super) fn apply(&mut self, resource: Resource) -> Result<Change, StoreError> {
        match self {
            Self::Folder(writer) => writer.apply(resource),
            Self::Cluster(cluster) => cluster.apply(&resource),
        }
    }

    pub(super) fn delete(
        &mut self,
        object: &ObjectRef,
        version: Option<&Resource>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Folder(writer) => writer.delete(object, version),
            Self::Cluster(cluster) => cluster.delete(object, version),
        }
    }
}
