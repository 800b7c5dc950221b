//! From a packet to its class in each dimension of a list.

use aya_ebpf::btf_maps::lpm_trie::Key;
use hostfw_common::{
    conntrack::Address,
    endpoint::Family,
    index::{
        Dimension, ENTRY_NODE, LINE_ENTRIES, STRIDE_TRIE, node_entry, service_key, source_port_key,
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
    match headers.family() {
        Family::V4 => {
            let address = u32::from_be_bytes(headers.source.v4());
            classes.numbers[Dim::Source as usize] = class(generation, source, address);
            let address = u32::from_be_bytes(headers.destination.v4());
            classes.numbers[Dim::Destination as usize] = class(generation, destination, address);
        }
        Family::V6 => {
            let address = &headers.source;
            classes.numbers[Dim::Source as usize] = long_class(generation, source, address);
            let address = &headers.destination;
            classes.numbers[Dim::Destination as usize] =
                long_class(generation, destination, address);
        }
    }
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

/// The class of an address that is longer than the keys of an index.
#[inline(always)]
fn long_class(generation: u64, dimension: &Dimension, address: &Address) -> u32 {
    if dimension.stride == STRIDE_TRIE {
        hostfw_long_class(generation, dimension.table.number, address)
    } else {
        dimension.root
    }
}

/// The class of the longest prefix of an address, or [`BROKEN`]. Global to the
/// verifier, see [`judge`](crate::judge).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_long_class(generation: u64, table: u32, address: *const Address) -> u32 {
    // SAFETY: `long_class`, the only caller, hands in a reference.
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
