//! Addresses and ports around which a verdict may change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostfw_agent::resource::{EntityRule, NumberOrText};
use ipnet::IpNet;

use crate::{
    generate::pools::{ADDRESSES_V4, ADDRESSES_V6, PORTS},
    random::Random,
};

/// One that rules may name, or its neighbour.
pub(super) fn address(random: &mut Random, v4: bool) -> IpAddr {
    let pool: &[&str] = if v4 { &ADDRESSES_V4 } else { &ADDRESSES_V6 };
    let address = random.one_of(pool).parse().expect("an address");
    if random.percent(10) {
        neighbour(address, random)
    } else {
        address
    }
}

/// An address at the edge of a net: its first or its last one.
pub(super) fn edge(net: IpNet, random: &mut Random) -> IpAddr {
    if random.percent(50) {
        net.network()
    } else {
        net.broadcast()
    }
}

pub(super) fn neighbour(address: IpAddr, random: &mut Random) -> IpAddr {
    let up = random.percent(50);
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(if up {
            address.to_bits().wrapping_add(1)
        } else {
            address.to_bits().wrapping_sub(1)
        })
        .into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(if up {
            address.to_bits().wrapping_add(1)
        } else {
            address.to_bits().wrapping_sub(1)
        })
        .into(),
    }
}

pub(super) fn next_to(port: u16, random: &mut Random) -> u16 {
    if random.percent(50) {
        port.wrapping_add(1)
    } else {
        port.wrapping_sub(1)
    }
}

pub(super) fn port(random: &mut Random) -> u16 {
    let port = *random.one_of(&PORTS);
    if random.percent(30) {
        next_to(port, random)
    } else {
        port
    }
}

pub(super) fn port_of(entity: &EntityRule, random: &mut Random) -> u16 {
    let avoided: Vec<u16> = entity
        .not_ports
        .iter()
        .filter_map(|port| edge_of(port, true))
        .collect();
    let low = random.percent(50);
    let wanted = random
        .any_of(&entity.ports)
        .and_then(|port| edge_of(port, low));
    match wanted {
        Some(port) => port,
        None => match random.any_of(&avoided) {
            Some(port) if random.percent(50) => *port,
            Some(_) | None => self::port(random),
        },
    }
}

/// The lowest or the highest port of what a rule gives; `None` for a name.
fn edge_of(port: &NumberOrText, low: bool) -> Option<u16> {
    match port {
        NumberOrText::Number(number) => u16::try_from(*number).ok(),
        NumberOrText::Text(text) => {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            if low { first } else { last }.parse().ok()
        }
    }
}
