use std::{collections::BTreeMap, net::IpAddr};

/// Most endpoints of a node that are told.
pub const MOST_ENDPOINTS: usize = 1024;
/// Most addresses of a node that are told: about 100 KiB of them.
pub const MOST_ADDRESSES: usize = 4096;

/// A `NodeAddresses`: what the agent of a node tells the others of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Name of the node, which is that of the object.
    pub node: String,
    /// Its endpoints without `expectedIPs`, sorted by name.
    pub endpoints: Vec<EndpointAddresses>,
}

/// The addresses of an endpoint that only its own node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointAddresses {
    /// Name of the `HostEndpoint`, or `TEMPLATE/INTERFACE` of one that a
    /// template made.
    pub name: String,
    /// Of one that a template made, the labels that it has from its node.
    pub labels: BTreeMap<String, String>,
    /// What the interfaces hold that it governs, as far as [others can know
    /// it](is_of_one_node); sorted.
    pub addresses: Vec<IpAddr>,
}

impl EndpointAddresses {
    /// Template and interface, of an endpoint that a template made.
    #[must_use]
    pub fn template_and_interface(&self) -> Option<(&str, &str)> {
        self.name.split_once('/')
    }
}

/// Whether it is an address by which others can know a node: loopback and
/// link-local ones are the same everywhere, or may be.
#[must_use]
pub const fn is_of_one_node(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}
