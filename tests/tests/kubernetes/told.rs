//! Packets that pass because of what another node tells of its addresses.

use std::path::Path;

use anyhow::Result;
use hostfw_tests::{
    cluster::{Binaries, Cluster},
    expectations::Expectation::{self, Closed, Open},
    insist::Insistence,
    probe::{
        Action::{Tcp, Udp},
        Probe,
        Target::Host as To,
    },
    topology::{
        Family,
        Host::{self, Client, Node1, Node2},
        TCP_PORT, Topology, UDP_PORT,
    },
};
use serde_json::{Value, json};

use super::{behind::Behind, front::Front};
use crate::{Objects, real, until_on};

/// Two endpoints and two policies.
const GIVEN: usize = 4;

/// An endpoint that does not say its addresses.
fn endpoint(node: Host, role: &str) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": format!("{node}-eth0"), "labels": {"role": role}},
        "spec": {"node": node.name(), "interfaceName": "eth0"},
    })
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// Tries TCP, which the policy of node1 allows to its peers alone, and UDP, which it
/// allows to all. A node whose own policy lets it send all it likes is a peer.
fn finds(topology: &Topology, when: &str, peer: Expectation) -> Result<()> {
    let mut probes = Vec::new();
    let mut expected = Vec::new();
    for family in Family::ALL {
        for (from, action, expectation) in [
            (Node2, Tcp(To(Node1), TCP_PORT), peer),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Node2, Udp(To(Node1), UDP_PORT), Open),
            (Client, Udp(To(Node1), UDP_PORT), Open),
        ] {
            probes.push(Probe {
                family,
                from,
                action,
            });
            expected.push(expectation);
        }
    }
    let found = Insistence::default().try_all(topology, &probes, &expected)?;
    for ((probe, expectation), outcome) in probes.iter().zip(expected).zip(found) {
        assert!(
            expectation.agrees(&outcome),
            "{when}: {probe}: {outcome} instead of {expectation:?}"
        );
    }
    Ok(())
}

/// Waits until the node enforces all objects that are given, and knows the addresses
/// of its peer, or does not.
fn until_known(cluster: &mut Cluster<'_>, node: Host, known: bool) -> Result<()> {
    let what = match known {
        true => "the peer's addresses are known",
        false => "the peer's addresses are not known",
    };
    let of_nodes = json!("NodeAddresses");
    until_on(cluster, node, what, |status| {
        let objects = status["objects"].as_array().into_iter().flatten();
        let given: Vec<_> = objects.filter(|it| it["kind"] != of_nodes).collect();
        given.len() == GIVEN
            && given.iter().all(|it| it["state"] == "Enforced")
            && status.to_string().contains("OtherNode") != known
    })
}

fn peers_pass_while_their_node_tells_their_addresses(
    topology: &Topology,
    api: &dyn Objects,
    mut cluster: Cluster<'_>,
) -> Result<()> {
    api.put("HostEndpoint", endpoint(Node1, "judge"))?;
    api.put("HostEndpoint", endpoint(Node2, "peer"))?;
    let from_peers = json!({"action": "Allow", "protocol": "TCP",
        "source": {"selector": "role == 'peer'"}, "destination": {"ports": [TCP_PORT]}});
    let from_all = json!({"action": "Allow", "protocol": "UDP"});
    let rules = json!({"selector": "role == 'judge'", "ingress": [from_peers, from_all]});
    api.put("GlobalNetworkPolicy", policy("peers", &rules))?;
    let all = json!([{"action": "Allow"}]);
    let rules = json!({"selector": "role == 'peer'", "ingress": all, "egress": all});
    api.put("GlobalNetworkPolicy", policy("free", &rules))?;

    cluster.start_agent(Node1)?;
    let cluster = &mut cluster;
    until_known(cluster, Node1, false)?;
    finds(topology, "nobody has told them", Closed)?;

    cluster.start_agent(Node2)?;
    for node in [Node1, Node2] {
        until_known(cluster, node, true)?;
    }
    finds(topology, "node2 has told them", Open)?;

    // Which node2 does not notice: it tells them again when they change.
    api.delete("NodeAddresses", Node2.name())?;
    until_known(cluster, Node1, false)?;
    finds(topology, "they are told no longer", Closed)?;
    assert_eq!(
        cluster.take_notes(),
        Vec::<String>::new(),
        "an agent has died"
    );
    Ok(())
}

fn cluster<'a>(
    topology: &'a Topology,
    binaries: &Binaries,
    kubeconfig: &Path,
) -> Result<Cluster<'a>> {
    let file = kubeconfig.display().to_string();
    let arguments = ["--source", "kubernetes", "--kubeconfig", &file];
    Cluster::new(topology, binaries, &arguments)
}

#[test]
fn a_peer_passes_while_its_node_tells_its_addresses() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let front = Front::start(&topology)?;
    front.server.serve("hostfw.io/v1alpha1", "NodeAddresses");
    let folder = tempfile::tempdir()?;
    let kubeconfig = Front::kubeconfig(folder.path(), &front.authority)?;
    let cluster = cluster(&topology, &binaries, &kubeconfig)?;
    peers_pass_while_their_node_tells_their_addresses(&topology, &front, cluster)
}

#[test]
fn a_peer_passes_while_its_node_tells_a_real_api_server_its_addresses() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    if !real::is_there("packets were not seen to follow what a node tells a real API server") {
        return Ok(());
    }
    let topology = Topology::up()?;
    let behind = Behind::start(&topology)?;
    let cluster = cluster(&topology, &binaries, &behind.kubeconfig()?)?;
    peers_pass_while_their_node_tells_their_addresses(&topology, &behind, cluster)
}
