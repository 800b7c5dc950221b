//! Model objects for the tests of this module.

use std::collections::BTreeMap;

use crate::{
    model::{
        Entity, HostEndpoint, Interface, InterfaceMatch, Order, Policy, Rule, RuleAction, Stage,
    },
    selector::Selector,
};

/// `interface` as in a resource: `*`, a name, or nothing.
pub(super) fn endpoint(name: &str, node: &str, interface: &str, ips: &[&str]) -> HostEndpoint {
    HostEndpoint {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        node: node.to_owned(),
        interface: match interface {
            "*" => InterfaceMatch::Wildcard,
            "" => InterfaceMatch::ExpectedIps,
            name => InterfaceMatch::Name(name.to_owned()),
        },
        expected_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

/// An endpoint of another node with labels.
pub(super) fn labelled(name: &str, ips: &[&str], labels: &[(&str, &str)]) -> HostEndpoint {
    HostEndpoint {
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..endpoint(name, "elsewhere", "eth0", ips)
    }
}

pub(super) fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        link_header: true,
        loopback: name == "lo",
        up: true,
    }
}

/// A pre-DNAT policy without rules.
pub(super) fn policy(name: &str, order: f64, selector: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        order: Order::new(order).unwrap(),
        selector: Selector::parse(selector).unwrap(),
        stage: Stage::PreDnat,
        ingress: Some(Vec::new()),
        egress: None,
    }
}

/// A rule without criteria.
pub(super) fn rule(action: RuleAction) -> Rule {
    Rule {
        action,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: Entity::default(),
        destination: Entity::default(),
    }
}
