//! Random selections and packets, the same for the same seed. Values come from
//! small pools, so that rules overlap and packets fall on their edges.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hostfw_agent::{
    model::{
        Failsafe, IcmpMatch, Interface, IpVersion, Kind, ObjectRef, PortRange, Protocol,
        RuleAction, StagedAction,
    },
    question::{Path, Question, State},
    select::{
        Governed, Point, SelectedEntity, SelectedList, SelectedPolicy, SelectedRule, SelectedTier,
        Selection, Tunnels,
    },
};
use hostfw_common::{
    stage::{List, Stage},
    verdict::Direction,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const PROTOCOLS: [u8; 11] = [1, 2, 4, 6, 17, 33, 47, 58, 132, 136, 255];
const NETS_V4: [&str; 9] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.240.0.0/16",
    "10.240.128.0/17",
    "10.240.0.11/32",
    "10.240.0.10/31",
    "192.168.0.0/16",
    "255.255.255.255/32",
];
const NETS_V6: [&str; 8] = [
    "::/0",
    "fd00::/8",
    "fd00:10:240::/64",
    "fd00:10:240::/63",
    "fd00:10:240::11/128",
    "fd00:10:240::10/127",
    "fe80::/10",
    "8000::/1",
];
const PORTS: [u16; 12] = [
    1, 22, 80, 1023, 1024, 8080, 30000, 31852, 32767, 32768, 65534, 65535,
];
const MESSAGES: [(u8, u8); 7] = [
    (0, 0),
    (3, 4),
    (8, 0),
    (8, 255),
    (128, 0),
    (135, 0),
    (254, 1),
];
/// With VXLAN's port moved to one of the pool.
const TUNNELS: [(u8, u16); 3] = [(4, 0), (17, 8080), (17, 31852)];
/// Name of the profile that is never there.
pub(crate) const MISSING: &str = "gone";

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn some<T>(&mut self, one_in: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(one_in).then(|| make(self))
    }

    fn few<T>(&mut self, one_in: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        if !self.one_in(one_in) {
            return Vec::new();
        }
        let count = 1 + self.below(3);
        (0..count).map(|_| make(self)).collect()
    }

    fn net(&mut self) -> IpNet {
        if self.one_in(2) {
            self.one_of(&NETS_V4).parse().expect("a net")
        } else {
            self.one_of(&NETS_V6).parse().expect("a net")
        }
    }

    /// An edge of a net: its first or last address, or their neighbours.
    fn edge(&mut self, v4: bool) -> IpAddr {
        let up = self.one_in(2);
        let outside = u32::from(self.one_in(3));
        if v4 {
            let net: Ipv4Net = self.one_of(&NETS_V4).parse().expect("a net");
            Ipv4Addr::from_bits(if up {
                net.broadcast().to_bits().wrapping_add(outside)
            } else {
                net.network().to_bits().wrapping_sub(outside)
            })
            .into()
        } else {
            let net: Ipv6Net = self.one_of(&NETS_V6).parse().expect("a net");
            Ipv6Addr::from_bits(if up {
                net.broadcast().to_bits().wrapping_add(outside.into())
            } else {
                net.network().to_bits().wrapping_sub(outside.into())
            })
            .into()
        }
    }

    fn port(&mut self) -> u16 {
        let port = *self.one_of(&PORTS);
        match self.below(4) {
            0 => port.wrapping_add(1),
            1 => port.wrapping_sub(1),
            _ => port,
        }
    }

    fn range(&mut self) -> PortRange {
        let (one, other) = (*self.one_of(&PORTS), *self.one_of(&PORTS));
        let narrow = self.one_in(2);
        PortRange {
            first: one.min(other),
            last: if narrow {
                one.min(other)
            } else {
                one.max(other)
            },
        }
    }

    fn protocol(&mut self) -> Protocol {
        let number = *self.one_of(&PROTOCOLS);
        let implied_version = match number {
            1 => self.some(2, |_| IpVersion::V4),
            58 => self.some(2, |_| IpVersion::V6),
            _ => None,
        };
        Protocol {
            number,
            implied_version,
        }
    }

    fn message(&mut self) -> IcmpMatch {
        let (kind, code) = *self.one_of(&MESSAGES);
        IcmpMatch {
            kind,
            code: self.some(2, |_| code),
        }
    }

    fn entity(&mut self, ports: bool) -> SelectedEntity {
        let ports_one_in = if ports { 3 } else { 40 };
        SelectedEntity {
            nets: self.few(4, Self::net),
            not_nets: self.few(8, Self::net),
            members: self.some(8, |random| random.few(1, Self::net).into()),
            not_members: self.few(10, Self::net).into(),
            ports: self.few(ports_one_in, Self::range),
            points: self.some(3 * ports_one_in, Self::points),
            not_ports: self.few(2 * ports_one_in, Self::range),
            not_points: self.some(5 * ports_one_in, Self::points),
        }
    }

    fn point(&mut self) -> Point {
        let v4 = self.one_in(2);
        Point {
            address: self.edge(v4),
            protocol: *self.one_of(&[6, 6, 6, 17, 17, 132]),
            port: *self.one_of(&PORTS),
        }
    }

    fn points(&mut self) -> Vec<Point> {
        let count = self.below(7);
        let mut points: Vec<Point> = (0..count).map(|_| self.point()).collect();
        // Several addresses with a port, several ports of an address.
        for _ in 0..count / 2 {
            let (one, other) = (*self.one_of(&points), *self.one_of(&points));
            points.push(Point {
                address: other.address,
                ..one
            });
        }
        points
    }

    fn rule(&mut self) -> SelectedRule {
        let action = *self.one_of(&[
            RuleAction::Allow,
            RuleAction::Allow,
            RuleAction::Deny,
            RuleAction::Deny,
            RuleAction::Log,
            RuleAction::Pass,
        ]);
        let mut protocol = self.some(2, Self::protocol);
        let ports = protocol.is_none_or(|p| [6, 17, 132].contains(&p.number)) && self.one_in(2);
        let messages = !ports && self.one_in(6);
        if messages && self.one_in(2) {
            protocol = Some(Protocol {
                number: *self.one_of(&[1, 58]),
                implied_version: None,
            });
        }
        let one_in = if messages { 2 } else { 60 };
        SelectedRule {
            action,
            ip_version: self.some(8, |random| *random.one_of(&[IpVersion::V4, IpVersion::V6])),
            protocol,
            not_protocol: self.some(8, Self::protocol),
            icmp: self.some(one_in, Self::message),
            not_icmp: self.some(one_in, Self::message),
            source: self.entity(ports),
            destination: self.entity(ports),
        }
    }

    fn policy(&mut self, kind: Kind, name: String) -> SelectedPolicy {
        // Now and then so many that rows have more than one word.
        let most = if self.one_in(40) { 150 } else { 6 };
        let rules = self.below(most);
        let staged = kind == Kind::StagedGlobalNetworkPolicy;
        let missing = name == MISSING;
        SelectedPolicy {
            object: ObjectRef { kind, name },
            staged: staged.then(|| *self.one_of(&[StagedAction::Set, StagedAction::Learn])),
            missing,
            rules: if missing {
                Vec::new()
            } else {
                (0..rules).map(|_| self.rule()).collect()
            },
        }
    }

    fn tier(&mut self, name: &str, stage: Stage) -> SelectedTier {
        let count = 1 + self.below(3);
        let policies: Vec<_> = (0..count)
            .map(|number| {
                let kind = if self.one_in(4) {
                    Kind::StagedGlobalNetworkPolicy
                } else {
                    Kind::GlobalNetworkPolicy
                };
                self.policy(kind, format!("{name}-{number}"))
            })
            .collect();
        let enforced = policies.iter().any(|policy| policy.staged.is_none());
        let may_deny = enforced && matches!(stage, Stage::Forward | Stage::Normal);
        SelectedTier {
            name: name.to_owned(),
            default_deny: may_deny && self.one_in(2),
            policies,
        }
    }

    fn list(&mut self, stage: Stage, workload: bool) -> SelectedList {
        let normal = stage == Stage::Normal;
        if workload && matches!(stage, Stage::Untracked | Stage::Normal) {
            return SelectedList::default();
        }
        let mut tiers = Vec::new();
        for name in ["first", "second", "third"] {
            if self.one_in(2) {
                tiers.push(self.tier(name, stage));
            }
        }
        let mut profiles = Vec::new();
        for name in ["one", MISSING, "two"] {
            let one_in = if name == MISSING { 12 } else { 3 };
            if normal && self.one_in(one_in) {
                profiles.push(self.policy(Kind::Profile, name.to_owned()));
            }
        }
        SelectedList {
            tiers,
            profiles,
            default_deny: normal,
        }
    }

    fn failsafe(&mut self) -> Failsafe {
        Failsafe {
            protocol: *self.one_of(&[6, 6, 17, 17, 132]),
            port: *self.one_of(&PORTS),
            net: self.some(2, Self::net),
        }
    }

    fn tunnels(&mut self) -> Tunnels {
        let mut nodes: Vec<IpAddr> = (0..6).map(|n| self.edge(n % 2 == 0)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Tunnels {
            protocols: [(); 2].map(|()| self.few(1, |random| *random.one_of(&TUNNELS))),
            nodes,
        }
    }

    fn interface(index: u32) -> Interface {
        Interface {
            index,
            name: format!("eth{index}"),
            addresses: Vec::new(),
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        }
    }

    pub(crate) fn selection(&mut self) -> Selection {
        let count = 1 + self.below(3) as u32;
        let governed = (2..2 + count)
            .map(|index| {
                let workload = self.one_in(8);
                Governed {
                    endpoint: format!("endpoint{index}"),
                    interface: Self::interface(index),
                    workload,
                    lists: List::ALL.map(|list| Arc::new(self.list(list.stage(), workload))),
                }
            })
            .collect();
        Selection {
            governed,
            failsafe_inbound: self.few(1, Self::failsafe),
            failsafe_outbound: self.few(1, Self::failsafe),
            disable_invalid_check: self.one_in(4),
            tunnels: self.tunnels(),
            ..Selection::default()
        }
    }

    /// A selection with one pre-DNAT rule, which names ports.
    pub(crate) fn one_rule_with_points(&mut self) -> (Selection, SelectedRule) {
        let mut rule = self.rule();
        rule.action = RuleAction::Allow;
        rule.protocol = self.some(4, |_| Protocol {
            number: 6,
            implied_version: None,
        });
        (rule.not_protocol, rule.icmp, rule.not_icmp) = (None, None, None);
        for entity in [&mut rule.source, &mut rule.destination] {
            *entity = SelectedEntity {
                nets: self.few(8, Self::net),
                not_nets: self.few(10, Self::net),
                members: self.some(8, |random| random.few(1, Self::net).into()),
                not_members: self.few(10, Self::net).into(),
                ports: self.few(3, Self::range),
                points: self.some(2, Self::points),
                not_ports: self.few(6, Self::range),
                not_points: self.some(3, Self::points),
            };
        }
        let policy = SelectedPolicy {
            rules: vec![rule.clone()],
            ..self.policy(Kind::GlobalNetworkPolicy, "p".to_owned())
        };
        let tier = SelectedTier {
            name: "default".to_owned(),
            default_deny: false,
            policies: vec![policy],
        };
        let mut lists = List::ALL.map(|_| Arc::default());
        lists[List::PreDnat as usize] = Arc::new(SelectedList {
            tiers: vec![tier],
            ..SelectedList::default()
        });
        let governed = Governed {
            endpoint: "e".to_owned(),
            interface: Self::interface(2),
            workload: false,
            lists,
        };
        let selection = Selection {
            governed: vec![governed],
            ..Selection::default()
        };
        (selection, rule)
    }

    /// A packet that is in or not far from the points of a rule.
    pub(crate) fn question_near(&mut self, governed: &Governed, rule: &SelectedRule) -> Question {
        let v4 = self.one_in(2);
        let mut question = Question {
            interface: governed.interface.name.clone(),
            direction: Direction::Ingress,
            path: Path::Forward,
            protocol: *self.one_of(&[6, 6, 17, 132, 136]),
            source: self.edge(v4),
            source_port: self.port(),
            destination: self.edge(v4),
            destination_port: self.port(),
            icmp: None,
            translated: None,
            state: State::New,
        };
        self.aim(&mut question, rule);
        question
    }

    /// Moves one side of a packet, or both, to a point of a rule, if the rule
    /// has one of the family.
    fn aim(&mut self, question: &mut Question, rule: &SelectedRule) {
        let v4 = question.source.is_ipv4();
        for (entity, is_source) in [(&rule.source, true), (&rule.destination, false)] {
            let named = [&entity.points, &entity.not_points].into_iter().flatten();
            let points: Vec<Point> = named
                .flatten()
                .filter(|point| point.address.is_ipv4() == v4)
                .copied()
                .collect();
            if points.is_empty() || self.one_in(4) {
                continue;
            }
            let point = *self.one_of(&points);
            let port = if self.one_in(4) {
                self.port()
            } else {
                point.port
            };
            question.protocol = point.protocol;
            question.icmp = None;
            if is_source {
                (question.source, question.source_port) = (point.address, port);
            } else if let Some(translated) = &mut question.translated {
                *translated = (point.address, port);
            } else {
                (question.destination, question.destination_port) = (point.address, port);
            }
        }
    }

    /// A packet on an interface, now and then one that a rule names or that
    /// goes through a tunnel.
    pub(crate) fn question(&mut self, selection: &Selection, governed: &Governed) -> Question {
        let v4 = self.one_in(2);
        let protocol = if self.one_in(2) {
            *self.one_of(&[6, 17, if v4 { 1 } else { 58 }])
        } else {
            *self.one_of(&PROTOCOLS)
        };
        let icmp = [1, 58].contains(&protocol).then(|| {
            let (kind, code) = *self.one_of(&MESSAGES);
            (kind, if self.one_in(4) { code ^ 1 } else { code })
        });
        let direction = *self.one_of(&Direction::ALL);
        let translated = direction == Direction::Ingress && self.one_in(3);
        let mut question = Question {
            interface: governed.interface.name.clone(),
            direction,
            path: *self.one_of(&[Path::Local, Path::Local, Path::Forward]),
            protocol,
            source: self.edge(v4),
            source_port: self.port(),
            destination: self.edge(v4),
            destination_port: self.port(),
            icmp,
            translated: translated.then(|| (self.edge(v4), self.port())),
            state: *self.one_of(&[
                State::New,
                State::New,
                State::New,
                State::New,
                State::New,
                State::New,
                State::Established,
                State::Invalid,
            ]),
        };
        if self.one_in(4) {
            let selected = &*self.one_of(&governed.lists).clone();
            let rules: Vec<_> = selected.policies().flat_map(|p| &p.rules).collect();
            if !rules.is_empty() {
                let rule = *self.one_of(&rules);
                self.aim(&mut question, rule);
            }
        } else if self.one_in(8) {
            let lists = [&selection.failsafe_inbound, &selection.failsafe_outbound];
            let list = *self.one_of(&lists);
            let failsafe = *self.one_of(list);
            (question.protocol, question.icmp) = (failsafe.protocol, None);
            if self.one_in(4) {
                question.source_port = failsafe.port;
            } else if let Some((_, port)) = &mut question.translated {
                *port = failsafe.port;
            } else {
                question.destination_port = failsafe.port;
            }
        } else if self.one_in(8) {
            let same = |node: &&IpAddr| node.is_ipv4() == v4;
            let nodes: Vec<_> = selection.tunnels.nodes.iter().filter(same).collect();
            let protocols = &selection.tunnels.protocols[usize::from(!v4)];
            let (protocol, port) = *self.one_of(protocols);
            question.source = **self.one_of(&nodes);
            question.destination = **self.one_of(&nodes);
            (question.protocol, question.icmp) = (protocol, None);
            if !self.one_in(4) {
                question.destination_port = port;
            }
        }
        question
    }
}
