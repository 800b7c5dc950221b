//! Looks a packet up in the tables of an image, as the programs do, but for the
//! short cuts: what those rely on is checked here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use hostfw_common::{
    endpoint::Family,
    failsafe::{FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    index::{
        CLASS_BASE, Dimension, ENTRY_LINE, ENTRY_LIST, ENTRY_LONG, ENTRY_NODE, LINE_ENTRIES,
        LINE_WORDS, LONG_LINES, LongKey, NO_RULE, RECORD_FIRST, RECORD_WORDS, Record,
        address_key_v6, list_entry, node_entry, service_key, source_port_key,
    },
    policy::{Action, Dim, PolicyTable, RuleEntry, TABLE_HAS_JUMP, TABLE_HAS_LOG, TableId},
    prefix::{PORT_BITS, PROTOCOL_BITS, PrefixV4, PrefixV6, Service, TABLE_BITS},
};

use crate::compile::image::{Image, Lines, Trie};

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

/// Something that the image must hold is not there, or not true.
#[derive(Debug)]
pub(super) struct Broken;

/// The entry of the list that decides about the packet, if one does. `report`
/// gets those that are reported, in order.
pub(super) fn decide(
    image: &Image,
    table: &PolicyTable,
    packet: &Packet,
    mut report: impl FnMut(RuleEntry),
) -> Result<Option<RuleEntry>, Broken> {
    let count = usize::from(table.rule_count);
    if count == 0 {
        return Ok(None);
    }
    let entries = image.rules_of(table).ok_or(Broken)?;
    let matching = matching(image, table, packet).ok_or(Broken)?;
    let mut start = 0;
    for number in bits(&matching) {
        if number < start {
            continue;
        }
        let entry = *entries.get(number).ok_or(Broken)?;
        let action = Action::from_number(entry.action).ok_or(Broken)?;
        let mut reported = true;
        match action {
            Action::Allow | Action::Deny | Action::TierDeny => return Ok(Some(entry)),
            Action::Log => report(entry),
            Action::StagedAllow | Action::StagedDeny | Action::StagedPass => {
                report(entry);
                start = usize::from(entry.next);
            }
            Action::Pass | Action::Skip => {
                reported = false;
                start = usize::from(entry.next);
            }
        }
        // Lists without the flags are searched in ways that miss these. No
        // search goes back.
        let jumps = action.jumps();
        if reported && table.flags & TABLE_HAS_LOG == 0
            || jumps && (table.flags & TABLE_HAS_JUMP == 0 || start <= number || start > count)
        {
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

/// The bits of the rules that match; `None` if the image does not hold what it
/// must.
fn matching(image: &Image, table: &PolicyTable, packet: &Packet) -> Option<Vec<u64>> {
    let bases = Dim::ALL
        .into_iter()
        .map(|dimension| base(image, table, dimension))
        .collect::<Option<Vec<_>>>()?;
    let list = Record {
        line: image.rows.get(table.rows)?,
    };
    let common = and(&bases);
    let first = first(&common);
    if list.first() != first || table.first != first || !names(list, &common) {
        return None;
    }
    let mut rows = Vec::new();
    for (dimension, base) in Dim::ALL.into_iter().zip(&bases) {
        let class = class(image, table, dimension, packet)?;
        let (record, row) = row(&image.rows, class, base)?;
        let mut others = bases.clone();
        others[dimension as usize].clone_from(&row);
        let clears = row.iter().zip(base).any(|(row, base)| base & !row != 0);
        // The record of all base rows knows no list, and the list knows its
        // first rule.
        let is_first = class == CLASS_BASE || record.first() == self::first(&and(&others));
        if record.clears() != clears || !is_first {
            return None;
        }
        rows.push(row);
    }
    Some(and(&rows))
}

/// A base row.
fn base(image: &Image, table: &PolicyTable, dimension: Dim) -> Option<Vec<u64>> {
    let first = table.base_row(dimension);
    let lines = (first..first + table.lines()).map(|line| image.rows.get(line));
    let words = lines.map(|line| line.map(|line| line.words));
    Some(words.collect::<Option<Vec<_>>>()?.concat())
}

/// The record and the row of a class.
fn row<'a>(rows: &'a Lines, class: u32, base: &[u64]) -> Option<(Record<'a>, Vec<u64>)> {
    let line = rows.get(class)?;
    let record = Record { line };
    let mut row = base.to_vec();
    let mut next = class;
    for number in bits(&[record.lines().into()]) {
        next += 1;
        let words = number * LINE_WORDS..(number + 1) * LINE_WORDS;
        let line = rows.get(next)?;
        row.get_mut(words)?.copy_from_slice(&line.words);
    }
    let differing: Vec<u64> = row.iter().zip(base).map(|(a, b)| a ^ b).collect();
    names(record, &differing).then_some((record, row))
}

/// Whether a record names those of the words that are not 0.
fn names(record: Record<'_>, words: &[u64]) -> bool {
    let named = &record.line.words[RECORD_WORDS..RECORD_FIRST];
    let found = (0..words.len()).filter(|&word| words[word] != 0);
    bits(named).eq(found)
}

fn and(rows: &[Vec<u64>]) -> Vec<u64> {
    let words = rows.iter().map(Vec::len).min().unwrap_or(0);
    (0..words)
        .map(|word| rows.iter().fold(u64::MAX, |all, row| all & row[word]))
        .collect()
}

/// The first rule that has a bit.
fn first(row: &[u64]) -> u32 {
    bits(row).next().map_or(NO_RULE, |rule| rule as u32)
}

/// The positions of the bits that are set.
fn bits(words: &[u64]) -> impl Iterator<Item = usize> {
    let bits = words.iter().zip((0..).step_by(64));
    bits.flat_map(|(word, start)| {
        let set = (0..64).filter(move |bit| word >> bit & 1 == 1);
        set.map(move |bit| start + bit)
    })
}

/// The packet's class in a dimension, which the index and the trie must agree
/// about.
fn class(image: &Image, table: &PolicyTable, dimension: Dim, packet: &Packet) -> Option<u32> {
    let place = &table.dimensions[dimension as usize];
    let ((key, long), class) = match dimension {
        Dim::Source => address(image, place, packet.source)?,
        Dim::Destination => address(image, place, packet.destination)?,
        Dim::Service => {
            let port = packet.service.to_be_bytes();
            let class = service(image, place, packet.protocol, port)?;
            ((service_key(packet.protocol, port), None), class)
        }
        Dim::SourcePort => {
            let port = packet.source_port.to_be_bytes();
            let class = service(image, place, 0, port)?;
            ((source_port_key(port), None), class)
        }
    };
    let indexed = indexed(&image.index, place, key, long)?;
    (indexed == class).then_some(class)
}

/// The class that the index leads to. `long` is an IPv6 address, of which `key` is
/// the beginning.
fn indexed(index: &Lines, place: &Dimension, key: u32, long: Option<Ipv6Addr>) -> Option<u32> {
    let entry = |number: u32| -> Option<u32> {
        let line = index.get(number / LINE_ENTRIES)?;
        Some(line.entry(number % LINE_ENTRIES))
    };
    let mut shift = 32_u32.checked_sub(place.stride)?;
    let mut found = match place.stride {
        0 => place.root,
        _ => entry(place.root * LINE_ENTRIES + (key >> shift))?,
    };
    while found & (ENTRY_NODE | ENTRY_LONG) == ENTRY_NODE {
        shift = shift.checked_sub(8)?;
        let node = index.get(found & ENTRY_LINE)?;
        found = entry(node_entry(node, key >> shift))?;
    }
    if found & ENTRY_NODE == 0 {
        return Some(found);
    }
    let octets = long?.octets();
    let mut decided = 32;
    for _ in 0..LONG_LINES {
        if found & ENTRY_NODE == 0 {
            break;
        }
        let line = index.get(found & ENTRY_LINE)?;
        if found & ENTRY_LIST != 0 {
            (found, decided) = list_entry(line, LongKey::new(&octets));
        } else {
            let octet = *octets.get(decided as usize / 8)?;
            found = entry(node_entry(line, octet.into()))?;
            decided += 8;
        }
    }
    (found & ENTRY_NODE == 0).then_some(found)
}

/// What the index is asked for: a key, and the rest of an IPv6 address.
type Key = (u32, Option<Ipv6Addr>);

/// The key in the index, and the class by the trie.
fn address(image: &Image, place: &Dimension, address: IpAddr) -> Option<(Key, u32)> {
    let table = place.table;
    match address {
        IpAddr::V4(address) => {
            let class = of_table(&image.prefixes_v4, table, 32, |length| PrefixV4 {
                table,
                address: first_bits(address.octets(), length),
            })?;
            Some(((address.to_bits(), None), class))
        }
        IpAddr::V6(address) => {
            let class = of_table(&image.prefixes_v6, table, 128, |length| PrefixV6 {
                table,
                address: first_bits(address.octets(), length),
            })?;
            let key = address_key_v6(&address.octets());
            Some(((key, Some(address)), class))
        }
    }
}

fn service(image: &Image, place: &Dimension, protocol: u8, port: [u8; 2]) -> Option<u32> {
    let [high, low] = port;
    let table = place.table;
    of_table(
        &image.services,
        table,
        PROTOCOL_BITS + PORT_BITS,
        |length| {
            let [protocol, high, low] = first_bits([protocol, high, low], length);
            Service {
                table,
                protocol,
                port: [high, low],
                _pad: 0,
            }
        },
    )
}

/// The value of the longest prefix in a table of a trie.
fn of_table<K: Ord>(
    trie: &Trie<K>,
    table: TableId,
    bits: u32,
    key: impl Fn(u32) -> K,
) -> Option<u32> {
    let classes = trie.get(&table)?;
    let mut lengths = (0..=bits).rev();
    lengths.find_map(|length| {
        let wanted = (key(length), TABLE_BITS + length);
        let found = classes
            .binary_search_by(|class| (&class.key, class.length).cmp(&(&wanted.0, wanted.1)));
        found.ok().map(|at| classes[at].class)
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
        let found = decide(&image, &table, &packet, |_| ());
        assert!(matches!(found, Ok(None)));
        table.rule_count = 1;
        let found = decide(&image, &table, &packet, |_| ());
        assert!(matches!(found, Err(Broken)));
    }
}
