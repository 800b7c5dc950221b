//! Which addresses a rule's selectors stand for.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{UnknownAddresses, govern::Pair};
use crate::{
    model::{HostEndpoint, Kind, ObjectRef},
    selector::Selector,
};

/// An endpoint, and its addresses as far as this node knows them.
struct Known<'a> {
    endpoint: &'a HostEndpoint,
    addresses: Vec<IpAddr>,
    /// The endpoint has addresses, but only its own node knows which.
    elsewhere: bool,
}

/// Resolves selectors to the addresses of all endpoints of the cluster.
pub(super) struct Addresses<'a> {
    known: Vec<Known<'a>>,
    /// By the texts of selector and not-selector.
    resolved: HashMap<(String, Option<String>), Resolved>,
    unknown: BTreeSet<(String, String)>,
}

/// What a pair of selectors stands for.
#[derive(Clone)]
struct Resolved {
    nets: Vec<IpNet>,
    /// Names of endpoints that match, whose addresses are not known.
    unknown: Vec<String>,
}

impl<'a> Addresses<'a> {
    /// An endpoint has its `expectedIPs`; without any, the addresses that the
    /// interfaces hold which it governs here. Calico knows `expectedIPs` only:
    /// there, an endpoint without them matches no selector's packets
    /// (felix/labelindex/named_port_index.go).
    pub(super) fn new(endpoints: &'a [HostEndpoint], node: &str, governed: &[Pair<'a>]) -> Self {
        let known = endpoints
            .iter()
            .map(|endpoint| {
                let given = !endpoint.expected_ips.is_empty();
                let held = governed
                    .iter()
                    .filter(|pair| pair.endpoint.name == endpoint.name)
                    .flat_map(|pair| &pair.interface.addresses);
                let addresses = if given {
                    endpoint.expected_ips.clone()
                } else {
                    held.copied().collect()
                };
                Known {
                    endpoint,
                    addresses,
                    elsewhere: !given && endpoint.node != node,
                }
            })
            .collect();
        Self {
            known,
            resolved: HashMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// Addresses of the endpoints that `selector` matches and `except` does
    /// not; sorted, each once. `policy` is named along with the endpoints
    /// whose addresses are not known.
    pub(super) fn of(
        &mut self,
        selector: &Selector,
        except: Option<&Selector>,
        policy: &str,
    ) -> Vec<IpNet> {
        let key = (selector.to_string(), except.map(Selector::to_string));
        let known = &self.known;
        let resolved = self
            .resolved
            .entry(key)
            .or_insert_with(|| resolve(known, selector, except));
        for endpoint in &resolved.unknown {
            self.unknown.insert((endpoint.clone(), policy.to_owned()));
        }
        resolved.nets.clone()
    }

    /// What was asked for and is not known, sorted by endpoint, then policy.
    pub(super) fn into_unknown(self) -> Vec<UnknownAddresses> {
        self.unknown
            .into_iter()
            .map(|(endpoint, policy)| UnknownAddresses {
                endpoint: ObjectRef {
                    kind: Kind::HostEndpoint,
                    name: endpoint,
                },
                policy: ObjectRef {
                    kind: Kind::GlobalNetworkPolicy,
                    name: policy,
                },
            })
            .collect()
    }
}

fn resolve(known: &[Known<'_>], selector: &Selector, except: Option<&Selector>) -> Resolved {
    // Per object, not per address: an address that one endpoint shares with an
    // excepted one stays.
    let matching = || {
        known.iter().filter(|known| {
            let labels = &known.endpoint.labels;
            selector.matches(labels) && !except.is_some_and(|except| except.matches(labels))
        })
    };
    let nets: BTreeSet<IpNet> = matching()
        .flat_map(|known| &known.addresses)
        .map(|&address| IpNet::from(address))
        .collect();
    Resolved {
        nets: nets.into_iter().collect(),
        unknown: matching()
            .filter(|known| known.elsewhere)
            .map(|known| known.endpoint.name.clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::fixture::{endpoint, interface, labelled};

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn expected_ips_win_over_the_addresses_of_the_interface() {
        let endpoints = [endpoint("a", "node1", "eth0", &["192.0.2.1"])];
        let eth0 = interface(2, "eth0", &["10.240.0.11"]);
        let pair = Pair {
            endpoint: &endpoints[0],
            interface: &eth0,
        };
        let mut addresses = Addresses::new(&endpoints, "node1", &[pair]);
        let found = addresses.of(&selector("all()"), None, "p");
        assert_eq!(found, nets(&["192.0.2.1/32"]));
        assert_eq!(addresses.into_unknown(), []);
    }

    #[test]
    fn without_expected_ips_all_addresses_of_all_governed_interfaces_count() {
        let endpoints = [endpoint("a", "node1", "*", &[])];
        let eth0 = interface(2, "eth0", &["10.240.0.11", "fe80::11"]);
        let eth1 = interface(3, "eth1", &["fd00::1", "10.240.0.11"]);
        let pairs = [&eth0, &eth1].map(|interface| Pair {
            endpoint: &endpoints[0],
            interface,
        });
        let mut addresses = Addresses::new(&endpoints, "node1", &pairs);
        assert_eq!(
            addresses.of(&selector(""), None, "p"),
            nets(&["10.240.0.11/32", "fd00::1/128", "fe80::11/128"])
        );
    }

    #[test]
    fn other_nodes_endpoints_count_with_expected_ips_and_are_unknown_without() {
        let endpoints = [
            endpoint("b", "node2", "eth0", &["10.240.0.12"]),
            endpoint("c", "node3", "eth0", &[]),
            // Inert here: it has no addresses, and there is nothing to know.
            endpoint("d", "node1", "eth9", &[]),
        ];
        let mut addresses = Addresses::new(&endpoints, "node1", &[]);
        let all = selector("all()");
        assert_eq!(addresses.of(&all, None, "p"), nets(&["10.240.0.12/32"]));
        // From the cache: the second policy is named all the same.
        assert_eq!(addresses.of(&all, None, "q"), nets(&["10.240.0.12/32"]));
        let unknown: Vec<String> = addresses
            .into_unknown()
            .iter()
            .map(|u| format!("{} {}", u.endpoint, u.policy))
            .collect();
        assert_eq!(
            unknown,
            [
                "HostEndpoint(c) GlobalNetworkPolicy(p)",
                "HostEndpoint(c) GlobalNetworkPolicy(q)"
            ]
        );
    }

    #[test]
    fn not_selector_filters_objects_not_addresses() {
        let endpoints = [
            labelled("a", &["10.0.0.1", "10.0.0.9"], &[("role", "x")]),
            labelled(
                "b",
                &["10.0.0.2", "10.0.0.9"],
                &[("role", "x"), ("bad", "")],
            ),
            labelled("c", &["10.0.0.3"], &[]),
        ];
        let mut addresses = Addresses::new(&endpoints, "node1", &[]);
        let found = addresses.of(&selector("has(role)"), Some(&selector("has(bad)")), "p");
        // 10.0.0.9 belongs to b as well, and stays because of a.
        assert_eq!(found, nets(&["10.0.0.1/32", "10.0.0.9/32"]));
        let found = addresses.of(&selector("has(role)"), None, "p");
        assert_eq!(found, nets(&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.9/32"]));
    }
}
