use std::{fmt, net::IpAddr};

use crate::topology::{
    Family, Host, UDP_PORT,
    address::cluster_ip,
    kube_proxy::{CLOSED_NODE_PORT, NODE_PORT},
};

/// Whose address is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A host's.
    Host(Host),
    /// The service's cluster address.
    ClusterIp,
}

impl Target {
    /// The address.
    #[must_use]
    pub const fn address(self, family: Family) -> IpAddr {
        match self {
            Self::Host(host) => host.address(family),
            Self::ClusterIp => cluster_ip(family),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::ClusterIp => f.pad("service"),
        }
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A TCP connection to this port, and data both ways.
    Tcp(Target, u16),
    /// A datagram to this port, and its answer.
    Udp(Target, u16),
    /// The same with datagrams that must be fragmented, to [`UDP_PORT`].
    BigUdp(Target),
    /// An ICMP echo request, and its reply.
    Ping(Target),
}

impl Action {
    /// Whose address is tried.
    #[must_use]
    pub const fn target(self) -> Target {
        match self {
            Self::Tcp(target, _)
            | Self::Udp(target, _)
            | Self::BigUdp(target)
            | Self::Ping(target) => target,
        }
    }

    /// The destination port; 0 for ICMP.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Tcp(_, port) | Self::Udp(_, port) => port,
            Self::BigUdp(_) => UDP_PORT,
            Self::Ping(_) => 0,
        }
    }

    /// Who must answer: all of them, if it is a service.
    #[must_use]
    pub fn responders(self) -> Vec<Host> {
        let is_service = match self.target() {
            Target::ClusterIp => true,
            Target::Host(Host::Node1 | Host::Node2) => {
                [NODE_PORT, CLOSED_NODE_PORT].contains(&self.port())
            }
            Target::Host(Host::Client | Host::Pod1 | Host::Pod2) => false,
        };
        match self.target() {
            Target::Host(host) if !is_service => vec![host],
            Target::Host(_) | Target::ClusterIp => vec![Host::Pod1, Host::Pod2],
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Tcp(target, port) => format!("{target}:{port}/tcp"),
            Self::Udp(target, port) => format!("{target}:{port}/udp"),
            Self::BigUdp(target) => format!("{target}:{UDP_PORT}/udp in fragments"),
            Self::Ping(target) => format!("{target} ping"),
        })
    }
}
