//! Model objects for the tests of this module.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    addresses::{Addresses, Cluster},
    labels::Profiles,
};
use crate::{
    model::{
        Entity, FelixSettings, HostEndpoint, Interface, InterfaceMatch, Kind, NetworkSet,
        ObjectRef, Order, Policy, Profile, Rule, RuleAction, Stage, Tier, TierDefault,
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
        profiles: Vec::new(),
        ports: Vec::new(),
    }
}

/// An endpoint of another node with labels.
pub(super) fn labelled(name: &str, ips: &[&str], labels: &[(&str, &str)]) -> HostEndpoint {
    HostEndpoint {
        labels: map(labels),
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
        master: None,
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A `NetworkSet`, or without a namespace a `GlobalNetworkSet`.
pub(super) fn network_set(
    namespace: Option<&str>,
    name: &str,
    of: &[&str],
    labels: &[(&str, &str)],
) -> NetworkSet {
    NetworkSet {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        labels: map(labels),
        nets: nets(of).into(),
    }
}

/// A profile without rules.
pub(super) fn profile(name: &str, labels_to_apply: &[(&str, &str)]) -> Profile {
    Profile {
        name: name.to_owned(),
        labels_to_apply: map(labels_to_apply),
        ingress: Vec::new(),
        egress: Vec::new(),
    }
}

pub(super) fn tier(name: &str, order: f64, default_action: TierDefault) -> Tier {
    Tier {
        name: name.to_owned(),
        order: Order::new(order).unwrap(),
        default_action,
    }
}

/// `default` if no node is given; nothing is set.
pub(super) fn settings(node: Option<&str>) -> FelixSettings {
    FelixSettings {
        node: node.map(str::to_owned),
        failsafe_inbound: None,
        failsafe_outbound: None,
        disable_invalid_check: None,
        workload_prefixes: None,
        excluded_interfaces: None,
        vxlan_port: None,
        geneve_port: None,
        wireguard_port: None,
        wireguard_port_v6: None,
        log_prefix: None,
    }
}

pub(super) fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A policy that asks for addresses.
pub(super) fn asking(name: &str) -> ObjectRef {
    ObjectRef {
        kind: Kind::GlobalNetworkPolicy,
        name: name.to_owned(),
    }
}

/// What a node knows that governs no interface.
pub(super) fn addresses(endpoints: &[HostEndpoint]) -> Addresses<'_> {
    let cache = Box::leak(Box::default());
    let cluster = Cluster {
        made: [endpoints, &[]],
        ..Cluster::default()
    };
    Addresses::new(cluster, &Profiles::new(&[]), "node1", &[], cache)
}

/// A pre-DNAT policy of the default tier without rules.
pub(super) fn policy(name: &str, order: f64, selector: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        staged: None,
        tier: "default".to_owned(),
        order: Order::new(order).unwrap(),
        selector: Selector::parse(selector).unwrap(),
        stage: Stage::PreDnat,
        apply_on_forward: true,
        ingress: Some([].into()),
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
