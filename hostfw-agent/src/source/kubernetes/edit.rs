//! A cluster as the place that an administrator reads and changes: no watch, no
//! memory, one answer for each question.

use std::{collections::BTreeMap, fmt, future::Future, io, path::Path, time::Duration};

use kube::{
    Api, Client, Resource as _,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    core::{ApiResource, Request},
};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::{
    ConnectError, connect_as,
    discovery::{Served, discover},
    followed::Followed,
    object::{Form, RawObject},
    say,
};
use crate::{
    model::{Kind, ObjectRef},
    resource::Resource,
    source::{
        Snapshot, SourceFile, Text,
        store::{self, Change, StoreError},
    },
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many objects a page of a list holds.
const PAGE: u32 = 500;
/// How often to begin anew when somebody else changes the same object.
const ATTEMPTS: usize = 5;
/// What the API server shall name as the one who wrote.
const MANAGER: &str = "hostfwctl";
/// Of `metadata`, what is for the API server to say.
const OF_SERVER: [&str; 5] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
];

/// Asks for strict validation: without, a definition drops unknown fields and
/// says nothing. To be called with a request that has a query already.
macro_rules! strictly {
    ($client:expr, $request:expr) => {{
        let mut request = $request;
        let target = format!("{}&fieldValidation=Strict", request.uri());
        match target.parse() {
            Ok(target) => *request.uri_mut() = target,
            Err(_) => {
                return Err(kube::Error::Service(
                    format!("{target} is no address").into(),
                ));
            }
        }
        $client.request_text(request).await.map(drop)
    }};
}

/// Why a cluster can be neither read nor changed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It is not known how to reach it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The kernel gives no means to wait for an answer.
    #[error("cannot wait for the API server: {0}")]
    Runtime(#[from] io::Error),
    /// It does not say what it serves.
    #[error("the API server cannot be asked what it serves: {0}")]
    Discovery(String),
    /// It does not serve the kind.
    #[error("the cluster does not serve {0}: install the definitions (deploy/crds), or Calico's")]
    NotServed(Kind),
}

/// A cluster that is asked.
pub struct Cluster {
    runtime: Runtime,
    client: Client,
    served: BTreeMap<Kind, Served>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cluster");
        debug.field("served", &self.served).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Asks the API server what it serves. `kubeconfig`: where it is, if not as
    /// the environment says; `context`: which one of it, if not the current one.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(connect_as(kubeconfig, context))?;
        let mut served = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, discover(&client)).await })
            .unwrap_or_else(|_| Err(too_long()))
            .map_err(ClusterError::Discovery)?
            .into_iter()
            .filter_map(|(followed, served)| match followed {
                Followed::Kind(kind) => Some((kind, served)),
                Followed::Namespace | Followed::Pod | Followed::ServiceAccount => None,
            })
            .collect::<BTreeMap<Kind, Served>>();
        if let Some(resource) = Followed::Kind(Kind::Node).on_demand() {
            let form = Form::Written;
            served.insert(Kind::Node, Served { resource, form });
        }
        Ok(Self {
            runtime,
            client,
            served,
        })
    }

    /// All objects of all kinds; a kind that cannot be listed is told in their
    /// place. Nodes are listed if a template refers to them.
    #[must_use]
    pub fn read(&self) -> Snapshot {
        let mut files = Vec::new();
        let mut templates = false;
        for (kind, served) in &self.served {
            if *kind != Kind::Node {
                let listed = self.list(*kind, served);
                templates |= *kind == Kind::HostEndpointTemplate && !listed.is_empty();
                files.extend(listed);
            }
        }
        if templates && let Some(served) = self.served.get(&Kind::Node) {
            files.extend(self.list(Kind::Node, served));
        }
        Snapshot::of(files)
    }

    /// All objects of the kind; if they cannot be listed, that is told in their
    /// place.
    ///
    /// # Errors
    ///
    /// If the cluster does not serve it.
    pub fn read_kind(&self, kind: Kind) -> Result<Snapshot, ClusterError> {
        let served = self
            .served
            .get(&kind)
            .ok_or(ClusterError::NotServed(kind))?;
        Ok(Snapshot::of(self.list(kind, served)))
    }

    fn list(&self, kind: Kind, served: &Served) -> Vec<SourceFile> {
        let listed = if kind == Kind::Node {
            self.wait(list::<true>(&self.client, kind, served))
        } else {
            self.wait(list::<false>(&self.client, kind, served))
        };
        listed.unwrap_or_else(|error| {
            vec![SourceFile {
                path: kind.name().into(),
                content: Err(format!("cannot be listed: {error}")),
            }]
        })
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Refused> {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, answer).await })
            .map_or_else(|_| Err(Refused::other(too_long())), |answer| Ok(answer?))
    }

    /// Creates an object that does not exist yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], and others.
    pub fn create(&self, resource: &Resource) -> Result<Change, StoreError> {
        let place = self.writable(&resource.object_ref())?;
        match self.post(&place, resource) {
            Ok(()) => Ok(Change::Created),
            Err(refused) if refused.is(409) => Err(StoreError::Exists(place.object)),
            Err(refused) => Err(place.error(&refused)),
        }
    }

    /// Changes an object that exists.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], and others.
    pub fn replace(&self, resource: &Resource) -> Result<Change, StoreError> {
        let place = self.writable(&resource.object_ref())?;
        self.put(&place, resource)?
            .ok_or(StoreError::NotFound(place.object))
    }

    /// Creates or changes an object.
    ///
    /// # Errors
    ///
    /// What the API server says.
    pub fn apply(&self, resource: &Resource) -> Result<Change, StoreError> {
        let place = self.writable(&resource.object_ref())?;
        for _ in 0..ATTEMPTS {
            if let Some(change) = self.put(&place, resource)? {
                return Ok(change);
            }
            match self.post(&place, resource) {
                Ok(()) => return Ok(Change::Created),
                // Somebody else was faster.
                Err(refused) if refused.is(409) => {}
                Err(refused) => return Err(place.error(&refused)),
            }
        }
        Err(place.error(&Refused::other("it comes and goes".to_owned())))
    }

    /// Deletes an object. With `version`, only that one, as far as it says
    /// which it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`], and others.
    pub fn delete(&self, object: &ObjectRef, version: Option<&Resource>) -> Result<(), StoreError> {
        let place = self.writable(object)?;
        let metadata = version.map(Resource::metadata);
        let preconditions = metadata.map(|metadata| Preconditions {
            resource_version: metadata.resource_version.clone(),
            uid: metadata.uid.clone(),
        });
        let parameters = DeleteParams {
            preconditions: preconditions
                .filter(|it| it.resource_version.is_some() || it.uid.is_some()),
            ..DeleteParams::default()
        };
        let answer = self.wait(async {
            let request = Request::new(&place.url)
                .delete(place.name(), &parameters)
                .map_err(kube::Error::BuildRequest)?;
            self.client.request_text(request).await
        });
        match answer {
            Ok(_) => Ok(()),
            Err(refused) if refused.is(404) => Err(StoreError::NotFound(place.object)),
            Err(refused) => Err(place.error(&refused)),
        }
    }

    /// Where the object is to be written.
    fn writable(&self, object: &ObjectRef) -> Result<Place<'_>, StoreError> {
        // A name is data, and must not lead to another path.
        store::file_name(object)?;
        let object = object.clone();
        let refuse = |reason: String| {
            let object = object.clone();
            Err(StoreError::Api { object, reason })
        };
        let Some(served) = self.served.get(&object.kind) else {
            return refuse(ClusterError::NotServed(object.kind).to_string());
        };
        if object.kind == Kind::Node {
            return refuse("nodes are the cluster's own: label them with kubectl".to_owned());
        }
        if served.form == Form::Stored {
            return refuse(format!(
                "the cluster serves {} only as Calico stores it ({}), which is for Calico to \
                 write: use calicoctl, or install Calico's API server",
                object.kind, served.resource.api_version
            ));
        }
        let namespace = object.name.split_once('/').map(|(namespace, _)| namespace);
        Ok(Place {
            url: RawObject::<false>::url_path(&served.resource, namespace),
            resource: &served.resource,
            object,
        })
    }

    fn post(&self, place: &Place<'_>, resource: &Resource) -> Result<(), Refused> {
        let mut body = resource.to_value();
        body["apiVersion"] = json!(place.resource.api_version);
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.retain(|name, _| !OF_SERVER.contains(&name.as_str()));
        }
        self.wait(async {
            let request = Request::new(&place.url)
                .create(&parameters(), body.to_string().into())
                .map_err(kube::Error::BuildRequest)?;
            strictly!(self.client, request)
        })
    }

    /// Changes an object, unless it is as it should be; `None` if there is
    /// none.
    fn put(&self, place: &Place<'_>, resource: &Resource) -> Result<Option<Change>, StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let found = self.wait(async {
                let request = Request::new(&place.url)
                    .get(place.name(), &kube::api::GetParams::default())
                    .map_err(kube::Error::BuildRequest)?;
                self.client.request::<Value>(request).await
            });
            let found = match found {
                Ok(found) => found,
                Err(refused) if refused.is(404) => return Ok(None),
                Err(refused) => return Err(place.error(&refused)),
            };
            let body = merged(&found, resource);
            if body == found {
                return Ok(Some(Change::Unchanged));
            }
            let answer = self.wait(async {
                let request = Request::new(&place.url)
                    .replace(place.name(), &parameters(), body.to_string().into())
                    .map_err(kube::Error::BuildRequest)?;
                strictly!(self.client, request)
            });
            let versioned = resource.metadata().resource_version.is_some();
            match answer {
                Ok(()) => return Ok(Some(Change::Updated)),
                Err(refused) if refused.is(404) => return Ok(None),
                // Who does not say which version is meant means the last one.
                Err(refused) if refused.is(409) && !versioned && attempts < ATTEMPTS => {}
                Err(refused) => return Err(place.error(&refused)),
            }
        }
    }
}

/// An object, and where the API server has it.
struct Place<'a> {
    url: String,
    resource: &'a ApiResource,
    object: ObjectRef,
}

impl Place<'_> {
    fn name(&self) -> &str {
        let name = &self.object.name;
        name.split_once('/').map_or(name, |(_, name)| name)
    }

    fn error(&self, refused: &Refused) -> StoreError {
        StoreError::Api {
            object: self.object.clone(),
            reason: refused.to_string(),
        }
    }
}

/// What the API server says instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Refused {
    code: Option<u16>,
    text: String,
}

impl Refused {
    const fn other(text: String) -> Self {
        Self { code: None, text }
    }

    fn is(&self, code: u16) -> bool {
        self.code == Some(code)
    }
}

impl From<kube::Error> for Refused {
    fn from(error: kube::Error) -> Self {
        let code = if let kube::Error::Api(status) = &error {
            Some(status.code)
        } else {
            None
        };
        Self {
            code,
            text: say(&error),
        }
    }
}

fn too_long() -> String {
    format!("the API server takes longer than {} s", PATIENCE.as_secs())
}

fn parameters() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(MANAGER.to_owned()),
    }
}

/// The object as it is to be: labels, annotations and spec as given, whatever
/// else the API server keeps as it is.
fn merged(found: &Value, resource: &Resource) -> Value {
    let mut body = found.clone();
    let mut given = resource.to_value();
    body["spec"] = given["spec"].take();
    let Some(metadata) = body["metadata"].as_object_mut() else {
        return body;
    };
    for field in ["labels", "annotations"] {
        let value = given["metadata"][field].take();
        if value.is_null() {
            metadata.remove(field);
        } else {
            metadata.insert(field.to_owned(), value);
        }
    }
    // Given, they say which version is meant: another one is a conflict.
    for field in ["uid", "resourceVersion"] {
        if let value @ Value::String(_) = given["metadata"][field].take() {
            metadata.insert(field.to_owned(), value);
        }
    }
    body
}

async fn list<const BARE: bool>(
    client: &Client,
    kind: Kind,
    served: &Served,
) -> Result<Vec<SourceFile>, kube::Error> {
    let api = Api::<RawObject<BARE>>::all_with(client.clone(), &served.resource);
    let mut parameters = ListParams::default().limit(PAGE);
    let mut files = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        files.extend(page.items.into_iter().filter_map(|object| {
            let version = object.meta().resource_version.clone();
            let path = object.path(Followed::Kind(kind));
            let content = match object.into_text(Followed::Kind(kind), served.form) {
                Ok(Some((text, _))) => Ok(with_version(text, version)),
                Ok(None) => return None,
                Err(error) => Err(error),
            };
            Some(SourceFile {
                path: path.into(),
                content,
            })
        }));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(files),
        }
    }
}

/// With the version, which says what a later change was made from.
fn with_version(text: Text, version: Option<String>) -> Text {
    let Some(version) = version else {
        return text;
    };
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(&text) else {
        return text;
    };
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    Text::from(Value::Object(Map::from_iter(object)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(metadata: Value) -> Value {
        let mut object = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
            "metadata": {"name": "a"}, "spec": {"node": "b", "interfaceName": "c"},
        });
        if let (Some(all), Value::Object(more)) = (object["metadata"].as_object_mut(), metadata) {
            all.extend(more);
        }
        object
    }

    #[test]
    fn what_is_not_given_stays_with_the_server() {
        let found = endpoint(json!({
            "uid": "1", "resourceVersion": "7", "finalizers": ["keep"],
            "labels": {"old": "x"}, "annotations": {"old": "x"},
        }));
        let given = |metadata| Resource::from_value(&endpoint(metadata)).expect("it is valid");
        let body = merged(&found, &given(json!({"labels": {"new": "y"}})));
        assert_eq!(
            body,
            endpoint(json!({
                "uid": "1", "resourceVersion": "7", "finalizers": ["keep"],
                "labels": {"new": "y"},
            }))
        );
        let body = merged(&found, &given(json!({"resourceVersion": "6"})));
        assert_eq!(body["metadata"]["resourceVersion"], "6");
    }

    #[test]
    fn an_object_that_is_as_it_should_be_is_not_changed() {
        let found = endpoint(json!({"uid": "1", "resourceVersion": "7"}));
        let given = Resource::from_value(&endpoint(json!({}))).expect("it is valid");
        assert_eq!(merged(&found, &given), found);
    }
}
