//! How much of the kernel's memory maps take.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _},
};

/// What a map takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSize {
    /// Name of the map; of one that every generation has, both together.
    pub name: &'static str,
    /// Bytes of kernel memory. Before Linux 6.4 the kernel told what the map
    /// would take when full.
    pub bytes: u64,
}

/// What the kernel says that a map takes, in bytes.
///
/// # Errors
///
/// If it does not say so.
pub(crate) fn bytes(map: impl AsFd) -> io::Result<u64> {
    let number = map.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    memlock(&text).ok_or_else(|| {
        let found = format!("expected memlock in the information on map {number}, found none");
        io::Error::new(io::ErrorKind::InvalidData, found)
    })
}

/// From the text of `/proc/PID/fdinfo/FD` (`bpf_map_show_fdinfo` in
/// kernel/bpf/syscall.c).
fn memlock(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_what_the_kernel_writes() {
        let text = "pos:\t0\nflags:\t02000002\nmap_type:\t11\nmemlock:\t12680\nmap_id:\t9\n";
        assert_eq!(memlock(text), Some(12_680));
        assert_eq!(memlock("pos:\t0\n"), None);
        assert_eq!(memlock("memlock:\tmuch\n"), None);
    }
}
