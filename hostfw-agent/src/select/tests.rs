use super::{
    fixture::{endpoint, interface, policy, rule},
    *,
};
use crate::{model::FelixSettings, selector::Selector};

/// The pinhole of the tutorial: the destination is the endpoints themselves.
fn pinhole() -> Model {
    let mut node1 = endpoint("node1-eth0", "node1", "eth0", &[]);
    node1
        .labels
        .insert("host-endpoint".into(), "ingress".into());
    let mut node2 = endpoint("node2-eth0", "node2", "eth0", &[]);
    node2
        .labels
        .insert("host-endpoint".into(), "ingress".into());
    let mut allow = policy("allow-nodeport", 10.0, "has(host-endpoint)");
    let mut to_endpoints = rule(RuleAction::Allow);
    to_endpoints.destination.selector = Some(Selector::parse("has(host-endpoint)").unwrap());
    allow.ingress = Some(vec![to_endpoints]);
    let mut outbound = policy("allow-outbound-external", 10.0, "has(host-endpoint)");
    outbound.stage = Stage::Normal;
    outbound.ingress = None;
    outbound.egress = Some(vec![rule(RuleAction::Allow)]);
    Model {
        endpoints: vec![node1, node2],
        policies: vec![allow, outbound],
        settings: Vec::new(),
    }
}

#[test]
fn pinhole_stands_for_the_addresses_of_the_own_interface() {
    let eth0 = interface(2, "eth0", &["10.240.0.11", "fd00:10:240::11", "fe80::11"]);
    let interfaces = [eth0.clone(), interface(1, "lo", &["127.0.0.1"])];
    let selection = select(&pinhole(), "node1", &interfaces);

    assert_eq!(selection.governed.len(), 1);
    let governed = &selection.governed[0];
    assert_eq!(governed.endpoint, "node1-eth0");
    assert_eq!(governed.interface, eth0);
    assert_eq!(governed.pre_dnat.len(), 1);
    assert_eq!(governed.pre_dnat[0].name, "allow-nodeport");
    let members: Vec<IpNet> = ["10.240.0.11/32", "fd00:10:240::11/128", "fe80::11/128"]
        .map(|net| net.parse().unwrap())
        .to_vec();
    assert_eq!(
        governed.pre_dnat[0].rules[0].destination.members,
        Some(members)
    );
    assert_eq!(governed.egress.len(), 1);
    assert_eq!(governed.egress[0].name, "allow-outbound-external");

    // The other node's endpoint matches too, but is only known there.
    assert_eq!(selection.unknown_addresses.len(), 1);
    let unknown = &selection.unknown_addresses[0];
    assert_eq!(unknown.endpoint.name, "node2-eth0");
    assert_eq!(unknown.policy.name, "allow-nodeport");
    // Another node's endpoint is not inert here: it is no business of ours.
    assert_eq!(selection.inert, []);
}

#[test]
fn node_names_are_compared_exactly() {
    let interfaces = [interface(2, "eth0", &[])];
    assert_eq!(select(&pinhole(), "Node1", &interfaces).governed, []);
    assert_eq!(select(&pinhole(), "node3", &interfaces).governed, []);
}

#[test]
fn policies_that_govern_nothing_here_report_no_unknown_addresses() {
    let selection = select(&pinhole(), "node3", &[interface(2, "eth0", &[])]);
    assert_eq!(selection.unknown_addresses, []);
}

#[test]
fn order_of_interfaces_does_not_matter() {
    let mut model = pinhole();
    model.endpoints[0].interface = crate::model::InterfaceMatch::Wildcard;
    let mut interfaces = vec![
        interface(3, "eth1", &["10.0.0.1"]),
        interface(2, "eth0", &["10.240.0.11"]),
    ];
    let one = select(&model, "node1", &interfaces);
    interfaces.reverse();
    assert_eq!(select(&model, "node1", &interfaces), one);
    assert_eq!(one.governed[0].interface.index, 2);
}

#[test]
fn settings_of_the_node_reach_the_selection() {
    let mut model = pinhole();
    model.settings.push(FelixSettings {
        node: Some("node1".into()),
        failsafe_inbound: Some(Vec::new()),
        failsafe_outbound: None,
        disable_invalid_check: Some(true),
        workload_prefixes: Some(vec!["eth".into()]),
        excluded_interfaces: None,
    });
    let selection = select(&model, "node1", &[interface(2, "eth0", &[])]);
    assert_eq!(selection.failsafe_inbound, []);
    assert_eq!(
        selection.failsafe_outbound,
        Failsafe::defaults(Direction::Egress)
    );
    assert!(selection.disable_invalid_check);
    assert_eq!(selection.governed, []);
    assert_eq!(
        selection.inert[0].reason,
        InertReason::Workload("eth0".into())
    );
}
