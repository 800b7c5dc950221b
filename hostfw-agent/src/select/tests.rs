use super::{
    fixture::{endpoint, interface, nets, network_set, policy, profile, rule, settings},
    *,
};
use hostfw_common::verdict::Direction;

use crate::{
    model::{FelixSettings, InterfaceMatch, NodeAddresses, Stage},
    selector::Selector,
};

/// The pinhole of the tutorial: the destination is the endpoints themselves.
fn pinhole() -> Model {
    let mut node1 = endpoint("node1-eth0", "node1", "eth0", &[]);
    node1
        .labels
        .insert("host-endpoint".into(), "ingress".into());
    let mut node2 = endpoint("node2-eth0", "node2", "eth0", &[]);
    node2
        .labels
        .insert("host-endpoint".into(), "ingress".into());
    let mut allow = policy("allow-nodeport", 10.0, "has(host-endpoint)");
    let mut to_endpoints = rule(RuleAction::Allow);
    to_endpoints.destination.selector = Some(Selector::parse("has(host-endpoint)").unwrap());
    allow.ingress = Some([to_endpoints].into());
    let mut outbound = policy("allow-outbound-external", 10.0, "has(host-endpoint)");
    outbound.stage = Stage::Normal;
    outbound.apply_on_forward = false;
    outbound.ingress = None;
    outbound.egress = Some([rule(RuleAction::Allow)].into());
    Model {
        endpoints: vec![node1.into(), node2.into()],
        policies: vec![allow.into(), outbound.into()],
        ..Model::default()
    }
}

fn policies(list: &SelectedList) -> Vec<&SelectedPolicy> {
    list.policies().collect()
}

#[test]
fn pinhole_stands_for_the_addresses_of_the_own_interface() {
    let eth0 = interface(2, "eth0", &["10.240.0.11", "fd00:10:240::11", "fe80::11"]);
    let interfaces = [eth0.clone(), interface(1, "lo", &["127.0.0.1"])];
    let selection = select(&pinhole(), "node1", &interfaces);

    assert_eq!(selection.governed.len(), 1);
    let governed = &selection.governed[0];
    assert_eq!(governed.endpoint, "node1-eth0");
    assert_eq!(governed.interface, eth0);
    assert!(!governed.workload);
    let pre_dnat = policies(governed.list(List::PreDnat));
    assert_eq!(pre_dnat.len(), 1);
    assert_eq!(
        pre_dnat[0].object.to_string(),
        "GlobalNetworkPolicy(allow-nodeport)"
    );
    assert_eq!(
        pre_dnat[0].rules[0].destination.members,
        Some(nets(&["10.240.0.11/32", "fd00:10:240::11/128", "fe80::11/128"]).into())
    );
    let normal_out = policies(governed.list(List::NormalOut));
    assert_eq!(normal_out.len(), 1);
    assert_eq!(normal_out[0].object.name, "allow-outbound-external");
    assert!(policies(governed.list(List::ForwardOut)).is_empty());

    // The other node's endpoint matches too, but is only known there.
    assert_eq!(selection.unknown_addresses.len(), 1);
    let unknown = &selection.unknown_addresses[0];
    assert_eq!(unknown.endpoint.name, "node2-eth0");
    assert_eq!(unknown.policy.name, "allow-nodeport");
    // Another node's endpoint is not inert here: it is no business of ours.
    assert_eq!(selection.inert, []);
}

#[test]
fn node_names_are_compared_exactly() {
    let interfaces = [interface(2, "eth0", &[])];
    assert_eq!(select(&pinhole(), "Node1", &interfaces).governed, []);
    assert_eq!(select(&pinhole(), "node3", &interfaces).governed, []);
}

#[test]
fn policies_that_govern_nothing_here_report_no_unknown_addresses() {
    let selection = select(&pinhole(), "node3", &[interface(2, "eth0", &[])]);
    assert_eq!(selection.unknown_addresses, []);
}

#[test]
fn order_of_interfaces_does_not_matter() {
    let mut model = pinhole();
    Arc::make_mut(&mut model.endpoints[0]).interface = InterfaceMatch::Wildcard;
    let mut interfaces = vec![
        interface(3, "eth1", &["10.0.0.1"]),
        interface(2, "eth0", &["10.240.0.11"]),
    ];
    let one = select(&model, "node1", &interfaces);
    interfaces.reverse();
    assert_eq!(select(&model, "node1", &interfaces), one);
    assert_eq!(one.governed[0].interface.index, 2);
}

#[test]
fn a_wildcard_governs_loopback_and_workloads_and_its_interfaces_share_lists() {
    let mut model = pinhole();
    Arc::make_mut(&mut model.endpoints[0]).interface = InterfaceMatch::Wildcard;
    let mut untracked = policy("untracked", 1.0, "");
    untracked.stage = Stage::Untracked;
    model.policies.push(untracked.into());
    let interfaces = [
        interface(1, "lo", &["127.0.0.1"]),
        interface(2, "eth0", &["10.240.0.11"]),
        interface(8, "cali1", &[]),
        interface(9, "cali2", &[]),
    ];
    let selection = select(&model, "node1", &interfaces);
    let found: Vec<_> = selection
        .governed
        .iter()
        .map(|governed| {
            let normal = governed.list(List::NormalOut);
            let untracked = governed.list(List::UntrackedIn);
            assert_eq!(*untracked, SelectedList::default());
            let name = &*governed.interface.name;
            (name, governed.workload, normal.default_deny)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("lo", false, true),
            ("eth0", false, true),
            ("cali1", true, false),
            ("cali2", true, false),
        ]
    );
    let shared = |a: usize, b: usize| {
        let [a, b] = [a, b].map(|n| &selection.governed[n].lists[List::PreDnat as usize]);
        assert_eq!(a, b);
        Arc::ptr_eq(a, b)
    };
    assert!(shared(0, 1) && shared(2, 3));
    assert_eq!(
        selection.ignored_untracked,
        [IgnoredUntracked {
            endpoint: "node1-eth0".to_owned(),
            policy: fixture::asking("untracked"),
        }]
    );
}

#[test]
fn labels_through_profiles_reach_policies_and_rules() {
    let mut model = pinhole();
    for endpoint in &mut model.endpoints {
        let endpoint = Arc::make_mut(endpoint);
        endpoint.labels.clear();
        endpoint.profiles = vec!["hosts".to_owned()];
    }
    Arc::make_mut(&mut model.endpoints[1]).expected_ips = vec!["10.240.0.12".parse().unwrap()];
    model.profiles = vec![profile("hosts", &[("host-endpoint", "")]).into()];
    model.sets = vec![network_set(None, "set", &["192.0.2.0/24"], &[("host-endpoint", "")]).into()];
    let selection = select(&model, "node1", &[interface(2, "eth0", &["10.240.0.11"])]);
    let governed = &selection.governed[0];
    assert_eq!(
        policies(governed.list(List::PreDnat))[0].rules[0]
            .destination
            .members,
        Some(nets(&["10.240.0.11/32", "10.240.0.12/32", "192.0.2.0/24"]).into())
    );
    let profiles = &governed.list(List::NormalIn).profiles;
    assert_eq!(profiles.len(), 1);
    assert!(!profiles[0].missing);
}

#[test]
fn settings_of_the_node_reach_the_selection() {
    let mut model = pinhole();
    model.settings.push(FelixSettings {
        failsafe_inbound: Some(Vec::new()),
        disable_invalid_check: Some(true),
        workload_prefixes: Some(vec!["eth".into()]),
        vxlan_port: Some(8472),
        geneve_port: Some(6081),
        log_prefix: Some("node1".into()),
        ..settings(Some("node1"))
    });
    let selection = select(&model, "node1", &[interface(2, "eth0", &[])]);
    assert_eq!(selection.failsafe_inbound, []);
    assert_eq!(
        selection.failsafe_outbound,
        Failsafe::defaults(Direction::Egress)
    );
    assert!(selection.disable_invalid_check);
    assert_eq!(selection.log_prefix, "node1");
    assert_eq!(
        selection.tunnels.protocols,
        [
            vec![(4, 0), (17, 8472), (17, 51820), (17, 6081)],
            vec![(17, 8472), (17, 51821), (17, 6081)]
        ]
    );
    assert_eq!(selection.governed, []);
    assert_eq!(
        selection.inert[0].reason,
        InertReason::Workload("eth0".into())
    );
}

#[test]
fn tunnels_are_between_the_addresses_of_endpoints_of_all_nodes() {
    let mut model = pinhole();
    model
        .endpoints
        .push(endpoint("a", "node3", "eth0", &["fd00::3", "10.240.0.13"]).into());
    model.sets = vec![network_set(None, "set", &["192.0.2.1/32"], &[]).into()];
    model
        .endpoints
        .push(endpoint("lo", "node1", "lo", &[]).into());
    // What every node has says nothing.
    let interfaces = [
        interface(1, "lo", &["127.0.0.1", "::1"]),
        interface(2, "eth0", &["10.240.0.11", "169.254.1.1", "fe80::1"]),
    ];
    let selection = select(&model, "node1", &interfaces);
    let nodes: Vec<IpAddr> = ["10.240.0.11", "10.240.0.13", "fd00::3"]
        .map(|address| address.parse().unwrap())
        .to_vec();
    assert_eq!(selection.tunnels.nodes, nodes);
}

/// What a node tells, by the names of its endpoints.
fn telling(node: &str, endpoints: &[(&str, &[&str])]) -> Arc<NodeAddresses> {
    let one = |(name, addresses): &(&str, &[&str])| EndpointAddresses {
        name: (*name).to_owned(),
        labels: BTreeMap::new(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    };
    Arc::new(NodeAddresses {
        node: node.to_owned(),
        endpoints: endpoints.iter().map(one).collect(),
    })
}

#[test]
fn other_nodes_tell_the_addresses_of_their_own_endpoints_alone() {
    let eth0 = [interface(2, "eth0", &["10.240.0.11"])];
    let meant = |told: Vec<Arc<NodeAddresses>>| {
        let model = Model {
            addresses: told,
            ..pinhole()
        };
        let selection = select(&model, "node1", &eth0);
        let list = selection.governed[0].list(List::PreDnat);
        let rule = &policies(list)[0].rules[0];
        let members = rule.destination.members.clone().unwrap();
        (members.to_vec(), selection.unknown_addresses.len())
    };
    let own = "10.240.0.11/32";
    assert_eq!(meant(vec![]), (nets(&[own]), 1));
    let node2 = telling("node2", &[("node2-eth0", &["10.240.0.12", "fd00::12"])]);
    let both = nets(&[own, "10.240.0.12/32", "fd00::12/128"]);
    assert_eq!(meant(vec![node2.clone()]), (both, 0));
    // Tunnels do not depend on whether a rule asks.
    let model = Model {
        addresses: vec![node2],
        ..pinhole()
    };
    let tunnels = select(&model, "node1", &eth0).tunnels;
    assert_eq!(tunnels.nodes, ["10.240.0.11".parse::<IpAddr>().unwrap()]);
    // It governs nothing there: that is known.
    let nothing = telling("node2", &[("node2-eth0", &[])]);
    assert_eq!(meant(vec![nothing]), (nets(&[own]), 0));
    // Others speak of what is not theirs, and of what nobody knows.
    let others = [
        telling("node3", &[("node2-eth0", &["10.240.0.12"])]),
        telling("node1", &[("node1-eth0", &["10.240.0.99"])]),
        telling(
            "node2",
            &[("node1-eth0", &["10.240.0.98"]), ("x", &["10.9.9.9"])],
        ),
    ];
    assert_eq!(meant(others.to_vec()), (nets(&[own]), 1));
    // What is given wins.
    let mut given = pinhole();
    Arc::make_mut(&mut given.endpoints[1]).expected_ips = vec!["192.0.2.2".parse().unwrap()];
    given.addresses = vec![telling("node2", &[("node2-eth0", &["10.240.0.12"])])];
    let selection = select(&given, "node1", &eth0);
    let rule = &policies(selection.governed[0].list(List::PreDnat))[0].rules[0];
    let members = rule.destination.members.as_deref().unwrap();
    assert_eq!(members, nets(&[own, "192.0.2.2/32"]));
}

#[test]
fn a_node_tells_what_others_cannot_know() {
    let mut model = pinhole();
    let mut given = endpoint("given", "node1", "eth1", &["192.0.2.1"]);
    given.labels.insert("a".into(), String::new());
    model.endpoints.extend([
        given.into(),
        endpoint("inert", "node1", "eth9", &[]).into(),
        endpoint("rest", "node1", "*", &[]).into(),
    ]);
    let interfaces = [
        interface(1, "lo", &["127.0.0.1", "::1"]),
        interface(2, "eth0", &["fd00::11", "10.240.0.11", "fe80::11"]),
        interface(3, "eth1", &["10.250.0.11"]),
        interface(4, "eth2", &["10.251.0.11", "169.254.3.4"]),
    ];
    let told = select(&model, "node1", &interfaces).told;
    let told: Vec<(&str, Vec<String>)> = told
        .iter()
        .map(|one| {
            let addresses = one.addresses.iter().map(ToString::to_string);
            (&*one.name, addresses.collect())
        })
        .collect();
    let texts = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(
        told,
        [
            ("inert", texts(&[])),
            ("node1-eth0", texts(&["10.240.0.11", "fd00::11"])),
            ("rest", texts(&["10.251.0.11"])),
        ]
    );
}
