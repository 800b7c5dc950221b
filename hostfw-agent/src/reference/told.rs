//! `NodeAddresses`: what nodes tell of their endpoints (semantics 12.1).

use std::net::IpAddr;

use super::{
    objects::Objects,
    selector::Labels,
    template,
    world::{Endpoint, is_of_a_node},
};
use crate::resource::NodeAddresses;

/// What a node tells.
pub(super) struct Told {
    node: String,
    endpoints: Vec<One>,
}

/// What it tells of an endpoint.
struct One {
    name: String,
    labels: Labels,
    addresses: Vec<IpAddr>,
}

/// `None` if it names an address that is none, or by which nobody knows a node.
pub(super) fn read(object: &NodeAddresses) -> Option<Told> {
    let mut endpoints = Vec::new();
    for told in &object.spec.endpoints {
        let mut addresses = Vec::new();
        for text in &told.addresses {
            let address: IpAddr = text.parse().ok()?;
            addresses.push(address.to_canonical());
        }
        if !addresses.iter().all(is_of_a_node) {
            return None;
        }
        endpoints.push(One {
            name: told.name.clone(),
            labels: told.labels.clone(),
            addresses,
        });
    }
    let node = object.metadata.name.clone();
    Some(Told { node, endpoints })
}

/// Gives endpoints of other nodes than `node` the addresses that these tell,
/// and adds those that templates have made there.
pub(super) fn spread(
    all: &[Told],
    objects: &Objects<'_>,
    node: &str,
    endpoints: &mut Vec<Endpoint>,
) {
    for told in all.iter().filter(|told| told.node != node) {
        for one in &told.endpoints {
            // A node speaks of its own endpoints alone.
            for endpoint in endpoints.iter_mut() {
                if endpoint.node == told.node && endpoint.name == one.name {
                    endpoint.told.clone_from(&one.addresses);
                }
            }
            if let Some((name, interface)) = one.name.split_once('/') {
                let made = template::elsewhere(objects, [name, &told.node, interface], &one.labels);
                endpoints.extend(made.map(|mut endpoint| {
                    endpoint.told.clone_from(&one.addresses);
                    endpoint
                }));
            }
        }
    }
}
