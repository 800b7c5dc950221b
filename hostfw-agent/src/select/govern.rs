//! Which endpoint governs which interface.

use std::net::IpAddr;

use super::{Inert, InertReason, settings::Settings};
use crate::model::{HostEndpoint, Interface, InterfaceMatch};

/// An interface and the endpoint that governs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) endpoint: &'a HostEndpoint,
    pub(super) interface: &'a Interface,
    /// The interface is a workload's.
    pub(super) workload: bool,
}

/// Finds the endpoint of every interface, and the endpoints that have none.
///
/// `endpoints` are those of this node. Of several that mean an interface, the
/// one whose name is bytewise smallest governs it, whether it means it by name
/// or by address; `*` takes what is left, loopback and workload interfaces
/// included, which no other endpoint governs (Calico:
/// felix/dataplane/linux/endpoint_mgr.go, resolveHostEndpoints).
///
/// `made` are those that templates made, each for one interface, of which the
/// first counts: they come behind an endpoint that means the interface, and
/// ahead of `*`.
pub(super) fn govern<'a>(
    endpoints: &[&'a HostEndpoint],
    made: &'a [HostEndpoint],
    interfaces: &'a [Interface],
    settings: &Settings,
) -> (Vec<Pair<'a>>, Vec<Inert>) {
    let mut endpoints = endpoints.to_vec();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let mut interfaces: Vec<&Interface> = interfaces.iter().collect();
    interfaces.sort_by_key(|interface| interface.index);

    let wildcard = endpoints
        .iter()
        .find(|e| e.interface == InterfaceMatch::Wildcard);
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for &interface in &interfaces {
        if settings.is_excluded(&interface.name) {
            continue;
        }
        let workload = settings.is_workload(&interface.name);
        let specific = endpoints.iter().find(|e| !workload && means(e, interface));
        let of_template = || made.iter().find(|e| !workload && means(e, interface));
        let endpoint = specific.copied().or_else(of_template);
        if let Some(endpoint) = endpoint.or(wildcard.copied()) {
            pairs.push(Pair {
                endpoint,
                interface,
                workload,
            });
        }
    }

    let inert = endpoints
        .iter()
        .copied()
        .chain(made)
        .filter(|e| !pairs.iter().any(|pair| pair.endpoint.name == e.name))
        .map(|e| Inert {
            endpoint: e.name.clone(),
            reason: why_inert(e, &interfaces, &pairs, settings),
        })
        .collect();
    (pairs, inert)
}

/// Whether the endpoint means this very interface, not just what is left.
fn means(endpoint: &HostEndpoint, interface: &Interface) -> bool {
    match &endpoint.interface {
        InterfaceMatch::Name(name) => *name == interface.name,
        InterfaceMatch::ExpectedIps => holds_any(interface, &endpoint.expected_ips),
        InterfaceMatch::Wildcard => false,
    }
}

fn holds_any(interface: &Interface, addresses: &[IpAddr]) -> bool {
    addresses.iter().any(|a| interface.addresses.contains(a))
}

fn why_inert(
    endpoint: &HostEndpoint,
    interfaces: &[&Interface],
    pairs: &[Pair<'_>],
    settings: &Settings,
) -> InertReason {
    let meant = interfaces.iter().find(|i| means(endpoint, i));
    match (&endpoint.interface, meant) {
        (InterfaceMatch::Wildcard, _) => pairs
            .iter()
            .find(|pair| pair.endpoint.interface == InterfaceMatch::Wildcard)
            .map_or(InertReason::NothingLeft, shadowed),
        (InterfaceMatch::Name(name), None) => InertReason::NoSuchInterface(name.clone()),
        (InterfaceMatch::ExpectedIps, None) => {
            InertReason::NoSuchAddress(endpoint.expected_ips.clone())
        }
        (InterfaceMatch::Name(_) | InterfaceMatch::ExpectedIps, Some(interface)) => {
            let name = &interface.name;
            if settings.is_excluded(name) {
                return InertReason::Excluded(name.clone());
            }
            pairs
                .iter()
                .find(|pair| pair.interface.index == interface.index && !pair.workload)
                .map_or_else(|| InertReason::Workload(name.clone()), shadowed)
        }
    }
}

fn shadowed(pair: &Pair<'_>) -> InertReason {
    InertReason::Shadowed {
        interface: pair.interface.name.clone(),
        by: pair.endpoint.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::fixture::{endpoint, interface};

    fn resolve(
        endpoints: &[HostEndpoint],
        interfaces: &[Interface],
    ) -> (Vec<(String, String)>, Vec<Inert>) {
        let endpoints: Vec<&HostEndpoint> = endpoints.iter().collect();
        let settings = Settings::of_node(&[], "node1");
        let (pairs, inert) = govern(&endpoints, &[], interfaces, &settings);
        let pairs = pairs
            .iter()
            .map(|p| (p.interface.name.clone(), p.endpoint.name.clone()))
            .collect();
        (pairs, inert)
    }

    fn pair(interface: &str, endpoint: &str) -> (String, String) {
        (interface.to_owned(), endpoint.to_owned())
    }

    fn node() -> Vec<Interface> {
        vec![
            interface(1, "lo", &["127.0.0.1"]),
            interface(2, "eth0", &["10.240.0.11", "fe80::11"]),
            interface(3, "eth1", &["10.250.0.11"]),
            interface(9, "cali1", &[]),
            interface(4, "kube-ipvs0", &["10.96.0.1"]),
        ]
    }

    #[test]
    fn name_matches_the_interface_of_that_name_only() {
        // expectedIPs do not count once a name is given.
        let mut by_name = endpoint("a", "node1", "eth1", &[]);
        by_name.expected_ips = vec!["10.240.0.11".parse().unwrap()];
        let (pairs, inert) = resolve(&[by_name], &node());
        assert_eq!(pairs, [pair("eth1", "a")]);
        assert_eq!(inert, []);
    }

    #[test]
    fn addresses_match_every_interface_that_holds_one() {
        let ips = ["10.240.0.11", "10.250.0.11", "192.0.2.1"];
        let (pairs, _) = resolve(&[endpoint("a", "node1", "", &ips)], &node());
        assert_eq!(pairs, [pair("eth0", "a"), pair("eth1", "a")]);
    }

    #[test]
    fn smallest_name_wins_whether_by_name_or_by_address() {
        let by_name = endpoint("b", "node1", "eth0", &[]);
        let by_address = endpoint("a", "node1", "", &["10.240.0.11"]);
        let wildcard = endpoint("A", "node1", "*", &[]);
        let (pairs, inert) = resolve(&[by_name, by_address, wildcard], &node());
        assert_eq!(
            pairs,
            [
                pair("lo", "A"),
                pair("eth0", "a"),
                pair("eth1", "A"),
                pair("cali1", "A")
            ]
        );
        assert_eq!(
            inert,
            [Inert {
                endpoint: "b".to_owned(),
                reason: InertReason::Shadowed {
                    interface: "eth0".to_owned(),
                    by: "a".to_owned()
                }
            }]
        );
    }

    #[test]
    fn wildcard_takes_what_is_left_but_not_excluded_interfaces() {
        let all = [
            endpoint("b", "node1", "*", &[]),
            endpoint("a", "node1", "*", &[]),
            endpoint("z", "node1", "eth1", &[]),
        ];
        let (pairs, inert) = resolve(&all, &node());
        assert_eq!(
            pairs,
            [
                pair("lo", "a"),
                pair("eth0", "a"),
                pair("eth1", "z"),
                pair("cali1", "a")
            ]
        );
        assert_eq!(
            inert[0].reason,
            InertReason::Shadowed {
                interface: "lo".to_owned(),
                by: "a".to_owned()
            }
        );
    }

    #[test]
    fn only_a_wildcard_governs_a_workload_interface() {
        let named = endpoint("a", "node1", "cali1", &[]);
        let mut by_address = endpoint("b", "node1", "", &["10.9.9.9"]);
        let wildcard = endpoint("c", "node1", "*", &[]);
        let interfaces = [interface(9, "cali1", &["10.9.9.9"])];
        let (pairs, inert) = resolve(&[named.clone(), by_address.clone(), wildcard], &interfaces);
        assert_eq!(pairs, [pair("cali1", "c")]);
        let workload = InertReason::Workload("cali1".to_owned());
        assert_eq!(inert[0].reason, workload);
        assert_eq!(inert[1].reason, workload);

        // It holds an address on an interface that it can govern, too.
        by_address.expected_ips.push("10.0.0.1".parse().unwrap());
        let both = [interface(2, "eth0", &["10.0.0.1"]), interfaces[0].clone()];
        let (pairs, _) = resolve(&[named, by_address], &both);
        assert_eq!(pairs, [pair("eth0", "b")]);
    }

    #[test]
    fn wildcard_with_nothing_left_says_so() {
        let all = [
            endpoint("eth", "node1", "eth0", &[]),
            endpoint("all", "node1", "*", &[]),
        ];
        let (_, inert) = resolve(&all, &[interface(2, "eth0", &[])]);
        assert_eq!(inert[0].reason, InertReason::NothingLeft);
    }

    #[test]
    fn loopback_is_governed_by_name() {
        let (pairs, _) = resolve(&[endpoint("a", "node1", "lo", &[])], &node());
        assert_eq!(pairs, [pair("lo", "a")]);
    }

    #[test]
    fn every_inert_endpoint_says_why() {
        let all = [
            endpoint("a", "node1", "eth7", &[]),
            endpoint("b", "node1", "", &["192.0.2.1"]),
            endpoint("c", "node1", "kube-ipvs0", &[]),
            endpoint("d", "node1", "cali1", &[]),
            endpoint("e", "node1", "", &["10.96.0.1"]),
        ];
        let (pairs, inert) = resolve(&all, &node());
        assert_eq!(pairs, []);
        let reasons: Vec<_> = inert.into_iter().map(|i| i.reason).collect();
        assert_eq!(
            reasons,
            [
                InertReason::NoSuchInterface("eth7".to_owned()),
                InertReason::NoSuchAddress(vec!["192.0.2.1".parse().unwrap()]),
                InertReason::Excluded("kube-ipvs0".to_owned()),
                InertReason::Workload("cali1".to_owned()),
                InertReason::Excluded("kube-ipvs0".to_owned()),
            ]
        );
    }
}
