//! The node that a question is about: this one, as its agent knows it, or one
//! that the command line describes.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use clap::Args;
use ipnet::IpNet;

use super::client::{self, Agent, ClientError};
use crate::{model::Interface, observe::live::Enforced};

/// A node.
#[derive(Clone, Debug, Args)]
pub(super) struct Host {
    /// Name of the node, instead of asking the agent of this one. Its
    /// interfaces are those of --address.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// An interface of the node and an address that it holds, as in
    /// eth0=10.0.0.1/24. May be repeated; without an address, as in eth0, the
    /// interface has none.
    #[arg(long = "address", value_name = "INTERFACE=CIDR", requires = "node")]
    addresses: Vec<Held>,
}

/// An interface, and an address that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    interface: String,
    address: Option<IpAddr>,
}

impl FromStr for Held {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (interface, address) = match text.split_once('=') {
            Some((interface, address)) => (interface, Some(address)),
            None => (text, None),
        };
        if interface.is_empty() || interface.len() > 15 {
            return Err(format!(
                "expected the name of an interface (1 to 15 characters), found {interface:?}"
            ));
        }
        let address = address
            .map(|text| {
                let net = text.parse::<IpNet>().map(|net| net.addr());
                net.or_else(|_| text.parse()).map_err(|_| {
                    format!("expected an address, with or without prefix length, found {text:?}")
                })
            })
            .transpose()?;
        Ok(Self {
            interface: interface.to_owned(),
            address,
        })
    }
}

impl Host {
    /// Whether the command line describes the node.
    pub(super) const fn is_given(&self) -> bool {
        self.node.is_some()
    }

    /// The node that the command line describes: its name and interfaces.
    /// `mentioned` are interfaces that the question speaks of: without an
    /// address, they need not be listed.
    pub(super) fn given<'a>(
        &self,
        mentioned: impl IntoIterator<Item = &'a str>,
    ) -> Option<(String, Vec<Interface>)> {
        let node = self.node.clone()?;
        let mut held: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for Held { interface, address } in &self.addresses {
            held.entry(interface).or_default().extend(address);
        }
        for interface in mentioned {
            held.entry(interface).or_default();
        }
        let interfaces = held
            .into_iter()
            .zip(1..)
            .map(|((name, mut addresses), index)| {
                addresses.sort_unstable();
                addresses.dedup();
                Interface {
                    index,
                    name: name.to_owned(),
                    addresses,
                    link_header: true,
                    loopback: name == "lo",
                    up: true,
                    master: None,
                }
            })
            .collect();
        Some((node, interfaces))
    }
}

/// The node of an agent: its name and interfaces.
///
/// # Errors
///
/// If the agent does not answer.
pub(super) fn asked(agent: &Agent) -> Result<(String, Vec<Interface>), ClientError> {
    let Enforced {
        node, interfaces, ..
    } = client::enforced(agent)?;
    Ok((node, interfaces))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(addresses: &[&str]) -> Host {
        Host {
            node: Some("node1".to_owned()),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn addresses_are_gathered_by_interface() {
        let given = host(&["eth0=10.0.0.2/24", "lo", "eth0=10.0.0.1", "eth1=fd00::1/64"]);
        let (node, interfaces) = given.given(["wg0"]).unwrap();
        assert_eq!(node, "node1");
        let shown: Vec<String> = interfaces
            .iter()
            .map(|interface| format!("{} {:?}", interface.name, interface.addresses))
            .collect();
        assert_eq!(
            shown,
            [
                "eth0 [10.0.0.1, 10.0.0.2]",
                "eth1 [fd00::1]",
                "lo []",
                "wg0 []"
            ]
        );
        assert!(interfaces[2].loopback && !interfaces[0].loopback);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (text, expected) in [
            ("eth0=10.0.0.300", "found \"10.0.0.300\""),
            ("=10.0.0.1", "found \"\""),
            ("an-interface-of-many-letters", "1 to 15"),
        ] {
            let error = text.parse::<Held>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
