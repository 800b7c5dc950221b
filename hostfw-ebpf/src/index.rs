//! From a packet to its class in each dimension of a list.

use hostfw_common::{
    conntrack::Address,
    endpoint::Family,
    index::{
        Dimension, ENTRY_LINE, ENTRY_LIST, ENTRY_LONG, ENTRY_NODE, LINE_ENTRIES, LONG_LINES,
        LongKey, address_key_v6, list_entry, node_entry, service_key, source_port_key,
    },
    policy::{Dim, PolicyTable},
};

use crate::{
    maps::index_line,
    parse::{Headers, protocol},
};

/// Where the number of a class or a rule is expected: the tables are not what
/// the compiler makes.
pub(crate) const BROKEN: u32 = u32::MAX - 1;

/// A packet's class in each dimension, or [`BROKEN`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Classes {
    /// By [`Dim`].
    pub(crate) numbers: [u32; Dim::COUNT],
}

/// Finds the classes.
#[inline(always)]
pub(crate) fn classes(
    table: &PolicyTable,
    headers: &Headers,
    generation: u64,
    classes: &mut Classes,
) {
    let [source, destination, service, source_port] = &table.dimensions;
    classes.numbers[Dim::Source as usize] = address_class(generation, source, headers, true);
    classes.numbers[Dim::Destination as usize] =
        address_class(generation, destination, headers, false);
    let key = service_key(headers.protocol, headers.destination_port);
    classes.numbers[Dim::Service as usize] = class(generation, service, key);
    // The field holds an identifier for ICMP.
    let port = match headers.protocol {
        protocol::ICMP | protocol::ICMPV6 => [0; 2],
        _ => headers.source_port,
    };
    let key = source_port_key(port);
    classes.numbers[Dim::SourcePort as usize] = class(generation, source_port, key);
}

#[inline(always)]
fn class(generation: u64, dimension: &Dimension, key: u32) -> u32 {
    if dimension.stride == 0 {
        dimension.root
    } else {
        indexed(generation, dimension.root, dimension.stride, key)
    }
}

/// The entry that a key of an index leads to: a class, what tells apart longer
/// addresses, or [`BROKEN`].
#[inline(always)]
fn indexed(generation: u64, root: u32, stride: u32, key: u32) -> u32 {
    /// Nodes in a row: what is left of a key after the first eight bits.
    const NODES: u32 = 3;
    // The verifier wants a bound for both shifts.
    let stride = stride & 31;
    let first = root
        .wrapping_mul(LINE_ENTRIES)
        .wrapping_add(key >> (32_u32.wrapping_sub(stride) & 31));
    let mut entry = entry(generation, first);
    let mut rest = key << stride;
    for _ in 0..NODES {
        // BROKEN is none of these, either.
        if entry & (ENTRY_NODE | ENTRY_LONG) != ENTRY_NODE {
            return entry;
        }
        entry = below(generation, entry, rest >> 24);
        rest <<= 8;
    }
    entry
}

/// The entry that a node has for the eight bits `value`, or [`BROKEN`].
#[inline(always)]
fn below(generation: u64, node: u32, value: u32) -> u32 {
    let line = node & ENTRY_LINE;
    let Some(node) = index_line(generation, line) else {
        return BROKEN;
    };
    let number = node_entry(node, value);
    // Small nodes hold their entries themselves.
    if number / LINE_ENTRIES == line {
        node.entry(number % LINE_ENTRIES)
    } else {
        entry(generation, number)
    }
}

#[inline(always)]
fn entry(generation: u64, number: u32) -> u32 {
    match index_line(generation, number / LINE_ENTRIES) {
        Some(line) => line.entry(number % LINE_ENTRIES),
        None => BROKEN,
    }
}

/// The class of one of a packet's addresses.
#[inline(always)]
fn address_class(
    generation: u64,
    dimension: &Dimension,
    headers: &Headers,
    is_source: bool,
) -> u32 {
    let address: &Address = if is_source {
        &headers.source
    } else {
        &headers.destination
    };
    let key = match headers.family() {
        Family::V4 => u32::from_be_bytes(address.v4()),
        Family::V6 => address_key_v6(&address.bytes),
    };
    let found = class(generation, dimension, key);
    if found & ENTRY_NODE == 0 {
        found
    } else {
        hostfw_long_class(generation, found, address)
    }
}

/// The class of an IPv6 address whose first 32 bits have led to this entry, or
/// [`BROKEN`]. Global to the verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_long_class(generation: u64, entry: u32, address: *const Address) -> u32 {
    // SAFETY: `address_class`, the only caller, hands in a reference.
    let Some(address) = (unsafe { address.as_ref() }) else {
        return BROKEN;
    };
    let key = LongKey::new(&address.bytes);
    let mut entry = entry;
    let mut decided = 32;
    for _ in 0..LONG_LINES {
        if entry & ENTRY_NODE == 0 {
            return entry;
        }
        if entry & ENTRY_LIST == 0 {
            let value = address.bytes[(decided / 8) as usize & 15];
            entry = below(generation, entry, value.into());
            decided += 8;
        } else {
            let Some(list) = index_line(generation, entry & ENTRY_LINE) else {
                return BROKEN;
            };
            (entry, decided) = list_entry(list, key);
        }
    }
    if entry & ENTRY_NODE == 0 {
        entry
    } else {
        BROKEN
    }
}
