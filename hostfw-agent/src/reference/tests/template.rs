//! Endpoints that templates make.

use super::*;

const NODE1: &str = "
kind: Node
metadata: {name: node1, labels: {role: edge, zone: a}}
";

fn template(name: &str, spec: &str) -> String {
    object("HostEndpointTemplate", name, spec)
}

/// The endpoint that governs each interface.
fn governed(objects: &[&str]) -> Vec<String> {
    let node = node(objects);
    ["lo", "eth0", "eth1", "cali7"]
        .into_iter()
        .filter_map(|interface| {
            let question = Question {
                interface: interface.to_owned(),
                ..inbound(80)
            };
            node.explain(&question).endpoint
        })
        .collect()
}

#[test]
fn an_endpoint_for_each_interface_that_the_whole_pattern_fits() {
    for (pattern, expected) in [
        ("'.*'", "t/eth0 t/eth1"),
        ("eth", ""),
        ("eth|eth0", "t/eth0"),
        ("'eth[1-9]'", "t/eth1"),
        ("'cali.|lo'", ""),
    ] {
        let template = template("t", &format!("interfacePattern: {pattern}"));
        assert_eq!(governed(&[&template]).join(" "), expected, "{pattern}");
    }
}

#[test]
fn an_endpoint_of_its_own_then_order_then_name_then_all_interfaces() {
    let all = "kind: HostEndpoint\nmetadata: {name: all}\nspec: {node: node1, interfaceName: '*'}";
    let own = "kind: HostEndpoint\nmetadata: {name: z}\nspec: {node: node1, interfaceName: eth0}";
    let late = template("a", "interfacePattern: eth.");
    let later = template("b", "interfacePattern: eth0");
    let first = template("first", "interfacePattern: eth1\norder: 7");
    assert_eq!(
        governed(&[&later, &late, &first, own, all]).join(" "),
        "all z first/eth1 all"
    );
    assert_eq!(
        governed(&[&later, &late, &first]).join(" "),
        "a/eth0 first/eth1"
    );
}

#[test]
fn labels_of_the_node_choose_it_and_are_copied() {
    let template = template(
        "t",
        "nodeSelector: role == 'edge'\ninterfacePattern: eth0\nlabels: {host-endpoint: x}\n\
         labelsFromNode: [zone, missing]",
    );
    assert_eq!(governed(&[&template]), [""; 0]);
    assert_eq!(governed(&[&template, NODE1]), ["t/eth0"]);
    let allow = object(
        "GlobalNetworkPolicy",
        "p",
        "selector: zone == 'a' && host-endpoint == 'x' && !has(role)\n\
         ingress: [{action: Allow, destination: {selector: has(zone)}}]",
    );
    let node = node(&[&template, NODE1, &allow]);
    assert_eq!(
        told(&node.judge(&inbound(80))),
        "allow normal default/p[0] rule"
    );
}
