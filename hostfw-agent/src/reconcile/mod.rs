//! The loop that brings the kernel to what the store says.

mod dataplane;
mod enforce;
#[cfg(test)]
mod fake;
mod plan;

pub use dataplane::{Dataplane, Hooks};
