//! The few raw system calls that aya has no word for: programs written as
//! instructions, and test runs with their duration.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// `enum xdp_action`
pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
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

/// Calls bpf(2) with an attribute of one of the types above.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `attr`,
    // which is laid out as it wants; callers keep alive what it points to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, mem::size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// An XDP program that does nothing but return this action.
pub(crate) fn constant_xdp(action: u32) -> io::Result<OwnedFd> {
    // r0 = action (BPF_ALU64 | BPF_MOV | BPF_K); BPF_JMP | BPF_EXIT
    let program = [0xb7 | u64::from(action) << 32, 0x95];
    let license = c"Dual MIT/GPL";
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..ProgLoad::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    // SAFETY: new, and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs an XDP program on a packet, as if it came in through the interface.
/// Returns its action and the nanoseconds that one run took.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    ifindex: u32,
    repeat: u32,
) -> io::Result<(u32, u32)> {
    let ctx = context(packet, ifindex);
    let mut out = vec![0u8; packet.len() + 64];
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_size_out: out.len() as u32,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ctx_size_in: mem::size_of::<XdpMd>() as u32,
        ctx_in: &raw const ctx as u64,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok((attr.retval, attr.duration))
}

/// Runs an XDP program on real frames: what it returns is done with them.
pub(crate) fn live_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    ifindex: u32,
    frames: u32,
) -> io::Result<()> {
    let ctx = context(packet, ifindex);
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat: frames,
        ctx_size_in: mem::size_of::<XdpMd>() as u32,
        ctx_in: &raw const ctx as u64,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

fn context(packet: &[u8], ifindex: u32) -> XdpMd {
    XdpMd {
        data_end: packet.len() as u32,
        ingress_ifindex: ifindex,
        ..XdpMd::default()
    }
}

/// Keeps this thread, and those that it starts, on one CPU.
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a set of bits, for which zero is a valid value; CPU_SET stays
    // within it for any CPU below 1024.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: 0 is the calling thread, and the set is as large as said.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Pins a program, for `ip` to attach.
pub(crate) fn pin(program: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    const BPF_OBJ_PIN: libc::c_long = 6;
    #[repr(C)]
    struct Pin {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = std::ffi::CString::new(path)?;
    let mut attr = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: program.as_raw_fd() as u32,
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}
