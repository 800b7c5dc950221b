//! The packets that a change is tried on: flows that the node knows, and every
//! port that the resources speak of, from every side that they tell apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use hostfw_common::verdict::Direction;
use ipnet::IpNet;

use crate::{
    model::{Failsafe, Interface},
    observe::live::FlowStatus,
    question::{Path, Question, State},
    resource::{EntityRule, FelixConfigurationSpec, NumberOrText, ProtoPort, Resource, Rule},
};

/// The most addresses and ports that a change is tried on; beyond them, a
/// sample. Each is tried with each, on every interface.
const MOST_REMOTES: usize = 64;
const MOST_SERVICES: usize = 256;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A flow that the node knows.
    Flow,
    /// Ports and addresses of the resources.
    Resources,
}

/// The packets, and whether some were left out.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) questions: Vec<(Origin, Question)>,
    pub(super) sampled: bool,
}

impl Traffic {
    /// Packets for what the resources, old and new ones together, speak of.
    pub(super) fn new(
        resources: &[&Resource],
        interfaces: &[Interface],
        flows: &[FlowStatus],
    ) -> Self {
        let mut traffic = Self::default();
        for interface in interfaces {
            for flow in flows {
                traffic.add_flow(flow, interface);
            }
        }
        let mut mentioned = Mentioned::default();
        mentioned.read(resources);
        let remotes = traffic.sample(mentioned.remotes(), MOST_REMOTES);
        let services = traffic.sample(mentioned.services, MOST_SERVICES);
        for interface in interfaces {
            for local in &interface.addresses {
                for remote in remotes
                    .iter()
                    .filter(|remote| same_family(**remote, *local))
                {
                    for service in &services {
                        traffic.add_service(&interface.name, *local, *remote, *service);
                    }
                }
            }
        }
        traffic
    }

    fn sample<T: Clone>(&mut self, all: BTreeSet<T>, most: usize) -> Vec<T> {
        let step = all.len().div_ceil(most).max(1);
        self.sampled |= step > 1;
        all.into_iter().step_by(step).collect()
    }

    /// The flow's first packet, as if it came now.
    fn add_flow(&mut self, flow: &FlowStatus, interface: &Interface) {
        let direction = if flow.opened_by_remote {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let remote = (flow.remote, flow.remote_port);
        let local = (flow.local, flow.local_port);
        let held = interface.addresses.contains(&flow.local);
        let paths: &[Path] = match (held, direction) {
            // A NodePort's flow is forwarded, although it is for this address.
            (true, Direction::Ingress) => &[Path::Local, Path::Forward],
            (true, Direction::Egress) => &[Path::Local],
            (false, _) => &[Path::Forward],
        };
        for &path in paths {
            self.questions.push((
                Origin::Flow,
                question(
                    &interface.name,
                    direction,
                    path,
                    flow.protocol,
                    remote,
                    local,
                ),
            ));
        }
    }

    fn add_service(
        &mut self,
        interface: &str,
        local: IpAddr,
        remote: IpAddr,
        (protocol, port): (u8, u16),
    ) {
        const CLIENT: u16 = 40_000;
        let protocol = match (protocol, local) {
            (ICMP, IpAddr::V6(_)) => ICMPV6,
            (protocol, _) => protocol,
        };
        let client = if protocol == ICMP || protocol == ICMPV6 {
            0
        } else {
            CLIENT
        };
        let mut add = |direction, path, remote, local| {
            self.questions.push((
                Origin::Resources,
                question(interface, direction, path, protocol, remote, local),
            ));
        };
        let inbound = ((remote, client), (local, port));
        add(Direction::Ingress, Path::Local, inbound.0, inbound.1);
        add(Direction::Ingress, Path::Forward, inbound.0, inbound.1);
        add(
            Direction::Egress,
            Path::Local,
            (remote, port),
            (local, client),
        );
    }
}

/// A packet between the two sides, of which `remote` is the other's.
fn question(
    interface: &str,
    direction: Direction,
    path: Path,
    protocol: u8,
    remote: (IpAddr, u16),
    local: (IpAddr, u16),
) -> Question {
    let (source, destination) = match direction {
        Direction::Ingress => (remote, local),
        Direction::Egress => (local, remote),
    };
    let icmp = match protocol {
        // Echo requests (RFC 792, RFC 4443).
        ICMP => Some((8, 0)),
        ICMPV6 => Some((128, 0)),
        _ => None,
    };
    let port = |port| if icmp.is_some() { 0 } else { port };
    Question {
        interface: interface.to_owned(),
        direction,
        path,
        protocol,
        source: source.0,
        source_port: port(source.1),
        destination: destination.0,
        destination_port: port(destination.1),
        icmp,
        translated: None,
        state: State::New,
    }
}

const fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// What resources speak of.
#[derive(Debug, Default)]
struct Mentioned {
    nets: BTreeSet<IpNet>,
    /// Protocol and port.
    services: BTreeSet<(u8, u16)>,
}

impl Mentioned {
    fn read(&mut self, resources: &[&Resource]) {
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
            Resource::GlobalNetworkSet(set) | Resource::NetworkSet(set) => {
                self.nets(&set.spec.nets);
            }
            Resource::FelixConfiguration(felix) => self.failsafes(&felix.spec),
            Resource::StagedGlobalNetworkPolicy(_) | Resource::Tier(_) => {}
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

    fn nets(&mut self, texts: &[String]) {
        self.nets.extend(texts.iter().filter_map(|text| {
            let net = text.parse::<IpNet>();
            net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .ok()
        }));
    }

    /// An address of each net, and a stranger of each family.
    fn remotes(&self) -> BTreeSet<IpAddr> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::parse_documents;

    fn traffic(yaml: &str, flows: &[FlowStatus]) -> Traffic {
        let documents = parse_documents(yaml);
        let resources: Vec<Resource> = documents
            .into_iter()
            .flat_map(|d| d.result.unwrap())
            .collect();
        let eth0 = Interface {
            index: 2,
            name: "eth0".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        };
        Traffic::new(&resources.iter().collect::<Vec<_>>(), &[eth0], flows)
    }

    fn asks(traffic: &Traffic, protocol: u8, source: &str, port: u16) -> bool {
        let source: IpAddr = source.parse().unwrap();
        traffic.questions.iter().any(|(_, question)| {
            question.direction == Direction::Ingress
                && question.protocol == protocol
                && question.source == source
                && question.destination_port == port
        })
    }

    const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  ingress:
  - {action: Allow, protocol: TCP, source: {nets: [198.51.100.0/24]}, destination: {ports: [\"30000:32767\"]}}
  - {action: Deny, protocol: UDP, source: {notNets: [203.0.113.0/24]}, destination: {ports: [53, dns]}}
";

    #[test]
    fn ports_and_nets_of_rules_and_a_stranger_are_tried() {
        let traffic = traffic(POLICY, &[]);
        for source in ["198.51.100.1", "203.0.113.1", "192.0.2.77", "2001:db8::77"] {
            for (protocol, port) in [(TCP, 30_000), (TCP, 32_767), (UDP, 53), (TCP, 22)] {
                assert!(
                    asks(&traffic, protocol, source, port),
                    "{source} {protocol} {port}"
                );
            }
        }
        assert!(!asks(&traffic, UDP, "198.51.100.1", 30_000));
        assert!(!traffic.sampled);
    }

    #[test]
    fn flows_are_tried_on_both_paths_that_they_may_take() {
        let flow = |local: &str| FlowStatus {
            protocol: TCP,
            remote: "192.0.2.9".parse().unwrap(),
            remote_port: 1234,
            local: local.parse().unwrap(),
            local_port: 31_852,
            opened_by_remote: true,
            confirmed: true,
        };
        let paths = |local| -> Vec<Path> {
            let traffic = traffic("", &[flow(local)]);
            let flows = traffic
                .questions
                .iter()
                .filter(|(origin, _)| *origin == Origin::Flow);
            flows.map(|(_, question)| question.path).collect()
        };
        assert_eq!(paths("10.0.0.1"), [Path::Local, Path::Forward]);
        assert_eq!(paths("10.48.0.7"), [Path::Forward]);
    }

    #[test]
    fn very_many_nets_are_sampled_and_that_is_told() {
        let nets: Vec<String> = (0..500)
            .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
            .collect();
        let set = format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: s}}\n\
             spec: {{nets: [{}]}}\n",
            nets.join(", ")
        );
        let traffic = traffic(&set, &[]);
        assert!(traffic.sampled);
        let sources: BTreeSet<IpAddr> = traffic.questions.iter().map(|(_, q)| q.source).collect();
        assert!(sources.len() <= MOST_REMOTES + 2, "{}", sources.len());
    }
}
