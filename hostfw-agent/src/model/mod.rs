//! Resources after validation: what the rest of the agent works with.
//!
//! Everything here is known to be well-formed; [`validate`](crate::validate)
//! is the only place that makes these from what a user wrote. Nothing here
//! knows of YAML, Kubernetes or BPF.

mod endpoint;
mod failsafe;
mod interface;
mod object;
mod order;
mod policy;
mod rule;

pub use endpoint::{HostEndpoint, InterfaceMatch};
pub use failsafe::{Failsafe, FelixSettings};
pub use interface::Interface;
pub use object::{Kind, ObjectRef};
pub use order::Order;
pub use policy::{Policy, Stage};
pub use rule::{Entity, IcmpMatch, IpVersion, PortRange, Protocol, Rule, RuleAction};

/// All objects that are in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Sorted by name.
    pub endpoints: Vec<HostEndpoint>,
    /// Sorted by name; [`select`](crate::select) puts them in order.
    pub policies: Vec<Policy>,
    /// Sorted by name.
    pub settings: Vec<FelixSettings>,
}
