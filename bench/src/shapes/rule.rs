//! Rules, packets, and which packets a rule matches: as plain as can be.

use std::{fmt, net::Ipv4Addr};

use super::rng::Rng;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    /// Its first address, as a number.
    pub address: u32,
    /// Bits of the prefix, 0 to 32.
    pub length: u8,
}

impl Net {
    /// The network of this length that holds the address.
    #[must_use]
    pub const fn of(address: u32, length: u8) -> Self {
        Self {
            address: address & Self::mask(length),
            length,
        }
    }

    const fn mask(length: u8) -> u32 {
        match length {
            0 => 0,
            _ => u32::MAX << (32 - length as u32),
        }
    }

    /// Whether the address is in it.
    #[must_use]
    pub const fn holds(self, address: u32) -> bool {
        address & Self::mask(self.length) == self.address
    }

    /// Whether all of the other network is in it.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.holds(other.address)
    }

    /// An address in it.
    pub const fn sample(self, rng: &mut Rng) -> u32 {
        self.address | (rng.next() as u32 & !Self::mask(self.length))
    }

    /// What is left of the network without the other, as networks that do not
    /// overlap.
    #[must_use]
    pub fn without(self, other: Self) -> Vec<Self> {
        if other.covers(self) {
            return Vec::new();
        }
        if !self.covers(other) {
            return vec![self];
        }
        (self.length..other.length)
            .map(|length| {
                let bit = 1 << (31 - u32::from(length));
                Self::of(other.address ^ bit, length + 1)
            })
            .collect()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.address), self.length)
    }
}

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether the port is among them.
    #[must_use]
    pub const fn holds(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// A port among them.
    pub const fn sample(self, rng: &mut Rng) -> u16 {
        rng.between(self.first as u32, self.last as u32) as u16
    }
}

/// `80`, or `80-90` between these separators.
impl Ports {
    /// As text, with what stands between the first and the last.
    #[must_use]
    pub fn text(self, between: char) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}{between}{}", self.first, self.last)
        }
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Number 6.
    Tcp,
    /// Number 17.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As IANA has it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// An IPv4 packet, as far as rules can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Source address, as a number.
    pub source: u32,
    /// Destination address, as a number.
    pub destination: u32,
    /// What it carries.
    pub protocol: Protocol,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// A rule. An empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows what it matches; else it denies.
    pub allow: bool,
    /// Without one, any; then the lists of ports are empty.
    pub protocol: Option<Protocol>,
    /// One of these holds the source.
    pub sources: Vec<Net>,
    /// None of these holds the source.
    pub not_sources: Vec<Net>,
    /// One of these holds the destination.
    pub destinations: Vec<Net>,
    /// One of these holds the destination port.
    pub ports: Vec<Ports>,
    /// None of these holds the destination port.
    pub not_ports: Vec<Ports>,
    /// The rule set's [`set`](super::RuleSet::set) holds the source.
    pub from_set: bool,
}

impl Rule {
    /// Whether the rule matches the packet. Of a rule with
    /// [`from_set`](Self::from_set), what else it asks.
    #[must_use]
    pub fn matches(&self, packet: &Packet) -> bool {
        let any = |nets: &[Net], address| nets.iter().any(|net| net.holds(address));
        let port = |list: &[Ports]| {
            list.iter()
                .any(|ports| ports.holds(packet.destination_port))
        };
        self.protocol
            .is_none_or(|protocol| protocol == packet.protocol)
            && (self.ports.is_empty() || port(&self.ports))
            && (self.sources.is_empty() || any(&self.sources, packet.source))
            && (self.destinations.is_empty() || any(&self.destinations, packet.destination))
            && !any(&self.not_sources, packet.source)
            && !port(&self.not_ports)
    }
}
