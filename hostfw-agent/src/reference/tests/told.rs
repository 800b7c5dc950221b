//! What other nodes tell of their endpoints.

use super::*;

const OTHER: &str = "
kind: HostEndpoint
metadata: {name: node2-eth0, labels: {role: edge}}
spec: {node: node2, interfaceName: eth0}
";

fn telling(node: &str, one: &str) -> String {
    object(
        "NodeAddresses",
        node,
        &format!("endpoints: [{{{one}, addresses: ['{OUTSIDE}']}}]"),
    )
}

#[test]
fn a_rule_means_the_addresses_that_a_node_tells_of_its_own_endpoints() {
    let allow = policy(
        "p",
        "ingress: [{action: Allow, source: {selector: role == 'edge'}}]",
    );
    let template = object(
        "HostEndpointTemplate",
        "t",
        "interfacePattern: eth.\nlabelsFromNode: [role]",
    );
    for (told, allowed) in [
        (telling("node2", "name: node2-eth0"), true),
        (telling("node3", "name: node2-eth0"), false),
        (telling("node1", "name: node2-eth0"), false),
        (telling("node2", "name: other"), false),
        (telling("node2", "name: t/eth0, labels: {role: edge}"), true),
        (
            telling("node2", "name: t/eth0, labels: {role: core}"),
            false,
        ),
        (telling("node2", "name: t/wg0, labels: {role: edge}"), false),
        (
            telling("node1", "name: t/eth0, labels: {role: edge}"),
            false,
        ),
    ] {
        let node = node(&[ENDPOINT, OTHER, &allow, &template, &told]);
        let verdict = super::told(&node.judge(&inbound(80)));
        assert_eq!(verdict.starts_with("allow"), allowed, "{verdict}: {told}");
    }
}

#[test]
fn expected_addresses_win_and_loopback_is_nobodys() {
    let allow = policy(
        "p",
        "ingress: [{action: Allow, source: {selector: role == 'edge'}}]",
    );
    let given = OTHER.replace("eth0}", "eth0, expectedIPs: [10.9.9.9]}");
    let tells = telling("node2", "name: node2-eth0");
    let reference = node(&[ENDPOINT, &given, &allow, &tells]);
    assert!(!super::told(&reference.judge(&inbound(80))).starts_with("allow"));
    let bad = tells.replace(OUTSIDE, "127.0.0.1");
    let objects = resources(&[ENDPOINT, OTHER, &allow, &bad]);
    let reference = Reference::new(&objects, "node1", &interfaces());
    assert_eq!(reference.left_out().len(), 1);
}
