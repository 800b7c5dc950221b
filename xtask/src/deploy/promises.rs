//! What the manifests promise beyond being valid.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::rights;

/// Where the agent serves metrics and probes unless told otherwise.
const METRICS_PORT: u16 = 9739;

/// The rights of the profile `capabilities`.
const CAPABILITIES: [&str; 3] = ["BPF", "NET_ADMIN", "PERFMON"];

/// The containers of all workloads.
pub(super) fn containers(objects: &[Value]) -> impl Iterator<Item = &Value> {
    let pods = objects
        .iter()
        .map(|object| &object["spec"]["template"]["spec"]);
    pods.flat_map(|pod| {
        ["initContainers", "containers"]
            .into_iter()
            .filter_map(|field| pod[field].as_array())
            .flatten()
    })
}

/// The command that a container runs.
pub(super) fn call(container: &Value) -> Vec<String> {
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut own = words(&container["command"]);
    if own.is_empty() {
        // The entry point of the image.
        own.push("hostfw-agent".to_owned());
    }
    own.extend(words(&container["args"]));
    own
}

/// The environment that a container is given.
pub(super) fn variables(container: &Value) -> impl Iterator<Item = &str> {
    let all = container["env"].as_array().into_iter().flatten();
    all.filter_map(|variable| variable["name"].as_str())
}

fn daemon_set(objects: &[Value]) -> Result<&Value> {
    let mut sets = objects
        .iter()
        .filter(|object| object["kind"] == "DaemonSet");
    let set = sets.next().context("no DaemonSet")?;
    ensure!(sets.next().is_none(), "more than one DaemonSet");
    Ok(set)
}

/// What holds whichever rights the agent has.
pub(super) fn of_all(objects: &[Value]) -> Result<()> {
    let set = daemon_set(objects)?;
    let pod = &set["spec"]["template"]["spec"];
    for (what, found, expected) in [
        ("hostNetwork", &pod["hostNetwork"], json!(true)),
        (
            "priorityClassName",
            &pod["priorityClassName"],
            json!("system-node-critical"),
        ),
        (
            "tolerations",
            &pod["tolerations"],
            json!([{"operator": "Exists"}]),
        ),
        (
            "updateStrategy.type",
            &set["spec"]["updateStrategy"]["type"],
            json!("RollingUpdate"),
        ),
        // Two agents cannot share a node.
        (
            "maxSurge",
            &set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"],
            json!(0),
        ),
    ] {
        ensure!(
            *found == expected,
            "{what}: expected {expected}, found {found}"
        );
    }
    let mut count = 0;
    for container in containers(objects) {
        count += 1;
        of_container(container)?;
        of_volumes(pod, container)?;
    }
    ensure!(count == 1, "expected one container, found {count}");
    rights::of_agent(objects, pod)
}

fn of_container(container: &Value) -> Result<()> {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = concat!(":", env!("CARGO_PKG_VERSION"));
    ensure!(
        image.ends_with(tag),
        "expected an image{tag}, found {image}"
    );
    let security = &container["securityContext"];
    ensure!(
        security["readOnlyRootFilesystem"] == true && security["runAsUser"] == 0,
        "expected root on a file system that cannot be written, found {security}"
    );
    for (kind, name) in [
        ("requests", "cpu"),
        ("requests", "memory"),
        ("limits", "memory"),
    ] {
        let found = &container["resources"][kind][name];
        ensure!(found.is_string(), "resources.{kind}.{name}: found {found}");
    }
    ensure!(
        container["resources"]["limits"]["cpu"].is_null(),
        "a limit on processors puts off what is to be enforced"
    );
    of_probes(container)?;
    // Nothing opens the node when a pod goes.
    let hooks = &container["lifecycle"];
    ensure!(hooks.is_null(), "lifecycle: found {hooks}");
    let call = call(container);
    ensure!(
        !call.iter().any(|word| word.starts_with("--detach")),
        "{call:?} opens the node"
    );
    ensure!(
        variables(container).all(|name| name != "HOSTFW_DETACH"),
        "HOSTFW_DETACH opens the node"
    );
    // The name that a node has in the cluster, whatever its host name is.
    let field = json!({"fieldRef": {"fieldPath": "spec.nodeName"}});
    let mut variables = container["env"].as_array().into_iter().flatten();
    ensure!(
        variables.any(|one| one["name"] == "HOSTFW_NODE" && one["valueFrom"] == field),
        "HOSTFW_NODE is not the node's name"
    );
    let mut variables = container["env"].as_array().into_iter().flatten();
    ensure!(
        variables.any(|one| one["name"] == "HOSTFW_SOURCE" && one["value"] == "kubernetes"),
        "the agent does not follow the cluster"
    );
    Ok(())
}

/// Probes go where the agent answers: to the loopback interface of the node, or
/// to the address that it was told.
fn of_probes(container: &Value) -> Result<()> {
    let variable = |name: &str| {
        let mut variables = container["env"].as_array().into_iter().flatten();
        variables.find(|variable| variable["name"] == name)
    };
    let host = match variable("HOSTFW_METRICS_ADDRESS") {
        None => json!("127.0.0.1"),
        // The pod's, which is the node's.
        Some(address) if address["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP" => {
            Value::Null
        }
        Some(address) => bail!("metrics and probes on {address}"),
    };
    let port = match variable("HOSTFW_METRICS_PORT") {
        None => METRICS_PORT,
        Some(port) => port["value"].as_str().unwrap_or_default().parse()?,
    };
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        let found = &container[probe]["httpGet"];
        ensure!(
            found["host"] == host && found["port"] == port && found["path"] == path,
            "{probe}: expected {path} of {host}, port {port}, found {found}"
        );
    }
    Ok(())
}

/// That the Prometheus operator finds the port.
pub(super) fn of_monitor(objects: &[Value]) -> Result<()> {
    let monitor = objects.iter().find(|object| object["kind"] == "PodMonitor");
    let monitor = &monitor.context("no PodMonitor")?["spec"];
    let template = &daemon_set(objects)?["spec"]["template"];
    let labels = monitor["selector"]["matchLabels"].as_object();
    for (name, value) in labels.context("a PodMonitor of all pods")? {
        let found = &template["metadata"]["labels"][name];
        ensure!(found == value, "{name}: pods have {found}, not {value}");
    }
    let endpoint = &monitor["podMetricsEndpoints"][0];
    ensure!(endpoint["path"] == "/metrics", "found {endpoint}");
    for container in containers(objects) {
        let ports = container["ports"].as_array().context("no ports")?;
        let port = ports.iter().find(|port| port["name"] == endpoint["port"]);
        let port = &port.context("no port of the PodMonitor's name")?["containerPort"];
        let probed = &container["readinessProbe"]["httpGet"]["port"];
        ensure!(port == probed, "the port is {port}, probes go to {probed}");
    }
    Ok(())
}

/// What must outlive the pod is on the node.
fn of_volumes(pod: &Value, container: &Value) -> Result<()> {
    let volumes = pod["volumes"].as_array().context("no volumes")?;
    let mounts = container["volumeMounts"].as_array().context("no mounts")?;
    let mounted = |host: &str| -> Result<&str> {
        let volume = volumes
            .iter()
            .find(|volume| volume["hostPath"]["path"] == host)
            .with_context(|| format!("{host} of the node is no volume"))?;
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]);
        mount
            .filter(|mount| mount["readOnly"] != true)
            .and_then(|mount| mount["mountPath"].as_str())
            .with_context(|| format!("{host} of the node is not mounted"))
    };
    for same in ["/var/lib/hostfw", "/run/hostfw"] {
        let at = mounted(same)?;
        ensure!(at == same, "{same} is mounted at {at}, away from defaults");
    }
    let bpffs = mounted("/sys/fs/bpf")?;
    let variables = container["env"].as_array().into_iter().flatten();
    let pins = variables
        .into_iter()
        .find(|variable| variable["name"] == "HOSTFW_PIN_ROOT")
        .and_then(|variable| variable["value"].as_str())
        .unwrap_or("/sys/fs/bpf/hostfw");
    ensure!(
        pins == format!("{bpffs}/hostfw"),
        "pins go to {pins}, the node's bpffs is at {bpffs}"
    );
    Ok(())
}

/// The rights of a profile.
pub(super) fn of_profile(objects: &[Value], profile: &str) -> Result<()> {
    for container in containers(objects) {
        let security = &container["securityContext"];
        match profile {
            "privileged" => ensure!(
                security["privileged"] == true,
                "expected privileged, found {security}"
            ),
            "capabilities" => {
                ensure!(
                    security["privileged"] == false
                        && security["allowPrivilegeEscalation"] == false,
                    "more than capabilities: {security}"
                );
                let found = &security["capabilities"];
                let expected = json!({"drop": ["ALL"], "add": CAPABILITIES});
                ensure!(*found == expected, "expected {expected}, found {found}");
            }
            other => bail!("no profile {other}"),
        }
    }
    Ok(())
}

/// Of what both ways to install have, the definitions of kinds.
pub(super) fn definitions(objects: Vec<Value>) -> Vec<Value> {
    let is_definition = |object: &Value| object["kind"] == "CustomResourceDefinition";
    let mut definitions: Vec<Value> = objects.into_iter().filter(is_definition).collect();
    for definition in &mut definitions {
        // Helm's own, which is held to by `kept`.
        if let Some(metadata) = definition["metadata"].as_object_mut() {
            metadata.remove("annotations");
        }
    }
    definitions
}

/// That no definition goes with a release, for its objects would, too.
pub(super) fn kept(objects: &[Value]) -> Result<()> {
    for object in objects {
        let policy = &object["metadata"]["annotations"]["helm.sh/resource-policy"];
        ensure!(
            object["kind"] != "CustomResourceDefinition" || policy == "keep",
            "{} is removed with the release",
            object["metadata"]["name"]
        );
    }
    Ok(())
}

/// That both ways to install give the same objects, apart from labels of their
/// own, and from the namespace, which helm makes itself.
pub(super) fn same(kustomize: &[Value], helm: &[Value]) -> Result<()> {
    let by_name = |objects: &[Value]| -> BTreeMap<String, Value> {
        let objects = objects.iter().filter(|one| one["kind"] != "Namespace");
        let named = objects.map(|object| {
            let mut object = object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("labels");
            }
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = word(&object["metadata"]["name"]);
            (format!("{} {name}", word(&object["kind"])), object)
        });
        named.collect()
    };
    let (kustomize, helm) = (by_name(kustomize), by_name(helm));
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    ensure!(
        names(&kustomize) == names(&helm),
        "kustomize has {:?}, helm has {:?}",
        names(&kustomize),
        names(&helm)
    );
    for (name, ours) in &kustomize {
        if let Some(place) = difference(ours, &helm[name], name) {
            bail!("{place}");
        }
    }
    Ok(())
}

/// The first place where two values differ.
fn difference(kustomize: &Value, helm: &Value, place: &str) -> Option<String> {
    let nothing = Value::Null;
    match (kustomize, helm) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left.keys().chain(right.keys());
            keys.into_iter().find_map(|key| {
                let (left, right) = (left.get(key), right.get(key));
                difference(
                    left.unwrap_or(&nothing),
                    right.unwrap_or(&nothing),
                    &format!("{place}.{key}"),
                )
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.into_iter().find_map(|(index, (left, right))| {
                difference(left, right, &format!("{place}[{index}]"))
            })
        }
        _ if kustomize == helm => None,
        _ => Some(format!("{place}: kustomize {kustomize}, helm {helm}")),
    }
}

#[cfg(test)]
mod tests;
