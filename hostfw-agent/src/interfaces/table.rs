//! What is known of the node's interfaces, message by message.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
};

use tracing::warn;

use crate::model::Interface;

/// An interface without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    name: String,
    link_header: bool,
    loopback: bool,
    up: bool,
    master: Option<u32>,
}

/// Interfaces and addresses by interface index.
///
/// The two are kept apart because the kernel reports them so: an address can
/// be reported before its link, and stays unseen until the link is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    /// With the prefix length: the same address can be there twice, and must
    /// not vanish when one of the two is removed.
    addresses: BTreeMap<u32, BTreeSet<(IpAddr, u8)>>,
}

impl Table {
    /// Takes in one message, and says whether it changed anything.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        // The enum is another crate's and grows; what is not about links or
        // addresses is not ours.
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a non-exhaustive enum of another crate"
        )]
        match message {
            RouteNetlinkMessage::NewLink(link) => self.new_link(link),
            RouteNetlinkMessage::DelLink(link) => self.del_link(link),
            RouteNetlinkMessage::NewAddress(address) => self.new_address(address),
            RouteNetlinkMessage::DelAddress(address) => self.del_address(address),
            _ => false,
        }
    }

    /// The interfaces, sorted by index.
    pub(super) fn interfaces(&self) -> Vec<Interface> {
        self.links
            .iter()
            .map(|(&index, link)| {
                let addresses: BTreeSet<IpAddr> = self
                    .addresses
                    .get(&index)
                    .into_iter()
                    .flatten()
                    .map(|&(address, _)| address)
                    .collect();
                Interface {
                    index,
                    name: link.name.clone(),
                    addresses: addresses.into_iter().collect(),
                    link_header: link.link_header,
                    loopback: link.loopback,
                    up: link.up,
                    master: link.master,
                }
            })
            .collect()
    }

    fn new_link(&mut self, message: &LinkMessage) -> bool {
        if !is_about_the_link(message) {
            return false;
        }
        let index = message.header.index;
        let name = message.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::IfName(name) = attribute {
                Some(name.clone())
            } else {
                None
            }
        });
        // Some notifications of older drivers carry no name: then it did not
        // change.
        let Some(name) = name.or_else(|| self.links.get(&index).map(|link| link.name.clone()))
        else {
            return false;
        };
        let kind = message.header.link_layer_type;
        let Some(link_header) = link_header(kind) else {
            // An endpoint that means it is told that there is none: better
            // than programs that take every frame for something else than IP.
            warn!(
                interface = name,
                ?kind,
                "frames of this link type cannot be read"
            );
            return self.links.remove(&index).is_some();
        };
        let flags = message.header.flags;
        let link = Link {
            name,
            link_header,
            loopback: flags.contains(LinkFlags::Loopback),
            up: flags.contains(LinkFlags::Up),
            master: message.attributes.iter().find_map(|attribute| {
                if let LinkAttribute::Controller(master) = attribute {
                    Some(*master)
                } else {
                    None
                }
            }),
        };
        self.links.insert(index, link.clone()) != Some(link)
    }

    fn del_link(&mut self, message: &LinkMessage) -> bool {
        if !is_about_the_link(message) {
            return false;
        }
        let index = message.header.index;
        let addresses = self.addresses.remove(&index);
        self.links.remove(&index).is_some() || addresses.is_some()
    }

    fn new_address(&mut self, message: &AddressMessage) -> bool {
        let Some(address) = own_address(message) else {
            return false;
        };
        self.addresses
            .entry(message.header.index)
            .or_default()
            .insert((address, message.header.prefix_len))
    }

    fn del_address(&mut self, message: &AddressMessage) -> bool {
        let (Some(address), Some(addresses)) = (
            own_address(message),
            self.addresses.get_mut(&message.header.index),
        ) else {
            return false;
        };
        addresses.remove(&(address, message.header.prefix_len))
    }
}

/// Bridges report their ports with messages of family `AF_BRIDGE`: there a
/// deletion means that the interface left the bridge, not that it is gone.
fn is_about_the_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The interface's own address. On a point-to-point link `IFA_ADDRESS` is the
/// other side's, and `IFA_LOCAL` the own one; without `IFA_LOCAL` (IPv6)
/// `IFA_ADDRESS` is the own one (linux/if_addr.h).
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(local) = attribute {
            return Some(*local);
        }
        if let AddressAttribute::Address(other) = attribute {
            address = Some(*other);
        }
    }
    address
}

/// Whether frames of the link type begin with an Ethernet header, or with the
/// IP header; `None` if with something else, as on InfiniBand.
fn link_header(kind: LinkLayerType) -> Option<bool> {
    // The enum is another crate's and grows; a type that nobody has looked at
    // is one that cannot be read.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a non-exhaustive enum of another crate"
    )]
    match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => Some(true),
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
