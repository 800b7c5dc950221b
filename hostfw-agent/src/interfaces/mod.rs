//! Interfaces and addresses of the node, followed by rtnetlink.
//!
//! [`table`] is what is known, as a plain state machine; [`follow`] feeds it
//! from the kernel.

mod follow;
mod table;

pub use follow::{InterfaceError, follow, list};
