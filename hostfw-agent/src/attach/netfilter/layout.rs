use hostfw_common::layout::Layout;

use super::btf::{Btf, BtfError};

/// The module that tracks connections where that is no part of the kernel.
const MODULE: &str = "nf_conntrack";

/// Whether the kernel tracks connections in a module that is loaded now.
pub(super) fn has_conntrack() -> bool {
    Btf::has_module(MODULE)
}

/// What the programs must know of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) layout: Layout,
    /// Number of the kernel function `bpf_dynptr_from_skb`.
    pub(crate) dynptr_from_skb: u32,
}

impl Kernel {
    /// Reads it from the kernel's types.
    pub(crate) fn read() -> Result<Self, BtfError> {
        let mut btf = Btf::kernel()?;
        if !btf.has_struct("nf_conn") {
            btf.add_module(MODULE)?;
        }
        let mut layout = Layout {
            hook_state_in: btf.offset("nf_hook_state", &["in"])?,
            hook_state_out: btf.offset("nf_hook_state", &["out"])?,
            device_index: btf.offset("net_device", &["ifindex"])?,
            packet_length: btf.offset("sk_buff", &["len"])?,
            ..Layout::default()
        };
        // A kernel without connection tracking, or whose module is not loaded:
        // then nothing is translated either.
        if btf.has_struct("nf_conn") {
            let tuple = |path: &[&str]| {
                let path = [&["tuple"], path].concat();
                btf.offset("nf_conntrack_tuple_hash", &path)
            };
            layout.packet_entry = btf.offset("sk_buff", &["_nfct"])?;
            layout.entry_tuples = btf.offset("nf_conn", &["tuplehash"])?;
            layout.tuple_size = btf.size("nf_conntrack_tuple_hash")?;
            layout.source = tuple(&["src", "u3"])?;
            layout.source_port = tuple(&["src", "u"])?;
            layout.destination = tuple(&["dst", "u3"])?;
            layout.destination_port = tuple(&["dst", "u"])?;
        }
        Ok(Self {
            layout,
            dynptr_from_skb: btf.function("bpf_dynptr_from_skb")?,
        })
    }
}
