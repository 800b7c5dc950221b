//! An API server, by script or a real one: tests that ask for nothing that only a
//! script can do run against both.

use ::kube::{
    Api, Client, Error,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    real::{Turn, resource, turn},
    server::{KINDS, OTHERS, Server},
};

/// The namespace of what has one.
const NAMESPACE: &str = "web";

pub(crate) enum World {
    Script(Server),
    Real(Turn, Client),
}

/// The objects of a kind, in the namespace that this one names.
pub(crate) fn api(client: &Client, kind: &str, object: &Value) -> Api<DynamicObject> {
    let namespace = object["metadata"]["namespace"].as_str();
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource(kind)),
        None => Api::all_with(client.clone(), &resource(kind)),
    }
}

fn is(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}

impl World {
    /// The real server with no objects; `None`, which is told, if there is none.
    pub(crate) async fn real() -> Option<Self> {
        let turn = turn("this test").await?;
        let client = turn.client().await.expect("its own kubeconfig");
        let world = Self::Real(turn, client);
        for (kind, _) in KINDS.iter().chain(OTHERS) {
            world.sweep(kind).await;
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {}}});
        world.put("Namespace", namespace).await;
        Some(world)
    }

    /// Deletes all objects of a kind, if it is served. Nobody ends what is left
    /// of a namespace, so those stay.
    async fn sweep(&self, kind: &'static str) {
        let Self::Real(_, client) = self else { return };
        if kind == "Namespace" {
            return;
        }
        let all = api(client, kind, &Value::Null);
        let listed = match all.list(&ListParams::default()).await {
            Err(error) if is(&error, 404) => return,
            listed => listed.expect("it is listed"),
        };
        for object in listed {
            let object = serde_json::to_value(object).expect("JSON");
            let name = object["metadata"]["name"].as_str().expect("a name");
            let delete = DeleteParams::default().grace_period(0);
            let all = api(client, kind, &object);
            if object["metadata"]["finalizers"].is_array() {
                let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                let freed = all.patch(name, &PatchParams::default(), &none).await;
                freed.expect("nobody else is there");
            }
            let deleted = all.delete(name, &delete).await;
            if let Err(error) = deleted {
                assert!(is(&error, 404), "{kind} {name}: {error}");
            }
        }
    }

    /// Whether the server has the kind.
    pub(crate) async fn serves(&self, kind: &'static str) -> bool {
        match self {
            Self::Script(_) => true,
            Self::Real(_, client) => {
                let list = ListParams::default().limit(1);
                api(client, kind, &Value::Null).list(&list).await.is_ok()
            }
        }
    }

    /// Who can do what only a script can.
    pub(crate) fn script(&self) -> Option<&Server> {
        match self {
            Self::Script(server) => Some(server),
            Self::Real(..) => None,
        }
    }

    pub(crate) fn follow(&self) -> Cluster {
        match self {
            Self::Script(server) => Cluster::follow(server),
            Self::Real(_, client) => Cluster::of_real(client),
        }
    }

    /// Creates or changes an object, with its status.
    pub(crate) async fn put(&self, kind: &'static str, object: Value) {
        let client = match self {
            Self::Script(server) => return server.put(kind, object),
            Self::Real(_, client) => client,
        };
        let api = api(client, kind, &object);
        let name = object["metadata"]["name"].as_str().expect("a name");
        let post = PostParams::default();
        let typed = |value: &Value| serde_json::from_value(value.clone()).expect("an object");
        let mut now = match api.create(&post, &typed(&object)).await {
            Err(error) if is(&error, 409) => {
                let now = api.get(name).await.expect("it is there");
                let mut new = object.clone();
                new["metadata"]["resourceVersion"] = json!(now.metadata.resource_version);
                if kind == "Pod" {
                    // What a pod is cannot be changed.
                    new["spec"] = now.data["spec"].clone();
                }
                api.replace(name, &post, &typed(&new)).await
            }
            made => made,
        }
        .unwrap_or_else(|error| panic!("{object}: {error}"));
        if object["status"].is_object() {
            now.data["status"] = object["status"].clone();
            let status = api.replace_status(name, &post, &now).await;
            status.unwrap_or_else(|error| panic!("{object}: {error}"));
        }
    }

    pub(crate) async fn delete(&self, kind: &'static str, name: &str) {
        let client = match self {
            Self::Script(server) => return server.delete(kind, name),
            Self::Real(_, client) => client,
        };
        let delete = DeleteParams::default().grace_period(0);
        let deleted = at(client, kind).delete(name, &delete).await;
        deleted.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// An object, as it is now.
    pub(crate) async fn object(&self, kind: &'static str, name: &str) -> Option<Value> {
        let client = match self {
            Self::Script(server) => return server.object(kind, name),
            Self::Real(_, client) => client,
        };
        let found = at(client, kind).get_opt(name).await.expect("an answer");
        found.map(|object| serde_json::to_value(object).expect("JSON"))
    }

    /// All objects of a kind.
    pub(crate) async fn all(&self, kind: &'static str) -> Vec<Value> {
        let client = match self {
            Self::Script(server) => return server.all(kind),
            Self::Real(_, client) => client,
        };
        let all = api(client, kind, &Value::Null);
        let listed = all.list(&ListParams::default()).await.expect("an answer");
        let values = listed.into_iter().map(serde_json::to_value);
        values.collect::<Result<_, _>>().expect("JSON")
    }
}

/// The objects of a kind, in the namespace of all tests.
fn at(client: &Client, kind: &str) -> Api<DynamicObject> {
    let spaced = ["EndpointSlice", "NetworkSet", "Pod", "ServiceAccount"];
    let namespace = spaced.contains(&kind).then_some(NAMESPACE);
    api(client, kind, &json!({"metadata": {"namespace": namespace}}))
}
