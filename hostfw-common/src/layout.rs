//! Where the fields of the kernel's own structs lie. Differs from kernel to
//! kernel: the agent takes it from the kernel's BTF and hands it to the
//! programs as a constant ([`LAYOUT`](crate::names::LAYOUT)).

use crate::boundary;

/// Byte offsets, from the beginning of the struct that the name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Layout {
    /// `nf_hook_state.in`
    pub hook_state_in: u32,
    /// `nf_hook_state.out`
    pub hook_state_out: u32,
    /// `net_device.ifindex`
    pub device_index: u32,
    /// `sk_buff.len`
    pub packet_length: u32,
    /// `sk_buff._nfct`. If 0, the kernel tracks no connections.
    pub packet_entry: u32,
    /// `nf_conn.tuplehash`: an array of two, one for each direction.
    pub entry_tuples: u32,
    /// Size of `nf_conntrack_tuple_hash`.
    pub tuple_size: u32,
    /// `nf_conntrack_tuple_hash.tuple.src.u3`
    pub source: u32,
    /// `nf_conntrack_tuple_hash.tuple.src.u`
    pub source_port: u32,
    /// `nf_conntrack_tuple_hash.tuple.dst.u3`
    pub destination: u32,
    /// `nf_conntrack_tuple_hash.tuple.dst.u`
    pub destination_port: u32,
}

/// Stands for a call of the kernel function `bpf_dynptr_from_skb`, whose
/// number the agent puts in its place before it loads a program. No helper has
/// this number.
pub const CALL_DYNPTR_FROM_SKB: u32 = 0x7f00_0001;

boundary!(Layout = 44);
