//! What nodes tell of their endpoints.

use std::collections::BTreeMap;

use hostfw_agent::resource::{NodeAddressesSpec, Object, Resource, ToldEndpoint};

use super::{
    objects::{labels, metadata},
    pools::{ADDRESSES_V4, ADDRESSES_V6, NODES},
};
use crate::random::Random;

/// Endpoints that may be there, of this node and of others, and some that are
/// not.
const NAMES: [&str; 9] = [
    "a",
    "other",
    "z-eth0",
    "node2-eth0",
    "nobody",
    "a/eth0",
    "a/wg0",
    "node1-eth0/eth1",
    "z/missing0",
];

/// Now and then a few.
pub(super) fn objects(random: &mut Random) -> Vec<Resource> {
    if !random.percent(30) {
        return Vec::new();
    }
    let nodes = random.subset(60, &NODES);
    nodes.into_iter().map(|node| told(random, node)).collect()
}

fn told(random: &mut Random, node: &str) -> Resource {
    let endpoints = random
        .subset(50, &NAMES)
        .into_iter()
        .map(|name| endpoint(random, name))
        .collect();
    Resource::NodeAddresses(Object {
        metadata: metadata(node, BTreeMap::new()),
        spec: NodeAddressesSpec { endpoints },
    })
}

fn endpoint(random: &mut Random, name: &str) -> ToldEndpoint {
    let mut addresses: Vec<&str> = random.several(&(0..=2), |random| *random.one_of(&ADDRESSES_V4));
    addresses.extend(random.several(&(0..=1), |random| *random.one_of(&ADDRESSES_V6)));
    // Those by which nobody knows a node are refused.
    let shared = ["fe80", "ff02", "127.", "224.", "::1"];
    let shared = |it: &str| shared.iter().any(|head| it.starts_with(head));
    let addresses = addresses.into_iter().filter(|it| !shared(it));
    ToldEndpoint {
        name: name.to_owned(),
        labels: if name.contains('/') {
            labels(random, 40)
        } else {
            BTreeMap::new()
        },
        addresses: addresses.map(str::to_owned).collect(),
    }
}
