//! Templates of endpoints, and what is known of nodes.

use std::collections::BTreeMap;

use hostfw_agent::resource::{HostEndpointTemplateSpec, NodeSpec, Object, Resource};

use super::{
    objects::{endpoint, labels, metadata},
    pools::{LABEL_KEYS, NODE},
    selector,
};
use crate::random::Random;

/// Now and then a few.
pub(super) fn templates(random: &mut Random) -> Vec<Resource> {
    if !random.percent(25) {
        return Vec::new();
    }
    let mut resources = Vec::new();
    for node in random.subset(70, &[NODE, "node2"]) {
        resources.push(Resource::Node(Object {
            metadata: metadata(node, labels(random, 50)),
            spec: NodeSpec {},
        }));
    }
    for name in random.subset(60, &["a", "node1-eth0", "z"]) {
        let spec = template(random);
        resources.push(Resource::HostEndpointTemplate(Object {
            metadata: metadata(name, BTreeMap::new()),
            spec,
        }));
    }
    resources
}

fn template(random: &mut Random) -> HostEndpointTemplateSpec {
    let patterns = [
        ".*",
        "eth0",
        "eth[0-9]",
        "eth|eth1|wg",
        "wg.|eth1",
        "(?i)ETH.+",
        "cali.*|lo|kube-.*",
    ];
    let own = endpoint(random, NODE, Some("eth0"));
    let mut own_labels = labels(random, 35);
    own_labels.insert("host-endpoint".to_owned(), String::new());
    // What is among the labels may not be copied, too.
    let keys = LABEL_KEYS.map(str::to_owned);
    let labels_from_node = random
        .subset(40, &keys)
        .into_iter()
        .filter(|key| !own_labels.contains_key(key))
        .collect();
    HostEndpointTemplateSpec {
        order: *random.one_of(&[None, None, Some(1.0), Some(1.0), Some(-2.5)]),
        node_selector: random.some(50, selector::of_endpoints),
        interface_pattern: Some((*random.one_of(&patterns)).to_owned()),
        labels: own_labels,
        labels_from_node,
        profiles: own.profiles,
        ports: own.ports,
    }
}
