//! Resources after validation: what the rest of the agent works with.
//!
//! Everything here is known to be well-formed; [`validate`](crate::validate)
//! is the only place that makes these from what a user wrote. Nothing here
//! knows of YAML, Kubernetes or BPF.

mod addresses;
mod endpoint;
mod failsafe;
mod interface;
mod object;
mod order;
mod policy;
mod profile;
mod rule;
mod set;
mod template;
mod tier;
mod workload;

pub use addresses::{
    EndpointAddresses, MOST_ADDRESSES, MOST_ENDPOINTS, NodeAddresses, is_of_one_node,
};
pub use endpoint::{HostEndpoint, InterfaceMatch, NamedPort};
pub use failsafe::{Failsafe, FelixSettings};
pub use interface::{Interface, InterfaceNames};
pub use object::{Kind, ObjectRef};
pub use order::Order;
pub use policy::{Policy, Stage, StagedAction};
pub use profile::Profile;
pub use rule::{Entity, IcmpMatch, IpVersion, PortRange, Protocol, Rule, RuleAction, ServiceName};
pub use set::NetworkSet;
pub use template::{HostEndpointTemplate, Node};
pub use tier::{Tier, TierDefault};
pub use workload::{EndpointSlice, Labels, WorkloadEndpoint};

use std::sync::Arc;

/// All objects that are in force. Of some kinds there may be very many: copies share
/// them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// Sorted by name.
    pub endpoints: Vec<Arc<HostEndpoint>>,
    /// In the order in which they are looked at: by order, then by name.
    pub templates: Vec<HostEndpointTemplate>,
    /// What is known of nodes, sorted by name.
    pub nodes: Vec<Node>,
    /// What agents tell of other nodes, sorted by node.
    pub addresses: Vec<Arc<NodeAddresses>>,
    /// Enforced ones first, then staged ones, each sorted by name;
    /// [`select`](crate::select) puts them in order.
    pub policies: Vec<Arc<Policy>>,
    /// Sorted by name. Tiers that are always there need not be listed.
    pub tiers: Vec<Tier>,
    /// Sorted by namespace (global ones first), then name.
    pub sets: Vec<Arc<NetworkSet>>,
    /// Sorted by name.
    pub profiles: Vec<Arc<Profile>>,
    /// Sorted by name.
    pub settings: Vec<FelixSettings>,
    /// Sorted by namespace, then name.
    pub workloads: Vec<Arc<WorkloadEndpoint>>,
    /// Sorted by namespace, then name.
    pub slices: Vec<Arc<EndpointSlice>>,
}
