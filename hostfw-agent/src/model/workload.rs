use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{NamedPort, ServiceName};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// A `WorkloadEndpoint`: what is known of a pod. Policies do not apply to it;
/// it is there for rules to match its addresses. There may be very many, most of which
/// have labels, profiles and ports that others have, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadEndpoint {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its own labels, with those that say its namespace and its service
    /// account.
    pub labels: Arc<Labels>,
    /// Names of the profiles whose labels it inherits, in order.
    pub profiles: Arc<[String]>,
    /// Its addresses, each a net of its own.
    pub nets: Arc<[IpNet]>,
    /// Ports that rules may call by name.
    pub ports: Arc<[NamedPort]>,
}

/// An `EndpointSlice`: addresses and ports of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The service; `None` if it belongs to none.
    pub service: Option<ServiceName>,
    /// Addresses of its endpoints, ready or not.
    pub addresses: Vec<IpAddr>,
    /// Protocol numbers and ports, which all of the addresses have.
    pub ports: Vec<(u8, u16)>,
}
