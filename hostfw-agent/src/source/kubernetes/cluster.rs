//! What Kubernetes' own objects stand for: of each, a small object of Calico's
//! that holds what rules can ask for (Calico: libcalico-go/lib/backend/k8s/
//! conversion).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::model::Kind;

/// What a label's key begins with that a namespace lends to what lives in it.
const NAMESPACE_PREFIX: &str = "pcns.";
/// What a label's key begins with that a service account lends to what runs
/// under it.
const ACCOUNT_PREFIX: &str = "pcsa.";
/// The label by which rules know a namespace or service account by name.
const NAME_LABEL: &str = "projectcalico.org/name";
/// The label of an `EndpointSlice` that says its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
}

#[derive(Deserialize)]
struct Bare {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: PodSpec,
    #[serde(default)]
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    service_account_name: Option<String>,
    #[serde(default)]
    host_network: Option<bool>,
    #[serde(default)]
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    protocol: Option<String>,
    container_port: i64,
}

#[derive(Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default, rename = "podIP")]
    address: Option<String>,
    #[serde(default, rename = "podIPs")]
    addresses: Option<Vec<PodAddress>>,
}

#[derive(Deserialize)]
struct PodAddress {
    #[serde(default)]
    ip: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Metadata,
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Deserialize)]
struct SliceEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct SlicePort {
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    port: Option<i64>,
}

/// The `WorkloadEndpoint` that a pod stands for; `None` if it has no addresses
/// of its own, or none any more.
///
/// # Errors
///
/// Which field is of the wrong type.
pub(super) fn pod(value: Value) -> Result<Option<Value>, String> {
    let Pod {
        metadata,
        spec,
        status,
    } = read(value)?;
    let Some(status) = status else {
        return Ok(None);
    };
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut addresses: Vec<String> = status
        .addresses
        .into_iter()
        .flatten()
        .filter_map(|address| address.ip)
        .chain(status.address)
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort();
    addresses.dedup();
    if ended || addresses.is_empty() || spec.host_network == Some(true) {
        return Ok(None);
    }
    // Whoever may make pods does not decide what their namespaces say of them.
    let mut labels = metadata.labels.unwrap_or_default();
    labels.retain(|key, _| !key.starts_with(NAMESPACE_PREFIX) && !key.starts_with(ACCOUNT_PREFIX));
    labels.insert(
        "projectcalico.org/orchestrator".to_owned(),
        "k8s".to_owned(),
    );
    let namespace = metadata.namespace.unwrap_or_default();
    let account = spec.service_account_name.filter(|name| !name.is_empty());
    let mut profiles = vec![format!("kns.{namespace}")];
    profiles.extend(account.iter().map(|name| format!("ksa.{namespace}.{name}")));
    let containers = spec.containers.into_iter().flatten();
    let ports = containers.filter_map(|container| container.ports).flatten();
    let ports: Vec<Value> = ports
        .filter_map(|port| {
            let name = port.name.filter(|name| !name.is_empty())?;
            let protocol = port.protocol.filter(|text| !text.is_empty());
            let protocol = protocol.unwrap_or_else(|| "TCP".to_owned());
            Some(json!({"name": name, "protocol": protocol, "port": port.container_port}))
        })
        .collect();
    let mut spec = Map::new();
    spec.insert("ipNetworks".to_owned(), json!(addresses));
    spec.insert("profiles".to_owned(), json!(profiles));
    if let Some(account) = account {
        spec.insert("serviceAccountName".to_owned(), json!(account));
    }
    if !ports.is_empty() {
        spec.insert("ports".to_owned(), json!(ports));
    }
    Ok(Some(json!({
        "apiVersion": Kind::WorkloadEndpoint.api_version(),
        "kind": Kind::WorkloadEndpoint.name(),
        "metadata": {"name": metadata.name, "namespace": namespace, "labels": labels},
        "spec": spec,
    })))
}

/// The `Profile` that a namespace stands for: its labels, and its name as one.
///
/// # Errors
///
/// Which field is of the wrong type.
pub(super) fn namespace(value: Value) -> Result<Value, String> {
    let Bare { metadata } = read(value)?;
    let name = format!("kns.{}", metadata.name);
    Ok(profile(name, NAMESPACE_PREFIX, metadata))
}

/// The `Profile` that a service account stands for: its labels, and its name as
/// one.
///
/// # Errors
///
/// Which field is of the wrong type.
pub(super) fn service_account(value: Value) -> Result<Value, String> {
    let Bare { metadata } = read(value)?;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = format!("ksa.{namespace}.{}", metadata.name);
    Ok(profile(name, ACCOUNT_PREFIX, metadata))
}

fn profile(name: String, prefix: &str, of: Metadata) -> Value {
    let mut labels = of.labels.unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), of.name);
    let lent: Labels = labels
        .into_iter()
        .map(|(key, value)| (format!("{prefix}{key}"), value))
        .collect();
    json!({
        "apiVersion": Kind::Profile.api_version(),
        "kind": Kind::Profile.name(),
        "metadata": {"name": name},
        "spec": {"labelsToApply": lent},
    })
}

/// An `EndpointSlice` without what no rule can ask for: which of its endpoints
/// are ready, say.
///
/// # Errors
///
/// Which field is of the wrong type.
pub(super) fn slice(value: Value) -> Result<Value, String> {
    let Slice {
        metadata,
        address_type,
        endpoints,
        ports,
    } = read(value)?;
    let endpoints = endpoints.into_iter().flatten();
    let addresses: BTreeSet<String> = endpoints.flat_map(|it| it.addresses).collect();
    let ports: BTreeSet<(String, i64)> = ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            let protocol = port.protocol.filter(|text| !text.is_empty());
            Some((protocol.unwrap_or_else(|| "TCP".to_owned()), port.port?))
        })
        .collect();
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|(protocol, port)| json!({"protocol": protocol, "port": port}))
        .collect();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.retain(|key, _| key == SERVICE_LABEL);
    Ok(json!({
        "apiVersion": Kind::EndpointSlice.api_version(),
        "kind": Kind::EndpointSlice.name(),
        "metadata": {"name": metadata.name, "namespace": metadata.namespace, "labels": labels},
        "addressType": address_type,
        "endpoints": [{"addresses": addresses}],
        "ports": ports,
    }))
}

/// The path to the `Profile` of the API that says the same as a namespace or a
/// service account whose path this is.
pub(super) fn profile_path(path: &str) -> Option<String> {
    let mut parts = path.splitn(3, '/');
    match (parts.next()?, parts.next()?, parts.next()) {
        ("Namespace", name, None) => Some(format!("Profile/kns.{name}")),
        ("ServiceAccount", namespace, Some(name)) => {
            Some(format!("Profile/ksa.{namespace}.{name}"))
        }
        _ => None,
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        // Values of a hostile object may be as long as they like.
        const LONGEST: usize = 300;
        let text = format!("{}: {}", error.path(), error.inner());
        text.chars().take(LONGEST).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(name: &str) -> Value {
        json!({
            "metadata": {
                "name": name, "namespace": "web", "uid": "x", "resourceVersion": "5",
                "labels": {"app": "shop", "pcns.team": "forged", "pcsa.team": "forged"},
                "annotations": {"a": "b"},
            },
            "spec": {
                "serviceAccountName": "builder", "nodeName": "node7",
                "containers": [
                    {"name": "a", "ports": [{"name": "http", "containerPort": 8080}]},
                    {"name": "b", "ports": [
                        {"containerPort": 1}, {"name": "dns", "protocol": "UDP", "containerPort": 53},
                    ]},
                ],
            },
            "status": {
                "phase": "Running", "podIP": "10.244.1.5",
                "podIPs": [{"ip": "10.244.1.5"}, {"ip": "fd00::5"}],
            },
        })
    }

    #[test]
    fn a_pod_stands_for_its_labels_addresses_and_ports() {
        let read = pod(running("shop-1")).unwrap().unwrap();
        assert_eq!(
            read,
            json!({
                "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
                "metadata": {
                    "name": "shop-1", "namespace": "web",
                    "labels": {"app": "shop", "projectcalico.org/orchestrator": "k8s"},
                },
                "spec": {
                    "ipNetworks": ["10.244.1.5", "fd00::5"],
                    "profiles": ["kns.web", "ksa.web.builder"],
                    "serviceAccountName": "builder",
                    "ports": [
                        {"name": "http", "protocol": "TCP", "port": 8080},
                        {"name": "dns", "protocol": "UDP", "port": 53},
                    ],
                },
            })
        );
        // What its status says besides means nothing.
        let mut ready = running("shop-1");
        ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        ready["metadata"]["resourceVersion"] = json!("6");
        assert_eq!(pod(ready).unwrap().unwrap(), read);
    }

    #[test]
    fn pods_without_addresses_of_their_own_stand_for_nothing() {
        for (pointer, value) in [
            ("/spec/hostNetwork", json!(true)),
            ("/status/phase", json!("Failed")),
            ("/status/phase", json!("Succeeded")),
            ("/status", json!(null)),
            ("/status", json!({"phase": "Pending"})),
        ] {
            let mut given = running("a");
            given["spec"]["hostNetwork"] = json!(false);
            *given.pointer_mut(pointer).unwrap() = value;
            assert_eq!(pod(given), Ok(None), "{pointer}");
        }
    }

    #[test]
    fn wrong_types_are_told_by_field() {
        for (pointer, value, field) in [
            ("/metadata/labels", json!(["a"]), "metadata.labels"),
            ("/metadata/labels/app", json!(5), "metadata.labels.app"),
            (
                "/status/podIPs",
                json!("x".repeat(1 << 20)),
                "status.podIPs",
            ),
            ("/spec/containers", json!({}), "spec.containers"),
            ("/spec", json!(3), "spec"),
        ] {
            let mut given = running("a");
            *given.pointer_mut(pointer).unwrap() = value;
            let error = pod(given).unwrap_err();
            assert!(error.starts_with(field) && error.len() < 400, "{error}");
        }
        assert!(pod(json!("text")).is_err());
        assert!(namespace(json!({"metadata": {"name": "a", "labels": 1}})).is_err());
        assert!(service_account(json!({})).is_err());
        assert!(slice(json!({"metadata": {"name": "a"}})).is_err());
    }

    #[test]
    fn namespaces_and_accounts_lend_their_labels_and_names() {
        let object = json!({"metadata": {"name": "b", "namespace": "web", "labels": {"t": "x"}}});
        let read = namespace(object.clone()).unwrap();
        assert_eq!(read["metadata"]["name"], "kns.b");
        assert_eq!(
            read["spec"]["labelsToApply"],
            json!({"pcns.t": "x", "pcns.projectcalico.org/name": "b"})
        );
        let read = service_account(object).unwrap();
        assert_eq!(read["metadata"]["name"], "ksa.web.b");
        assert_eq!(
            read["spec"]["labelsToApply"],
            json!({"pcsa.t": "x", "pcsa.projectcalico.org/name": "b"})
        );
        assert_eq!(
            profile_path("Namespace/web").as_deref(),
            Some("Profile/kns.web")
        );
        assert_eq!(
            profile_path("ServiceAccount/web/a.b").as_deref(),
            Some("Profile/ksa.web.a.b")
        );
        assert_eq!(profile_path("Pod/web/a"), None);
    }

    #[test]
    fn of_a_slice_only_addresses_and_ports_count() {
        let given = |ready: bool, addresses: [&str; 2]| {
            json!({
                "metadata": {"name": "s-1", "namespace": "web", "generation": 3,
                    "labels": {SERVICE_LABEL: "s", "more": "x"}},
                "addressType": "IPv4",
                "endpoints": addresses.map(|address| json!({
                    "addresses": [address], "conditions": {"ready": ready}, "nodeName": "n",
                })),
                "ports": [{"name": "", "port": 80}, {"protocol": "UDP", "port": 53}, {"name": "x"}],
            })
        };
        let read = slice(given(true, ["10.0.0.1", "10.0.0.2"])).unwrap();
        assert_eq!(slice(given(false, ["10.0.0.2", "10.0.0.1"])).unwrap(), read);
        assert_eq!(read["metadata"]["labels"], json!({SERVICE_LABEL: "s"}));
        assert_eq!(
            read["endpoints"],
            json!([{"addresses": ["10.0.0.1", "10.0.0.2"]}])
        );
        let ports = json!([{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53}]);
        assert_eq!(read["ports"], ports);
    }
}
