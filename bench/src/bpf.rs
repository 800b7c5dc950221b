//! The raw system calls that aya has no word for: maps and links of programs
//! written as instructions, and test runs with their duration.

use std::{
    ffi::CString,
    io, mem,
    os::fd::{AsFd, OwnedFd},
};

use hostfw_tests::bpf::{call, call_for_fd, number};

/// include/uapi/linux/bpf.h
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// `enum bpf_map_type`
pub(crate) const MAP_TYPE_ARRAY: u32 = 2;
pub(crate) const MAP_TYPE_PROG_ARRAY: u32 = 3;

/// `enum xdp_action`
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// linux/pkt_cls.h: go on as if there were no program.
pub(crate) const TC_ACT_UNSPEC: i32 = -1;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// What kind of program a test run is of: what it is told besides the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// An XDP program, as if the packet came in through the interface.
    Xdp(u32),
    /// A TC program of the interface; the packet is the host's own.
    TcOut(u32),
}

impl Context {
    fn bytes(self, packet: &[u8]) -> Vec<u8> {
        match self {
            Self::Xdp(ifindex) => {
                let md = XdpMd {
                    data_end: packet.len() as u32,
                    ingress_ifindex: ifindex,
                    ..XdpMd::default()
                };
                [
                    md.data,
                    md.data_end,
                    md.data_meta,
                    md.ingress_ifindex,
                    md.rx_queue_index,
                    md.egress_ifindex,
                ]
                .map(u32::to_ne_bytes)
                .concat()
            }
            Self::TcOut(ifindex) => {
                // struct __sk_buff; ingress_ifindex, at 36, stays 0.
                const IFINDEX: usize = 40;
                let mut bytes = vec![0; 192];
                bytes[IFINDEX..][..4].copy_from_slice(&ifindex.to_ne_bytes());
                bytes
            }
        }
    }
}

/// A new map.
pub(crate) fn create_map(
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type,
        key_size,
        value_size,
        max_entries,
        map_flags: 0,
    };
    // SAFETY: laid out as the command's; no pointers.
    unsafe { call_for_fd(BPF_MAP_CREATE, &mut attr) }
}

/// Sets the entry with this number. The value is as large as the map's.
pub(crate) fn set(map: impl AsFd, index: u32, value: &[u8]) -> io::Result<()> {
    let mut attr = MapElement {
        map_fd: number(map),
        key: &raw const index as u64,
        value: value.as_ptr() as u64,
        ..MapElement::default()
    };
    // SAFETY: key and value live until the call returns; the caller gives a
    // value of the map's size.
    unsafe { call(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Runs a program on a packet so many times. Returns its last answer and the
/// nanoseconds that one run took.
pub(crate) fn test_run(
    program: impl AsFd,
    packet: &[u8],
    context: Context,
    repeat: u32,
) -> io::Result<(u32, u32)> {
    let context = context.bytes(packet);
    let mut out = vec![0u8; packet.len() + 64];
    let mut attr = TestRun {
        prog_fd: number(program),
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_size_out: out.len() as u32,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: buffers are as large as said and live until the call returns.
    unsafe { call(BPF_PROG_TEST_RUN, &mut attr) }?;
    Ok((attr.retval, attr.duration))
}

/// Runs an XDP program on real frames: what it returns is done with them.
pub(crate) fn live_run(
    program: impl AsFd,
    packet: &[u8],
    ifindex: u32,
    frames: u32,
) -> io::Result<()> {
    let context = Context::Xdp(ifindex).bytes(packet);
    let mut attr = TestRun {
        prog_fd: number(program),
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat: frames,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        ..TestRun::default()
    };
    // SAFETY: buffers are as large as said and live until the call returns.
    unsafe { call(BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
}

/// A loaded program, by its number.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut attr = ById {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: laid out as the command's; no pointers.
    unsafe { call_for_fd(BPF_PROG_GET_FD_BY_ID, &mut attr) }
}

/// A netfilter program at a hook of this network namespace, until dropped.
pub(crate) fn attach_netfilter(
    program: impl AsFd,
    family: u32,
    hook: u32,
    priority: i32,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        family: u32,
        hook: u32,
        priority: i32,
        netfilter_flags: u32,
    }
    let mut attr = LinkCreate {
        prog_fd: number(program),
        target_fd: 0,
        attach_type: hostfw_tests::bpf::ATTACH_NETFILTER,
        flags: 0,
        family,
        hook,
        priority,
        netfilter_flags: 0,
    };
    // SAFETY: laid out as the command's; no pointers.
    unsafe { call_for_fd(BPF_LINK_CREATE, &mut attr) }
}

#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Pins a program, for others to attach.
pub(crate) fn pin(program: impl AsFd, path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    let mut attr = Object {
        pathname: path.as_ptr() as u64,
        bpf_fd: number(program),
        file_flags: 0,
    };
    // SAFETY: a terminated string that lives until the call returns.
    unsafe { call(BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// Keeps this thread, and those that it starts, on one CPU; `None`: on any.
pub(crate) fn pin_to_cpu(cpu: Option<usize>) -> io::Result<()> {
    // SAFETY: a set of bits, for which zero is a valid value; CPU_SET stays
    // within it for any CPU below 1024.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        match cpu {
            Some(cpu) => libc::CPU_SET(cpu, &mut set),
            None => (0..1024).for_each(|cpu| libc::CPU_SET(cpu, &mut set)),
        }
        set
    };
    // SAFETY: 0 is the calling thread, and the set is as large as said.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
