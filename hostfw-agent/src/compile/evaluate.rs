//! Reads an image as the programs read the maps: which rule decides about a
//! packet. For tests, and for explaining a verdict.
//!
//! Only what the image decides is decided here: fail-safes and policy. That
//! established flows, neighbour discovery and invalid packets are dealt with
//! before is the programs' business.

use hostfw_common::{
    endpoint::{Endpoint, Family},
    failsafe::{FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    policy::{Action, PolicyTable, Row, RuleEntry, TABLE_DEFAULT_DENY, TABLE_HAS_LOG, TableId},
    prefix::{PORT_BITS, PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
    stage::List,
    verdict::{Direction, Reason},
};

use super::{image::Image, rule::protocol};

/// What policy sees of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from and goes to.
    pub addresses: Addresses,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Source port; ignored for protocols without ports.
    pub source_port: u16,
    /// Destination port, or for ICMP and ICMPv6 the type in the high and the
    /// code in the low byte; ignored for other protocols without ports.
    pub destination_port: u16,
}

/// Source and destination address, network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Source.
        source: [u8; 4],
        /// Destination.
        destination: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Source.
        source: [u8; 16],
        /// Destination.
        destination: [u8; 16],
    },
}

impl Addresses {
    /// The address family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }
}

/// What an image says about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// What decided.
    pub reason: Reason,
    /// The rule that decided, if one did.
    pub rule: Option<RuleEntry>,
    /// The rules with action Log that the packet matched before, in order.
    pub logged: Vec<RuleEntry>,
}

impl Evaluation {
    const fn without_rule(reason: Reason) -> Self {
        Self {
            reason,
            rule: None,
            logged: Vec::new(),
        }
    }
}

/// What the image says about the first packet of a flow on an interface:
/// inbound under pre-DNAT policy, outbound as a packet of the host itself.
///
/// A table that the image must hold and does not gives
/// [`Reason::BrokenTable`].
#[must_use]
pub fn evaluate(
    image: &Image,
    interface: u32,
    direction: Direction,
    packet: &Packet,
) -> Evaluation {
    let Some(endpoint) = image.endpoints.get(&interface) else {
        return Evaluation::without_rule(Reason::NoEndpoint);
    };
    if failsafe(image, direction, packet).is_some() {
        return Evaluation::without_rule(Reason::Failsafe);
    }
    policy(image, endpoint, direction, packet)
        .unwrap_or(Evaluation::without_rule(Reason::BrokenTable))
}

/// The position of the fail-safe that the packet meets, in the list of its
/// direction.
#[must_use]
pub fn failsafe(image: &Image, direction: Direction, packet: &Packet) -> Option<u32> {
    let port = packet.destination_port.to_be_bytes();
    match packet.addresses {
        Addresses::V4 {
            source,
            destination,
        } => {
            let remote = match direction {
                Direction::Ingress => source,
                Direction::Egress => destination,
            };
            longest(32, |length| {
                let key = FailsafeV4 {
                    class: direction as u8,
                    protocol: packet.protocol,
                    port,
                    remote: first_bits(remote, length),
                };
                image.failsafes_v4.get(&(FAILSAFE_BITS + length, key))
            })
        }
        Addresses::V6 {
            source,
            destination,
        } => {
            let remote = match direction {
                Direction::Ingress => source,
                Direction::Egress => destination,
            };
            longest(128, |length| {
                let key = FailsafeV6 {
                    class: direction as u8,
                    protocol: packet.protocol,
                    port,
                    remote: first_bits(remote, length),
                };
                image.failsafes_v6.get(&(FAILSAFE_BITS + length, key))
            })
        }
    }
}

/// `None` if a table is not there.
fn policy(
    image: &Image,
    endpoint: &Endpoint,
    direction: Direction,
    packet: &Packet,
) -> Option<Evaluation> {
    let tables = match direction {
        Direction::Ingress => &endpoint.tables[List::PreDnat as usize],
        Direction::Egress => &endpoint.tables[List::NormalOut as usize],
    };
    let table = tables[packet.addresses.family() as usize];
    let mut logged = Vec::new();
    if table.rule_count > 0 {
        let rows = rows(image, table, packet)?;
        let logs = if table.flags & TABLE_HAS_LOG == 0 {
            None
        } else {
            Some(image.rows.get(table.log_row as usize)?)
        };
        for number in matching(&rows) {
            if number >= usize::from(table.rule_count) {
                return None;
            }
            let rule = *image.rules.get(table.first_rule as usize + number)?;
            if logs.is_some_and(|logs| logs.contains(number)) {
                logged.push(rule);
                continue;
            }
            let reason = match Action::from_number(rule.action)? {
                Action::Allow => Reason::RuleAllow,
                Action::Deny => Reason::RuleDeny,
                _ => return None,
            };
            return Some(Evaluation {
                reason,
                rule: Some(rule),
                logged,
            });
        }
    }
    let denies = table.flags & TABLE_DEFAULT_DENY != 0;
    Some(Evaluation {
        reason: if denies {
            Reason::EndpointDefault
        } else {
            Reason::NoMatch
        },
        rule: None,
        logged,
    })
}

/// The rules whose bits are set in all rows, in order.
fn matching<'a>(rows: &'a [&Row; 4]) -> impl Iterator<Item = usize> + 'a {
    let live = rows.iter().fold(u64::MAX, |live, row| live & row.summary);
    bits(live).flat_map(move |word| {
        let common = rows
            .iter()
            .fold(u64::MAX, |common, row| common & row.words[word]);
        bits(common).map(move |bit| word * 64 + bit)
    })
}

/// The positions of the bits that are set.
fn bits(word: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| word >> bit & 1 == 1)
}

/// The packet's row in each dimension.
fn rows<'a>(image: &'a Image, table: PolicyTable, packet: &Packet) -> Option<[&'a Row; 4]> {
    let (source, destination) = match packet.addresses {
        Addresses::V4 {
            source,
            destination,
        } => (
            row_v4(image, table.source(), source)?,
            row_v4(image, table.destination(), destination)?,
        ),
        Addresses::V6 {
            source,
            destination,
        } => (
            row_v6(image, table.source(), source)?,
            row_v6(image, table.destination(), destination)?,
        ),
    };
    let number = packet.protocol;
    let with_ports = protocol::WITH_PORTS.contains(&number);
    let message = [protocol::ICMP, protocol::ICMPV6].contains(&number);
    let service = if with_ports || message {
        packet.destination_port
    } else {
        0
    };
    let source_port = if with_ports { packet.source_port } else { 0 };
    let row = |index: u32| image.rows.get(index as usize);
    Some([
        row(source)?,
        row(destination)?,
        row(row_service(image, table.source(), number, service)?)?,
        row(row_service(image, table.destination(), 0, source_port)?)?,
    ])
}

fn row_v4(image: &Image, table: u32, address: [u8; 4]) -> Option<u32> {
    longest(32, |length| {
        let key = PrefixV4 {
            table: TableId { number: table },
            address: first_bits(address, length),
        };
        image.prefixes_v4.get(&(TABLE_BITS + length, key))
    })
}

fn row_v6(image: &Image, table: u32, address: [u8; 16]) -> Option<u32> {
    longest(128, |length| {
        let key = PrefixV6 {
            table: TableId { number: table },
            address: first_bits(address, length),
        };
        image.prefixes_v6.get(&(TABLE_BITS + length, key))
    })
}

fn row_service(image: &Image, table: u32, protocol: u8, port: u16) -> Option<u32> {
    let [high, low] = port.to_be_bytes();
    longest(PROTOCOL_BITS + PORT_BITS, |length| {
        let [protocol, high, low] = first_bits([protocol, high, low], length);
        let key = Service {
            table: TableId { number: table },
            protocol,
            port: [high, low],
            _pad: 0,
        };
        image.services.get(&(TABLE_BITS + length, key))
    })
}

/// The entry of the greatest length, as a longest-prefix-match trie finds it.
fn longest<'a>(bits: u32, entry: impl Fn(u32) -> Option<&'a u32>) -> Option<u32> {
    (0..=bits).rev().find_map(entry).copied()
}

/// Clears all bits but the first `length`.
fn first_bits<const N: usize>(mut bytes: [u8; N], length: u32) -> [u8; N] {
    for (byte, position) in bytes.iter_mut().zip((0..).step_by(8)) {
        let keep = length.saturating_sub(position).min(8);
        *byte &= 0xffu8.checked_shl(8 - keep).unwrap_or(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bits_keeps_the_network_part() {
        assert_eq!(first_bits([255; 4], 0), [0; 4]);
        assert_eq!(first_bits([255; 4], 12), [255, 0xf0, 0, 0]);
        assert_eq!(first_bits([255; 4], 32), [255; 4]);
        assert_eq!(first_bits([10, 1, 2, 3], 24), [10, 1, 2, 0]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let packet = Packet {
            addresses: Addresses::V4 {
                source: [192, 0, 2, 1],
                destination: [10, 0, 0, 1],
            },
            protocol: 6,
            source_port: 1,
            destination_port: 1,
        };
        let mut image = Image::default();
        let reason = |image: &Image| evaluate(image, 2, Direction::Ingress, &packet).reason;
        assert_eq!(reason(&image), Reason::NoEndpoint);
        let mut endpoint = Endpoint::default();
        image.endpoints.insert(2, endpoint);
        assert_eq!(reason(&image), Reason::NoMatch);
        endpoint.tables[List::PreDnat as usize][0].rule_count = 1;
        image.endpoints.insert(2, endpoint);
        assert_eq!(reason(&image), Reason::BrokenTable);
    }
}
