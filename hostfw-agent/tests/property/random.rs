//! Random selections and packets, the same for the same seed. Values come from
//! small pools, so that rules overlap and packets fall on their edges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostfw_agent::{
    compile::evaluate::{Addresses, Packet},
    model::{Failsafe, IcmpMatch, Interface, IpVersion, PortRange, Protocol, RuleAction},
    select::{Governed, SelectedEntity, SelectedPolicy, SelectedRule, Selection},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const PROTOCOLS: [u8; 10] = [1, 2, 6, 17, 33, 47, 58, 132, 136, 255];
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
const MESSAGES: [(u8, u8); 6] = [(0, 0), (3, 4), (8, 0), (8, 255), (128, 0), (254, 1)];

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
            members: self.some(8, |random| random.few(1, Self::net)),
            not_members: self.few(10, Self::net),
            ports: self.few(ports_one_in, Self::range),
            not_ports: self.few(2 * ports_one_in, Self::range),
        }
    }

    fn rule(&mut self) -> SelectedRule {
        let action = *self.one_of(&[
            RuleAction::Allow,
            RuleAction::Allow,
            RuleAction::Deny,
            RuleAction::Deny,
            RuleAction::Log,
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

    fn policies(&mut self, prefix: &str) -> Vec<SelectedPolicy> {
        let count = self.below(4);
        (0..count)
            .map(|number| {
                // Now and then so many that rows have more than one word.
                let most = if self.one_in(20) { 150 } else { 8 };
                let rules = 1 + self.below(most);
                SelectedPolicy {
                    name: format!("{prefix}{number}"),
                    rules: (0..rules).map(|_| self.rule()).collect(),
                }
            })
            .collect()
    }

    fn failsafe(&mut self) -> Failsafe {
        Failsafe {
            protocol: *self.one_of(&[6, 6, 17, 17, 132]),
            port: *self.one_of(&PORTS),
            net: self.some(2, Self::net),
        }
    }

    pub(crate) fn selection(&mut self) -> Selection {
        let count = 1 + self.below(3) as u32;
        let governed = (2..2 + count)
            .map(|index| Governed {
                endpoint: format!("endpoint{index}"),
                interface: Interface {
                    index,
                    name: format!("eth{index}"),
                    addresses: Vec::new(),
                    link_header: true,
                    loopback: false,
                    up: true,
                },
                pre_dnat: self.policies(&format!("pre-dnat-{index}-")),
                egress: self.policies(&format!("egress-{index}-")),
            })
            .collect();
        Selection {
            governed,
            failsafe_inbound: self.few(1, Self::failsafe),
            failsafe_outbound: self.few(1, Self::failsafe),
            ..Selection::default()
        }
    }

    pub(crate) fn packet(&mut self) -> Packet {
        let v4 = self.one_in(2);
        let addresses = match (self.edge(v4), self.edge(v4)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 {
                source: source.octets(),
                destination: destination.octets(),
            },
            (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6 {
                source: source.octets(),
                destination: destination.octets(),
            },
            _ => unreachable!("both of one family"),
        };
        let protocol = *self.one_of(&PROTOCOLS);
        let protocol = if self.one_in(2) {
            *self.one_of(&[6, 17, if v4 { 1 } else { 58 }])
        } else {
            protocol
        };
        let destination_port = if [1, 58].contains(&protocol) {
            let (kind, code) = *self.one_of(&MESSAGES);
            u16::from_be_bytes([kind, if self.one_in(4) { code ^ 1 } else { code }])
        } else {
            self.port()
        };
        Packet {
            addresses,
            protocol,
            source_port: self.port(),
            destination_port,
        }
    }
}
