//! How many flows are kept, and for how long: settings and their defaults.

use std::{fs, str::FromStr};

use hostfw_common::{
    conntrack::{Idle, Timeouts},
    filter,
    limits::{CONFIRMED_FLOWS, HALF_OPEN_FLOWS, MAX_CONFIRMED_FLOWS, MIN_CONFIRMED_FLOWS},
};

/// How many flows there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTables {
    /// Unanswered flows, and those whose opener may be nobody.
    pub half_open: u32,
    /// The others.
    pub confirmed: u32,
}

impl FlowTables {
    /// What a machine can spare: a 256th of its memory for confirmed flows, in
    /// a power of two of them, within limits; a quarter as many half-open ones.
    ///
    /// The figure is ours, and comes near that of Linux (`nf_conntrack_max` is
    /// 262,144 on machines of 4 GiB and more): so it is here with 8 GiB.
    #[must_use]
    pub const fn for_memory(bytes: u64) -> Self {
        /// Bytes of the kernel's for each entry: 40 of the key, 16 of the flow,
        /// and as much again for the entry's head and its place in the table.
        const ENTRY: u64 = 128;
        let room = bytes / 256 / ENTRY;
        let confirmed = if room >= MAX_CONFIRMED_FLOWS as u64 {
            MAX_CONFIRMED_FLOWS
        } else if room <= MIN_CONFIRMED_FLOWS as u64 {
            MIN_CONFIRMED_FLOWS
        } else {
            1 << room.ilog2()
        };
        Self {
            half_open: confirmed / 4,
            confirmed,
        }
    }

    /// Entries of the map that tells which flows are in neither table.
    pub(super) const fn filter_entries(self) -> u32 {
        filter::entries(filter::lines(self.half_open as u64 + self.confirmed as u64))
    }

    /// What this machine can spare.
    #[must_use]
    pub fn for_this_machine() -> Self {
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| total(&text));
        match memory {
            Some(bytes) => Self::for_memory(bytes),
            None => Self {
                half_open: HALF_OPEN_FLOWS,
                confirmed: CONFIRMED_FLOWS,
            },
        }
    }
}

/// Bytes of memory by the contents of /proc/meminfo (proc(5)).
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A time after which flows of a kind are forgotten, as the command line says
/// it: `tcp-fin=60`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeout {
    kind: Idle,
    seconds: u32,
}

impl FlowTimeout {
    /// Puts the time in the place of the one that is there.
    pub fn set(self, timeouts: &mut Timeouts) {
        timeouts.0[self.kind as usize] = u64::from(self.seconds) * 1_000_000_000;
    }
}

/// No time for a kind of flows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowTimeoutError {
    /// No equals sign.
    #[error("expected KIND=SECONDS")]
    Form,
    /// The kind is none.
    #[error("{0}: expected one of {names}", names = Idle::ALL.map(Idle::name).join(", "))]
    Kind(String),
    /// The time is no number of seconds, or 0.
    #[error("{0}: expected a number of seconds from 1 to {max}", max = u32::MAX)]
    Seconds(String),
}

impl FromStr for FlowTimeout {
    type Err = FlowTimeoutError;

    fn from_str(text: &str) -> Result<Self, FlowTimeoutError> {
        let (kind, seconds) = text.split_once('=').ok_or(FlowTimeoutError::Form)?;
        let kind = Idle::ALL
            .into_iter()
            .find(|idle| idle.name() == kind)
            .ok_or_else(|| FlowTimeoutError::Kind(kind.to_owned()))?;
        let seconds = match seconds.parse() {
            Ok(0) | Err(_) => return Err(FlowTimeoutError::Seconds(seconds.to_owned())),
            Ok(seconds) => seconds,
        };
        Ok(Self { kind, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn tables_grow_with_memory_within_limits() {
        for (memory, confirmed) in [
            (0, MIN_CONFIRMED_FLOWS),
            (GIB / 2, MIN_CONFIRMED_FLOWS),
            (4 * GIB, 1 << 17),
            (8 * GIB, CONFIRMED_FLOWS),
            (8 * GIB - 1, CONFIRMED_FLOWS / 2),
            (24 * GIB, 1 << 19),
            (64 * GIB, MAX_CONFIRMED_FLOWS),
            (u64::MAX, MAX_CONFIRMED_FLOWS),
        ] {
            let tables = FlowTables::for_memory(memory);
            assert_eq!(tables.confirmed, confirmed, "{memory} bytes");
            assert_eq!(tables.half_open, confirmed / 4, "{memory} bytes");
        }
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        let text = "MemTotal:       24684096 kB\nMemFree:  1 kB\n";
        assert_eq!(total(text), Some(24_684_096 * 1024));
        assert_eq!(total("MemTotal: much\n"), None);
        assert_eq!(total(""), None);
    }

    #[test]
    fn a_timeout_replaces_its_own_default_only() {
        let mut timeouts = Timeouts::DEFAULT;
        let timeout: FlowTimeout = "tcp-fin=60".parse().unwrap();
        timeout.set(&mut timeouts);
        for idle in Idle::ALL {
            let expected = if idle == Idle::TcpFin {
                60_000_000_000
            } else {
                Timeouts::DEFAULT.of(idle)
            };
            assert_eq!(timeouts.of(idle), expected, "{}", idle.name());
        }
    }

    #[test]
    fn what_is_no_timeout_is_told_apart() {
        let error = |text: &str| text.parse::<FlowTimeout>().unwrap_err();
        assert_eq!(error("tcp-fin"), FlowTimeoutError::Form);
        assert_eq!(error("tcp=1"), FlowTimeoutError::Kind("tcp".to_owned()));
        for seconds in ["", "0", "-1", "1s", "4294967296"] {
            assert_eq!(
                error(&format!("icmp={seconds}")),
                FlowTimeoutError::Seconds(seconds.to_owned())
            );
        }
    }
}
