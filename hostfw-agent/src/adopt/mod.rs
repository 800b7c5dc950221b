//! Takes over the flows that the kernel knows before hostfw judges, so that
//! the first enforcement cuts none.
//!
//! Two tables of the kernel know flows: nf_conntrack, where it is in use, all
//! of them; sock_diag the TCP connections of local processes, also without
//! conntrack.

mod conntrack;
mod flow;
mod known;
mod route;
mod sockets;

use aya::{
    maps::{HashMap, MapData, MapError},
    sys::SyscallError,
};
use hostfw_common::{
    conntrack::{Flow, FlowKey},
    names::{CONFIRMED, HALF_OPEN},
};

pub(crate) use self::flow::now;
pub use self::known::{FlowReader, Kernel, KnownFlow, Surroundings, ip};

use self::flow::Known;
use crate::{
    attach::{Dataplane, DataplaneError},
    maps::MapsError,
};

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Entries of nf_conntrack that brought a flow that was not known.
    pub conntrack: usize,
    /// Sockets that did.
    pub sockets: usize,
    /// Tables that this kernel does not offer, and what it said. No error: a
    /// kernel without nf_conntrack has no entries in it.
    pub unavailable: Vec<String>,
}

/// Error numbers of a kernel that lacks a table: no such protocol, no such
/// subsystem, no such family.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EPROTONOSUPPORT
                | libc::EAFNOSUPPORT
                | libc::EOPNOTSUPP
                | libc::EINVAL
                | libc::ENOENT
        )
    )
}

impl Dataplane {
    /// Records the flows that the kernel knows in the network namespace of the
    /// caller. Flows that hostfw knows already stay as they are.
    ///
    /// # Errors
    ///
    /// If a table that there is cannot be read, or a flow not be written.
    pub fn adopt(&mut self) -> Result<Adopted, DataplaneError> {
        let now = flow::now();
        let mut adopted = Adopted::default();
        match conntrack::dump() {
            Ok(entries) => {
                for known in &entries {
                    adopted.conntrack += usize::from(self.record(known, now)?);
                }
            }
            Err(error) if is_absent(&error) => {
                adopted.unavailable.push(format!("nf_conntrack: {error}"));
            }
            Err(error) => {
                return Err(DataplaneError::Adopt {
                    table: "nf_conntrack",
                    error,
                });
            }
        }
        match sockets::dump() {
            Ok(connections) => {
                for known in &connections {
                    adopted.sockets += usize::from(self.record(known, now)?);
                }
            }
            Err(error) if is_absent(&error) => {
                adopted.unavailable.push(format!("sock_diag: {error}"));
            }
            Err(error) => {
                return Err(DataplaneError::Adopt {
                    table: "sock_diag",
                    error,
                });
            }
        }
        for table in &adopted.unavailable {
            tracing::warn!(table, "flows in it cannot be adopted");
        }
        Ok(adopted)
    }

    /// Whether any of the flow's keys was new.
    fn record(&mut self, known: &Known, now: u64) -> Result<bool, MapsError> {
        let filter = self.filter.lock();
        let mut new = false;
        for (key, opened_by) in &known.keys {
            let flow = Flow {
                last_seen: now,
                opened_by: *opened_by as u8,
                state: known.state,
                ..Flow::default()
            };
            filter.mark(key);
            new |= if known.confirmed {
                let new = insert(CONFIRMED, &mut self.confirmed, key, &flow)?;
                // What was seen of its opening would outlive it.
                remove(HALF_OPEN, &mut self.half_open, key)?;
                new
            } else {
                // A packet may have confirmed it since the table was read.
                !knows(CONFIRMED, &self.confirmed, key)?
                    && insert(HALF_OPEN, &mut self.half_open, key, &flow)?
            };
        }
        Ok(new)
    }
}

fn knows(
    name: &'static str,
    map: &HashMap<MapData, FlowKey, Flow>,
    key: &FlowKey,
) -> Result<bool, MapsError> {
    match map.get(key, 0) {
        Ok(_) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) => Err(MapsError::map(name)(error)),
    }
}

/// `BPF_NOEXIST` of linux/bpf.h.
const NO_EXIST: u64 = 1;

/// Writes a flow unless there is one of this key: that one was seen on the
/// wire, and knows better. `true` if it was written.
fn insert(
    name: &'static str,
    map: &mut HashMap<MapData, FlowKey, Flow>,
    key: &FlowKey,
    flow: &Flow,
) -> Result<bool, MapsError> {
    match map.insert(key, flow, NO_EXIST) {
        Ok(()) => Ok(true),
        Err(MapError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == std::io::ErrorKind::AlreadyExists =>
        {
            Ok(false)
        }
        Err(error) => Err(MapsError::map(name)(error)),
    }
}

/// Removes a flow, if there is one of this key.
fn remove(
    name: &'static str,
    map: &mut HashMap<MapData, FlowKey, Flow>,
    key: &FlowKey,
) -> Result<(), MapsError> {
    match map.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        Err(error) => Err(MapsError::map(name)(error)),
    }
}
