use super::*;
use crate::select::fixture::{
    addresses, asking, endpoint, interface, labelled, nets, network_set, profile,
};

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn on_node1<'a>(endpoints: &'a [HostEndpoint], governed: &[Pair<'a>]) -> Addresses<'a> {
    let cache = Box::leak(Box::default());
    let cluster = Cluster {
        made: [endpoints, &[]],
        ..Cluster::default()
    };
    Addresses::new(cluster, &Profiles::new(&[]), "node1", governed, cache)
}

#[test]
fn expected_ips_win_over_the_addresses_of_the_interface() {
    let endpoints = [endpoint("a", "node1", "eth0", &["192.0.2.1"])];
    let eth0 = interface(2, "eth0", &["10.240.0.11"]);
    let pair = Pair {
        endpoint: &endpoints[0],
        interface: &eth0,
        workload: false,
    };
    let mut addresses = on_node1(&endpoints, &[pair]);
    let found = addresses
        .of(&selector("all()"), None, &asking("p"))
        .to_vec();
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
        workload: false,
    });
    let mut addresses = on_node1(&endpoints, &pairs);
    assert_eq!(
        addresses.of(&selector(""), None, &asking("p")).to_vec(),
        nets(&["10.240.0.11/32", "fd00::1/128", "fe80::11/128"])
    );
}

#[test]
fn other_nodes_endpoints_count_with_expected_ips_and_are_unknown_without() {
    let mut port_of_c = endpoint("c", "node3", "eth0", &[]);
    port_of_c.ports = vec![NamedPort {
        name: "web".to_owned(),
        protocol: 6,
        port: 80,
    }];
    let endpoints = [
        endpoint("b", "node2", "eth0", &["10.240.0.12"]),
        port_of_c,
        // Inert here: it has no addresses, and there is nothing to know.
        endpoint("d", "node1", "eth9", &[]),
    ];
    let mut addresses = on_node1(&endpoints, &[]);
    let all = selector("all()");
    let known = nets(&["10.240.0.12/32"]);
    assert_eq!(addresses.of(&all, None, &asking("p")).to_vec(), known);
    // From the cache: the second policy is named all the same.
    assert_eq!(addresses.of(&all, None, &asking("q")).to_vec(), known);
    let web = ["web".to_owned()];
    assert_eq!(
        addresses.points(&web, None, None, None, &asking("r")),
        Vec::new()
    );
    assert_eq!(
        addresses.points(&web, Some(17), None, None, &asking("s")),
        Vec::new()
    );
    let unknown: Vec<String> = addresses
        .into_unknown()
        .iter()
        .map(|u| format!("{} {}", u.endpoint, u.policy))
        .collect();
    assert_eq!(
        unknown,
        [
            "HostEndpoint(c) GlobalNetworkPolicy(p)",
            "HostEndpoint(c) GlobalNetworkPolicy(q)",
            "HostEndpoint(c) GlobalNetworkPolicy(r)",
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
    let mut addresses = addresses(&endpoints);
    let role = selector("has(role)");
    let found = addresses.of(&role, Some(&selector("has(bad)")), &asking("p"));
    // 10.0.0.9 belongs to b as well, and stays because of a.
    assert_eq!(*found, nets(&["10.0.0.1/32", "10.0.0.9/32"]));
    let found = addresses.of(&role, None, &asking("p")).to_vec();
    assert_eq!(found, nets(&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.9/32"]));
}

#[test]
fn network_sets_are_members_with_the_labels_that_they_inherit() {
    let endpoints = [labelled("a", &["10.0.0.1"], &[("zone", "a")])];
    let sets = [
        network_set(
            None,
            "s",
            &["192.0.2.0/24", "10.0.0.1/32"],
            &[("zone", "a")],
        ),
        network_set(Some("web"), "s", &["2001:db8::/32"], &[]),
        network_set(Some("db"), "s", &["198.51.100.0/24"], &[("zone", "b")]),
    ];
    let profiles = [profile("kns.web", &[("zone", "a")])].map(Arc::new);
    let profiles = Profiles::new(&profiles);
    let mut cache = Default::default();
    let (endpoints, sets) = (endpoints.map(Arc::new), sets.map(Arc::new));
    let cluster = Cluster {
        endpoints: &endpoints,
        networks: &sets,
        ..Cluster::default()
    };
    let mut addresses = Addresses::new(cluster, &profiles, "node1", &[], &mut cache);
    let mut of = |text: &str| addresses.of(&selector(text), None, &asking("p")).to_vec();
    assert_eq!(
        of("zone == 'a'"),
        nets(&["10.0.0.1/32", "192.0.2.0/24", "2001:db8::/32"])
    );
    assert_eq!(
        of("projectcalico.org/namespace == 'db'"),
        nets(&["198.51.100.0/24"])
    );
    // Sets are no nodes.
    let nodes: Vec<_> = addresses.of_endpoints().into_iter().collect();
    assert_eq!(nodes, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
}
