//! Addresses of other nodes' endpoints, which are followed while a rule may ask
//! for them.

use hostfw_agent::{accept::Accepted, model::Interface, select::select};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, endpoint, object},
    server::{Server, WRITTEN},
};

const OWN: &str = "hostfw.io/v1alpha1";
const ASKED: &str = "/apis/hostfw.io/v1alpha1/nodeaddresses";

async fn server() -> Server {
    let server = Server::serving(WRITTEN).await;
    server.serve(OWN, "NodeAddresses");
    server.serve(OWN, "HostEndpointTemplate");
    for kind in ["Node", "Namespace", "Pod", "ServiceAccount"] {
        server.serve("v1", kind);
    }
    server.put("HostEndpoint", endpoint("a"));
    let mut other = object(
        "HostEndpoint",
        "b",
        json!({"node": "node2", "interfaceName": "eth0"}),
    );
    other["metadata"]["labels"] = json!({"role": "edge"});
    server.put("HostEndpoint", other);
    server
}

fn told(node: &str, name: &str, addresses: &[&str]) -> Value {
    json!({"apiVersion": OWN, "kind": "NodeAddresses", "metadata": {"name": node},
        "spec": {"endpoints": [{"name": name, "addresses": addresses}]}})
}

fn allowing(name: &str, source: &Value) -> Value {
    let rule = json!({"action": "Allow", "source": source});
    let spec = json!({"selector": "all()", "ingress": [rule]});
    object("GlobalNetworkPolicy", name, spec)
}

/// What the rule of the policy stands for on node1, and whose addresses are not
/// known.
fn meant(accepted: &Accepted, policy: &str) -> (Vec<String>, Vec<String>) {
    let eth0 = Interface {
        index: 2,
        name: "eth0".to_owned(),
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    };
    let selection = select(&accepted.model(), "node1", &[eth0]);
    let lists = selection.governed.iter().flat_map(|it| &it.lists);
    let policies = lists.flat_map(|list| list.policies());
    let rules = policies
        .filter(|it| it.object.name == policy)
        .flat_map(|it| &it.rules);
    let members = rules.filter_map(|rule| rule.source.members.as_deref());
    let mut nets: Vec<String> = members.flatten().map(|it| it.addr().to_string()).collect();
    nets.sort();
    nets.dedup();
    let unknown = selection.unknown_addresses.iter();
    (nets, unknown.map(|it| it.endpoint.name.clone()).collect())
}

fn is(found: &(Vec<String>, Vec<String>), addresses: &[&str], unknown: &[&str]) -> bool {
    found.0 == addresses && found.1 == unknown
}

#[tokio::test]
async fn another_nodes_addresses_are_followed_while_a_rule_may_mean_them() {
    let server = server().await;
    server.put("NodeAddresses", told("node2", "b", &["10.0.0.2"]));
    for (name, source) in [
        ("nets", json!({"nets": ["10.0.0.0/8"]})),
        ("pods", json!({"namespaceSelector": "all()"})),
    ] {
        server.put("GlobalNetworkPolicy", allowing(name, &source));
    }
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("the policies are there", |now| now.objects.len() == 4)
        .await;
    assert_eq!(server.asked(ASKED), 0);

    let edge = json!({"selector": "role == 'edge'"});
    server.put("GlobalNetworkPolicy", allowing("p", &edge));
    cluster
        .until("b is meant", |now| is(&meant(now, "p"), &["10.0.0.2"], &[]))
        .await;
    cluster.until_watched("NodeAddresses").await;
    server.put(
        "NodeAddresses",
        told("node2", "b", &["10.0.0.3", "fd00::3"]),
    );
    cluster
        .until("they change", |now| {
            is(&meant(now, "p"), &["10.0.0.3", "fd00::3"], &[])
        })
        .await;
    // A node that speaks of another's endpoint is not listened to.
    server.put("NodeAddresses", told("node3", "b", &["10.0.0.66"]));
    server.put("HostEndpoint", endpoint("c"));
    cluster
        .until("c is there", |now| now.model().endpoints.len() == 3)
        .await;
    cluster
        .until("node3 is there", |now| now.model().addresses.len() == 2)
        .await;
    assert!(is(
        &meant(&cluster.accepted, "p"),
        &["10.0.0.3", "fd00::3"],
        &[]
    ));
    // The node goes, and its object with it.
    server.delete("NodeAddresses", "node2");
    cluster
        .until("it is unknown", |now| is(&meant(now, "p"), &[], &["b"]))
        .await;

    server.delete("GlobalNetworkPolicy", "p");
    cluster
        .until("nobody asks", |now| now.model().addresses.is_empty())
        .await;
    cluster.until_unwatched("NodeAddresses").await;
    assert_eq!(cluster.accepted.problems, []);
}

#[tokio::test]
async fn nobody_asks_where_every_endpoint_gives_its_addresses() {
    let server = Server::serving(WRITTEN).await;
    server.serve(OWN, "NodeAddresses");
    for kind in ["Namespace", "Pod"] {
        server.serve("v1", kind);
    }
    let mut given = endpoint("a");
    given["spec"]["expectedIPs"] = json!(["192.0.2.1"]);
    server.put("HostEndpoint", given.clone());
    let all = json!({"selector": "all()"});
    server.put("GlobalNetworkPolicy", allowing("p", &all));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("they are there", |now| {
            is(&meant(now, "p"), &["192.0.2.1"], &[])
        })
        .await;
    assert_eq!(server.asked(ASKED), 0);
    given["spec"]["expectedIPs"] = json!([]);
    server.put("HostEndpoint", given);
    cluster.until_watched("NodeAddresses").await;
}

#[tokio::test]
async fn endpoints_that_templates_make_elsewhere_are_told_too() {
    let server = server().await;
    let template = json!({"apiVersion": OWN, "kind": "HostEndpointTemplate",
        "metadata": {"name": "t"}, "spec": {"interfacePattern": "eth1",
            "labels": {"made": "yes"}, "labelsFromNode": ["zone"]}});
    server.put("HostEndpointTemplate", template);
    let zone = json!({"selector": "has(made) && zone == 'a'"});
    server.put("GlobalNetworkPolicy", allowing("p", &zone));
    let mut one = told("node2", "t/eth1", &["10.0.0.2"]);
    one["spec"]["endpoints"][0]["labels"] = json!({"zone": "a"});
    server.put("NodeAddresses", one.clone());
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("it is meant", |now| {
            is(&meant(now, "p"), &["10.0.0.2"], &[])
        })
        .await;
    one["spec"]["endpoints"][0]["labels"] = json!({"zone": "b"});
    server.put("NodeAddresses", one);
    cluster
        .until("it has moved", |now| is(&meant(now, "p"), &[], &[]))
        .await;
}

#[tokio::test]
async fn a_hostile_object_is_told_by_name_and_touches_no_other() {
    let server = server().await;
    server.put(
        "HostEndpoint",
        object(
            "HostEndpoint",
            "c",
            json!({"node": "node3", "interfaceName": "eth0"}),
        ),
    );
    let all = json!({"selector": "all()"});
    server.put("GlobalNetworkPolicy", allowing("p", &all));
    server.put("NodeAddresses", told("node2", "b", &["10.0.0.2"]));
    server.put("NodeAddresses", told("node3", "c", &["10.0.0.3"]));
    let mut cluster = Cluster::follow(&server);
    let every = ["10.0.0.2", "10.0.0.3", "192.0.2.1"];
    cluster
        .until("all are meant", |now| is(&meant(now, "p"), &every, &[]))
        .await;
    let many = vec!["10.9.9.9"; 100_000];
    for (spec, expected) in [
        (json!(7), "spec"),
        (json!({"endpoints": "x"}), "spec.endpoints"),
        (
            json!({"endpoints": [{"name": 5}]}),
            "spec.endpoints[0].name",
        ),
        (json!({"endpoints": [{"name": "b", "more": 1}]}), "more"),
        (
            json!({"endpoints": [{"name": "b", "addresses": many}]}),
            "at most 4096 addresses",
        ),
        (
            json!({"endpoints": [{"name": "../b", "addresses": ["10.9.9.9"]}]}),
            "spec.endpoints[0].name",
        ),
        (
            json!({"endpoints": [{"name": "b", "addresses": ["0.0.0.0/0"]}]}),
            "spec.endpoints[0].addresses[0]",
        ),
        (
            json!({"endpoints": [{"name": "b", "addresses": ["127.0.0.1"]}]}),
            "loopback",
        ),
    ] {
        let mut bad = told("node2", "b", &[]);
        bad["spec"] = spec;
        server.put("NodeAddresses", bad);
        cluster
            .until(expected, |now| {
                now.problems.iter().any(|problem| {
                    problem.file.as_deref() == Some("NodeAddresses/node2")
                        && problem.message.contains(expected)
                        && problem.message.len() < 2000
                })
            })
            .await;
        assert_eq!(cluster.accepted.problems.len(), 1, "{expected}");
        // What it told last stays.
        assert!(
            is(&meant(&cluster.accepted, "p"), &every, &[]),
            "{expected}"
        );
    }
    server.put("NodeAddresses", told("node3", "c", &["10.0.0.4"]));
    server.put("NodeAddresses", told("node2", "b", &["10.0.0.5"]));
    let every = ["10.0.0.4", "10.0.0.5", "192.0.2.1"];
    cluster
        .until("all is well", |now| {
            is(&meant(now, "p"), &every, &[]) && now.problems.is_empty()
        })
        .await;
}

#[tokio::test]
async fn without_the_definition_what_is_given_counts() {
    let server = server().await;
    server.withdraw(OWN, "NodeAddresses");
    let all = json!({"selector": "all()"});
    server.put("GlobalNetworkPolicy", allowing("p", &all));
    let mut cluster = Cluster::follow(&server);
    cluster
        .until("the rest is there", |now| {
            is(&meant(now, "p"), &["192.0.2.1"], &["b"])
        })
        .await;
    assert_eq!(cluster.accepted.problems, []);
    // It is installed later.
    server.serve(OWN, "NodeAddresses");
    server.put("NodeAddresses", told("node2", "b", &["10.0.0.2"]));
    cluster
        .until("b is known", |now| {
            is(&meant(now, "p"), &["10.0.0.2", "192.0.2.1"], &[])
        })
        .await;
}
