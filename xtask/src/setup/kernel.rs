//! What the running kernel must be able to do.

use std::{io, path::Path};

use anyhow::{Result, bail};

use super::is_root;

/// XDP programs that accept packets of several buffers (`BPF_F_XDP_HAS_FRAGS`)
/// came with Linux 5.18.
const FLOOR: (u32, u32) = (5, 18);

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Refuses, in one line, a machine that cannot run the programs.
pub(super) fn check() -> Result<()> {
    if !is_root() {
        bail!(
            "not root: network namespaces and BPF programs need it; run `sudo -E cargo xtask ...`"
        );
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    check_release(release.trim())?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with CONFIG_DEBUG_INFO_BTF=y, as distributions do"
        );
    }
    for (name, kind, flags) in [
        ("XDP", BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS),
        ("TC", BPF_PROG_TYPE_SCHED_CLS, 0),
    ] {
        if let Err(error) = load_smallest(kind, flags) {
            bail!(
                "the kernel does not load {name} programs ({error}): it needs CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT, and root with CAP_BPF and CAP_NET_ADMIN in the initial user namespace"
            );
        }
    }
    Ok(())
}

fn check_release(release: &str) -> Result<()> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < FLOOR {
        bail!(
            "Linux {release} is too old: hostfw needs {}.{} or later",
            FLOOR.0,
            FLOOR.1
        );
    }
    Ok(())
}

/// The fields of `union bpf_attr` for `BPF_PROG_LOAD`, up to `prog_flags`.
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

/// Loads `return 0`, and lets go of it.
fn load_smallest(kind: u32, flags: u32) -> io::Result<()> {
    // BPF_ALU64 | BPF_MOV | BPF_K r0, 0; BPF_JMP | BPF_EXIT
    let program: [u64; 2] = [0xb7u64.to_le(), 0x95u64.to_le()];
    let license = c"Dual MIT/GPL";
    let attr = ProgLoad {
        prog_type: kind,
        insn_cnt: 2,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_flags: flags,
        ..ProgLoad::default()
    };
    // SAFETY: `attr` is laid out as the kernel's for this command, its size is
    // given, and what it points to lives until the call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of::<ProgLoad>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for good in ["5.18.0", "6.1.0-18-amd64", "10.2"] {
            check_release(good).unwrap();
        }
        for bad in ["5.4.0-150-generic", "4.19", "nonsense"] {
            assert!(check_release(bad).is_err(), "{bad}");
        }
    }
}
