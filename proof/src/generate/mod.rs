//! Makes up resources of every kind, nasty on purpose, and a node to judge
//! them on. All of it is legal: what validation refuses is a fault here.

pub(crate) mod pools;

mod cluster;
mod objects;
mod policy;
pub(crate) mod rule;
mod selector;
mod template;
mod told;

use std::net::IpAddr;

use hostfw_agent::{
    model::Interface,
    resource::{Action, EntityRule, Resource, Rule},
};

use crate::random::Random;
use pools::NODE;

/// Resources, and the node that they are judged on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Name of the node.
    pub node: String,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// All resources.
    pub resources: Vec<Resource>,
}

impl Scene {
    /// Makes one up.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let mut resources = objects::endpoints(random);
        resources.extend(objects::sets(random));
        resources.extend(objects::profiles(random));
        resources.extend(objects::tiers(random));
        resources.extend(objects::settings(random));
        resources.extend(policy::policies(random));
        resources.extend(template::templates(random));
        resources.extend(cluster::objects(random));
        // The order in which they are given means nothing.
        for index in (1..resources.len()).rev() {
            resources.swap(index, random.below(index + 1));
        }
        // From choices of their own: the rest stays what it is without them.
        let mut own = Random::new(random.clone().next());
        resources.extend(told::objects(&mut own));
        Self {
            node: NODE.to_owned(),
            interfaces: interfaces(),
            resources,
        }
    }
}

/// The interfaces of the node: two wires, a device without link header, a
/// workload's, one of kube-proxy's, and the loopback.
fn interfaces() -> Vec<Interface> {
    let all: [(&str, &[&str], bool); 6] = [
        ("lo", &["127.0.0.1", "::1"], true),
        ("eth0", &["10.240.0.11", "fd00:10:240::11"], true),
        ("eth1", &["192.168.7.2", "2001:db8:7::2"], true),
        ("wg0", &["10.99.0.1"], false),
        ("cali1234", &["fe80::1"], true),
        ("kube-ipvs0", &["10.96.0.10"], true),
    ];
    all.iter()
        .zip(1..)
        .map(|((name, addresses, link_header), index)| {
            let mut addresses: Vec<IpAddr> = addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect();
            addresses.sort_unstable();
            Interface {
                index,
                name: (*name).to_owned(),
                addresses,
                link_header: *link_header,
                loopback: *name == "lo",
                up: true,
                master: None,
            }
        })
        .collect()
}

/// A rule without criteria.
pub(crate) fn any_rule() -> Rule {
    Rule {
        action: Action::Deny,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: EntityRule::default(),
        destination: EntityRule::default(),
        http: None,
        metadata: None,
    }
}
