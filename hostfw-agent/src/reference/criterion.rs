//! What a rule asks of a packet (semantics section 3). A rule matches a packet
//! that meets all of its criteria.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::packet::{End, Family, Packet};

/// One side of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }

    const fn of(self, packet: &Packet) -> End {
        match self {
            Self::Source => packet.source,
            Self::Destination => packet.destination,
        }
    }
}

/// An address with a protocol and a port: what the name of a port stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) address: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

/// Ports by number and by name.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// Inclusive.
    pub(super) ranges: Vec<(u16, u16)>,
    /// What the names stand for.
    pub(super) points: Vec<Point>,
}

impl Ports {
    fn contain(&self, protocol: u8, end: End) -> bool {
        self.ranges
            .iter()
            .any(|&(first, last)| (first..=last).contains(&end.port))
            || self.points.iter().any(|point| {
                point.address == end.address && point.protocol == protocol && point.port == end.port
            })
    }
}

/// Something that a rule asks of a packet.
#[derive(Clone, Debug)]
pub(super) enum Criterion {
    /// `ipVersion`.
    Version(Family),
    /// `protocol`; by the names ICMP and ICMPv6 it also says the family.
    Protocol(u8, Option<Family>),
    /// `notProtocol`.
    NotProtocol(u8),
    /// `icmp`: type, and code if one is given.
    Icmp(u8, Option<u8>),
    /// `notICMP`.
    NotIcmp(u8, Option<u8>),
    /// `nets`.
    Nets(Side, Vec<IpNet>),
    /// `notNets`.
    NotNets(Side, Vec<IpNet>),
    /// `selector`, `namespaceSelector`, `serviceAccounts`, or what of them is
    /// given: the first that is, and the addresses of the objects that all of
    /// them match.
    Members(Side, &'static str, Vec<IpNet>),
    /// `notSelector` alone: as above.
    NotMembers(Side, Vec<IpNet>),
    /// `ports`.
    Ports(Side, Ports),
    /// `notPorts`.
    NotPorts(Side, Ports),
    /// `services`: addresses of the service, which is what counts at the source,
    /// and with its ports, at the destination.
    Service(Side, Vec<IpNet>, Vec<Point>),
}

fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

fn is_icmp(packet: &Packet, kind: u8, code: Option<u8>) -> bool {
    packet
        .icmp
        .is_some_and(|found| found.0 == kind && code.is_none_or(|code| found.1 == code))
}

impl Criterion {
    pub(super) fn holds(&self, packet: &Packet) -> bool {
        match self {
            Self::Version(family) => packet.family() == *family,
            Self::Protocol(number, family) => {
                packet.protocol == *number && family.is_none_or(|family| packet.family() == family)
            }
            Self::NotProtocol(number) => packet.protocol != *number,
            Self::Icmp(kind, code) => is_icmp(packet, *kind, *code),
            Self::NotIcmp(kind, code) => packet.icmp.is_some() && !is_icmp(packet, *kind, *code),
            Self::Nets(side, nets) | Self::Members(side, _, nets) => {
                contains(nets, side.of(packet).address)
            }
            // A list with no entry of the packet's family speaks of the other
            // family alone, and the rule with it.
            Self::NotNets(side, nets) => {
                nets.iter()
                    .any(|net| Family::of(net.addr()) == packet.family())
                    && !contains(nets, side.of(packet).address)
            }
            Self::NotMembers(side, nets) => !contains(nets, side.of(packet).address),
            Self::Ports(side, ports) => {
                packet.has_ports() && ports.contain(packet.protocol, side.of(packet))
            }
            Self::NotPorts(side, ports) => {
                packet.has_ports() && !ports.contain(packet.protocol, side.of(packet))
            }
            Self::Service(Side::Source, nets, _) => contains(nets, packet.source.address),
            Self::Service(Side::Destination, _, points) => {
                let end = packet.destination;
                packet.has_ports()
                    && points.iter().any(|point| {
                        (point.address, point.protocol, point.port)
                            == (end.address, packet.protocol, end.port)
                    })
            }
        }
    }

    /// The field of the rule, and what of the packet does not fit it.
    pub(super) fn missed(&self, packet: &Packet) -> Mismatch {
        let address = |side: &Side| side.of(packet).address.to_string();
        let port = |side: &Side| {
            if packet.has_ports() {
                let end = side.of(packet);
                format!(
                    "{}, port {} of {}",
                    protocol(packet.protocol),
                    end.port,
                    end.address
                )
            } else {
                format!("{}, which has no ports", protocol(packet.protocol))
            }
        };
        let family = || format!("IPv{}", packet.family().digit());
        let icmp = || {
            packet.icmp.map_or_else(
                || format!("{} over {}", protocol(packet.protocol), family()),
                |(kind, code)| format!("type {kind} code {code}"),
            )
        };
        let (field, found) = match self {
            Self::Version(_) => ("ipVersion".to_owned(), family()),
            Self::Protocol(..) => (
                "protocol".to_owned(),
                format!("{} over {}", protocol(packet.protocol), family()),
            ),
            Self::NotProtocol(_) => ("notProtocol".to_owned(), protocol(packet.protocol)),
            Self::Icmp(..) => ("icmp".to_owned(), icmp()),
            Self::NotIcmp(..) => ("notICMP".to_owned(), icmp()),
            Self::Nets(side, _) => (format!("{}.nets", side.name()), address(side)),
            Self::NotNets(side, _) => (format!("{}.notNets", side.name()), address(side)),
            Self::Members(side, field, nets) => (
                format!("{}.{field}", side.name()),
                format!(
                    "{}, which is none of the {} known nets",
                    address(side),
                    nets.len()
                ),
            ),
            Self::NotMembers(side, nets) => (
                format!("{}.notSelector", side.name()),
                format!(
                    "{}, which is one of the {} known nets",
                    address(side),
                    nets.len()
                ),
            ),
            Self::Ports(side, _) => (format!("{}.ports", side.name()), port(side)),
            Self::NotPorts(side, _) => (format!("{}.notPorts", side.name()), port(side)),
            Self::Service(side @ Side::Source, nets, _) => (
                format!("{}.services", side.name()),
                format!(
                    "{}, which is none of the {} known addresses of the service",
                    address(side),
                    nets.len()
                ),
            ),
            Self::Service(side @ Side::Destination, _, points) => (
                format!("{}.services", side.name()),
                format!(
                    "{}, which is none of the {} known ports of the service",
                    port(side),
                    points.len()
                ),
            ),
        };
        Mismatch { field, found }
    }
}

/// The criterion by which a rule does not match a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Field of the rule, from the rule on: `source.nets`.
    pub field: String,
    /// What the packet has in its place.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the packet has {}", self.field, self.found)
    }
}

/// A protocol as people know it.
fn protocol(number: u8) -> String {
    match number {
        super::packet::ICMP => "ICMP".to_owned(),
        super::packet::TCP => "TCP".to_owned(),
        super::packet::UDP => "UDP".to_owned(),
        super::packet::ICMPV6 => "ICMPv6".to_owned(),
        super::packet::SCTP => "SCTP".to_owned(),
        super::packet::UDP_LITE => "UDPLite".to_owned(),
        other => format!("protocol {other}"),
    }
}
