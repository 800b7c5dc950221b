use super::*;
use crate::{
    model::{HostEndpoint, Interface, Kind, ObjectRef},
    select::UnknownAddresses,
};

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
    }
}

fn governed(endpoint: &str, index: u32, name: &str, pre_dnat: &[&str]) -> Governed {
    Governed {
        endpoint: endpoint.to_owned(),
        interface: interface(index, name),
        pre_dnat: pre_dnat
            .iter()
            .map(|&name| SelectedPolicy {
                name: name.to_owned(),
                rules: Vec::new(),
            })
            .collect(),
        egress: Vec::new(),
    }
}

fn endpoint(name: &str, interface: InterfaceMatch) -> HostEndpoint {
    HostEndpoint {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        node: "node1".to_owned(),
        interface,
        expected_ips: Vec::new(),
    }
}

fn hook(hook: &str) -> HookStatus {
    HookStatus {
        hook: hook.to_owned(),
        mode: None,
        fallback: None,
    }
}

fn object(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef {
        kind,
        name: name.to_owned(),
    }
}

fn get<'a>(status: &'a EndpointStatus, kind: &str) -> Option<(bool, &'a str, &'a str)> {
    status
        .conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .map(|c| (c.status, &*c.reason, &*c.message))
}

#[test]
fn a_governed_interface_says_what_holds_and_what_this_release_lacks() {
    let model = Model {
        endpoints: vec![endpoint("hep", InterfaceMatch::Name("eth0".to_owned()))],
        ..Model::default()
    };
    let selection = Selection {
        governed: vec![governed("hep", 2, "eth0", &["a", "b"])],
        ..Selection::default()
    };
    let facts = Facts {
        generation: 3,
        hooks: BTreeMap::from([(2, (hook("xdp"), hook("tcx")))]),
        ..Facts::default()
    };
    let statuses = endpoint_statuses(&model, &selection, &facts);
    let [status] = &statuses[..] else {
        panic!("{statuses:?}");
    };
    assert_eq!(status.interface.as_deref(), Some("eth0"));
    assert_eq!(status.ingress, Some(hook("xdp")));
    assert_eq!(status.egress, Some(hook("tcx")));
    assert_eq!(status.pre_dnat_policies, ["a", "b"]);
    assert!(matches!(
        get(status, "Programmed"),
        Some((true, "Enforced", _))
    ));
    assert!(matches!(
        get(status, "NormalIngressEnforced"),
        Some((false, "NotInThisRelease", _))
    ));
    assert!(matches!(get(status, "AddressesKnown"), Some((true, _, _))));
    assert_eq!(get(status, "WorkloadInterfacesEnforced"), None);
    assert_eq!(get(status, "EstablishedFlowsKept"), None);
}

#[test]
fn a_wildcard_says_that_workload_interfaces_are_not_covered() {
    let model = Model {
        endpoints: vec![endpoint("all", InterfaceMatch::Wildcard)],
        ..Model::default()
    };
    let selection = Selection {
        governed: vec![
            governed("all", 2, "eth0", &[]),
            governed("all", 3, "eth1", &[]),
        ],
        ..Selection::default()
    };
    let statuses = endpoint_statuses(&model, &selection, &Facts::default());
    assert_eq!(statuses.len(), 2);
    for status in &statuses {
        assert!(matches!(
            get(status, "WorkloadInterfacesEnforced"),
            Some((false, "NotInThisRelease", _))
        ));
    }
}

#[test]
fn failures_are_told_where_they_matter() {
    let selection = Selection {
        governed: vec![
            governed("a", 2, "eth0", &[]),
            governed("b", 3, "eth1", &[]),
            governed("c", 4, "eth2", &[]),
        ],
        ..Selection::default()
    };
    let mut facts = Facts {
        generation: 9,
        not_attached: BTreeMap::from([(2, "no such device".to_owned())]),
        not_adopted: BTreeMap::from([(3, "no conntrack".to_owned())]),
        left_alone: BTreeSet::from([4]),
        ..Facts::default()
    };
    let statuses = endpoint_statuses(&Model::default(), &selection, &facts);
    let (holds, reason, message) = get(&statuses[0], "Programmed").unwrap();
    assert_eq!((holds, reason), (false, "AttachFailed"));
    assert!(message.contains("eth0") && message.contains("no such device"));
    assert!(get(&statuses[1], "Programmed").unwrap().0);
    assert!(!get(&statuses[1], "EstablishedFlowsKept").unwrap().0);
    assert_eq!(get(&statuses[2], "Programmed").unwrap().1, "LeftAlone");

    facts.error = Some("too many rules".to_owned());
    let statuses = endpoint_statuses(&Model::default(), &selection, &facts);
    let (holds, reason, message) = get(&statuses[1], "Programmed").unwrap();
    assert_eq!((holds, reason), (false, "NotInForce"));
    assert!(message.contains("generation 9") && message.contains("too many rules"));
}

#[test]
fn unknown_addresses_concern_only_endpoints_with_that_policy() {
    let selection = Selection {
        governed: vec![
            governed("a", 2, "eth0", &["uses-it"]),
            governed("b", 3, "eth1", &["does-not"]),
        ],
        unknown_addresses: vec![UnknownAddresses {
            endpoint: object(Kind::HostEndpoint, "node2-eth0"),
            policy: object(Kind::GlobalNetworkPolicy, "uses-it"),
        }],
        ..Selection::default()
    };
    let statuses = endpoint_statuses(&Model::default(), &selection, &Facts::default());
    let (holds, _, message) = get(&statuses[0], "AddressesKnown").unwrap();
    assert!(
        !holds && message.contains("HostEndpoint(node2-eth0)"),
        "{message}"
    );
    assert!(get(&statuses[1], "AddressesKnown").unwrap().0);
}

#[test]
fn inert_endpoints_say_why_and_are_sorted_in() {
    let inert = |endpoint: &str, reason| Inert {
        endpoint: endpoint.to_owned(),
        reason,
    };
    let selection = Selection {
        governed: vec![governed("m", 2, "eth0", &[])],
        inert: vec![
            inert("z", InertReason::NoSuchInterface("eth7".to_owned())),
            inert(
                "n",
                InertReason::Shadowed {
                    interface: "eth0".to_owned(),
                    by: "m".to_owned(),
                },
            ),
            inert("a", InertReason::NothingLeft),
        ],
        ..Selection::default()
    };
    let statuses = endpoint_statuses(&Model::default(), &selection, &Facts::default());
    let reasons: Vec<_> = statuses
        .iter()
        .map(|status| (&*status.name, get(status, "Programmed").unwrap().1))
        .collect();
    assert_eq!(
        reasons,
        [
            ("a", "NothingLeft"),
            ("m", "Enforced"),
            ("n", "Shadowed"),
            ("z", "NoSuchInterface"),
        ]
    );
}
