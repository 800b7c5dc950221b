//! From a packet to its class in each dimension of a list.

use aya_ebpf::btf_maps::lpm_trie::Key;
use hostfw_common::{
    conntrack::Address,
    endpoint::Family,
    index::{
        CLASS_TRIE, Dimension, ENTRY_NODE, LINE_ENTRIES, address_key_v6, node_entry, service_key,
        source_port_key,
    },
    policy::{Dim, PolicyTable, TableId},
    prefix::{PrefixV6, TABLE_BITS},
};

use crate::{
    maps::{PREFIXES_V6, index_line, slot},
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
        indexed_class(generation, dimension.root, dimension.stride, key)
    }
}

/// The class that a key of an index leads to, or [`BROKEN`].
#[inline(always)]
fn indexed_class(generation: u64, root: u32, stride: u32, key: u32) -> u32 {
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
        if entry & ENTRY_NODE == 0 || entry == BROKEN {
            return entry;
        }
        let line = entry & !ENTRY_NODE;
        let Some(node) = index_line(generation, line) else {
            return BROKEN;
        };
        let number = node_entry(node, rest >> 24);
        rest <<= 8;
        // Small nodes hold their entries themselves.
        entry = if number / LINE_ENTRIES == line {
            node.entry(number % LINE_ENTRIES)
        } else {
            self::entry(generation, number)
        };
    }
    if entry & ENTRY_NODE == 0 {
        entry
    } else {
        BROKEN
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
    match class(generation, dimension, key) {
        CLASS_TRIE => hostfw_long_class(generation, dimension.table.number, address),
        class => class,
    }
}

/// The class of the longest prefix of an address, or [`BROKEN`]. Global to the
/// verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_long_class(generation: u64, table: u32, address: *const Address) -> u32 {
    // SAFETY: `address_class`, the only caller, hands in a reference.
    let (Some(address), Some(prefixes)) = (
        unsafe { address.as_ref() },
        PREFIXES_V6.get(slot(generation)),
    ) else {
        return BROKEN;
    };
    let key = Key::new(
        TABLE_BITS + 128,
        PrefixV6 {
            table: TableId { number: table },
            address: address.bytes,
        },
    );
    prefixes.get(&key).map_or(BROKEN, |class| *class)
}
