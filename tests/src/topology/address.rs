//! Who is where.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::Serialize;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// A host that takes part in probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// The client outside of the cluster.
    Client,
    /// The first node.
    Node1,
    /// The second node.
    Node2,
    /// The pod on the first node.
    Pod1,
    /// The pod on the second node.
    Pod2,
}

impl Host {
    /// All hosts.
    pub const ALL: [Self; 5] = [
        Self::Client,
        Self::Node1,
        Self::Node2,
        Self::Pod1,
        Self::Pod2,
    ];

    /// Its name, which is also that of its network namespace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "outside",
            Self::Node1 => "node1",
            Self::Node2 => "node2",
            Self::Pod1 => "pod1",
            Self::Pod2 => "pod2",
        }
    }

    /// Its address.
    #[must_use]
    pub const fn address(self, family: Family) -> IpAddr {
        let (v4, v6) = match self {
            Self::Client => ([203, 0, 113, 10], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10]),
            Self::Node1 => ([10, 240, 0, 11], [0xfd00, 0x10, 0x240, 0, 0, 0, 0, 0x11]),
            Self::Node2 => ([10, 240, 0, 12], [0xfd00, 0x10, 0x240, 0, 0, 0, 0, 0x12]),
            Self::Pod1 => ([192, 168, 1, 2], [0xfd00, 0x192, 0x168, 1, 0, 0, 0, 2]),
            Self::Pod2 => ([192, 168, 2, 2], [0xfd00, 0x192, 0x168, 2, 0, 0, 0, 2]),
        };
        choose(family, v4, v6)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The cluster address of the service that [`NODE_PORT`] opens too.
///
/// [`NODE_PORT`]: super::kube_proxy::NODE_PORT
#[must_use]
pub const fn cluster_ip(family: Family) -> IpAddr {
    choose(
        family,
        [10, 96, 0, 10],
        [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x10],
    )
}

const fn choose(family: Family, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(
            v6[0], v6[1], v6[2], v6[3], v6[4], v6[5], v6[6], v6[7],
        )),
    }
}

/// The addresses of the cluster's nodes.
#[must_use]
pub const fn nodes(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.240.0.0/16",
        Family::V6 => "fd00:10:240::/64",
    }
}

/// The addresses of the cluster's pods.
#[must_use]
pub const fn pods(family: Family) -> &'static str {
    match family {
        Family::V4 => "192.168.0.0/16",
        Family::V6 => "fd00:192:168::/48",
    }
}

/// The addresses of the pods on this node.
#[must_use]
pub fn pods_of(node: Host, family: Family) -> String {
    let number = if node == Host::Node1 { 1 } else { 2 };
    match family {
        Family::V4 => format!("192.168.{number}.0/24"),
        Family::V6 => format!("fd00:192:168:{number}::/64"),
    }
}
