use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A network interface of this node, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// The kernel's interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its addresses, sorted; link-local ones included.
    pub addresses: Vec<IpAddr>,
    /// Packets on it begin with an Ethernet header.
    pub link_header: bool,
    /// It is the loopback interface.
    pub loopback: bool,
    /// It is up (administratively).
    pub up: bool,
}
