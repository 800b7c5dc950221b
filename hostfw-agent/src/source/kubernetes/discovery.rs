//! Which kinds a cluster serves, and in which form.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{Client, core::ApiResource};
use tokio::sync::Mutex;

use super::{followed::Followed, object::Form};
use crate::model::Kind;

/// The groups that may serve the kinds; of those that serve the same, the
/// better one first.
const GROUPS: [(&str, &str, Form); 3] = [
    ("projectcalico.org", "v3", Form::Written),
    ("crd.projectcalico.org", "v1", Form::Stored),
    ("hostfw.io", "v1alpha1", Form::Written),
];
/// Eight kinds that ask one after another share an answer.
const FRESH: Duration = Duration::from_secs(2);

/// How a kind is served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    pub(super) form: Form,
}

type Answer = Result<BTreeMap<Followed, Served>, String>;

/// Asks the API server what it serves.
#[derive(Debug)]
pub(super) struct Discovery {
    patience: Duration,
    last: Mutex<Option<(Instant, Answer)>>,
}

impl Discovery {
    /// `patience`: how long an answer may take.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            last: Mutex::new(None),
        }
    }

    /// How the kind is served; `None` if it is not.
    ///
    /// # Errors
    ///
    /// Why that cannot be told.
    pub(super) async fn find(
        &self,
        client: &Client,
        kind: Followed,
    ) -> Result<Option<Served>, String> {
        let mut last = self.last.lock().await;
        if let Some((when, answer)) = &*last
            && when.elapsed() < FRESH.min(self.patience)
        {
            return answer
                .as_ref()
                .map(|all| all.get(&kind).cloned())
                .map_err(Clone::clone);
        }
        let asked = tokio::time::timeout(self.patience, discover(client)).await;
        let answer = asked.unwrap_or_else(|_| Err("the API server takes too long".to_owned()));
        let found = answer
            .as_ref()
            .map(|all| all.get(&kind).cloned())
            .map_err(Clone::clone);
        *last = Some((Instant::now(), answer));
        found
    }

    /// What was found is not true any more.
    pub(super) async fn forget(&self) {
        *self.last.lock().await = None;
    }
}

pub(super) async fn discover(client: &Client) -> Answer {
    let mut served = BTreeMap::new();
    for (group, version, form) in GROUPS {
        let list = match client
            .list_api_group_resources(&format!("{group}/{version}"))
            .await
        {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            // The form that a group which is not to be had now would have
            // served is not taken from another one: the next answer would
            // take it back.
            Err(error) => return Err(super::say(&error)),
        };
        for resource in list.resources {
            let can = |verb: &str| resource.verbs.iter().any(|known| known == verb);
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == resource.kind && !resource.name.contains('/'));
            if let Some(kind) = kind
                && resource.namespaced == kind.is_namespaced()
                && can("list")
                && can("watch")
            {
                served
                    .entry(Followed::Kind(kind))
                    .or_insert_with(|| Served {
                        resource: ApiResource {
                            group: group.to_owned(),
                            version: version.to_owned(),
                            api_version: format!("{group}/{version}"),
                            kind: resource.kind,
                            plural: resource.name,
                        },
                        form,
                    });
            }
        }
    }
    Ok(served)
}
