//! The cluster as a source of resources, against an API server by script, and
//! against a real one where there is one.

mod kube {
    mod addresses;
    mod answers;
    #[path = "../crds/broken.rs"]
    mod broken;
    pub(crate) mod cluster;
    mod ctl;
    mod publish;
    pub(crate) mod real;
    mod rights;
    mod rules;
    pub(crate) mod server;
    mod workloads;
    pub(crate) mod world;
}

use std::{
    fs,
    path::{Path, PathBuf},
};

use hostfw_agent::{
    accept::{self, Accepted, Stored},
    model::{InterfaceMatch, Kind, ObjectRef},
    source::{Source as _, SourceFile, Text, kubernetes::connect},
};
use kube::{
    cluster::{Cluster, endpoint, object, policy},
    server::{KINDS, STORED, Server, WRITTEN},
    world::World,
};
use serde_json::{Value, json};

#[tokio::test]
async fn objects_are_told_as_they_come_change_and_go() {
    tell_as_they_come(&World::Script(Server::serving(WRITTEN).await)).await;
}

#[tokio::test]
async fn objects_of_a_real_server_are_told_as_they_come_change_and_go() {
    if let Some(world) = World::real().await {
        tell_as_they_come(&world).await;
    }
}

async fn tell_as_they_come(server: &World) {
    server.put("HostEndpoint", endpoint("a")).await;
    server
        .put("GlobalNetworkPolicy", policy("deny", "Deny"))
        .await;
    let mut set = object("NetworkSet", "partners", json!({"nets": ["192.0.2.0/24"]}));
    set["metadata"]["namespace"] = json!("web");
    server.put("NetworkSet", set).await;
    let mut cluster = server.follow();
    cluster
        .until("all are there", |now| now.objects.len() == 3)
        .await;
    assert_eq!(
        cluster.files(),
        [
            "GlobalNetworkPolicy/deny",
            "HostEndpoint/a",
            "NetworkSet/web/partners"
        ]
    );
    assert_eq!(cluster.accepted.problems, []);
    let model = cluster.accepted.model();
    assert_eq!(
        model.endpoints[0].interface,
        InterfaceMatch::Name("eth0".to_owned())
    );

    server.put("HostEndpoint", endpoint("b")).await;
    cluster
        .until("b is there", |now| now.model().endpoints.len() == 2)
        .await;
    let mut changed = endpoint("b");
    changed["spec"]["interfaceName"] = json!("eth1");
    server.put("HostEndpoint", changed).await;
    cluster
        .until("b has changed", |now| {
            now.model().endpoints[1].interface == InterfaceMatch::Name("eth1".to_owned())
        })
        .await;
    server.delete("HostEndpoint", "a").await;
    cluster
        .until("a is gone", |now| now.model().endpoints.len() == 1)
        .await;
}

#[tokio::test]
async fn what_calico_stores_means_what_was_written() {
    let server = Server::serving(STORED).await;
    let mut stored = endpoint("a");
    stored["apiVersion"] = json!(STORED);
    stored["metadata"]["annotations"] = json!({
        "projectcalico.org/metadata": r#"{"labels":{"role":"edge"}}"#,
    });
    server.put("HostEndpoint", stored);
    let mut stored = policy("default.deny", "Deny");
    stored["apiVersion"] = json!(STORED);
    server.put("GlobalNetworkPolicy", stored);
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
    let model = cluster.accepted.model();
    assert_eq!(model.endpoints[0].labels["role"], "edge");
    assert_eq!(model.policies[0].name, "deny");
    // It has no types and no egress rules.
    assert!(model.policies[0].ingress.is_some() && model.policies[0].egress.is_some());

    // Calico stores it under both names for a while when it is upgraded: then
    // it is not known which of them counts.
    server.put("GlobalNetworkPolicy", policy("deny", "Allow"));
    cluster
        .until("it is ambiguous", |now| !now.problems.is_empty())
        .await;
    assert_eq!(cluster.accepted.objects[0].stored, Stored::LastGood);
    server.delete("GlobalNetworkPolicy", "default.deny");
    cluster
        .until("it is not", |now| now.problems.is_empty())
        .await;
    assert_eq!(
        cluster.files(),
        ["GlobalNetworkPolicy/deny", "HostEndpoint/a"]
    );
}

#[tokio::test]
async fn the_form_that_users_write_comes_first() {
    let server = Server::serving(WRITTEN).await;
    for (kind, _) in KINDS {
        server.serve(STORED, kind);
    }
    server.put("HostEndpoint", endpoint("a"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
    assert!(server.asked("/apis/projectcalico.org/v3/hostendpoints?") > 0);
    assert_eq!(
        server.asked("/apis/crd.projectcalico.org/v1/hostendpoints?"),
        0
    );
}

#[tokio::test]
async fn a_form_that_cannot_be_told_is_not_taken_from_the_other() {
    // Calico's API server, which serves one form, is away; its storage is not.
    let server = Server::serving(STORED).await;
    server.refuse_discovery(WRITTEN, Some(503));
    server.put("HostEndpoint", endpoint("a"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until_error("the API server cannot be followed")
        .await;
    server.refuse_discovery(WRITTEN, None);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
}

#[tokio::test]
async fn nothing_is_told_before_every_kind_was_listed() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("GlobalNetworkPolicy", policy("deny", "Deny"));
    server.stall("GlobalNetworkSet", true);
    let mut cluster = Cluster::follow(&server);
    let error = cluster.until_error("takes too long").await;
    assert!(
        error.contains("missing: GlobalNetworkSet (the API"),
        "{error}"
    );
    assert_eq!(cluster.accepted, Accepted::default());
    server.stall("GlobalNetworkSet", false);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
}

#[tokio::test]
async fn a_bad_object_is_told_by_name_and_touches_no_other() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("GlobalNetworkPolicy", policy("mine", "Allow"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;

    let mine = ObjectRef::new(Kind::GlobalNetworkPolicy, None, "mine");
    let last_good = cluster.accepted.object(&mine).unwrap().object.clone();
    let huge = format!("has({})", "x".repeat(1 << 20));
    let deep = (0..100).fold(json!(1), |value, _| json!([value]));
    for (field, value, told) in [
        ("ingres", json!([]), "the unknown field \"ingres\""),
        (
            "order",
            json!("first"),
            "spec.order: expected a number, found \"first\"",
        ),
        (
            "ingress",
            json!([{"action": "Maybe"}]),
            "spec.ingress[0].action",
        ),
        ("selector", json!(huge), "spec.selector"),
        ("selector", deep, "spec.selector"),
        (
            "ingress",
            Value::Array(vec![json!({"action": "Deny"}); 5000]),
            "spec.ingress",
        ),
    ] {
        let mut bad = policy("mine", "Deny");
        bad["spec"][field] = value;
        server.put("GlobalNetworkPolicy", bad);
        cluster
            .until(told, |now| {
                now.problems.iter().any(|problem| {
                    problem.object.as_ref() == Some(&mine) && problem.message.contains(told)
                })
            })
            .await;
        let kept = cluster.accepted.object(&mine).unwrap();
        assert_eq!(
            (kept.stored, &kept.object),
            (Stored::LastGood, &last_good),
            "{told}"
        );
    }
    // What is not even an object of the API.
    let mut odd = endpoint("../../etc/passwd");
    odd["metadata"]["labels"] = json!(["a", "b"]);
    server.put("HostEndpoint", odd);
    cluster
        .until("labels are told", |now| now.problems.len() == 2)
        .await;
    assert!(
        cluster.accepted.problems[1]
            .message
            .contains("metadata.labels")
    );

    server.put("HostEndpoint", endpoint("b"));
    cluster
        .until("b is there", |now| now.model().endpoints.len() == 2)
        .await;
    server.put("GlobalNetworkPolicy", policy("mine", "Deny"));
    server.delete("HostEndpoint", "../../etc/passwd");
    cluster
        .until("all is well", |now| now.problems.is_empty())
        .await;
    assert_ne!(cluster.accepted.object(&mine).unwrap().object, last_good);
}

#[tokio::test]
async fn what_changed_unseen_is_seen_when_the_watch_has_expired() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("HostEndpoint", endpoint("b"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
    server.down(true);
    cluster.until_error("cannot be followed").await;
    assert_eq!(cluster.accepted.objects.len(), 2);
    server.delete("HostEndpoint", "a");
    server.put("HostEndpoint", endpoint("c"));
    server.compact("HostEndpoint");
    server.down(false);
    cluster
        .until("a is gone", |now| names(now) == ["b", "c"])
        .await;

    // And while the connection is there.
    let lists = server.asked("hostendpoints?&limit") + server.asked("hostendpoints?limit");
    server.compact("HostEndpoint");
    server.put("HostEndpoint", endpoint("d"));
    cluster
        .until("d is there", |now| names(now) == ["b", "c", "d"])
        .await;
    let again = server.asked("hostendpoints?&limit") + server.asked("hostendpoints?limit");
    assert!(again > lists, "{lists} lists, then {again}");
}

#[tokio::test]
async fn a_watch_that_breaks_amid_an_event_loses_none() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
    for name in ["b", "c", "d", "e", "f"] {
        server.bookmark("HostEndpoint");
        server.break_watches("HostEndpoint");
        server.put("HostEndpoint", endpoint(name));
        cluster
            .until(name, |now| {
                names(now).last().map(String::as_str) == Some(name)
            })
            .await;
    }
    assert_eq!(cluster.accepted.problems, []);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_not_missed() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
    for (name, line) in [
        ("b", r#"{"type":"EXPLODED","object":{}}"#),
        (
            "c",
            r#"{"type":"ADDED","object":{"metadata":{"name":"c"}}}"#,
        ),
        ("d", "not even JSON"),
    ] {
        cluster.until_watched("HostEndpoint").await;
        server.put_unreadably("HostEndpoint", endpoint(name), line);
        cluster
            .until(name, |now| {
                names(now).last().map(String::as_str) == Some(name)
            })
            .await;
    }
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let server = Server::serving(WRITTEN).await;
    for number in 0..1200 {
        server.put("HostEndpoint", endpoint(&format!("e{number:04}")));
    }
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("all are there", |now| now.objects.len() == 1200)
        .await;
    assert!(server.asked("continue=1000") > 0);
}

#[tokio::test]
async fn a_kind_that_is_forbidden_at_the_start_is_waited_for() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.refuse("GlobalNetworkSet", Some(403));
    let mut cluster = Cluster::follow(&server);
    let error = cluster.until_error("refused by script").await;
    assert!(error.contains("GlobalNetworkSet"), "{error}");
    server.refuse("GlobalNetworkSet", None);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
}

#[tokio::test]
async fn a_kind_that_becomes_forbidden_stays_as_it_was_and_the_others_go_on() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("GlobalNetworkPolicy", policy("mine", "Allow"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
    server.refuse("GlobalNetworkPolicy", Some(403));
    cluster
        .until("it is told", |now| !now.problems.is_empty())
        .await;
    let problem = &cluster.accepted.problems[0];
    assert_eq!(problem.file.as_deref(), Some("GlobalNetworkPolicy"));
    assert!(
        problem.message.contains("refused by script (403)"),
        "{}",
        problem.message
    );
    server.put("HostEndpoint", endpoint("b"));
    cluster
        .until("b is there", |now| now.model().endpoints.len() == 2)
        .await;
    assert_eq!(cluster.accepted.model().policies.len(), 1);
    server.delete("GlobalNetworkPolicy", "mine");
    server.refuse("GlobalNetworkPolicy", None);
    cluster
        .until("it is gone", |now| now.model().policies.is_empty())
        .await;
    cluster
        .until("all is well", |now| now.problems.is_empty())
        .await;
}

#[tokio::test]
async fn kinds_that_are_missing_at_the_start_are_found_later() {
    let server = Server::start().await;
    let mut cluster = Cluster::follow(&server);
    cluster.until_error("does not serve HostEndpoint").await;
    server.put("HostEndpoint", endpoint("a"));
    server.serve(WRITTEN, "HostEndpoint");
    cluster
        .until_error("does not serve GlobalNetworkPolicy")
        .await;
    server.serve(WRITTEN, "GlobalNetworkPolicy");
    // One that nothing refers to need not be there.
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
    server.serve(WRITTEN, "Tier");
    server.put("Tier", object("Tier", "platform", json!({"order": 10})));
    cluster
        .until("the tier is there", |now| now.objects.len() == 2)
        .await;
}

#[tokio::test]
async fn objects_of_a_kind_that_is_no_longer_served_stay() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("GlobalNetworkPolicy", policy("mine", "Allow"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
    server.withdraw(WRITTEN, "GlobalNetworkPolicy");
    cluster
        .until("it is told", |now| !now.problems.is_empty())
        .await;
    assert_eq!(cluster.accepted.objects.len(), 2);
    let told = &cluster.accepted.problems[0].message;
    assert!(
        told.contains("does not serve GlobalNetworkPolicy any more"),
        "{told}"
    );
    server.serve(WRITTEN, "GlobalNetworkPolicy");
    server.delete("GlobalNetworkPolicy", "mine");
    cluster
        .until("it is gone", |now| now.objects.len() == 1)
        .await;
    assert_eq!(cluster.accepted.problems, []);
}

#[tokio::test]
async fn what_was_in_force_bridges_a_restart() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.put("GlobalNetworkPolicy", policy("mine", "Allow"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("both are there", |now| now.objects.len() == 2)
        .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accepted.json");
    accept::save(&file, &cluster.accepted).unwrap();
    drop(cluster);

    // The API server is away: nothing is told, so what is in force stays.
    server.down(true);
    let saved = accept::load(&file).unwrap();
    let mut cluster = Cluster::remembering(&server, held(&saved));
    cluster.accepted = saved.clone();
    cluster.until_error("cannot be followed").await;

    // It is back, without permission for one kind: that one is as it was.
    server.refuse("GlobalNetworkPolicy", Some(403));
    server.put("HostEndpoint", endpoint("b"));
    server.down(false);
    cluster
        .until("b is there", |now| now.model().endpoints.len() == 2)
        .await;
    let told = ["GlobalNetworkPolicy"];
    cluster
        .until("one kind is missing", |now| {
            let files = now.problems.iter().filter_map(|it| it.file.as_deref());
            files.eq(told)
        })
        .await;
    assert_eq!(cluster.accepted.model().policies, saved.model().policies);
    server.delete("GlobalNetworkPolicy", "mine");
    server.refuse("GlobalNetworkPolicy", None);
    cluster
        .until("it is gone", |now| now.model().policies.is_empty())
        .await;
}

#[tokio::test]
async fn what_came_from_a_folder_is_no_memory_of_the_cluster() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    server.refuse("Tier", Some(403));
    let file = SourceFile {
        path: "tutorial.yaml".into(),
        content: Ok(Text::from(endpoint("old").to_string())),
    };
    let mut cluster = Cluster::remembering(&server, vec![file]);
    cluster.until_error("Tier (cannot be listed").await;
    server.refuse("Tier", None);
    cluster.until("a is there", |now| names(now) == ["a"]).await;
}

#[tokio::test]
async fn what_means_nothing_is_not_told() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("a is there", |now| now.objects.len() == 1)
        .await;
    let text = |cluster: &mut Cluster| {
        let read = cluster.source.read(cluster.trust, None).unwrap();
        read.files[0].content.clone().unwrap()
    };
    let before = text(&mut cluster);
    let mut same = endpoint("a");
    same["status"] = json!({"seen": true});
    same["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    server.put("HostEndpoint", same);
    server.bookmark("HostEndpoint");
    // What comes behind it shows that it was seen.
    server.put("HostEndpoint", endpoint("b"));
    cluster
        .until("b is there", |now| now.objects.len() == 2)
        .await;
    assert_eq!(*text(&mut cluster), *before);
}

#[tokio::test]
async fn the_own_node_is_followed_while_a_template_needs_it() {
    let server = Server::serving(WRITTEN).await;
    server.serve("hostfw.io/v1alpha1", "HostEndpointTemplate");
    server.serve("v1", "Node");
    follow_the_own_node(&World::Script(server)).await;
}

#[tokio::test]
async fn the_own_node_of_a_real_server_is_followed_while_a_template_needs_it() {
    if let Some(world) = World::real().await {
        follow_the_own_node(&world).await;
    }
}

async fn follow_the_own_node(server: &World) {
    let node = |name: &str, role: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "spec": {"podCIDR": "10.0.0.0/24"},
            "metadata": {"name": name, "labels": {"role": role}, "annotations": {"a": role}},
            "status": {"addresses": []}})
    };
    let template = || {
        let spec = json!({"nodeSelector": "role == 'edge'", "interfacePattern": "eth0"});
        let mut template = object("HostEndpointTemplate", "public", spec);
        template["apiVersion"] = json!("hostfw.io/v1alpha1");
        template
    };
    server.put("Node", node("node1", "core")).await;
    server.put("Node", node("node2", "core")).await;
    server.put("HostEndpoint", endpoint("a")).await;
    let mut cluster = server.follow();
    cluster.until("a is there", |now| names(now) == ["a"]).await;
    if let Some(server) = server.script() {
        assert_eq!(server.asked("/api/v1/nodes"), 0);
    }

    let label = |now: &Accepted| {
        now.model()
            .nodes
            .first()
            .map(|node| node.labels["role"].clone())
    };
    server.put("HostEndpointTemplate", template()).await;
    cluster
        .until("the node is there", |now| {
            names(now) == ["a", "public", "node1"]
        })
        .await;
    assert_eq!(cluster.accepted.problems, []);
    cluster.until_watched("Node").await;
    server.put("Node", node("node2", "edge")).await;
    server.put("Node", node("node1", "edge")).await;
    cluster
        .until("its labels change", |now| {
            label(now).as_deref() == Some("edge")
        })
        .await;
    assert_eq!(cluster.accepted.model().nodes.len(), 1);

    server.delete("HostEndpointTemplate", "public").await;
    cluster
        .until("nobody needs it", |now| names(now) == ["a"])
        .await;
    cluster.until_unwatched("Node").await;

    // Without permission, what is in force stays, and the others go on.
    let Some(server) = server.script() else {
        return;
    };
    server.refuse("Node", Some(403));
    server.put("HostEndpointTemplate", template());
    cluster
        .until("it is told", |now| now.problems.len() == 1)
        .await;
    assert_eq!(cluster.accepted.problems[0].file.as_deref(), Some("Node"));
    assert_eq!(names(&cluster.accepted), ["a", "public"]);
}

/// A kubeconfig for a server at this address.
fn kubeconfig(folder: &Path, address: &str) -> PathBuf {
    let file = folder.join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster":
            {"server": address, "insecure-skip-tls-verify": true}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    });
    fs::write(&file, text.to_string()).expect("a folder to write to");
    file
}

#[tokio::test]
async fn a_kubeconfig_says_where_the_server_is() {
    let server = Server::serving(WRITTEN).await;
    server.put("HostEndpoint", endpoint("a"));
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), &server.address);
    let client = connect(Some(&file)).await.unwrap();
    let mut cluster = Cluster::through(&client, &server, Vec::new());
    cluster.until("a is there", |now| names(now) == ["a"]).await;

    let gone = connect(Some(&folder.path().join("gone"))).await;
    let error = gone.err().expect("there is no such file");
    assert!(error.to_string().contains("gone"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_and_waited_for() {
    let server = Server::serving(WRITTEN).await;
    let folder = tempfile::tempdir().unwrap();
    let address = server.address.replace("http:", "https:");
    let file = kubeconfig(folder.path(), &address);
    let client = connect(Some(&file)).await.unwrap();
    let mut cluster = Cluster::through(&client, &server, Vec::new());
    cluster.until_error("cannot be followed").await;
}

/// What [`hostfw_agent::reconcile::Reconciler::held`] gives.
fn held(saved: &Accepted) -> Vec<SourceFile> {
    saved
        .objects
        .iter()
        .map(|object| SourceFile {
            path: object.files[0].clone(),
            content: Ok(object.resource.to_text()),
        })
        .collect()
}

fn names(accepted: &Accepted) -> Vec<String> {
    let objects = accepted.objects.iter();
    objects.map(|object| object.named.name.clone()).collect()
}
