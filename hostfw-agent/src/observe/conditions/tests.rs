use std::sync::Arc;

use super::*;
use crate::{
    model::{Interface, Kind, StagedAction, TierDefault},
    select::{IgnoredUntracked, SelectedList, SelectedTier, UnknownAddresses},
};

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        addresses: Vec::new(),
        link_header: true,
        loopback: false,
        up: true,
        master: None,
    }
}

fn selected(object: ObjectRef) -> SelectedPolicy {
    SelectedPolicy {
        object,
        staged: None,
        missing: false,
        rules: Vec::new(),
    }
}

fn tier(name: &str, policies: Vec<SelectedPolicy>) -> SelectedTier {
    SelectedTier {
        name: name.to_owned(),
        default_deny: false,
        policies,
    }
}

/// Policies of the default tier.
fn governed(endpoint: &str, index: u32, name: &str, pre_dnat: &[&str]) -> Governed {
    let policies = pre_dnat
        .iter()
        .map(|name| selected(object(Kind::GlobalNetworkPolicy, name)))
        .collect();
    with_lists(
        endpoint,
        index,
        name,
        [(
            List::PreDnat,
            SelectedList {
                tiers: vec![tier("default", policies)],
                ..SelectedList::default()
            },
        )],
    )
}

fn with_lists<const N: usize>(
    endpoint: &str,
    index: u32,
    name: &str,
    given: [(List, SelectedList); N],
) -> Governed {
    let mut lists: [Arc<SelectedList>; List::COUNT] = Default::default();
    for (list, selected) in given {
        lists[list as usize] = Arc::new(selected);
    }
    Governed {
        endpoint: endpoint.to_owned(),
        interface: interface(index, name),
        workload: false,
        lists,
    }
}

/// The conditions of the only endpoint.
fn conditions_of(model: &Model, selection: &Selection, facts: &Facts) -> EndpointStatus {
    let mut statuses = endpoint_statuses(model, selection, facts);
    assert_eq!(statuses.len(), 1);
    statuses.remove(0)
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
fn a_governed_interface_says_what_holds() {
    let selection = Selection {
        governed: vec![governed("hep", 2, "eth0", &["a", "b"])],
        ..Selection::default()
    };
    let facts = Facts {
        generation: 3,
        hooks: BTreeMap::from([(2, (hook("xdp"), hook("tcx")))]),
        ..Facts::default()
    };
    let status = conditions_of(&Model::default(), &selection, &facts);
    assert_eq!(status.interface.as_deref(), Some("eth0"));
    assert_eq!(status.ingress, Some(hook("xdp")));
    assert_eq!(status.egress, Some(hook("tcx")));
    let kinds: Vec<_> = status
        .conditions
        .iter()
        .map(|one| (&*one.kind, one.status))
        .collect();
    assert_eq!(
        kinds,
        [
            ("Programmed", true),
            ("ForwardEnforced", true),
            ("NormalIngressEnforced", true),
            ("AddressesKnown", true),
        ]
    );
}

#[test]
fn policies_and_profiles_are_told_by_stage_in_order() {
    let staged = SelectedPolicy {
        staged: Some(StagedAction::Set),
        ..selected(object(Kind::StagedGlobalNetworkPolicy, "s"))
    };
    let policy = |name| selected(object(Kind::GlobalNetworkPolicy, name));
    let lists = [
        (
            List::NormalOut,
            SelectedList {
                tiers: vec![
                    tier("first", vec![policy("b"), policy("a")]),
                    tier("default", vec![staged]),
                ],
                profiles: vec![selected(object(Kind::Profile, "p"))],
                default_deny: true,
            },
        ),
        (
            List::UntrackedIn,
            SelectedList {
                tiers: vec![tier("default", vec![policy("u")])],
                ..SelectedList::default()
            },
        ),
    ];
    let selection = Selection {
        governed: vec![with_lists("hep", 2, "eth0", lists)],
        ..Selection::default()
    };
    let status = conditions_of(&Model::default(), &selection, &Facts::default());
    let policies: Vec<String> = status
        .policies
        .iter()
        .map(|one| {
            let tier = one.tier.as_deref().unwrap_or("-");
            format!(
                "{} {} {tier} {}({})",
                one.stage, one.direction, one.kind, one.name
            )
        })
        .collect();
    assert_eq!(
        policies,
        [
            "untracked ingress default GlobalNetworkPolicy(u)",
            "normal egress first GlobalNetworkPolicy(b)",
            "normal egress first GlobalNetworkPolicy(a)",
            "normal egress default StagedGlobalNetworkPolicy(s)",
            "normal egress - Profile(p)",
        ]
    );
}

#[test]
fn without_netfilter_and_with_ipvs_it_says_what_is_not_enforced() {
    let mut selection = Selection {
        governed: vec![governed("hep", 2, "eth0", &[])],
        ..Selection::default()
    };
    let mut facts = Facts {
        netfilter_missing: Some("kernel 6.1 has no netfilter links".to_owned()),
        ipvs_interface: Some("kube-ipvs0".to_owned()),
        ..Facts::default()
    };
    let status = conditions_of(&Model::default(), &selection, &facts);
    for kind in ["ForwardEnforced", "NormalIngressEnforced"] {
        let (holds, reason, message) = get(&status, kind).unwrap();
        assert_eq!((holds, reason), (false, "NoNetfilter"));
        assert!(message.contains("kernel 6.1"), "{message}");
    }

    facts.netfilter_missing = None;
    let status = conditions_of(&Model::default(), &selection, &facts);
    for kind in ["ForwardEnforced", "NormalIngressEnforced"] {
        let (holds, reason, message) = get(&status, kind).unwrap();
        assert_eq!((holds, reason), (false, "DegradedByIpvs"));
        assert!(message.contains("kube-ipvs0"), "{message}");
    }

    facts.masters.insert(2, "br0".to_owned());
    let status = conditions_of(&Model::default(), &selection, &facts);
    for kind in ["ForwardEnforced", "NormalIngressEnforced"] {
        let (holds, reason, message) = get(&status, kind).unwrap();
        assert_eq!((holds, reason), (false, "MemberOf"));
        assert!(message.contains("give br0 an endpoint"), "{message}");
    }
    facts.masters.clear();

    // Packets between a workload and its host are not judged at all.
    selection.governed[0].workload = true;
    let status = conditions_of(&Model::default(), &selection, &facts);
    assert!(status.workload);
    assert!(get(&status, "ForwardEnforced").is_some());
    assert_eq!(get(&status, "NormalIngressEnforced"), None);
}

#[test]
fn profiles_and_tiers_that_are_not_there_are_named() {
    let missing = SelectedPolicy {
        missing: true,
        ..selected(object(Kind::Profile, "gone"))
    };
    let policy = |name| selected(object(Kind::GlobalNetworkPolicy, name));
    let list = SelectedList {
        tiers: vec![
            tier("mine", vec![policy("a")]),
            tier("default", vec![policy("b")]),
            tier("nowhere", vec![policy("c")]),
        ],
        profiles: vec![selected(object(Kind::Profile, "there")), missing],
        default_deny: true,
    };
    let lists = [(List::NormalIn, list.clone()), (List::NormalOut, list)];
    let selection = Selection {
        governed: vec![with_lists("hep", 2, "eth0", lists)],
        ..Selection::default()
    };
    let model = Model {
        tiers: vec![Tier {
            name: "mine".to_owned(),
            order: crate::model::Order::LAST,
            default_action: TierDefault::Pass,
        }],
        ..Model::default()
    };
    let status = conditions_of(&model, &selection, &Facts::default());
    let (holds, reason, message) = get(&status, "ProfilesKnown").unwrap();
    assert_eq!((holds, reason), (false, "NoSuchProfile"));
    assert!(message.contains("names gone, which"), "{message}");
    let (holds, reason, message) = get(&status, "TiersKnown").unwrap();
    assert_eq!((holds, reason), (false, "NoSuchTier"));
    assert!(message.contains("in tier nowhere, which"), "{message}");
}

#[test]
fn a_wildcard_names_the_untracked_policies_that_have_no_effect() {
    let selection = Selection {
        governed: vec![
            governed("all", 2, "eth0", &[]),
            governed("hep", 3, "eth1", &[]),
        ],
        ignored_untracked: vec![IgnoredUntracked {
            endpoint: "all".to_owned(),
            policy: object(Kind::GlobalNetworkPolicy, "u"),
        }],
        ..Selection::default()
    };
    let statuses = endpoint_statuses(&Model::default(), &selection, &Facts::default());
    let (holds, reason, message) = get(&statuses[0], "UntrackedEnforced").unwrap();
    assert_eq!((holds, reason), (false, "Wildcard"));
    assert!(message.contains("GlobalNetworkPolicy(u)"), "{message}");
    assert_eq!(get(&statuses[1], "UntrackedEnforced"), None);
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
