//! Sandbox, topology and probes: a small cluster in network namespaces, and
//! the tutorial played on it.
//!
//! Nothing here links against the agent: it is run as the program that it is,
//! so that what is seen is what an administrator would see.

pub mod bpf;
pub mod cluster;
pub mod dhcp;
pub mod echo;
pub mod expectations;
pub mod insist;
pub mod netns;
pub mod packet;
pub mod policed;
pub mod probe;
pub mod raw;
pub mod report;
pub mod resources;
pub mod sandbox;
pub mod scenario;
pub mod topology;
