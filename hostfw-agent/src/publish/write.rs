//! How objects of the node are written.

use std::{future::Future, time::Duration};

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::observe::notes::Notes;

/// Whose fields the agent's are.
pub(super) const MANAGER: &str = "hostfw-agent";

/// What it takes to write.
#[derive(Clone)]
pub(super) struct Pen {
    pub(super) client: Client,
    /// Take what goes wrong.
    pub(super) notes: Notes,
    /// Name of the node.
    pub(super) node: String,
    /// For an answer.
    pub(super) patience: Duration,
}

impl Pen {
    /// Writes an object of this node, of a kind of ours, which goes when the
    /// Node goes.
    pub(super) async fn apply(&self, plural: &str, mut body: Value) -> Result<(), kube::Error> {
        if let Some(uid) = self.uid().await {
            body["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid,
            }]);
        }
        let kind = body["kind"].as_str().unwrap_or_default();
        let resource = resource("hostfw.io", "v1alpha1", kind, plural);
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        // Nobody else's fields are in this object.
        let how = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let patch = api.patch(&self.node, &how, &patch);
        self.in_time(patch).await.map(drop)
    }

    /// The uid of the node. Without one, nobody removes the object when the node
    /// goes.
    async fn uid(&self) -> Option<String> {
        let nodes = resource("", "v1", "Node", "nodes");
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &nodes);
        let node = self.in_time(api.get_metadata(&self.node)).await.ok()?;
        node.metadata.uid
    }

    pub(super) async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        let answer = tokio::time::timeout(self.patience, request).await;
        answer.unwrap_or_else(|late| Err(kube::Error::Service(late.into())))
    }

    /// Notes whether something could be written; whether it could.
    pub(super) fn note(&self, about: &str, done: Result<(), kube::Error>, otherwise: &str) -> bool {
        match done {
            Ok(()) => {
                if self.notes.clear(about) {
                    info!(about, "can be written again");
                }
                true
            }
            Err(error) => {
                let reason = crate::source::kubernetes::say(&error);
                let message = format!("cannot be written: {reason}: {otherwise}");
                if self.notes.set(about, message) {
                    warn!(about, reason, "cannot be written; enforced is what was");
                }
                false
            }
        }
    }
}

pub(super) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
