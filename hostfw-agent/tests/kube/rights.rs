//! The rights of `deploy/`, as a real API server grants them to the agent's
//! service account.

use std::{fs, path::Path};

use ::kube::{
    Api, Client, Error,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use hostfw_agent::source::kubernetes::connect;
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, endpoint, policy},
    world::{World, api},
};

/// What is applied, in this order, into the namespace that kustomize would name.
const FILES: [&str; 3] = ["namespace.yaml", "serviceaccount.yaml", "rights.yaml"];

async fn grant(client: &Client) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base");
    for file in FILES {
        let text = fs::read_to_string(folder.join(file)).expect("a manifest");
        for part in text.split("\n---\n") {
            let mut object: Value = serde_saphyr::from_str(part).expect("YAML");
            let kind = object["kind"].as_str().expect("a kind").to_owned();
            let plural = kind.to_lowercase() + "s";
            let version = object["apiVersion"].as_str().expect("a version");
            let (group, number) = version.split_once('/').unwrap_or(("", version));
            let resource = ApiResource {
                group: group.to_owned(),
                version: number.to_owned(),
                api_version: version.to_owned(),
                kind: kind.clone(),
                plural,
            };
            let api: Api<DynamicObject> = if kind == "ServiceAccount" {
                object["metadata"]["namespace"] = json!("hostfw");
                Api::namespaced_with(client.clone(), "hostfw", &resource)
            } else {
                Api::all_with(client.clone(), &resource)
            };
            let name = object["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned();
            let who = PatchParams::apply("kubectl").validation_strict();
            let applied = api.patch(&name, &who, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        }
    }
}

/// A client with a token of the agent's service account.
pub(super) async fn agent(world: &World) -> Option<Client> {
    let World::Real(real, client) = world else {
        return None;
    };
    grant(client).await;
    let path = "/api/v1/namespaces/hostfw/serviceaccounts/hostfw-agent";
    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600, "audiences": []}});
    let body = serde_json::to_vec(&ask).expect("JSON");
    let request = ::kube::core::Request::new(path);
    // A subresource of the path, whose last part is the account's name.
    let request = request
        .create(&PostParams::default(), body)
        .map(|mut request| {
            *request.uri_mut() = format!("{path}/token").parse().expect("a path");
            request
        });
    let answer: Value = client
        .request(request.expect("a request"))
        .await
        .expect("a token");
    let token = answer["status"]["token"].as_str().expect("a token");
    let file = real.kubeconfig_at(&real.address, token).expect("a file");
    Some(connect(Some(&file)).await.expect("its own kubeconfig"))
}

/// The code that this is refused with, or 0.
fn code<T>(result: Result<T, Error>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn the_agents_account_may_do_what_the_agent_does_and_no_more() {
    let Some(world) = World::real().await else {
        return;
    };
    let agent = agent(&world).await.expect("a real server");
    world.put("HostEndpoint", endpoint("a")).await;
    world
        .put("GlobalNetworkPolicy", policy("mine", "Allow"))
        .await;
    // Rights are granted, and looked up from what the server has heard of them.
    let mut cluster = Cluster::of_real(&agent);
    cluster
        .until("all is read", |now| now.objects.len() == 2)
        .await;
    assert_eq!(cluster.accepted.problems, []);

    let post = PostParams::default();
    let typed = |value: &Value| -> DynamicObject {
        serde_json::from_value(value.clone()).expect("an object")
    };
    let state = json!({"apiVersion": "hostfw.io/v1alpha1", "kind": "NodeEnforcement",
        "metadata": {"name": "node1"}});
    let states = api(&agent, "NodeEnforcement", &state);
    let apply = PatchParams::apply("hostfw-agent").force();
    assert_eq!(
        code(states.patch("node1", &apply, &Patch::Apply(&state)).await),
        0
    );
    assert_eq!(code(states.delete("node1", &Default::default()).await), 403);
    for (kind, object) in [
        ("HostEndpoint", endpoint("b")),
        ("GlobalNetworkPolicy", policy("open", "Allow")),
    ] {
        let all = api(&agent, kind, &object);
        assert_eq!(
            code(all.create(&post, &typed(&object)).await),
            403,
            "{kind}"
        );
        assert_eq!(
            code(all.delete("a", &Default::default()).await),
            403,
            "{kind}"
        );
    }
    for kind in ["Pod", "ServiceAccount", "Namespace", "Node"] {
        let all = api(&agent, kind, &Value::Null);
        assert_eq!(code(all.list(&Default::default()).await), 0, "{kind}");
        let deleted = all.delete("none", &Default::default()).await;
        assert_eq!(code(deleted), 403, "{kind}");
    }
    let secrets = ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        plural: "secrets".to_owned(),
    };
    let secrets: Api<DynamicObject> = Api::all_with(agent.clone(), &secrets);
    assert_eq!(code(secrets.list(&Default::default()).await), 403);
}
