//! The TCP connections of local processes, through sock_diag(7).

use std::io;

use hostfw_common::{
    conntrack::{Address, FLOW_ADOPTED, FLOW_FIN_OPENER, FlowKey},
    verdict::Direction,
};

use super::flow::{Known, is_internal};
use crate::attach::netlink::Request;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
const TCP: u8 = libc::IPPROTO_TCP as u8;

/// States of linux/net/tcp_states.h in which both sides have sent and may send
/// on.
const ESTABLISHED: u8 = 1;
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;
const CLOSE_WAIT: u8 = 8;

/// Reads all connections, IPv4 and IPv6.
pub(super) fn dump() -> io::Result<Vec<Known>> {
    let mut connections = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        Request::new(BY_FAMILY, libc::NLM_F_DUMP, &request(family as u8)).send(
            libc::NETLINK_SOCK_DIAG,
            |message| {
                connections.extend(parse(&message.payload));
            },
        )?;
    }
    Ok(connections)
}

fn request(family: u8) -> [u8; REQUEST] {
    let states: u32 = [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT]
        .iter()
        .map(|state| 1 << state)
        .sum();
    let mut bytes = [0; REQUEST];
    bytes[0] = family;
    bytes[1] = TCP;
    bytes[4..8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// The flow that a `struct inet_diag_msg` describes; `None` if it cannot be on
/// a wire, or is not understood.
fn parse(message: &[u8]) -> Option<Known> {
    let family = i32::from(*message.first()?);
    let state = match *message.get(1)? {
        ESTABLISHED => 0,
        FIN_WAIT_1 | FIN_WAIT_2 | CLOSE_WAIT => FLOW_FIN_OPENER,
        _ => return None,
    };
    let pair = |offset: usize| message.get(offset..offset + 2)?.try_into().ok();
    let address = |offset: usize| {
        let bytes: [u8; 16] = message.get(offset..offset + 16)?.try_into().ok()?;
        match family {
            // A socket of both families has IPv4 addresses mapped, as we do.
            libc::AF_INET6 => Some(Address { bytes }),
            libc::AF_INET => Some(Address::from_v4([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => None,
        }
    };
    let key = FlowKey {
        remote: address(24)?,
        local: address(8)?,
        remote_port: pair(6)?,
        local_port: pair(4)?,
        protocol: TCP,
        ..FlowKey::default()
    };
    if is_internal(&key.remote) || is_internal(&key.local) {
        return None;
    }
    // Who opened it, a socket does not say. For a confirmed flow it only says
    // which side a FIN came from.
    Some(Known {
        keys: vec![(key, Direction::Egress)],
        confirmed: true,
        state: FLOW_ADOPTED | state,
    })
}

#[cfg(test)]
mod tests;
