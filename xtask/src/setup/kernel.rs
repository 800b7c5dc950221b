//! What the running kernel must be able to do.

use std::path::Path;

use anyhow::{Result, bail};
use hostfw_tests::bpf;

use super::is_root;

/// XDP programs that accept packets of several buffers (`BPF_F_XDP_HAS_FRAGS`)
/// came with Linux 5.18.
const FLOOR: (u32, u32) = (5, 18);

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
        ("XDP", bpf::PROG_TYPE_XDP, bpf::F_XDP_HAS_FRAGS),
        ("TC", bpf::PROG_TYPE_SCHED_CLS, 0),
    ] {
        if let Err(error) = bpf::load_constant(kind, flags, 0, 0) {
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
