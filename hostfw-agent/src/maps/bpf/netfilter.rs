//! Programs and links of netfilter hooks, for which aya has no types.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_func_info, bpf_insn, bpf_line_info, bpf_link_info,
    bpf_link_type, bpf_prog_type,
};

use super::{BpfError, bpf, bpf_fd, empty, info, number};

/// Room for what the verifier says of a program that it refuses.
const LOG_BYTES: usize = 1 << 20;
/// How much of its end is shown: there the reason is.
const LOG_SHOWN: usize = 4096;

/// A program to be loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetfilterProgram<'a> {
    pub(crate) name: &'a str,
    pub(crate) instructions: &'a [bpf_insn],
    pub(crate) licence: &'a CStr,
    /// Where functions and lines are, by the types of `btf`: the verifier wants
    /// to know a function that it is to call back.
    pub(crate) functions: &'a [bpf_func_info],
    pub(crate) lines: &'a [bpf_line_info],
    pub(crate) btf: Option<BorrowedFd<'a>>,
}

/// Loads a program for netfilter hooks.
///
/// If the kernel refuses it, the error ends with what the verifier says.
pub(crate) fn load_program(program: NetfilterProgram<'_>) -> Result<OwnedFd, BpfError> {
    let loaded = unless_interrupted(|| load(program, &mut []), |error| error.is(libc::EAGAIN));
    match loaded {
        Err(error) if !error.is(libc::EPERM) => {
            let mut log = vec![0; LOG_BYTES];
            load(program, &mut log).map_err(|error| with_log(error, &log))
        }
        result => result,
    }
}

/// Tries again while the verifier gives up for a signal that is on its way to
/// the thread (EAGAIN, `do_check` in kernel/bpf/verifier.c): five times, as
/// libbpf does.
pub(crate) fn unless_interrupted<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    interrupted: impl Fn(&E) -> bool,
) -> Result<T, E> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if interrupted(&error) => {}
            result => return result,
        }
    }
    attempt()
}

fn load(program: NetfilterProgram<'_>, log: &mut [u8]) -> Result<OwnedFd, BpfError> {
    let mut attr = empty();
    // SAFETY: the part of the union that this command uses; all zeros is valid.
    let to = unsafe { &mut attr.__bindgen_anon_3 };
    to.prog_type = bpf_prog_type::BPF_PROG_TYPE_NETFILTER as u32;
    to.expected_attach_type = bpf_attach_type::BPF_NETFILTER as u32;
    to.insn_cnt = program.instructions.len() as u32;
    to.insns = program.instructions.as_ptr() as u64;
    to.license = program.licence.as_ptr() as u64;
    // The last byte stays 0.
    let last = to.prog_name.len() - 1;
    for (to, from) in to.prog_name[..last].iter_mut().zip(program.name.bytes()) {
        *to = from.cast_signed();
    }
    if let Some(btf) = &program.btf {
        to.prog_btf_fd = number(btf);
        to.func_info = program.functions.as_ptr() as u64;
        to.func_info_cnt = program.functions.len() as u32;
        to.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        to.line_info = program.lines.as_ptr() as u64;
        to.line_info_cnt = program.lines.len() as u32;
        to.line_info_rec_size = size_of::<bpf_line_info>() as u32;
    }
    if !log.is_empty() {
        to.log_level = 1;
        to.log_size = log.len() as u32;
        to.log_buf = log.as_mut_ptr() as u64;
    }
    // SAFETY: everything pointed to outlives the call and is as long as is
    // said; it returns a new descriptor.
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

/// Where a link is; `None` if it is no netfilter link.
pub(crate) fn netfilter_link(link: impl AsFd) -> Result<Option<NetfilterHook>, BpfError> {
    // SAFETY: the struct of a link.
    let info: bpf_link_info = unsafe { info(link) }?;
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_NETFILTER as u32 {
        return Ok(None);
    }
    // SAFETY: the kernel fills this part for a link of this type.
    let netfilter = unsafe { info.__bindgen_anon_1.netfilter };
    Ok(Some(NetfilterHook {
        family: netfilter.pf,
        hook: netfilter.hooknum,
        priority: netfilter.priority,
    }))
}

/// Runs a netfilter program once on a packet, which begins with its IP header,
/// and gives what it returns.
///
/// Without a context the kernel takes the packet for one that a process sends,
/// and looks for no Ethernet header (`bpf_prog_test_run_nf` in
/// net/bpf/test_run.c).
pub(crate) fn test_netfilter(program: impl AsFd, packet: &[u8]) -> Result<u32, BpfError> {
    let mut attr: bpf_attr = empty();
    attr.test.prog_fd = number(&program);
    attr.test.data_in = packet.as_ptr() as u64;
    attr.test.data_size_in = packet.len() as u32;
    // SAFETY: the packet outlives the call, and nothing is written back but the
    // numbers in `attr`.
    unsafe {
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr, "BPF_PROG_TEST_RUN")?;
        Ok(attr.test.retval)
    }
}
