//! The ports and addresses that resources speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hostfw_common::verdict::Direction;
use ipnet::IpNet;

use super::traffic::{ICMP, SCTP, TCP, UDP};
use crate::{
    model::Failsafe,
    resource::{EntityRule, FelixConfigurationSpec, NumberOrText, ProtoPort, Resource, Rule},
};

/// What resources speak of.
#[derive(Debug, Default)]
pub(super) struct Mentioned {
    nets: BTreeSet<IpNet>,
    /// Protocol and port.
    pub(super) services: BTreeSet<(u8, u16)>,
    /// How many rules there are.
    pub(super) rules: usize,
}

impl Mentioned {
    pub(super) fn read(&mut self, resources: &[&Resource]) {
        // What no rule speaks of: a port, and a ping.
        self.services.extend([(TCP, 61_234), (ICMP, 0)]);
        for direction in Direction::ALL {
            for failsafe in Failsafe::defaults(direction) {
                self.services.insert((failsafe.protocol, failsafe.port));
            }
        }
        for resource in resources {
            self.read_one(resource);
        }
    }

    fn read_one(&mut self, resource: &Resource) {
        match resource {
            Resource::GlobalNetworkPolicy(policy) => {
                self.rules(&policy.spec.ingress);
                self.rules(&policy.spec.egress);
            }
            Resource::Profile(profile) => {
                self.rules(&profile.spec.ingress);
                self.rules(&profile.spec.egress);
            }
            Resource::HostEndpoint(endpoint) => {
                for port in &endpoint.spec.ports {
                    self.services(&[&port.protocol], i64_port(port.port));
                }
                self.nets(&endpoint.spec.expected_ips);
            }
            Resource::HostEndpointTemplate(template) => {
                for port in &template.spec.ports {
                    self.services(&[&port.protocol], i64_port(port.port));
                }
            }
            Resource::GlobalNetworkSet(set) | Resource::NetworkSet(set) => {
                self.nets(set.spec.nets.iter());
            }
            Resource::FelixConfiguration(felix) => self.failsafes(&felix.spec),
            Resource::WorkloadEndpoint(workload) => {
                for port in &workload.spec.ports {
                    self.services(&[&port.protocol], i64_port(port.port));
                }
                self.nets(&workload.spec.ip_networks);
            }
            Resource::EndpointSlice(slice) => {
                for port in &slice.spec.ports {
                    let protocol = port.protocol.as_deref().unwrap_or("TCP");
                    let protocol = NumberOrText::Text(protocol.to_owned());
                    self.services(&[&protocol], port.port.and_then(i64_port));
                }
                for endpoint in &slice.spec.endpoints {
                    self.nets(&endpoint.addresses);
                }
            }
            Resource::NodeAddresses(told) => {
                for endpoint in &told.spec.endpoints {
                    self.nets(&endpoint.addresses);
                }
            }
            Resource::Node(_) | Resource::StagedGlobalNetworkPolicy(_) | Resource::Tier(_) => {}
        }
    }

    fn failsafes(&mut self, spec: &FelixConfigurationSpec) {
        let lists = [
            &spec.failsafe_inbound_host_ports,
            &spec.failsafe_outbound_host_ports,
        ];
        for ProtoPort {
            protocol,
            port,
            net,
        } in lists.into_iter().flatten().flatten()
        {
            let protocol = NumberOrText::Text(protocol.to_ascii_uppercase());
            self.services(&[&protocol], i64_port(*port));
            self.nets(net.as_slice());
        }
    }

    fn rules(&mut self, rules: &[Rule]) {
        self.rules += rules.len();
        for rule in rules {
            let protocols: Vec<_> = rule.protocol.iter().collect();
            for EntityRule {
                nets,
                not_nets,
                ports,
                not_ports,
                ..
            } in [&rule.source, &rule.destination]
            {
                self.nets(nets);
                self.nets(not_nets);
                for port in ports.iter().chain(not_ports) {
                    for port in bounds(port) {
                        self.services(&protocols, Some(port));
                    }
                }
            }
        }
    }

    fn services(&mut self, protocols: &[&NumberOrText], port: Option<u16>) {
        let Some(port) = port else {
            return;
        };
        let named = protocols.iter().filter_map(|protocol| number(protocol));
        let before = self.services.len();
        self.services.extend(named.map(|protocol| (protocol, port)));
        if protocols.is_empty() || self.services.len() == before {
            self.services.extend([(TCP, port), (UDP, port)]);
        }
    }

    fn nets<'a>(&mut self, texts: impl IntoIterator<Item = &'a String>) {
        self.nets.extend(texts.into_iter().filter_map(|text| {
            let net = text.parse::<IpNet>();
            net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .ok()
        }));
    }

    /// An address of each net, and a stranger of each family.
    pub(super) fn remotes(&self) -> BTreeSet<IpAddr> {
        // Documentation addresses (RFC 5737, RFC 3849): the first that no net
        // holds stands for everybody else.
        let strangers_v4 = [[203, 0, 113, 77], [198, 51, 100, 77], [192, 0, 2, 77]];
        let strangers_v6 = [0x77, 0xffff_0077].map(|low: u128| (0x2001_0db8 << 96) | low);
        let v4 = strangers_v4.map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
        let v6 = strangers_v6.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
        let narrow = |net: &&IpNet| net.prefix_len() > 0;
        let unknown = |address: &&IpAddr| {
            !self
                .nets
                .iter()
                .filter(narrow)
                .any(|n| n.contains(*address))
        };
        let stranger = |candidates: &[IpAddr]| {
            let found = candidates.iter().find(unknown);
            found.or(candidates.first()).copied()
        };
        let mut remotes: BTreeSet<IpAddr> = [stranger(&v4), stranger(&v6)]
            .into_iter()
            .flatten()
            .collect();
        for net in self.nets.iter().filter(narrow) {
            remotes.insert(net.hosts().next().unwrap_or_else(|| net.addr()));
        }
        remotes
    }
}

fn written(value: &NumberOrText) -> String {
    match value {
        NumberOrText::Number(number) => number.to_string(),
        NumberOrText::Text(text) => text.clone(),
    }
}

fn i64_port(port: i64) -> Option<u16> {
    u16::try_from(port).ok()
}

/// The ends of a range of ports, or the port; nothing for a name.
fn bounds(port: &NumberOrText) -> Vec<u16> {
    let text = written(port);
    let parts: Option<Vec<u16>> = text.split(':').map(|part| part.parse().ok()).collect();
    parts.unwrap_or_default()
}

fn number(protocol: &NumberOrText) -> Option<u8> {
    let names = BTreeMap::from([("TCP", TCP), ("UDP", UDP), ("SCTP", SCTP)]);
    let text = written(protocol);
    names
        .get(text.as_str())
        .copied()
        .or_else(|| text.parse().ok())
}
