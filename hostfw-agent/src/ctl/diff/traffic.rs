//! The packets that a change is tried on: flows that the node knows, and every
//! port that the resources speak of, from every side that they tell apart.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use hostfw_common::verdict::Direction;

use super::mentioned::Mentioned;
use crate::{
    model::Interface,
    observe::live::{FlowStatus, Inside},
    question::{Path, Question, State},
    resource::Resource,
};

/// The most addresses and ports that a change is tried on; beyond them, a
/// sample. Each is tried with each, on every interface.
const MOST_REMOTES: usize = 64;
const MOST_SERVICES: usize = 1024;
/// The most packets for what the resources speak of, and for flows; beyond
/// them, a sample.
const MOST_PACKETS: usize = 200_000;
/// Packets times rules: each packet is judged twice, by the reference, which
/// looks at rule after rule. Some ten seconds.
const MOST_WORK: usize = 100_000_000;
/// However many rules there are, so many packets are tried.
const LEAST_PACKETS: usize = 5_000;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A flow that the node knows.
    Flow,
    /// Ports and addresses of the resources.
    Resources,
}

/// Something of which there is too much: a part of it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sampled {
    what: &'static str,
    all: usize,
    tried: usize,
}

impl fmt::Display for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, all, tried } = self;
        write!(
            f,
            "of {all} {what}, {tried} were tried: a change may be missed"
        )
    }
}

/// The packets, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) questions: Vec<(Origin, Question)>,
    pub(super) sampled: Vec<Sampled>,
}

impl Traffic {
    /// Packets for what the resources, old and new ones together, speak of.
    pub(super) fn new(
        resources: &[&Resource],
        interfaces: &[Interface],
        flows: &[FlowStatus],
    ) -> Self {
        let mut mentioned = Mentioned::default();
        mentioned.read(resources);
        let most = (MOST_WORK / mentioned.rules.max(1)).clamp(LEAST_PACKETS, MOST_PACKETS);
        Self::within(most, &mentioned, interfaces, flows)
    }

    /// At most so many packets for flows, and so many for the rest.
    fn within(
        most: usize,
        mentioned: &Mentioned,
        interfaces: &[Interface],
        flows: &[FlowStatus],
    ) -> Self {
        let mut traffic = Self::default();
        let leads = |flow: &FlowStatus, interface: &Interface| {
            flow.interface.is_none_or(|index| index == interface.index)
        };
        let flows: Vec<(&FlowStatus, Vec<&Interface>)> = flows
            .iter()
            .map(|flow| (flow, interfaces.iter().filter(|i| leads(flow, i)).collect()))
            .collect();
        let tries = flows.iter().map(|(_, interfaces)| interfaces.len()).sum();
        traffic.add(Origin::Flow, ("flows", flows.len()), (tries, most), |n| {
            let (flow, interfaces) = &flows[n];
            interfaces.iter().flat_map(|i| of_flow(flow, i)).collect()
        });

        let remotes = traffic.sample("addresses", mentioned.remotes(), MOST_REMOTES);
        let services = traffic.sample("ports", mentioned.services.clone(), MOST_SERVICES);
        let pairs: Vec<(&str, IpAddr, IpAddr)> = interfaces
            .iter()
            .flat_map(|interface| {
                let remotes = &remotes;
                interface.addresses.iter().flat_map(move |&local| {
                    let fitting = remotes
                        .iter()
                        .filter(move |remote| same_family(**remote, local));
                    fitting.map(move |&remote| (interface.name.as_str(), local, remote))
                })
            })
            .collect();
        let all = pairs.len() * services.len() * WAYS;
        traffic.add(Origin::Resources, ("packets", all), (all, most), |number| {
            let (number, way) = (number / WAYS, number % WAYS);
            let (interface, local, remote) = pairs[number / services.len()];
            let service = services[number % services.len()];
            vec![of_service(interface, local, remote, service, way)]
        });
        traffic
    }

    /// Adds the packets for each of the things: their number is given, and how
    /// many packets they make. If that is more than `most`, for some of them.
    fn add(
        &mut self,
        origin: Origin,
        (what, all): (&'static str, usize),
        (packets, most): (usize, usize),
        make: impl Fn(usize) -> Vec<Question>,
    ) {
        let one_of = packets.div_ceil(most.max(1)).max(1);
        let mut tried = 0;
        for number in (0..all).filter(|number| scattered(*number).is_multiple_of(one_of)) {
            tried += 1;
            let made = make(number).into_iter();
            self.questions
                .extend(made.map(|question| (origin, question)));
        }
        if one_of > 1 {
            self.sampled.push(Sampled { what, all, tried });
        }
    }

    fn sample<T: Clone>(&mut self, what: &'static str, all: BTreeSet<T>, most: usize) -> Vec<T> {
        let step = all.len().div_ceil(most).max(1);
        let count = all.len();
        let sample: Vec<T> = all.into_iter().step_by(step).collect();
        if step > 1 {
            self.sampled.push(Sampled {
                what,
                all: count,
                tried: sample.len(),
            });
        }
        sample
    }
}

/// A number that looks like chance, so that a sample of regular things is not
/// regular: the finaliser of splitmix64.
const fn scattered(number: usize) -> usize {
    let mut z = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

/// The flow's first packet, as if it came now through the interface.
fn of_flow(flow: &FlowStatus, interface: &Interface) -> Vec<Question> {
    let direction = if flow.opened_by_remote {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let remote = (flow.remote, flow.remote_port);
    let local = (flow.local, flow.local_port);
    let ask = |path, local| {
        let name = &interface.name;
        question(name, direction, path, flow.protocol, remote, local)
    };
    match (flow.inside, direction) {
        // It is judged before DNAT at some stages, and behind it at others.
        (Some(inside), Direction::Ingress) => vec![Question {
            translated: translation(flow, inside),
            ..ask(path_to(inside), local)
        }],
        // The host's own packets are judged behind SNAT, others' before it.
        (Some(inside), Direction::Egress) => vec![match path_to(inside) {
            Path::Local => ask(Path::Local, local),
            Path::Forward => ask(Path::Forward, (inside.address, inside.port)),
        }],
        // Without what the kernel knows: a NodePort's flow is forwarded,
        // although it is for this address.
        (None, Direction::Ingress) if interface.addresses.contains(&flow.local) => {
            vec![ask(Path::Local, local), ask(Path::Forward, local)]
        }
        (None, Direction::Egress) if interface.addresses.contains(&flow.local) => {
            vec![ask(Path::Local, local)]
        }
        (None, _) => vec![ask(Path::Forward, local)],
    }
}

const fn path_to(inside: Inside) -> Path {
    if inside.here {
        Path::Local
    } else {
        Path::Forward
    }
}

/// What DNAT makes of the flow's destination, if it changes it.
fn translation(flow: &FlowStatus, inside: Inside) -> Option<(IpAddr, u16)> {
    let has_ports = inside.port != 0;
    let port = if has_ports {
        inside.port
    } else {
        flow.local_port
    };
    let translated = (inside.address, port);
    (translated != (flow.local, flow.local_port)).then_some(translated)
}

/// In for a process, in to be forwarded, out of a process.
const WAYS: usize = 3;

/// A packet that asks for a service of the node, or of another's.
fn of_service(
    interface: &str,
    local: IpAddr,
    remote: IpAddr,
    (protocol, port): (u8, u16),
    way: usize,
) -> Question {
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
    let (direction, path, ports) = match way {
        0 => (Direction::Ingress, Path::Local, (client, port)),
        1 => (Direction::Ingress, Path::Forward, (client, port)),
        _ => (Direction::Egress, Path::Local, (port, client)),
    };
    let (remote, local) = ((remote, ports.0), (local, ports.1));
    question(interface, direction, path, protocol, remote, local)
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
        assert_eq!(traffic.sampled, []);
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
            interface: None,
            inside: None,
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
        let told: Vec<String> = traffic.sampled.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["of 502 addresses, 63 were tried: a change may be missed"]
        );
        let sources: BTreeSet<IpAddr> = traffic.questions.iter().map(|(_, q)| q.source).collect();
        assert!(sources.len() <= MOST_REMOTES + 2, "{}", sources.len());
    }

    fn eth0() -> Interface {
        Interface {
            index: 2,
            name: "eth0".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        }
    }

    fn flow(opened_by_remote: bool, inside: &str, port: u16, here: bool) -> FlowStatus {
        FlowStatus {
            protocol: TCP,
            remote: "192.0.2.9".parse().unwrap(),
            remote_port: 1234,
            local: "10.0.0.1".parse().unwrap(),
            local_port: 31_852,
            opened_by_remote,
            confirmed: true,
            interface: Some(2),
            inside: Some(Inside {
                address: inside.parse().unwrap(),
                port,
                here,
            }),
        }
    }

    #[test]
    fn a_flow_that_the_kernel_translates_takes_one_path() {
        let ask = |flow| {
            let asked = of_flow(&flow, &eth0());
            let [question] = &asked[..] else {
                panic!("{asked:?}");
            };
            question.clone()
        };
        let pod: IpAddr = "10.48.0.7".parse().unwrap();
        let node_port = ask(flow(true, "10.48.0.7", 80, false));
        assert_eq!(
            (node_port.path, node_port.translated),
            (Path::Forward, Some((pod, 80)))
        );
        assert_eq!(node_port.destination_port, 31_852);

        let own = ask(flow(true, "10.0.0.1", 31_852, true));
        assert_eq!((own.path, own.translated), (Path::Local, None));

        let masqueraded = ask(flow(false, "10.48.0.7", 40_000, false));
        assert_eq!(masqueraded.path, Path::Forward);
        assert_eq!((masqueraded.source, masqueraded.source_port), (pod, 40_000));
        let sent = ask(flow(false, "10.0.0.1", 31_852, true));
        assert_eq!((sent.path, sent.source_port), (Path::Local, 31_852));
    }

    #[test]
    fn a_flow_is_tried_where_routing_leads_it() {
        let other = Interface {
            index: 3,
            name: "eth1".to_owned(),
            ..eth0()
        };
        let mut known = flow(true, "10.0.0.1", 31_852, true);
        let tried = |flow: &FlowStatus| {
            let flows = std::slice::from_ref(flow);
            let all = Traffic::new(&[], &[eth0(), other.clone()], flows).questions;
            let all = all.into_iter();
            let of_flows = all.filter(|(origin, _)| *origin == Origin::Flow);
            of_flows
                .map(|(_, question)| question.interface)
                .collect::<Vec<_>>()
        };
        assert_eq!(tried(&known), ["eth0"]);
        known.interface = Some(3);
        assert_eq!(tried(&known), ["eth1"]);
        known.interface = None;
        assert_eq!(tried(&known), ["eth0", "eth1"]);
    }

    #[test]
    fn too_many_packets_are_sampled_in_all_ways_and_that_is_told() {
        let mut mentioned = Mentioned::default();
        mentioned.services = (0..500).map(|port| (TCP, port)).collect();
        let flows = vec![flow(true, "10.0.0.1", 31_852, true); 1000];
        let traffic = Traffic::within(90, &mentioned, &[eth0()], &flows);
        let told: Vec<&str> = traffic.sampled.iter().map(|s| s.what).collect();
        assert_eq!(told, ["flows", "packets"]);
        let count = |path, direction| {
            let tried = traffic.questions.iter().filter(|(origin, question)| {
                *origin == Origin::Resources
                    && (question.path, question.direction) == (path, direction)
            });
            tried.count()
        };
        for way in [
            (Path::Local, Direction::Ingress),
            (Path::Forward, Direction::Ingress),
            (Path::Local, Direction::Egress),
        ] {
            assert!(count(way.0, way.1) > 0, "{way:?}");
        }
        assert!(traffic.questions.len() < 400, "{}", traffic.questions.len());
        assert!(traffic.questions.len() > 60, "{}", traffic.questions.len());
    }
}
