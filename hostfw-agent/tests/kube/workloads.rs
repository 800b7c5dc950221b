//! Pods, namespaces, service accounts and services of a cluster, which are
//! followed while rules refer to them.

use hostfw_agent::{
    accept::{Accepted, Stored},
    compile::compile,
    model::Interface,
    select::select,
};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, endpoint, object},
    server::{Server, WRITTEN},
    world::World,
};

/// What Kubernetes serves besides, all of it.
async fn server() -> Server {
    let server = Server::serving(WRITTEN).await;
    for kind in ["Namespace", "Pod", "ServiceAccount"] {
        server.serve("v1", kind);
    }
    server.serve("discovery.k8s.io/v1", "EndpointSlice");
    server.put("HostEndpoint", endpoint("a"));
    server
}

fn pod(name: &str, app: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "web", "labels": {"app": app}},
        "spec": {
            "serviceAccountName": "builder",
            "containers": [{"name": "main", "image": "shop:1",
                "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// A policy with one rule, which allows what this side means.
fn allowing(name: &str, side: &str, given: Value) -> Value {
    let direction = if side == "source" {
        "ingress"
    } else {
        "egress"
    };
    let rule = json!({"action": "Allow", "protocol": "TCP", side: given});
    let spec = json!({"selector": "all()", direction: [rule]});
    object("GlobalNetworkPolicy", name, spec)
}

fn eth0() -> Interface {
    Interface {
        index: 2,
        name: "eth0".to_owned(),
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

/// The addresses and ports that the only rule of a policy stands for, in either
/// direction.
fn meant(accepted: &Accepted, policy: &str) -> Vec<String> {
    let selection = select(&accepted.model(), "node1", &[eth0()]);
    let mut all = Vec::new();
    for list in selection.governed.iter().flat_map(|it| &it.lists) {
        let policies = list.policies().filter(|it| it.object.name == policy);
        for rule in policies.flat_map(|it| &it.rules) {
            for entity in [&rule.source, &rule.destination] {
                let members = entity.members.iter().flat_map(|nets| nets.iter());
                all.extend(members.map(|net| net.addr().to_string()));
                let points = entity.points.iter().flatten();
                all.extend(points.map(|it| format!("{}:{}", it.address, it.port)));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn image(accepted: &Accepted) -> impl PartialEq + std::fmt::Debug + use<> {
    let selection = select(&accepted.model(), "node1", &[eth0()]);
    compile(&selection).expect("it fits")
}

#[tokio::test]
async fn pods_are_followed_while_a_rule_refers_to_them() {
    follow_pods(&World::Script(server().await)).await;
}

#[tokio::test]
async fn pods_of_a_real_server_are_followed_while_a_rule_refers_to_them() {
    if let Some(world) = World::real().await {
        world.put("HostEndpoint", endpoint("a")).await;
        follow_pods(&world).await;
    }
}

async fn follow_pods(server: &World) {
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1")).await;
    let quiet = json!({"nets": ["10.0.0.0/8"]});
    server
        .put("GlobalNetworkPolicy", allowing("p", "source", quiet))
        .await;
    let hosts = json!({"selector": "has(a)", "namespaceSelector": "global()"});
    server
        .put("GlobalNetworkPolicy", allowing("q", "source", hosts))
        .await;
    let mut cluster = server.follow();
    cluster
        .until("the policies are there", |now| now.objects.len() == 3)
        .await;
    if let Some(server) = server.script() {
        for path in ["/api/v1/", "/apis/discovery.k8s.io/"] {
            assert_eq!(server.asked(path), 0, "{path}");
        }
    }

    let shop = json!({"selector": "app == 'shop'"});
    server
        .put("GlobalNetworkPolicy", allowing("r", "source", shop))
        .await;
    cluster
        .until("the pod is meant", |now| meant(now, "r") == ["10.244.1.1"])
        .await;
    assert_eq!(cluster.accepted.problems, []);
    assert_eq!(cluster.accepted.unenforced(), []);
    cluster.until_watched("Pod").await;
    server.put("Pod", pod("shop-2", "shop", "10.244.2.2")).await;
    server
        .put("Pod", pod("other-1", "other", "10.244.3.3"))
        .await;
    let two = ["10.244.1.1", "10.244.2.2"];
    cluster
        .until("another comes", |now| meant(now, "r") == two)
        .await;
    // It ends, and its address is soon somebody else's.
    let mut ended = pod("shop-1", "shop", "10.244.1.1");
    ended["status"]["phase"] = json!("Failed");
    server.put("Pod", ended).await;
    cluster
        .until("one has ended", |now| meant(now, "r") == ["10.244.2.2"])
        .await;
    server.delete("Pod", "shop-2").await;
    cluster
        .until("one is gone", |now| meant(now, "r").is_empty())
        .await;

    if let Some(server) = server.script() {
        assert_eq!(server.asked("/api/v1/namespaces"), 0);
        assert_eq!(server.asked("/apis/discovery.k8s.io/"), 0);
    }
    server.delete("GlobalNetworkPolicy", "r").await;
    cluster
        .until("nobody refers to them", |now| now.objects.len() == 3)
        .await;
    cluster.until_unwatched("Pod").await;
}

#[tokio::test]
async fn rules_see_namespaces_accounts_services_and_names_of_ports() {
    see_all(&World::Script(server().await)).await;
}

#[tokio::test]
async fn rules_see_what_a_real_server_has() {
    if let Some(world) = World::real().await {
        world.put("HostEndpoint", endpoint("a")).await;
        see_all(&world).await;
    }
}

async fn see_all(server: &World) {
    let services = server.serves("EndpointSlice").await;
    if !services {
        println!("skipped: the server is older than discovery.k8s.io/v1: what services mean");
    }
    let bare = |kind: &str, name: &str, labels: Value| {
        json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "namespace": "web", "labels": labels}})
    };
    let mut namespace = bare("Namespace", "web", json!({"team": "a"}));
    namespace["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("namespace");
    server.put("Namespace", namespace.clone()).await;
    server
        .put(
            "ServiceAccount",
            bare("ServiceAccount", "builder", json!({"tier": "back"})),
        )
        .await;
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1")).await;
    // Calico's API server says the same once more.
    let said = json!({"labelsToApply": {"pcns.team": "a"}});
    server
        .put("Profile", object("Profile", "kns.web", said))
        .await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "shop-x1", "namespace": "web",
            "labels": {"kubernetes.io/service-name": "shop"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "web", "port": 9090, "protocol": "TCP"}],
    });
    if services {
        server.put("EndpointSlice", slice.clone()).await;
    }
    let service = json!({"services": {"name": "shop", "namespace": "web"}});
    for (name, side, given) in [
        (
            "by-label",
            "source",
            json!({"namespaceSelector": "team == 'a'"}),
        ),
        (
            "by-name",
            "source",
            json!({"namespaceSelector": "projectcalico.org/name == 'web'"}),
        ),
        (
            "by-account",
            "source",
            json!({"serviceAccounts": {"names": ["builder"]}}),
        ),
        (
            "by-account-label",
            "source",
            json!({"serviceAccounts": {"selector": "tier == 'back'"}}),
        ),
        ("by-port", "destination", json!({"ports": ["http"]})),
        ("from-service", "source", service.clone()),
        ("to-service", "destination", service),
        (
            "none",
            "source",
            json!({"namespaceSelector": "team == 'b'"}),
        ),
    ] {
        if services || !name.contains("service") {
            let policy = allowing(name, side, given);
            server.put("GlobalNetworkPolicy", policy).await;
        }
    }
    let mut cluster = server.follow();
    let all = [
        ("by-label", &["10.244.1.1"][..]),
        ("by-name", &["10.244.1.1"]),
        ("by-account", &["10.244.1.1"]),
        ("by-account-label", &["10.244.1.1"]),
        ("by-port", &["10.244.1.1:8080"]),
        ("from-service", &["10.244.1.1"]),
        ("to-service", &["10.244.1.1:9090"]),
        ("none", &[]),
    ];
    let told = all
        .iter()
        .filter(|(name, _)| services || !name.contains("service"));
    for (name, expected) in told {
        cluster
            .until(name, |now| meant(now, name) == *expected)
            .await;
    }
    if !services {
        return;
    }
    assert_eq!(cluster.accepted.problems, []);
    assert_eq!(cluster.accepted.unenforced(), []);
    namespace["metadata"]["labels"] = json!({"team": "b"});
    server.put("Namespace", namespace).await;
    cluster
        .until("the namespace has changed", |now| {
            meant(now, "by-label").is_empty() && meant(now, "none") == ["10.244.1.1"]
        })
        .await;
    let mut moved = slice;
    moved["endpoints"] = json!([{"addresses": ["10.244.9.9"]}]);
    server.put("EndpointSlice", moved).await;
    cluster
        .until("the service has moved", |now| {
            meant(now, "to-service") == ["10.244.9.9:9090"]
        })
        .await;
}

#[tokio::test]
async fn what_of_a_pod_no_rule_asks_for_changes_nothing() {
    let server = server().await;
    let shop = json!({"selector": "app == 'shop'"});
    server.put("GlobalNetworkPolicy", allowing("r", "source", shop));
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("the pod is meant", |now| meant(now, "r") == ["10.244.1.1"])
        .await;
    cluster.until_watched("Pod").await;
    let before = image(&cluster.accepted);
    let texts = |cluster: &mut Cluster| {
        use hostfw_agent::source::Source as _;
        let read = cluster
            .source
            .read(cluster.trust, None)
            .expect("it is told");
        let files = read.files.iter();
        files
            .filter(|file| file.path.starts_with("Pod/web/shop"))
            .map(|file| file.content.clone().expect("it can be read"))
            .collect::<Vec<_>>()
    };
    let told = texts(&mut cluster);
    // As the kubelet does it, over and over.
    for round in 0..3 {
        let mut ready = pod("shop-1", "shop", "10.244.1.1");
        ready["status"]["conditions"] = json!([{"type": "Ready", "lastProbeTime": round}]);
        ready["metadata"]["annotations"] = json!({"seen": round.to_string()});
        ready["spec"]["nodeName"] = json!("node7");
        server.put("Pod", ready);
    }
    // What comes behind it shows that it was seen; no rule means it.
    server.put("Pod", pod("other-1", "other", "10.244.3.3"));
    cluster
        .until("the other one is there", |now| {
            now.model().workloads.len() == 2
        })
        .await;
    assert_eq!(texts(&mut cluster), told);
    assert_eq!(image(&cluster.accepted), before);
    server.put("Pod", pod("shop-1", "shop", "10.244.1.7"));
    cluster
        .until("it has moved", |now| meant(now, "r") == ["10.244.1.7"])
        .await;
    assert_ne!(image(&cluster.accepted), before);
}

#[tokio::test]
async fn pods_that_may_not_be_read_are_told_and_the_rest_goes_on() {
    let server = server().await;
    let quiet = json!({"nets": ["10.0.0.0/8"]});
    server.put("GlobalNetworkPolicy", allowing("p", "source", quiet));
    server.refuse("Pod", Some(403));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("the policy is there", |now| now.objects.len() == 2)
        .await;
    assert_eq!(cluster.accepted.problems, []);

    let shop = json!({"selector": "app == 'shop'"});
    server.put("GlobalNetworkPolicy", allowing("r", "source", shop));
    cluster
        .until("it is told", |now| {
            now.problems.len() == 1 && now.objects.len() == 3
        })
        .await;
    let problem = &cluster.accepted.problems[0];
    assert_eq!(problem.file.as_deref(), Some("Pod"));
    assert!(problem.message.contains("(403)"), "{}", problem.message);
    server.put("HostEndpoint", endpoint("b"));
    cluster
        .until("others go on", |now| now.model().endpoints.len() == 2)
        .await;

    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    server.refuse("Pod", None);
    cluster
        .until("they may be", |now| meant(now, "r") == ["10.244.1.1"])
        .await;
    assert_eq!(cluster.accepted.problems, []);
    // And taken away again: they stay as they were.
    server.refuse("Pod", Some(403));
    cluster
        .until("it is told again", |now| now.problems.len() == 1)
        .await;
    assert_eq!(meant(&cluster.accepted, "r"), ["10.244.1.1"]);
}

#[tokio::test]
async fn nothing_is_told_before_the_pods_that_a_rule_needs() {
    let server = server().await;
    let shop = json!({"selector": "app == 'shop'"});
    server.put("GlobalNetworkPolicy", allowing("r", "source", shop));
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    server.refuse("Pod", Some(403));
    let mut cluster = Cluster::follow(&server);
    cluster.until_error("Pod (cannot be listed").await;
    assert_eq!(cluster.accepted, Accepted::default());
    server.refuse("Pod", None);
    cluster
        .until("the pod is meant", |now| meant(now, "r") == ["10.244.1.1"])
        .await;
}

#[tokio::test]
async fn what_changed_unseen_among_pods_is_seen_when_the_watch_has_expired() {
    let server = server().await;
    let shop = json!({"selector": "app == 'shop'"});
    server.put("GlobalNetworkPolicy", allowing("r", "source", shop));
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    server.put("Pod", pod("shop-2", "shop", "10.244.2.2"));
    let mut cluster = Cluster::follow(&server);
    let two = ["10.244.1.1", "10.244.2.2"];
    cluster
        .until("both are meant", |now| meant(now, "r") == two)
        .await;
    server.down(true);
    cluster.until_error("cannot be followed").await;
    server.delete("Pod", "shop-1");
    server.put("Pod", pod("shop-3", "shop", "10.244.3.3"));
    server.compact("Pod");
    server.down(false);
    let two = ["10.244.2.2", "10.244.3.3"];
    cluster
        .until("it is as it is", |now| meant(now, "r") == two)
        .await;
}

#[tokio::test]
async fn a_hostile_pod_is_told_by_name_and_touches_no_other() {
    let server = server().await;
    let shop = json!({"selector": "app == 'shop'"});
    server.put("GlobalNetworkPolicy", allowing("r", "source", shop));
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    server.put("Pod", pod("shop-2", "shop", "10.244.2.2"));
    let mut cluster = Cluster::follow(&server);
    let two = ["10.244.1.1", "10.244.2.2"];
    cluster
        .until("both are meant", |now| meant(now, "r") == two)
        .await;

    for (pointer, value, told) in [
        ("/metadata/labels", json!(["a"]), "metadata.labels"),
        ("/metadata/labels", json!({"app": 5}), "metadata.labels.app"),
        ("/status/podIPs", json!({"ip": "x"}), "status.podIPs"),
        (
            "/status/podIPs/0/ip",
            json!("../../etc/passwd"),
            "spec.ipNetworks[0]",
        ),
        (
            "/status/podIPs/0/ip",
            json!("0.0.0.0/0"),
            "a single address",
        ),
        (
            "/spec/containers",
            json!("x".repeat(1 << 20)),
            "spec.containers",
        ),
        (
            "/spec/containers/0/ports/0/containerPort",
            json!(70000),
            "spec.ports[0].port",
        ),
        (
            "/metadata/labels",
            json!({("x".repeat(1 << 20)): "shop"}),
            "metadata.labels",
        ),
    ] {
        let mut bad = pod("shop-1", "shop", "10.244.1.9");
        *bad.pointer_mut(pointer).expect("a field") = value;
        server.put("Pod", bad);
        cluster
            .until(told, |now| {
                now.problems.iter().any(|problem| {
                    problem.file.as_deref() == Some("Pod/web/shop-1")
                        && problem.message.contains(told)
                        && problem.message.len() < 2000
                })
            })
            .await;
        // The last good version of it stays.
        assert_eq!(meant(&cluster.accepted, "r"), two, "{told}");
        let kept = cluster.accepted.objects.iter();
        let kept = kept.filter(|it| it.stored == Stored::LastGood).count();
        assert_eq!(kept, 1, "{told}");
    }
    // A great many labels are no fault.
    let mut many = pod("shop-3", "shop", "10.244.3.3");
    for number in 0..10_000 {
        many["metadata"]["labels"][format!("l{number}")] = json!("x");
    }
    server.put("Pod", many);
    let three = ["10.244.1.1", "10.244.2.2", "10.244.3.3"];
    cluster
        .until("others go on", |now| meant(now, "r") == three)
        .await;
    // Labels that speak for the namespace count for nothing.
    let forged = json!({"namespaceSelector": "team == 'a'"});
    server.put("GlobalNetworkPolicy", allowing("f", "source", forged));
    let mut liar = pod("shop-4", "other", "10.244.4.4");
    liar["metadata"]["labels"]["pcns.team"] = json!("a");
    liar["metadata"]["labels"]["projectcalico.org/namespace"] = json!("kube-system");
    server.put("Pod", liar);
    server.put("Pod", pod("shop-1", "shop", "10.244.1.1"));
    cluster
        .until("all is well", |now| {
            now.problems.is_empty() && now.model().workloads.len() == 4
        })
        .await;
    assert!(meant(&cluster.accepted, "f").is_empty());
    let model = cluster.accepted.model();
    let labels = &model.workloads[3].labels;
    assert_eq!(labels["projectcalico.org/namespace"], "web");
}
