//! The bytes of the packet that a question is about.

use std::net::IpAddr;

use crate::question::Question;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;
/// What neighbour discovery wants, and no router leaves (RFC 4861).
const HOP_LIMIT: u8 = 255;

/// A packet to this destination, otherwise as the question says. No checksums:
/// nobody here looks at them.
pub(super) fn frame(
    question: &Question,
    (destination, port): (IpAddr, u16),
    link_header: bool,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    if link_header {
        bytes.extend([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2]);
        bytes.extend(if question.source.is_ipv4() {
            ETHERTYPE_IPV4
        } else {
            ETHERTYPE_IPV6
        });
    }
    let payload = transport(question, port);
    match (question.source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = 20 + payload.len() as u16;
            bytes.extend([0x45, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, HOP_LIMIT, question.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (source, destination) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend([question.protocol, HOP_LIMIT]);
            for address in [source, destination] {
                bytes.extend(match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                });
            }
        }
    }
    bytes.extend(payload);
    bytes
}

fn transport(question: &Question, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    let ports = |bytes: &mut Vec<u8>| {
        bytes.extend(question.source_port.to_be_bytes());
        bytes.extend(port.to_be_bytes());
    };
    match question.protocol {
        TCP => {
            ports(&mut bytes);
            // Sequence numbers, length of the header, SYN.
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff]);
        }
        UDP | UDPLITE => {
            ports(&mut bytes);
            bytes.extend([0, 8, 0, 0]);
        }
        DCCP | SCTP => ports(&mut bytes),
        ICMP | ICMPV6 => {
            let (kind, code) = question.icmp.unwrap_or_default();
            bytes.extend([kind, code, 0, 0, 0x12, 0x34, 0, 1]);
        }
        _ => {}
    }
    bytes.resize(bytes.len().max(40), 0);
    bytes
}
