//! Packets aimed at the edges of a scene's rules.

mod edges;

use std::net::IpAddr;

use hostfw_agent::{
    question::{Path, Question, State},
    resource::{EntityRule, NumberOrText, Resource, Rule, ServiceMatch},
};
use hostfw_common::verdict::Direction;
use ipnet::IpNet;

use self::edges::{address, edge, neighbour, next_to, port, port_of};
use crate::{
    generate::{
        Scene, any_rule,
        pools::{MESSAGES, NODE, PROTOCOLS},
        rule::number_of,
    },
    random::Random,
};

/// What of a scene packets can be aimed at.
#[derive(Debug)]
pub struct Aim<'a> {
    scene: &'a Scene,
    rules: Vec<Target<'a>>,
    /// What selectors may stand for: nets of sets, addresses of endpoints.
    members: Vec<IpNet>,
    /// Ports of endpoints and services, with their addresses.
    points: Vec<Point<'a>>,
    /// The addresses of services.
    served: Vec<(Called<'a>, IpAddr)>,
    nodes: Vec<IpAddr>,
    failsafes: Vec<(Direction, u8, u16, Option<IpNet>)>,
    governed: Vec<&'a str>,
}

#[derive(Debug)]
struct Target<'a> {
    rule: &'a Rule,
    direction: Direction,
    /// `None`: the rule is looked at on both.
    path: Option<Path>,
    /// It is judged before DNAT.
    wire: bool,
}

#[derive(Debug)]
struct Point<'a> {
    called: Called<'a>,
    protocol: u8,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// By what rules mean points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called<'a> {
    /// A name of a port.
    Name(&'a str),
    /// Namespace and name of a service.
    Service(Option<&'a str>, Option<&'a str>),
}

/// Fail-safes where no settings say otherwise, and tunnels' ports.
const WELL_KNOWN: [(Direction, u8, u16); 8] = [
    (Direction::Ingress, 6, 22),
    (Direction::Ingress, 6, 2380),
    (Direction::Ingress, 17, 68),
    (Direction::Egress, 17, 53),
    (Direction::Egress, 6, 179),
    (Direction::Egress, 17, 67),
    (Direction::Egress, 6, 6667),
    (Direction::Ingress, 6, 6666),
];

const TUNNELS: [(u8, u16); 7] = [
    (17, 4789),
    (17, 8472),
    (17, 51820),
    (17, 51821),
    (4, 0),
    (41, 0),
    (17, 6081),
];

/// Extension headers of IPv6: no packet ends with them.
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];
/// A number that is nobody's (RFC 3692).
const EXPERIMENT: u8 = 253;

impl<'a> Aim<'a> {
    /// Looks for what can be aimed at.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        let mut aim = Self {
            scene,
            rules: Vec::new(),
            members: Vec::new(),
            points: Vec::new(),
            served: Vec::new(),
            nodes: Vec::new(),
            failsafes: WELL_KNOWN
                .iter()
                .map(|&(direction, protocol, port)| (direction, protocol, port, None))
                .collect(),
            governed: vec!["eth0"],
        };
        for resource in &scene.resources {
            aim.add(resource);
        }
        aim
    }

    fn add(&mut self, resource: &'a Resource) {
        match resource {
            Resource::GlobalNetworkPolicy(policy) => {
                let spec = &policy.spec;
                self.add_policy(
                    [&spec.ingress, &spec.egress],
                    [spec.do_not_track, spec.pre_dnat, spec.apply_on_forward],
                );
            }
            Resource::StagedGlobalNetworkPolicy(policy) => {
                let spec = &policy.spec;
                self.add_policy(
                    [&spec.ingress, &spec.egress],
                    [spec.do_not_track, spec.pre_dnat, spec.apply_on_forward],
                );
            }
            Resource::Profile(profile) => {
                for (direction, rules) in [
                    (Direction::Ingress, &profile.spec.ingress),
                    (Direction::Egress, &profile.spec.egress),
                ] {
                    self.rules.extend(rules.iter().map(|rule| Target {
                        rule,
                        direction,
                        path: Some(Path::Local),
                        wire: false,
                    }));
                }
            }
            Resource::GlobalNetworkSet(set) => self.add_nets(set.spec.nets.iter()),
            Resource::NetworkSet(set) => self.add_nets(set.spec.nets.iter()),
            Resource::HostEndpoint(endpoint) => {
                let spec = &endpoint.spec;
                let mut addresses: Vec<IpAddr> = spec
                    .expected_ips
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .map(|address: IpAddr| address.to_canonical())
                    .collect();
                if spec.node.as_deref() == Some(NODE) {
                    for interface in &self.scene.interfaces {
                        let is = spec.interface.as_deref() == Some(&interface.name);
                        if is {
                            self.governed.push(&interface.name);
                        }
                        if addresses.is_empty() && is {
                            addresses.extend(&interface.addresses);
                        }
                    }
                    if spec.interface.as_deref() == Some("*") {
                        self.governed.extend(["lo", "eth1", "wg0", "cali1234"]);
                    }
                }
                self.members
                    .extend(addresses.iter().map(|address| IpNet::from(*address)));
                self.nodes.extend(&addresses);
                for port in &spec.ports {
                    self.points.push(Point {
                        called: Called::Name(&port.name),
                        protocol: number_of(&port.protocol),
                        port: u16::try_from(port.port).unwrap_or(0),
                        addresses: addresses.clone(),
                    });
                }
            }
            Resource::FelixConfiguration(felix) => {
                for (direction, list) in [
                    (Direction::Ingress, &felix.spec.failsafe_inbound_host_ports),
                    (Direction::Egress, &felix.spec.failsafe_outbound_host_ports),
                ] {
                    for entry in list.iter().flatten() {
                        let protocol = number_of(&NumberOrText::Text(entry.protocol.clone()));
                        let port = u16::try_from(entry.port).unwrap_or(0);
                        let net = entry.net.as_deref().and_then(|net| net.parse().ok());
                        self.failsafes.push((direction, protocol, port, net));
                    }
                }
            }
            Resource::HostEndpointTemplate(_) => self.governed.extend(["eth1", "wg0"]),
            Resource::WorkloadEndpoint(workload) => {
                let spec = &workload.spec;
                self.add_nets(&spec.ip_networks);
                let addresses = spec.ip_networks.iter().filter_map(|text| text.parse().ok());
                let addresses: Vec<IpAddr> = addresses.collect();
                self.points.extend(spec.ports.iter().map(|port| Point {
                    called: Called::Name(&port.name),
                    protocol: number_of(&port.protocol),
                    port: u16::try_from(port.port).unwrap_or(0),
                    addresses: addresses.clone(),
                }));
            }
            Resource::EndpointSlice(slice) => {
                let called = Called::Service(
                    slice.metadata.namespace.as_deref(),
                    slice
                        .metadata
                        .labels
                        .get("kubernetes.io/service-name")
                        .map(String::as_str),
                );
                for endpoint in &slice.spec.endpoints {
                    self.add_nets(&endpoint.addresses);
                    let addresses = endpoint
                        .addresses
                        .iter()
                        .filter_map(|text| text.parse().ok());
                    let addresses: Vec<IpAddr> = addresses.collect();
                    self.served
                        .extend(addresses.iter().map(|address| (called, *address)));
                    self.points
                        .extend(slice.spec.ports.iter().filter_map(|port| {
                            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_owned();
                            Some(Point {
                                called,
                                protocol: number_of(&NumberOrText::Text(protocol)),
                                port: u16::try_from(port.port?).ok()?,
                                addresses: addresses.clone(),
                            })
                        }));
                }
            }
            Resource::NodeAddresses(told) => {
                for endpoint in &told.spec.endpoints {
                    self.add_nets(&endpoint.addresses);
                }
            }
            Resource::Node(_) | Resource::Tier(_) => {}
        }
    }

    /// Rules for ingress and egress of a policy, enforced or staged, and
    /// whether it is untracked, before DNAT, and for what is forwarded.
    fn add_policy(&mut self, rules: [&'a [Rule]; 2], marks: [Option<bool>; 3]) {
        let [untracked, pre_dnat, forward] = marks.map(|mark| mark == Some(true));
        for (direction, rules) in Direction::ALL.into_iter().zip(rules) {
            let local = !forward || untracked && direction == Direction::Egress;
            self.rules.extend(rules.iter().map(|rule| Target {
                rule,
                direction,
                path: local.then_some(Path::Local),
                wire: untracked || pre_dnat,
            }));
        }
    }

    fn add_nets<'n>(&mut self, nets: impl IntoIterator<Item = &'n String>) {
        for text in nets {
            let net = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            self.members.extend(net.ok().map(on_the_wire));
        }
    }

    /// A packet, aimed at something.
    pub fn question(&self, random: &mut Random) -> Question {
        let nothing = any_rule();
        let (rule, direction, path, wire) = match random.any_of(&self.rules) {
            Some(target) if random.percent(80) => (
                target.rule,
                target.direction,
                target.path,
                // Forward and normal rules see the destination after DNAT.
                target.wire,
            ),
            Some(_) | None => (
                &nothing,
                *random.one_of(&Direction::ALL),
                None,
                random.percent(50),
            ),
        };
        let path = path.unwrap_or_else(|| *random.one_of(&[Path::Local, Path::Forward]));
        let mut draft = Draft::for_rule(self, rule, random);
        match random.below(100) {
            0..=24 => draft.miss(self, random),
            25..=27 => {
                draft.miss(self, random);
                draft.miss(self, random);
            }
            28..=33 => draft.aim_at_failsafe(self, direction, random),
            34..=39 => draft.aim_at_tunnel(self, random),
            40 => draft.aim_at_discovery(random),
            _ => {}
        }
        self.ask(draft, direction, path, wire, random)
    }

    fn ask(
        &self,
        draft: Draft,
        direction: Direction,
        path: Path,
        wire: bool,
        random: &mut Random,
    ) -> Question {
        let mut destination = (draft.destination, draft.destination_port);
        let translated = if direction == Direction::Ingress && random.percent(35) {
            // What DNAT changes is the destination's address, its port, or both.
            let other = (
                if random.percent(70) {
                    address(random, draft.v4())
                } else {
                    destination.0
                },
                if draft.has_ports() { port(random) } else { 0 },
            );
            if wire {
                Some(other)
            } else {
                Some(std::mem::replace(&mut destination, other))
            }
        } else {
            None
        };
        let interface = if random.percent(93) {
            *random.one_of(&self.governed)
        } else {
            &random.one_of(&self.scene.interfaces).name
        };
        Question {
            interface: interface.to_owned(),
            direction,
            path,
            protocol: draft.protocol,
            source: draft.source,
            source_port: draft.source_port,
            destination: destination.0,
            destination_port: destination.1,
            icmp: draft.icmp,
            translated,
            state: match random.below(100) {
                0..=2 => State::Established,
                3..=9 => State::Invalid,
                _ => State::New,
            },
        }
    }
}

/// IPv4 addresses mapped into IPv6 are written so, and never sent so.
fn on_the_wire(net: IpNet) -> IpNet {
    /// Length of `::ffff:0:0/96` (RFC 4291 section 2.5.5.2).
    const MAPPED: u8 = 96;
    let length = net.prefix_len().checked_sub(MAPPED);
    match (net.addr().to_canonical(), length) {
        (address @ IpAddr::V4(_), Some(length)) if !net.addr().is_ipv4() => {
            IpNet::new(address, length).unwrap_or(net)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => net,
    }
}

/// A packet in the making.
struct Draft {
    protocol: u8,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
    icmp: Option<(u8, u8)>,
}

impl Draft {
    /// A packet that meets as much of the rule as is easily met.
    fn for_rule(aim: &Aim<'_>, rule: &Rule, random: &mut Random) -> Self {
        let named: Vec<&Point<'_>> = [&rule.source, &rule.destination]
            .into_iter()
            .flat_map(|entity| entity.ports.iter().chain(&entity.not_ports))
            .filter_map(|port| match port {
                NumberOrText::Text(name) => Some(name),
                NumberOrText::Number(_) => None,
            })
            .map(|name| Called::Name(name))
            .chain(rule.destination.services.as_ref().map(called))
            .flat_map(|called| {
                let points = aim.points.iter();
                points.filter(move |point| point.called == called && !point.addresses.is_empty())
            })
            .collect();
        let point = random.any_of(&named).copied();
        let protocol = match &rule.protocol {
            Some(protocol) => number_of(protocol),
            None => match point {
                Some(point) => point.protocol,
                None if rule.not_icmp.is_some() => *random.one_of(&[1, 58]),
                None => *random.one_of(&PROTOCOLS),
            },
        };
        let v4 = match (&rule.destination.services, point) {
            (Some(_), Some(point)) => point.addresses.iter().any(IpAddr::is_ipv4),
            (Some(_) | None, _) => family(aim, rule, protocol, random),
        };
        let mut draft = Self {
            protocol,
            source: side(aim, &rule.source, v4, random),
            source_port: port_of(&rule.source, random),
            destination: side(aim, &rule.destination, v4, random),
            destination_port: port_of(&rule.destination, random),
            icmp: None,
        };
        if let Some(point) = point
            && random.percent(80)
        {
            let in_source = rule
                .source
                .ports
                .iter()
                .chain(&rule.source.not_ports)
                .any(|port| matches!(port, NumberOrText::Text(name) if Called::Name(name) == point.called));
            let address = point
                .addresses
                .iter()
                .find(|address| address.is_ipv4() == v4)
                .copied();
            if in_source {
                draft.source = address.unwrap_or(draft.source);
                draft.source_port = point.port;
            } else {
                draft.destination = address.unwrap_or(draft.destination);
                draft.destination_port = point.port;
            }
        }
        let wanted = rule
            .icmp
            .as_ref()
            .and_then(|fields| fields.kind.map(|kind| (kind, fields.code)));
        let unwanted = rule
            .not_icmp
            .as_ref()
            .and_then(|fields| fields.kind.map(|kind| (kind, fields.code)));
        draft.settle(random);
        if draft.icmp.is_some()
            && let Some((kind, code)) = wanted.or(unwanted.filter(|_| random.percent(60)))
        {
            let any = random.below(256) as u8;
            let code = code.and_then(|code| u8::try_from(code).ok());
            let code = code.filter(|_| random.percent(75)).unwrap_or(any);
            draft.icmp = Some((u8::try_from(kind).unwrap_or(0), code));
        }
        draft
    }

    fn v4(&self) -> bool {
        self.source.is_ipv4()
    }

    fn has_ports(&self) -> bool {
        matches!(self.protocol, 6 | 17 | 33 | 132 | 136)
    }

    /// Makes ports and ICMP fields fit the protocol, and the protocol the
    /// family.
    fn settle(&mut self, random: &mut Random) {
        if !self.v4() && EXTENSIONS.contains(&self.protocol) {
            self.protocol = EXPERIMENT;
        }
        if !self.has_ports() {
            self.source_port = 0;
            self.destination_port = 0;
        }
        let is_icmp = self.protocol == if self.v4() { 1 } else { 58 };
        self.icmp = is_icmp.then(|| self.icmp.unwrap_or_else(|| *random.one_of(&MESSAGES)));
    }

    /// Changes one thing, to what lies next to it.
    fn miss(&mut self, aim: &Aim<'_>, random: &mut Random) {
        let v4 = self.v4();
        match random.below(8) {
            0 => self.source = neighbour(self.source, random),
            1 => self.destination = neighbour(self.destination, random),
            2 => self.source_port = next_to(self.source_port, random),
            3 => self.destination_port = next_to(self.destination_port, random),
            4 => {
                self.protocol = match (self.protocol, random.below(3)) {
                    (6, 0) => 17,
                    (17, 0) => 6,
                    (1, 0) => 58,
                    (58, 0) => 1,
                    (protocol, 1) => protocol.wrapping_add(1).max(1),
                    _ => *random.one_of(&PROTOCOLS),
                };
                if self.has_ports() && self.destination_port == 0 {
                    self.source_port = port(random);
                    self.destination_port = port(random);
                }
            }
            5 => {
                if let Some((kind, code)) = self.icmp {
                    self.icmp = Some(if random.percent(50) {
                        (kind.wrapping_add(1), code)
                    } else {
                        (kind, code.wrapping_add(1))
                    });
                }
            }
            6 => {
                self.source = member(aim, v4, random).unwrap_or_else(|| address(random, v4));
            }
            _ => {
                self.destination = member(aim, v4, random).unwrap_or_else(|| address(random, v4));
            }
        }
        self.settle(random);
    }

    fn aim_at_failsafe(&mut self, aim: &Aim<'_>, direction: Direction, random: &mut Random) {
        let (of, protocol, port, net) = *random.one_of(&aim.failsafes);
        self.protocol = protocol;
        let reply = of != direction && random.percent(80);
        if self.destination_port == 0 {
            self.source_port = self::port(random);
            self.destination_port = self::port(random);
        }
        let port = if random.percent(15) {
            next_to(port, random)
        } else {
            port
        };
        if reply {
            self.source_port = port;
        } else {
            self.destination_port = port;
        }
        if let Some(net) = net {
            let v4 = net.addr().is_ipv4();
            let remote = edge(net, random);
            let other = address(random, v4);
            (self.source, self.destination) = match direction {
                Direction::Ingress => (remote, other),
                Direction::Egress => (other, remote),
            };
        }
        self.settle(random);
    }

    fn aim_at_tunnel(&mut self, aim: &Aim<'_>, random: &mut Random) {
        let (protocol, port) = *random.one_of(&TUNNELS);
        let v4 = self.v4() && random.percent(60);
        let end = |random: &mut Random| {
            let of_family: Vec<IpAddr> = aim
                .nodes
                .iter()
                .copied()
                .filter(|address| address.is_ipv4() == v4)
                .collect();
            match random.any_of(&of_family) {
                Some(address) if random.percent(90) => *address,
                Some(_) | None => address(random, v4),
            }
        };
        (self.source, self.destination) = (end(random), end(random));
        self.protocol = protocol;
        self.source_port = self::port(random);
        self.destination_port = port;
        self.settle(random);
    }

    fn aim_at_discovery(&mut self, random: &mut Random) {
        self.protocol = 58;
        self.source = address(random, false);
        self.destination = address(random, false);
        self.icmp = Some((
            *random.one_of(&[129, 130, 132, 133, 135, 136, 137, 143, 144]),
            0,
        ));
        self.settle(random);
    }
}

/// Whether a packet for the rule is IPv4.
fn family(aim: &Aim<'_>, rule: &Rule, protocol: u8, random: &mut Random) -> bool {
    if random.percent(4) {
        return random.percent(50);
    }
    match (rule.ip_version, protocol) {
        (Some(version), _) => return version == 4,
        (None, 1) => return true,
        (None, 58) => return false,
        (None, _) => {}
    }
    for entity in [&rule.source, &rule.destination] {
        if let Some(net) = entity.nets.first().or(entity.not_nets.first()) {
            return !net.contains(':');
        }
    }
    // Most members are IPv4, and so are most packets.
    let _ = aim;
    random.percent(60)
}

fn side(aim: &Aim<'_>, entity: &EntityRule, v4: bool, random: &mut Random) -> IpAddr {
    let positive: Vec<IpNet> = entity
        .nets
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    let negative: Vec<IpNet> = entity
        .not_nets
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    let of = |nets: &[IpNet], random: &mut Random| {
        let fitting: Vec<IpNet> = nets
            .iter()
            .copied()
            .filter(|net| net.addr().is_ipv4() == v4)
            .collect();
        random.any_of(&fitting).map(|net| edge(*net, random))
    };
    let selects = entity
        .selector
        .as_deref()
        .is_some_and(|text| !text.is_empty())
        || entity.namespace_selector.is_some()
        || entity.service_accounts.is_some();
    for _ in 0..4 {
        let candidate = if let Some(service) = &entity.services {
            let served = aim.served.iter();
            let served: Vec<IpAddr> = served
                .filter(|(of, address)| *of == called(service) && address.is_ipv4() == v4)
                .map(|(_, address)| *address)
                .collect();
            random.any_of(&served).copied()
        } else if selects {
            member(aim, v4, random)
        } else if !positive.is_empty() {
            of(&positive, random)
        } else if random.percent(25) {
            of(&negative, random)
        } else if random.percent(30) {
            member(aim, v4, random)
        } else {
            None
        }
        .unwrap_or_else(|| address(random, v4));
        let fits = (positive.is_empty() || positive.iter().any(|net| net.contains(&candidate)))
            && !negative.iter().any(|net| net.contains(&candidate));
        if fits || random.percent(15) {
            return candidate;
        }
    }
    address(random, v4)
}

/// How a service's points are called.
fn called(service: &ServiceMatch) -> Called<'_> {
    Called::Service(service.namespace.as_deref(), service.name.as_deref())
}

/// An address of something that selectors may match.
fn member(aim: &Aim<'_>, v4: bool, random: &mut Random) -> Option<IpAddr> {
    let of_family: Vec<IpNet> = aim
        .members
        .iter()
        .copied()
        .filter(|net| net.addr().is_ipv4() == v4)
        .collect();
    random.any_of(&of_family).map(|net| edge(*net, random))
}
