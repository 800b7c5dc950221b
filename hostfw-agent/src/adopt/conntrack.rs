//! The kernel's conntrack table, through ctnetlink (linux/netfilter/
//! nfnetlink_conntrack.h). Values in its attributes are big-endian.

use std::{collections::HashMap, io};

use hostfw_common::{
    conntrack::{Address, FLOW_ADOPTED, FLOW_FIN_ANSWER, FLOW_FIN_OPENER, FLOW_RESET, FlowKey},
    verdict::Direction,
};

use super::flow::{Known, is_internal};
use crate::attach::netlink::{Request, attribute};

/// `struct nfgenmsg`.
const NFGENMSG: usize = 4;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;

const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;

/// `IPS_SEEN_REPLY` of linux/netfilter/nf_conntrack_common.h.
const SEEN_REPLY: u32 = 1 << 1;

/// Reads the whole table, IPv4 and IPv6.
pub(super) fn dump() -> io::Result<Vec<Known>> {
    let mut entries = Vec::new();
    // AF_UNSPEC: both families in one dump. Version 0, resource 0.
    Request::new(GET, libc::NLM_F_DUMP, &[libc::AF_UNSPEC as u8, 0, 0, 0]).send(
        libc::NETLINK_NETFILTER,
        |message| {
            entries.extend(parse(&message.payload));
        },
    )?;
    Ok(entries)
}

/// Who is on the node's side of a flow, behind NAT: an address and a port, 0
/// without ports; network byte order.
pub(super) type Inside = (Address, [u8; 2]);

/// For each flow of the table, by the keys that it may have on the wire, who
/// is on the node's side of it.
pub(super) fn insides() -> io::Result<HashMap<FlowKey, Inside>> {
    let mut found = HashMap::new();
    Request::new(GET, libc::NLM_F_DUMP, &[libc::AF_UNSPEC as u8, 0, 0, 0])
        .send(libc::NETLINK_NETFILTER, |message| {
            found.extend(inside(&message.payload).into_iter().flatten())
        })?;
    Ok(found)
}

/// The two keys that an entry's flow may have, with who is inside then: the
/// one who answers, if it was opened outside, else the one who asks.
fn inside(message: &[u8]) -> Option<[(FlowKey, Inside); 2]> {
    let (original, reply) = tuples(message.get(NFGENMSG..)?)?;
    let end = |tuple: &Tuple| {
        let port = match tuple.ports {
            Ports::Transport { source, .. } => source,
            Ports::Icmp { .. } | Ports::None => [0; 2],
        };
        (tuple.source, port)
    };
    Some([
        (opened_outside(&original).0, end(&reply)),
        (opened_here(&original, &reply).0, end(&original)),
    ])
}

/// One direction of an entry.
struct Tuple {
    source: Address,
    destination: Address,
    protocol: u8,
    ports: Ports,
}

/// What tells flows between the same addresses apart.
enum Ports {
    Transport {
        source: [u8; 2],
        destination: [u8; 2],
    },
    Icmp {
        identifier: [u8; 2],
        kind: u8,
    },
    None,
}

/// The flow that an entry describes; `None` if it cannot be on a wire, or is
/// not understood.
fn parse(message: &[u8]) -> Option<Known> {
    let entry = message.get(NFGENMSG..)?;
    let (original, reply) = tuples(entry)?;
    let status = attribute(entry, CTA_STATUS)
        .and_then(|status| Some(u32::from_be_bytes(status.try_into().ok()?)))
        .unwrap_or(0);
    // Which side of the entry is on the wire is not known: the original if the
    // flow came in, the reply, after SNAT, if it went out. The other key is
    // harmless: it is a flow between addresses of which one is not the wire's.
    let keys: Vec<_> = [opened_outside(&original), opened_here(&original, &reply)]
        .into_iter()
        .filter(|(key, _)| !is_internal(&key.remote) && !is_internal(&key.local))
        .collect();
    (!keys.is_empty()).then(|| Known {
        keys,
        confirmed: status & SEEN_REPLY != 0,
        state: FLOW_ADOPTED | tcp_state(entry),
    })
}

/// What stands for the port of the side that answers an ICMP query: the
/// request's type where a packet has it, in the first byte.
const fn request_port(kind: u8) -> [u8; 2] {
    [kind, 0]
}

/// The key if the other side opened the flow: what it sent.
fn opened_outside(original: &Tuple) -> (FlowKey, Direction) {
    let (remote_port, local_port) = match original.ports {
        Ports::Transport {
            source,
            destination,
        } => (source, destination),
        Ports::Icmp { identifier, kind } => (identifier, request_port(kind)),
        Ports::None => ([0; 2], [0; 2]),
    };
    let key = FlowKey {
        remote: original.source,
        local: original.destination,
        remote_port,
        local_port,
        protocol: original.protocol,
        ..FlowKey::default()
    };
    (key, Direction::Ingress)
}

/// The key if the node's side opened the flow: what it gets in reply.
fn opened_here(original: &Tuple, reply: &Tuple) -> (FlowKey, Direction) {
    let (remote_port, local_port) = match (&reply.ports, &original.ports) {
        (
            Ports::Transport {
                source,
                destination,
            },
            _,
        ) => (*source, *destination),
        // The identifier as it is after NAT; the type is the request's.
        (Ports::Icmp { identifier, .. }, Ports::Icmp { kind, .. }) => {
            (request_port(*kind), *identifier)
        }
        (Ports::Icmp { .. } | Ports::None, _) => ([0; 2], [0; 2]),
    };
    let key = FlowKey {
        remote: reply.source,
        local: reply.destination,
        remote_port,
        local_port,
        protocol: reply.protocol,
        ..FlowKey::default()
    };
    (key, Direction::Egress)
}

/// The original direction, and that of replies.
fn tuples(entry: &[u8]) -> Option<(Tuple, Tuple)> {
    let original = tuple(attribute(entry, CTA_TUPLE_ORIG)?)?;
    let reply = tuple(attribute(entry, CTA_TUPLE_REPLY)?)?;
    Some((original, reply))
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let ip = attribute(bytes, CTA_TUPLE_IP)?;
    let address = |v4: u16, v6: u16| {
        attribute(ip, v4)
            .and_then(|bytes| Some(Address::from_v4(bytes.try_into().ok()?)))
            .or_else(|| {
                attribute(ip, v6).and_then(|bytes| {
                    Some(Address {
                        bytes: bytes.try_into().ok()?,
                    })
                })
            })
    };
    let protocol = attribute(bytes, CTA_TUPLE_PROTO)?;
    let pair = |kind: u16| attribute(protocol, kind).and_then(|bytes| bytes.try_into().ok());
    let byte = |kind: u16| attribute(protocol, kind).and_then(|bytes| bytes.first().copied());
    let ports = if let (Some(source), Some(destination)) =
        (pair(CTA_PROTO_SRC_PORT), pair(CTA_PROTO_DST_PORT))
    {
        Ports::Transport {
            source,
            destination,
        }
    } else if let (Some(identifier), Some(kind)) = (
        pair(CTA_PROTO_ICMP_ID).or_else(|| pair(CTA_PROTO_ICMPV6_ID)),
        byte(CTA_PROTO_ICMP_TYPE).or_else(|| byte(CTA_PROTO_ICMPV6_TYPE)),
    ) {
        Ports::Icmp { identifier, kind }
    } else {
        Ports::None
    };
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: byte(CTA_PROTO_NUM)?,
        ports,
    })
}

/// Bits `FLOW_*` for the state of a TCP connection (linux/netfilter/
/// nf_conntrack_tcp.h), so that one that is closing does not stay for days.
fn tcp_state(entry: &[u8]) -> u8 {
    let state = attribute(entry, CTA_PROTOINFO)
        .and_then(|info| attribute(info, CTA_PROTOINFO_TCP))
        .and_then(|tcp| attribute(tcp, CTA_PROTOINFO_TCP_STATE))
        .and_then(|state| state.first());
    match state {
        // FIN_WAIT, CLOSE_WAIT: one side has closed; which, it does not say.
        Some(4 | 5) => FLOW_FIN_OPENER,
        // LAST_ACK, TIME_WAIT.
        Some(6 | 7) => FLOW_FIN_OPENER | FLOW_FIN_ANSWER,
        // CLOSE: a RST.
        Some(8) => FLOW_RESET,
        Some(_) | None => 0,
    }
}

#[cfg(test)]
mod tests;
