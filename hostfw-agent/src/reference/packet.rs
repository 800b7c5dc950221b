//! A packet as a rule sees it.

use std::net::IpAddr;

use crate::question::Question;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const DCCP: u8 = 33;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;
pub(super) const UDP_LITE: u8 = 136;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(super) const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// The number of its ICMP.
    pub(super) const fn icmp(self) -> u8 {
        match self {
            Self::V4 => ICMP,
            Self::V6 => ICMPV6,
        }
    }
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// A packet at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) protocol: u8,
    pub(super) source: End,
    pub(super) destination: End,
    /// Type and code, for ICMP of the packet's own family alone.
    pub(super) icmp: Option<(u8, u8)>,
}

impl Packet {
    /// As it is on the wire.
    pub(super) fn wire(question: &Question) -> Self {
        let is_icmp = question.protocol == Family::of(question.source).icmp();
        Self {
            protocol: question.protocol,
            source: End {
                address: question.source,
                port: question.source_port,
            },
            destination: End {
                address: question.destination,
                port: question.destination_port,
            },
            icmp: is_icmp.then(|| question.icmp.unwrap_or_default()),
        }
    }

    /// As it is behind DNAT.
    pub(super) fn translated(self, to: Option<(IpAddr, u16)>) -> Self {
        let destination = to.map_or(self.destination, |(address, port)| End { address, port });
        Self {
            destination,
            ..self
        }
    }

    pub(super) const fn family(&self) -> Family {
        Family::of(self.source.address)
    }

    /// Whether the protocol is one with ports.
    pub(super) const fn has_ports(&self) -> bool {
        matches!(self.protocol, TCP | UDP | SCTP | UDP_LITE | DCCP)
    }

    /// Neighbour discovery or multicast listener message.
    pub(super) fn is_neighbour_discovery(&self) -> bool {
        self.family() == Family::V6
            && self
                .icmp
                .is_some_and(|(kind, _)| matches!(kind, 130..=136 | 143))
    }
}
