//! Programs and links of netfilter hooks, for which aya has no types.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, OwnedFd},
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_link_info, bpf_link_type, bpf_prog_type,
};

use super::{BpfError, bpf, bpf_fd, empty, info, number};

/// Room for what the verifier says of a program that it refuses.
const LOG_BYTES: usize = 1 << 20;
/// How much of its end is shown: there the reason is.
const LOG_SHOWN: usize = 4096;

/// Loads a program for netfilter hooks.
///
/// If the kernel refuses it, the error ends with what the verifier says.
pub(crate) fn load_program(
    name: &str,
    instructions: &[bpf_insn],
    licence: &CStr,
) -> Result<OwnedFd, BpfError> {
    match load(name, instructions, licence, &mut []) {
        Err(error) if !error.is(libc::EPERM) => {
            let mut log = vec![0; LOG_BYTES];
            load(name, instructions, licence, &mut log).map_err(|error| with_log(error, &log))
        }
        result => result,
    }
}

fn load(
    name: &str,
    instructions: &[bpf_insn],
    licence: &CStr,
    log: &mut [u8],
) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    // SAFETY: the part of the union that this command uses; all zeros is valid.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_NETFILTER as u32;
    program.expected_attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    program.insn_cnt = instructions.len() as u32;
    program.insns = instructions.as_ptr() as u64;
    program.license = licence.as_ptr() as u64;
    // The last byte stays 0.
    let last = program.prog_name.len() - 1;
    for (to, from) in program.prog_name[..last].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    if !log.is_empty() {
        program.log_level = 1;
        program.log_size = log.len() as u32;
        program.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: instructions, licence and log outlive the call and are as long
    // as is said; it returns a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr, "BPF_PROG_LOAD") }
}

fn with_log(error: BpfError, log: &[u8]) -> BpfError {
    let text = CStr::from_bytes_until_nul(log).map_or_else(
        |_| String::from_utf8_lossy(log),
        |text| text.to_string_lossy(),
    );
    let text = text.trim_end();
    if text.is_empty() {
        return error;
    }
    let mut from = text.len().saturating_sub(LOG_SHOWN);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    BpfError {
        call: error.call,
        error: io::Error::new(
            error.error.kind(),
            format!("{}; the verifier says: {}", error.error, &text[from..]),
        ),
    }
}

/// Where a netfilter link holds its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetfilterHook {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub(crate) family: u32,
    /// `NF_INET_*`
    pub(crate) hook: u32,
    /// Place among the hook's other functions: lower comes first. No two have
    /// the same.
    pub(crate) priority: i32,
}

/// Attaches a program in the network namespace of the caller. The link lives
/// as long as its descriptor or a pin, and the namespace with it.
pub(crate) fn create_netfilter_link(
    program: impl AsFd,
    hook: NetfilterHook,
) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = number(&program);
    attr.link_create.attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    attr.link_create.__bindgen_anon_3.netfilter.pf = hook.family;
    attr.link_create.__bindgen_anon_3.netfilter.hooknum = hook.hook;
    attr.link_create.__bindgen_anon_3.netfilter.priority = hook.priority;
    // SAFETY: no pointers; returns a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr, "BPF_LINK_CREATE") }
}

/// Where a link is and its program's number; `None` if it is no netfilter link.
pub(crate) fn netfilter_link(link: impl AsFd) -> Result<Option<(NetfilterHook, u32)>, BpfError> {
    // SAFETY: the struct of a link.
    let info: bpf_link_info = unsafe { info(link) }?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_NETFILTER as u32 {
        return Ok(None);
    }
    // SAFETY: the kernel fills this part for a link of this type.
    let netfilter = unsafe { info.__bindgen_anon_1.netfilter };
    Ok(Some((
        NetfilterHook {
            family: netfilter.pf,
            hook: netfilter.hooknum,
            priority: netfilter.priority,
        },
        info.prog_id,
    )))
}

/// Runs a netfilter program once on a frame, Ethernet header included, and
/// gives what it returns.
pub(crate) fn test_netfilter(program: impl AsFd, frame: &[u8]) -> Result<u32, BpfError> {
    let mut attr: bpf_attr = empty();
    attr.test.prog_fd = number(&program);
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    // SAFETY: the frame outlives the call, and nothing is written back but the
    // numbers in `attr`.
    unsafe {
        bpf(
            bpf_cmd::BPF_PROG_TEST_RUN,
            &mut attr,
            "BPF_PROG_TEST_RUN",
        )?;
        Ok(attr.test.retval)
    }
}
