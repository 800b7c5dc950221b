//! Each promise, broken.

use super::*;

fn objects() -> Vec<Value> {
    let probe =
        |path| json!({"httpGet": {"host": "127.0.0.1", "port": METRICS_PORT, "path": path}});
    let mut objects = vec![json!({
        "kind": "DaemonSet",
        "metadata": {"name": "hostfw-agent", "labels": {"a": "b"}},
        "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
            "template": {"spec": {
                "hostNetwork": true,
                "serviceAccountName": "hostfw-agent",
                "automountServiceAccountToken": true,
                "priorityClassName": "system-node-critical",
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "image": concat!("hostfw:", env!("CARGO_PKG_VERSION")),
                    "args": ["--log-format=json"],
                    "env": [
                        {"name": "HOSTFW_PIN_ROOT", "value": "/bpf/hostfw"},
                        {"name": "HOSTFW_NODE",
                            "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                        {"name": "HOSTFW_SOURCE", "value": "kubernetes"},
                    ],
                    "startupProbe": probe("/livez"),
                    "livenessProbe": probe("/livez"),
                    "readinessProbe": probe("/readyz"),
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi"},
                        "limits": {"memory": "1Gi"},
                    },
                    "securityContext": {
                        "privileged": false,
                        "allowPrivilegeEscalation": false,
                        "runAsUser": 0,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
                    },
                    "volumeMounts": [
                        {"name": "b", "mountPath": "/bpf"},
                        {"name": "s", "mountPath": "/var/lib/hostfw"},
                        {"name": "r", "mountPath": "/run/hostfw"},
                    ],
                }],
                "volumes": [
                    {"name": "b", "hostPath": {"path": "/sys/fs/bpf"}},
                    {"name": "s", "hostPath": {"path": "/var/lib/hostfw"}},
                    {"name": "r", "hostPath": {"path": "/run/hostfw"}},
                ],
            }},
        },
    })];
    objects.extend(rights::granting());
    objects
}

#[test]
fn what_keeps_every_promise_is_taken() {
    of_all(&objects()).unwrap();
    of_profile(&objects(), "capabilities").unwrap();
    same(&objects(), &objects()).unwrap();
}

#[test]
fn every_broken_promise_is_found() {
    let pod = "/0/spec/template/spec";
    let container = format!("{pod}/containers/0");
    for (at, value) in [
        (format!("{pod}/hostNetwork"), json!(false)),
        (format!("{pod}/automountServiceAccountToken"), json!(false)),
        (format!("{pod}/tolerations"), json!([])),
        (format!("{pod}/volumes"), json!([])),
        (
            "/0/spec/updateStrategy/rollingUpdate/maxSurge".to_owned(),
            json!(1),
        ),
        (format!("{container}/image"), json!("hostfw:latest")),
        (format!("{container}/args"), json!(["--detach"])),
        (format!("{container}/env/2/value"), json!("folder")),
        (format!("{container}/env/1/valueFrom"), json!(null)),
        (format!("{container}/env"), json!([])),
        (format!("{container}/livenessProbe"), json!(null)),
        (
            format!("{container}/readinessProbe/httpGet/path"),
            json!("/livez"),
        ),
        (
            format!("{container}/startupProbe/httpGet/port"),
            json!(9740),
        ),
        (
            format!("{container}/livenessProbe/httpGet/host"),
            json!("::1"),
        ),
        (
            format!("{container}/resources/limits"),
            json!({"memory": "1Gi", "cpu": "1"}),
        ),
        (
            format!("{container}/resources/requests"),
            json!({"cpu": "1"}),
        ),
        (
            format!("{container}/securityContext/readOnlyRootFilesystem"),
            json!(false),
        ),
        (
            format!("{container}/volumeMounts/1/mountPath"),
            json!("/elsewhere"),
        ),
    ] {
        let mut all = Value::Array(objects());
        *all.pointer_mut(&at).unwrap() = value;
        let broken = all.as_array().unwrap();
        assert!(of_all(broken).is_err(), "{at}");
        assert!(same(&objects(), broken).is_err(), "{at}");
    }
    let mut more = objects();
    more.push(json!({"kind": "ClusterRole", "metadata": {"name": "x"}}));
    assert!(of_all(&more).is_err());
    assert!(same(&objects(), &more).is_err());
}

#[test]
fn rights_beyond_the_profile_are_found() {
    assert!(of_profile(&objects(), "privileged").is_err());
    for (at, value) in [
        ("privileged", json!(true)),
        ("allowPrivilegeEscalation", json!(true)),
        (
            "capabilities",
            json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ),
    ] {
        let mut all = objects();
        all[0]["spec"]["template"]["spec"]["containers"][0]["securityContext"][at] = value;
        assert!(of_profile(&all, "capabilities").is_err(), "{at}");
    }
}

#[test]
fn the_command_of_a_container_and_its_variables_are_told() {
    let all = objects();
    let container = containers(&all).next().unwrap();
    assert_eq!(call(container), ["hostfw-agent", "--log-format=json"]);
    assert_eq!(
        variables(container).collect::<Vec<_>>(),
        ["HOSTFW_PIN_ROOT", "HOSTFW_NODE", "HOSTFW_SOURCE"]
    );
}

#[test]
fn definitions_that_go_with_a_release_are_found() {
    let mut definition = json!({"kind": "CustomResourceDefinition", "metadata": {
        "name": "a", "annotations": {"helm.sh/resource-policy": "keep"}}});
    kept(&[definition.clone()]).unwrap();
    assert_eq!(
        definitions(vec![definition.clone(), json!({"kind": "DaemonSet"})]),
        [json!({"kind": "CustomResourceDefinition", "metadata": {"name": "a"}})]
    );
    definition["metadata"] = json!({"name": "a"});
    assert!(kept(&[definition]).is_err());
}
