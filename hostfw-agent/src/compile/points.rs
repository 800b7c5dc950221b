//! Points (addresses with ports), put together so that a rule needs few
//! entries for them.

use std::collections::{BTreeMap, BTreeSet};

use hostfw_common::endpoint::Family;

use super::{prefix::Prefix, rule::protocol};
use crate::select::Point;

/// Points of one protocol: any of the addresses with any of the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) protocol: u8,
    pub(super) addresses: Vec<Prefix>,
    pub(super) ports: Vec<u16>,
}

/// The points of the family that are `wanted`, in as many groups as they
/// have distinct protocols and ports, or fewer: ports of a protocol that the
/// same addresses have are one group. A packet belongs to one group at most.
///
/// Points of protocols without ports, which nothing can meet, are left out.
pub(super) fn group(
    points: &[Point],
    family: Family,
    wanted: impl Fn(&Point, Prefix) -> bool,
) -> Vec<Group> {
    let mut by_port: BTreeMap<(u8, u16), BTreeSet<Prefix>> = BTreeMap::new();
    for point in points {
        if let Some(address) = Prefix::net(&point.address.into(), family)
            && protocol::WITH_PORTS.contains(&point.protocol)
            && wanted(point, address)
        {
            let addresses = by_port.entry((point.protocol, point.port)).or_default();
            addresses.insert(address);
        }
    }
    let mut by_addresses: BTreeMap<(u8, BTreeSet<Prefix>), Vec<u16>> = BTreeMap::new();
    for ((protocol, port), addresses) in by_port {
        let ports = by_addresses.entry((protocol, addresses)).or_default();
        ports.push(port);
    }
    by_addresses
        .into_iter()
        .map(|((protocol, addresses), ports)| Group {
            protocol,
            addresses: addresses.into_iter().collect(),
            ports,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(address: &str, protocol: u8, port: u16) -> Point {
        Point {
            address: address.parse().unwrap(),
            protocol,
            port,
        }
    }

    #[test]
    fn ports_of_the_same_addresses_are_one_group() {
        let points = [
            point("10.0.0.1", 6, 80),
            point("10.0.0.2", 6, 80),
            point("10.0.0.2", 6, 443),
            point("10.0.0.1", 6, 443),
            point("10.0.0.1", 6, 443),
            point("10.0.0.1", 17, 80),
            point("10.0.0.3", 6, 8080),
            point("fd00::1", 6, 80),
            point("10.0.0.1", 47, 80),
        ];
        let found: Vec<_> = group(&points, Family::V4, |_, _| true)
            .into_iter()
            .map(|group| {
                let last: Vec<u8> = group.addresses.iter().map(|a| a.to_v4()[3]).collect();
                (group.protocol, last, group.ports)
            })
            .collect();
        assert_eq!(
            found,
            [
                (6, vec![1, 2], vec![80, 443]),
                (6, vec![3], vec![8080]),
                (17, vec![1], vec![80]),
            ]
        );
        assert_eq!(group(&points, Family::V6, |_, _| true).len(), 1);
        assert_eq!(group(&points, Family::V4, |p, _| p.port == 81), []);
    }
}
