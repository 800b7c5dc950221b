//! Endpoints, sets, profiles, tiers and settings.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_agent::resource::{
    EndpointPort, FelixConfigurationSpec, HostEndpointSpec, Metadata, NetworkSetSpec, NumberOrText,
    Object, ProfileSpec, ProtoPort, Resource, TierSpec,
};
use hostfw_common::verdict::Direction;
use serde_json::json;

use super::{
    pools::{
        ADDRESSES_V4, ADDRESSES_V6, LABEL_KEYS, LABEL_VALUES, NAMESPACES, NETS_V4, NETS_V6, NODE,
        NODES, PORT_NAMES, PORTS, PROFILES, SET_NETS, TIERS,
    },
    rule::{Place, rule},
};
use crate::random::Random;

pub(super) fn metadata(name: &str, labels: BTreeMap<String, String>) -> Metadata {
    Metadata {
        name: name.to_owned(),
        labels,
        ..Metadata::default()
    }
}

pub(super) fn labels(random: &mut Random, percent: usize) -> BTreeMap<String, String> {
    random
        .subset(percent, &LABEL_KEYS)
        .into_iter()
        .map(|key| (key.to_owned(), (*random.one_of(&LABEL_VALUES)).to_owned()))
        .collect()
}

pub(super) fn endpoints(random: &mut Random) -> Vec<Resource> {
    let mut endpoints: BTreeMap<String, HostEndpointSpec> = BTreeMap::new();
    if random.percent(90) {
        let mut main = endpoint(random, NODE, Some("eth0"));
        main.interface = Some("eth0".to_owned());
        endpoints.insert("node1-eth0".to_owned(), main);
    }
    for number in 0..random.below(4) {
        // A few of the same names, so that the smallest has something to win.
        let name = *random.one_of(&["a", "a-eth0", "node1-eth0", "z-eth0", "other", "node2-eth0"]);
        let node = *random.one_of(&NODES);
        let interface = *random.one_of(&[
            "eth0", "eth1", "*", "*", "lo", "wg0", "cali1234", "missing0",
        ]);
        let interface = (number > 0 || random.percent(60)).then_some(interface);
        endpoints
            .entry(name.to_owned())
            .or_insert_with(|| endpoint(random, node, interface));
    }
    endpoints
        .into_iter()
        .map(|(name, spec)| {
            let mut labels = labels(random, 35);
            if random.percent(70) {
                labels.insert("host-endpoint".to_owned(), String::new());
            }
            Resource::HostEndpoint(Object {
                metadata: metadata(&name, labels),
                spec,
            })
        })
        .collect()
}

pub(super) fn endpoint(
    random: &mut Random,
    node: &str,
    interface: Option<&str>,
) -> HostEndpointSpec {
    let mut expected_ips = if random.percent(50) {
        let mut all: Vec<&str> = random.several(&(0..=3), |random| *random.one_of(&ADDRESSES_V4));
        all.extend(random.several(&(0..=2), |random| *random.one_of(&ADDRESSES_V6)));
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    if interface.is_none() && expected_ips.is_empty() {
        expected_ips.push("10.240.0.11".to_owned());
    }
    let ports: BTreeSet<usize> = random
        .few(40, |random| random.below(5))
        .into_iter()
        .collect();
    HostEndpointSpec {
        node: Some(node.to_owned()),
        interface: interface.map(str::to_owned),
        expected_ips,
        profiles: if random.percent(65) {
            let mut profiles = random.subset(45, &PROFILES);
            if random.percent(30) {
                profiles.reverse();
            }
            profiles.into_iter().map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        ports: ports
            .into_iter()
            .map(|kind| {
                let (name, protocol) = [
                    (PORT_NAMES[0], "TCP"),
                    (PORT_NAMES[1], "UDP"),
                    (PORT_NAMES[1], "TCP"),
                    (PORT_NAMES[2], "SCTP"),
                    (PORT_NAMES[2], "TCP"),
                ][kind];
                EndpointPort {
                    name: name.to_owned(),
                    protocol: NumberOrText::Text(protocol.to_owned()),
                    port: (*random.one_of(&PORTS)).into(),
                }
            })
            .collect(),
    }
}

pub(super) fn sets(random: &mut Random) -> Vec<Resource> {
    let mut sets = Vec::new();
    for name in random.subset(40, &["a", "blocked", "partners", "empty"]) {
        let nets = if name == "empty" {
            Vec::new()
        } else {
            nets(random)
        };
        sets.push(Resource::GlobalNetworkSet(Object {
            metadata: metadata(name, labels(random, 40)),
            spec: NetworkSetSpec { nets: nets.into() },
        }));
    }
    for name in random.subset(25, &["a", "partners"]) {
        let mut metadata = metadata(name, labels(random, 30));
        metadata.namespace = Some((*random.one_of(&NAMESPACES)).to_owned());
        sets.push(Resource::NetworkSet(Object {
            metadata,
            spec: NetworkSetSpec {
                nets: nets(random).into(),
            },
        }));
    }
    sets
}

fn nets(random: &mut Random) -> Vec<String> {
    let mut nets = random.several(&(0..=4), |random| {
        // What holds everything would make every other member moot.
        let all = if random.percent(80) { 1..13 } else { 0..14 };
        (*random.one_of(&SET_NETS[all])).to_owned()
    });
    nets.sort();
    nets.dedup();
    nets
}

pub(super) fn profiles(random: &mut Random) -> Vec<Resource> {
    let mut profiles = Vec::new();
    for name in random.subset(
        75,
        &[
            "allow",
            "mixed",
            "empty",
            "kns.web",
            "kns.db",
            "ksa.web.builder",
        ],
    ) {
        let mut rules = |direction| {
            let count = match name {
                "mixed" => 1..=6,
                "kns.web" | "kns.db" => 0..=1,
                _ => 0..=0,
            };
            random.several(&count, |random| {
                rule(
                    random,
                    Place {
                        direction,
                        profile: true,
                    },
                )
            })
        };
        let mut spec = ProfileSpec {
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
            labels_to_apply: labels(random, 20),
        };
        if name == "allow" {
            let allow = hostfw_agent::resource::Rule {
                action: hostfw_agent::resource::Action::Allow,
                ..super::any_rule()
            };
            spec.ingress.push(allow.clone());
            spec.egress.push(allow);
        }
        if name.starts_with("kns.") {
            for (key, value) in labels(random, 30) {
                spec.labels_to_apply.insert(format!("pcns.{key}"), value);
            }
        }
        if name.starts_with("ksa.") {
            for (key, value) in labels(random, 40) {
                spec.labels_to_apply.insert(format!("pcsa.{key}"), value);
            }
        }
        profiles.push(Resource::Profile(Object {
            metadata: metadata(name, BTreeMap::new()),
            spec,
        }));
    }
    profiles
}

pub(super) fn tiers(random: &mut Random) -> Vec<Resource> {
    let mut names: Vec<&str> = TIERS.to_vec();
    names.sort_unstable();
    names.dedup();
    // Those that are fixed may be there, as they must be.
    names
        .into_iter()
        .filter_map(|name| {
            let spec = match name {
                "default" => random.some(20, |_| (Some(1_000_000.0), "Deny"))?,
                "kube-admin" => random.some(20, |_| (Some(1000.0), "Pass"))?,
                "kube-baseline" => random.some(20, |_| (Some(10_000_000.0), "Pass"))?,
                _ => random.some(75, |random| {
                    let orders = [
                        None,
                        Some(100.0),
                        Some(100.0),
                        Some(-1.5),
                        Some(2e7),
                        Some(0.0),
                    ];
                    (
                        *random.one_of(&orders),
                        *random.one_of(&["Deny", "Pass", ""]),
                    )
                })?,
            };
            Some(Resource::Tier(Object {
                metadata: metadata(name, BTreeMap::new()),
                spec: TierSpec {
                    order: spec.0,
                    default_action: (!spec.1.is_empty()).then(|| spec.1.to_owned()),
                },
            }))
        })
        .collect()
}

pub(super) fn settings(random: &mut Random) -> Vec<Resource> {
    let mut settings = Vec::new();
    for (name, percent) in [("default", 55), ("node.node1", 15), ("node.node2", 5)] {
        if random.percent(percent) {
            settings.push(Resource::FelixConfiguration(Object {
                metadata: metadata(name, BTreeMap::new()),
                spec: felix(random),
            }));
        }
    }
    settings
}

fn felix(random: &mut Random) -> FelixConfigurationSpec {
    let mut others = BTreeMap::new();
    let mut set = |percent: usize, key: &str, value: serde_json::Value| {
        if random.percent(percent) {
            others.insert(key.to_owned(), value);
        }
    };
    set(20, "wireguardEnabled", json!(true));
    set(15, "ipipEnabled", json!(true));
    set(15, "vxlanEnabled", json!(true));
    FelixConfigurationSpec {
        failsafe_inbound_host_ports: random.some(50, failsafes),
        failsafe_outbound_host_ports: random.some(50, failsafes),
        interface_prefix: random.some(10, |random| {
            (*random.one_of(&["cali", "cali,tap", "eth1,cali"])).to_owned()
        }),
        interface_exclude: random.some(8, |random| {
            (*random.one_of(&["kube-ipvs0", "kube-ipvs0,eth1", "/^wg[0-9]$/"])).to_owned()
        }),
        log_prefix: random.some(10, |_| "hostfw %t %n".to_owned()),
        vxlan_port: random.some(10, |_| 8472),
        geneve_port: random.some(10, |_| 6081),
        wireguard_listening_port: random.some(10, |_| 53),
        wireguard_listening_port_v6: random.some(10, |_| 51820),
        disable_conntrack_invalid_check: random.some(30, |random| random.percent(70)),
        others,
    }
}

fn failsafes(random: &mut Random) -> Vec<ProtoPort> {
    random.several(&(0..=4), |random| ProtoPort {
        protocol: (*random.one_of(&["TCP", "TCP", "UDP", "SCTP", "SCTP"])).to_owned(),
        port: (*random.one_of(&PORTS)).into(),
        net: random.some(50, |random| {
            let pool: &[&str] = if random.percent(60) {
                &NETS_V4
            } else {
                &NETS_V6
            };
            (*random.one_of(pool)).to_owned()
        }),
    })
}
