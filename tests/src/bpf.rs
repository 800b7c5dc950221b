//! `bpf(2)` without a library: for programs that are a few instructions.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// `enum bpf_prog_type` of linux/bpf.h.
pub const PROG_TYPE_SCHED_CLS: u32 = 3;
/// `enum bpf_prog_type`.
pub const PROG_TYPE_XDP: u32 = 6;
/// `enum bpf_prog_type`; since Linux 6.4.
pub const PROG_TYPE_NETFILTER: u32 = 32;
/// `enum bpf_attach_type`: what programs of netfilter are loaded for.
pub const ATTACH_NETFILTER: u32 = 45;
/// `enum bpf_attach_type`: what libraries load XDP programs for. A program that
/// calls another must be loaded for the same.
pub const ATTACH_XDP: u32 = 37;
/// The program accepts packets of several buffers.
pub const F_XDP_HAS_FRAGS: u32 = 1 << 5;

const BPF_PROG_LOAD: libc::c_long = 5;

/// The fields of `union bpf_attr` for `BPF_PROG_LOAD`, up to
/// `expected_attach_type`.
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
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Calls bpf(2).
///
/// # Errors
///
/// What the kernel says.
///
/// # Safety
///
/// `attr` is laid out as the kernel's for this command, and what it points to
/// is as large as it says and lives until the call returns.
pub unsafe fn call<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes no more than the size of `attr`; the
    // rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

/// As [`call`], for commands that return a new descriptor.
///
/// # Errors
///
/// What the kernel says.
///
/// # Safety
///
/// As [`call`].
pub unsafe fn call_for_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attr)? };
    // SAFETY: new, and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program.
///
/// # Errors
///
/// If the kernel refuses it: with what the verifier says, if it says anything.
pub fn load(
    kind: u32,
    flags: u32,
    expected_attach_type: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attr = ProgLoad {
        prog_type: kind,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_flags: flags,
        expected_attach_type,
        ..ProgLoad::default()
    };
    // SAFETY: laid out as the command's; the instructions and the license live
    // until the call returns.
    let error = match unsafe { call_for_fd(BPF_PROG_LOAD, &mut attr) } {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let mut log = vec![0u8; 1 << 16];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: as above, and the log is as large as said.
    if let Ok(fd) = unsafe { call_for_fd(BPF_PROG_LOAD, &mut attr) } {
        return Ok(fd);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&log[..end]);
    match text.trim() {
        "" => Err(error),
        text => Err(io::Error::new(error.kind(), format!("{error}: {text}"))),
    }
}

/// `return value`.
///
/// # Errors
///
/// As [`load`].
pub fn load_constant(
    kind: u32,
    flags: u32,
    expected_attach_type: u32,
    value: i32,
) -> io::Result<OwnedFd> {
    // BPF_ALU64 | BPF_MOV | BPF_K r0, value; BPF_JMP | BPF_EXIT
    let program = [0xb7 | u64::from(value as u32) << 32, 0x95];
    load(kind, flags, expected_attach_type, &program)
}

/// The number of a descriptor, as attributes have it.
#[must_use]
pub fn number(fd: impl std::os::fd::AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}
