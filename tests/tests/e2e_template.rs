//! Endpoints that nobody wrote one by one: made by a template on each node that it
//! means.

use anyhow::Result;
use hostfw_tests::{
    cluster::Binaries,
    expectations::Expectation::{Closed, Open},
    policed::Policed,
    probe::{Action::Tcp, Target::Host as To},
    resources::policy,
    topology::{
        FAILSAFE_PORT,
        Host::{self, Client, Node1, Node2},
        TCP_PORT, Topology,
    },
};

fn node(node: Host, role: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Node
metadata:
  name: {node}
  labels: {{role: {role}, zone: {role}-zone}}
"
    )
}

fn template(selector: &str, interfaces: &str) -> String {
    format!(
        "---
apiVersion: hostfw.io/v1alpha1
kind: HostEndpointTemplate
metadata:
  name: public
spec:
  nodeSelector: {selector}
  interfacePattern: {interfaces}
  labels: {{host-endpoint: ingress}}
  labelsFromNode: [zone]
"
    )
}

#[test]
fn a_template_governs_the_nodes_and_interfaces_that_it_means() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start_both(&topology, &binaries)?;
    let nodes = [node(Node1, "edge"), node(Node2, "inner")].concat();
    let tried = |node1, node2| {
        [
            (Client, Tcp(To(Node1), TCP_PORT), node1),
            (Client, Tcp(To(Node2), TCP_PORT), node2),
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Node2), FAILSAFE_PORT), Open),
        ]
    };
    let edge = template("role == 'edge'", "eth[0-9]+");
    policed.enforce("the node of one role", &[nodes.clone(), edge.clone()])?;
    policed.expect(&tried(Closed, Open))?;

    policed.enforce(
        "all nodes",
        &[nodes.clone(), template("all()", "eth[0-9]+")],
    )?;
    policed.expect(&tried(Closed, Closed))?;

    // `eth` is not the whole of a name.
    policed.enforce("no interface", &[nodes.clone(), template("all()", "eth")])?;
    policed.expect(&tried(Open, Open))?;

    let rules = format!(
        "ingress: [{{action: Allow, protocol: TCP, destination: {{ports: [{TCP_PORT}]}}}}]"
    );
    let of_zone = policy("of-a-zone", &rules).replace(
        "selector: has(host-endpoint)",
        "selector: zone == 'inner-zone'",
    );
    policed.enforce(
        "a policy by a label of the node",
        &[nodes, template("all()", "eth[0-9]+"), of_zone],
    )?;
    policed.expect(&tried(Closed, Open))?;
    policed.finish()
}
