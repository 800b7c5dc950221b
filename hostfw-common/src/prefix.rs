//! Keys of the longest-prefix-match tries, without the prefix length that the
//! kernel wants in front of them (`struct bpf_lpm_trie_key`).
//!
//! Every key begins with the number of a table, matched exactly, so that one
//! trie serves all lists of rules: a prefix of `n` bits has the length
//! [`TABLE_BITS`]` + n`. Every table has an entry of length [`TABLE_BITS`], so
//! that a look-up always finds a row.

use crate::{boundary, policy::TableId};

/// Length in bits of the table number in front of every key.
pub const TABLE_BITS: u32 = 32;

/// IPv4 address within a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PrefixV4 {
    /// The table.
    pub table: TableId,
    /// Network byte order.
    pub address: [u8; 4],
}

/// IPv6 address within a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PrefixV6 {
    /// The table.
    pub table: TableId,
    /// Network byte order.
    pub address: [u8; 16],
}

/// Protocol and port within a table.
///
/// In the service dimension, `protocol` is the packet's and `port` its
/// destination port, or for ICMP and ICMPv6 the type and code, or 0. In the
/// source port dimension `protocol` is 0 and `port` the source port, or 0 for
/// protocols without ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Service {
    /// The table.
    pub table: TableId,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Network byte order, so not a `u16`: the high byte decides first.
    pub port: [u8; 2],
    /// Zero.
    pub _pad: u8,
}

/// Bits of [`Service::protocol`], which follow the table number.
pub const PROTOCOL_BITS: u32 = 8;
/// Bits of [`Service::port`], which follow the protocol.
pub const PORT_BITS: u32 = 16;

boundary!(PrefixV4 = 8, PrefixV6 = 20, Service = 8);
