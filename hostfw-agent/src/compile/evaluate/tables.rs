//! Looks a packet up in the tables of an image, as the programs do.

use std::{collections::BTreeMap, net::IpAddr};

use hostfw_common::{
    endpoint::Family,
    failsafe::{FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    policy::{Action, PolicyTable, Row, RuleEntry, TABLE_HAS_JUMP, TABLE_HAS_LOG, TableId},
    prefix::{PORT_BITS, PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
};

use crate::compile::image::Image;

/// What a list of rules sees of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// 0 for protocols without ports.
    pub(super) source_port: u16,
    /// Destination port, or type and code of ICMP and ICMPv6; 0 for other
    /// protocols without ports.
    pub(super) service: u16,
}

impl Packet {
    pub(super) const fn family(&self) -> Family {
        match self.source {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// A table that the image must hold is not there.
#[derive(Debug)]
pub(super) struct Broken;

/// The entry of the list that decides about the packet, if one does. `report`
/// gets those that are reported, in order.
pub(super) fn decide(
    image: &Image,
    table: PolicyTable,
    packet: &Packet,
    mut report: impl FnMut(RuleEntry),
) -> Result<Option<RuleEntry>, Broken> {
    let count = usize::from(table.rule_count);
    if count == 0 {
        return Ok(None);
    }
    let rows = rows(image, table, packet).ok_or(Broken)?;
    let logs = match table.flags & TABLE_HAS_LOG {
        0 => &Row::EMPTY,
        _ => image.rows.get(table.log_row as usize).ok_or(Broken)?,
    };
    let mut start = 0;
    for number in matching(&rows) {
        if number < start {
            continue;
        }
        let first = table.first_rule as usize;
        let entry = *image.rules.get(first + number).ok_or(Broken)?;
        let action = Action::from_number(entry.action).ok_or(Broken)?;
        if number >= count || logs.contains(number) != (action == Action::Log) {
            return Err(Broken);
        }
        match action {
            Action::Allow | Action::Deny | Action::TierDeny => return Ok(Some(entry)),
            Action::Log => report(entry),
            Action::StagedAllow | Action::StagedDeny | Action::StagedPass => {
                report(entry);
                start = usize::from(entry.next);
            }
            Action::Pass | Action::Skip => start = usize::from(entry.next),
        }
        // A list without the flag is searched once only, and no search goes
        // back.
        let jumps = action.jumps();
        if jumps && (table.flags & TABLE_HAS_JUMP == 0 || start <= number || start > count) {
            return Err(Broken);
        }
    }
    Ok(None)
}

/// The position of the fail-safe, or the tunnel, with these numbers and the
/// remote address.
pub(super) fn failsafe(
    image: &Image,
    class: u8,
    protocol: u8,
    port: u16,
    remote: IpAddr,
) -> Option<u32> {
    let port = port.to_be_bytes();
    match remote {
        IpAddr::V4(remote) => longest(&image.failsafes_v4, FAILSAFE_BITS, 32, |length| {
            FailsafeV4 {
                class,
                protocol,
                port,
                remote: first_bits(remote.octets(), length),
            }
        }),
        IpAddr::V6(remote) => longest(&image.failsafes_v6, FAILSAFE_BITS, 128, |length| {
            FailsafeV6 {
                class,
                protocol,
                port,
                remote: first_bits(remote.octets(), length),
            }
        }),
    }
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
    let numbers = [
        address(image, table.source(), packet.source)?,
        address(image, table.destination(), packet.destination)?,
        service(image, table.source(), packet.protocol, packet.service)?,
        service(image, table.destination(), 0, packet.source_port)?,
    ];
    let mut rows = [&Row::EMPTY; 4];
    for (row, number) in rows.iter_mut().zip(numbers) {
        *row = image.rows.get(number as usize)?;
    }
    Some(rows)
}

fn address(image: &Image, table: u32, address: IpAddr) -> Option<u32> {
    let table = TableId { number: table };
    match address {
        IpAddr::V4(address) => longest(&image.prefixes_v4, TABLE_BITS, 32, |length| PrefixV4 {
            table,
            address: first_bits(address.octets(), length),
        }),
        IpAddr::V6(address) => longest(&image.prefixes_v6, TABLE_BITS, 128, |length| PrefixV6 {
            table,
            address: first_bits(address.octets(), length),
        }),
    }
}

fn service(image: &Image, table: u32, protocol: u8, port: u16) -> Option<u32> {
    let [high, low] = port.to_be_bytes();
    let bits = PROTOCOL_BITS + PORT_BITS;
    longest(&image.services, TABLE_BITS, bits, |length| {
        let [protocol, high, low] = first_bits([protocol, high, low], length);
        Service {
            table: TableId { number: table },
            protocol,
            port: [high, low],
            _pad: 0,
        }
    })
}

/// The value of the longest prefix, as a longest-prefix-match trie finds it:
/// `fixed` bits and up to `bits` more.
fn longest<K: Ord>(
    trie: &BTreeMap<(u32, K), u32>,
    fixed: u32,
    bits: u32,
    key: impl Fn(u32) -> K,
) -> Option<u32> {
    let mut lengths = (0..=bits).rev();
    lengths.find_map(|length| trie.get(&(fixed + length, key(length))).copied())
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
    fn a_table_that_is_not_there_is_noticed() {
        let packet = Packet {
            source: [192, 0, 2, 1].into(),
            destination: [10, 0, 0, 1].into(),
            protocol: 6,
            source_port: 1,
            service: 1,
        };
        let image = Image::default();
        let mut table = PolicyTable::default();
        let found = decide(&image, table, &packet, |_| ());
        assert!(matches!(found, Ok(None)));
        table.rule_count = 1;
        let found = decide(&image, table, &packet, |_| ());
        assert!(matches!(found, Err(Broken)));
    }
}
