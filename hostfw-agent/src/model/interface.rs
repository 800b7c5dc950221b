use std::net::IpAddr;

use regex_lite::Regex;

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
    /// The index of the interface that has this one for a member (bridge, bond,
    /// VRF): what comes in here comes to netfilter as that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
}

/// A way to mean interfaces by their names, as `interfaceExclude` has it.
#[derive(Clone, Debug)]
pub enum InterfaceNames {
    /// This name.
    Exact(String),
    /// Names in which the regular expression is found.
    Like(Regex),
}

impl InterfaceNames {
    /// Whether the name is meant.
    #[must_use]
    pub fn mean(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Like(regex) => regex.is_match(name),
        }
    }
}

impl PartialEq for InterfaceNames {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Like(a), Self::Like(b)) => a.as_str() == b.as_str(),
            (Self::Exact(_), Self::Like(_)) | (Self::Like(_), Self::Exact(_)) => false,
        }
    }
}
