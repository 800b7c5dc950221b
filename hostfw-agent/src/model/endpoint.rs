use std::{collections::BTreeMap, net::IpAddr};

/// A `HostEndpoint`: policy attaches to an interface of a node through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEndpoint {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Name of the node that has the interface.
    pub node: String,
    /// Which of the node's interfaces.
    pub interface: InterfaceMatch,
    /// Addresses given by the user; empty if none are.
    pub expected_ips: Vec<IpAddr>,
    /// Names of profiles, in the order in which they are evaluated.
    pub profiles: Vec<String>,
    /// Ports that rules may call by name.
    pub ports: Vec<NamedPort>,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// What rules call it.
    pub name: String,
    /// Protocol number: TCP 6, UDP 17 or SCTP 132.
    pub protocol: u8,
    /// The port, at least 1.
    pub port: u16,
}

/// Which interface an endpoint means (semantics: the interface's name if one
/// is given, otherwise the expected addresses).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceMatch {
    /// The interface of this name.
    Name(String),
    /// Any interface that holds one of the expected addresses.
    ExpectedIps,
    /// `*`: every interface that no other endpoint of the node means.
    Wildcard,
}
