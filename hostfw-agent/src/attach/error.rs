use super::NetfilterError;
use crate::maps::{BpfError, LockError, MapsError, PinError};
use hostfw_common::verdict::Direction;

/// Why the dataplane could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The pin root cannot be used.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Another agent uses the pin root.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Maps could not be made, filled or switched.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The BPF object could not be loaded.
    #[error("BPF object: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    /// The definitions of the BPF object could not be read. A defect of the
    /// build.
    #[error("BPF object: {0}")]
    Parse(#[source] Box<aya_obj::ParseError>),
    /// The object lacks a program. A defect of the build.
    #[error("program {0}: expected in the BPF object, found none")]
    MissingProgram(&'static str),
    /// The kernel refused a program.
    #[error("program {name}: {error}")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// What aya said, with the verifier's log.
        #[source]
        error: Box<aya::programs::ProgramError>,
    },
    /// Nothing is judged at the netfilter hooks.
    #[error(transparent)]
    Netfilter(#[from] NetfilterError),
    /// No hook could be used.
    #[error("interface {interface} ({ifindex}): no hook for {direction:?}: {tried}")]
    Attach {
        /// Name of the interface.
        interface: String,
        /// Its index.
        ifindex: u32,
        /// Which packets.
        direction: Direction,
        /// Each hook that was tried, and what was wrong with it.
        tried: String,
    },
    /// The kernel refused something else about an interface.
    #[error("cannot {action} interface {ifindex}: {error}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Interface index.
        ifindex: u32,
        /// What the kernel said.
        error: String,
    },
    /// A test run of a netfilter program failed.
    #[error("netfilter program: {error}")]
    TestRun {
        /// What the kernel said.
        #[source]
        error: BpfError,
    },
    /// The kernel did not say which interfaces there are.
    #[error("cannot list interfaces: {0}")]
    Interfaces(#[source] std::io::Error),
    /// The kernel's own tables of flows could not be read.
    #[error("cannot read {table}: {error}")]
    Adopt {
        /// Which table.
        table: &'static str,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
}
