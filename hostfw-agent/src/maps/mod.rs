//! Writes images into maps and switches generations.
//!
//! Every per-generation map is an array of maps: two, or for one in parts
//! ([`parts`](hostfw_common::names::parts)) two for each part. The programs read the
//! word [`ACTIVE`](hostfw_common::names::ACTIVE) once for each packet; its
//! lowest bit says which of the two they use. [`Generations::switch`] brings the
//! maps of the slot that nobody reads to the image, and then writes that word: a
//! packet is judged by one generation or the other, never by a mixture.
//!
//! A slot's maps stay, so that a small change is a few writes. Whatever would be
//! much is written to a new map instead; the kernel frees the old one by itself,
//! after the last program has let go of it (`bpf_map_free_deferred`).

pub(crate) mod bpf;
mod filter;
mod generation;
mod lock;
pub(crate) mod pins;
pub(crate) mod size;
mod slot;
mod tables;

pub use bpf::BpfError;
pub(crate) use filter::FlowFilter;
pub(crate) use generation::{Generations, Refill};
pub(crate) use lock::Lock;
pub use lock::LockError;
pub use pins::PinError;
pub use size::MapSize;

/// Why maps could not be made, filled or switched.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The embedded object lacks what the kernel and the agent agreed on. A
    /// defect of the build.
    #[error("map {name}: expected {expected} in the BPF object, found none")]
    Missing {
        /// Name of the map.
        name: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// A pinned map is not like the one of the same name in the object.
    #[error(
        "map {name}: expected {field} {expected}, found {found}; if it was pinned by another \
         build, `hostfw-agent --detach` removes it"
    )]
    Incompatible {
        /// Name of the map.
        name: &'static str,
        /// What differs.
        field: &'static str,
        /// As the object has it.
        expected: u32,
        /// As it is pinned.
        found: u32,
    },
    /// aya could not do something with a map.
    #[error("map {name}: {error}")]
    Map {
        /// Name of the map.
        name: &'static str,
        /// What aya said.
        #[source]
        error: Box<aya::maps::MapError>,
    },
    /// A call of bpf(2) failed.
    #[error("map {name}: {error}")]
    Bpf {
        /// Name of the map.
        name: &'static str,
        /// The call, and what the kernel said.
        #[source]
        error: BpfError,
    },
    /// The kernel does not tell how large a map is.
    #[error("map {name}: {error}")]
    Size {
        /// Name of the map.
        name: &'static str,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
    /// The folder of pins could not be changed.
    #[error(transparent)]
    Pin(#[from] PinError),
}

impl MapsError {
    pub(crate) fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |error| Self::Map {
            name,
            error: Box::new(error),
        }
    }

    pub(crate) fn bpf(name: &'static str) -> impl Fn(BpfError) -> Self {
        move |error| Self::Bpf { name, error }
    }
}
