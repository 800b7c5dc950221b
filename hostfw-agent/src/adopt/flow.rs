//! What any table of the kernel tells about a flow, and the keys under which
//! the programs look for it.

use std::mem;

use hostfw_common::{
    conntrack::{Address, FlowKey},
    verdict::Direction,
};

/// A flow that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The keys that it may have on the wire, and who opened it then.
    pub(super) keys: Vec<(FlowKey, Direction)>,
    /// Packets of both directions were seen.
    pub(super) confirmed: bool,
    /// Bits `FLOW_*`.
    pub(super) state: u8,
}

/// Whether an address never is on a wire: loopback and unspecified.
pub(super) fn is_internal(address: &Address) -> bool {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let bytes = &address.bytes;
    if bytes[..12] == MAPPED {
        return bytes[12] == 127 || bytes[12..] == [0; 4];
    }
    // ::1 and ::.
    bytes[..15] == [0; 15] && bytes[15] <= 1
}

/// `CLOCK_MONOTONIC_COARSE` in nanoseconds, the clock of
/// [`Flow::last_seen`](hostfw_common::conntrack::Flow::last_seen): a finer one
/// would be ahead of what the programs read.
pub(crate) fn now() -> u64 {
    // SAFETY: integers only: all zeros is valid.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: a valid struct that outlives the call. The clock exists on every
    // Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_internal_and_others_are_not() {
        for internal in [[127, 0, 0, 1], [127, 1, 2, 3], [0; 4]] {
            assert!(is_internal(&Address::from_v4(internal)), "{internal:?}");
        }
        assert!(!is_internal(&Address::from_v4([10, 240, 0, 1])));
        let v6 = |text: &str| Address {
            bytes: text.parse::<std::net::Ipv6Addr>().unwrap().octets(),
        };
        assert!(is_internal(&v6("::1")));
        assert!(is_internal(&v6("::")));
        assert!(!is_internal(&v6("fd00::1")));
        assert!(!is_internal(&v6("::2")));
    }

    #[test]
    fn the_clock_runs() {
        assert!(now() > 0);
    }
}
