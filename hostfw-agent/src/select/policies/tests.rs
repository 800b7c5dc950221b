use super::*;
use crate::{
    model::{Order, TierDefault},
    select::fixture::{addresses, asking, endpoint, labelled, policy, profile, rule, tier},
};

/// The lists of an endpoint, with these objects in force.
struct Given<'a> {
    policies: &'a [Policy],
    tiers: &'a [model::Tier],
    profiles: &'a [Profile],
}

impl Given<'_> {
    fn list(&self, endpoint: &HostEndpoint, list: List, workload: bool) -> SelectedList {
        let shared: Vec<_> = self.profiles.iter().cloned().map(Arc::new).collect();
        let profiles = Profiles::new(&shared);
        let policies: Vec<_> = self.policies.iter().cloned().map(Arc::new).collect();
        let governing = [Governing {
            endpoint,
            labels: profiles.labels_of_endpoint(endpoint),
        }];
        let mut addresses = addresses(&[]);
        Candidates::new(
            &policies,
            &Tiers::new(self.tiers),
            &profiles,
            &governing,
            &mut addresses,
        )
        .list(list, &governing[0], workload)
    }
}

fn list_of(policies: &[Policy], endpoint: &HostEndpoint, list: List) -> SelectedList {
    let given = Given {
        policies,
        tiers: &[],
        profiles: &[],
    };
    given.list(endpoint, list, false)
}

fn names(list: &SelectedList) -> Vec<&str> {
    list.policies().map(|p| &*p.object.name).collect()
}

/// Names of tiers, whether each denies, and the names of its policies.
fn tiers_of(list: &SelectedList) -> Vec<(&str, bool, Vec<&str>)> {
    list.tiers
        .iter()
        .map(|tier| {
            let policies = tier.policies.iter().map(|p| &*p.object.name).collect();
            (&*tier.name, tier.default_deny, policies)
        })
        .collect()
}

fn eth0() -> HostEndpoint {
    endpoint("e", "node1", "eth0", &[])
}

/// A normal policy for both directions.
fn normal(name: &str, tier: &str) -> Policy {
    Policy {
        tier: tier.to_owned(),
        stage: model::Stage::Normal,
        apply_on_forward: false,
        egress: Some([].into()),
        ..policy(name, 10.0, "")
    }
}

#[test]
fn lower_order_comes_first_and_absent_order_last() {
    let all = [
        policy("none", Order::LAST.value(), ""),
        policy("ten", 10.0, ""),
        policy("minus", -1.5, ""),
        policy("nine", 9.0, ""),
    ];
    assert_eq!(
        names(&list_of(&all, &eth0(), List::PreDnat)),
        ["minus", "nine", "ten", "none"]
    );
}

#[test]
fn equal_orders_sort_by_name_with_the_kind_behind_it() {
    let all = ["a", "a-b", "a.b", "a0", "B"].map(|name| policy(name, 10.0, ""));
    // '-' and '.' sort before the '/' that ends a name; '0' after it.
    assert_eq!(
        names(&list_of(&all, &eth0(), List::PreDnat)),
        ["B", "a-b", "a.b", "a", "a0"]
    );
    let zeros = [policy("b", -0.0, ""), policy("a", 0.0, "")];
    assert_eq!(names(&list_of(&zeros, &eth0(), List::PreDnat)), ["a", "b"]);
}

#[test]
fn a_staged_policy_sorts_behind_the_enforced_one_of_its_name() {
    let staged = Policy {
        staged: Some(StagedAction::Set),
        ..policy("a", 10.0, "")
    };
    let list = list_of(
        &[staged, policy("a", 10.0, ""), policy("b", 10.0, "")],
        &eth0(),
        List::PreDnat,
    );
    let objects: Vec<String> = list.policies().map(|p| p.object.to_string()).collect();
    assert_eq!(
        objects,
        [
            "GlobalNetworkPolicy(a)",
            "StagedGlobalNetworkPolicy(a)",
            "GlobalNetworkPolicy(b)"
        ]
    );
}

#[test]
fn a_policy_is_in_the_lists_of_its_stage_and_directions() {
    let ingress_only = |name: &str, stage| Policy {
        stage,
        apply_on_forward: true,
        ..policy(name, 1.0, "")
    };
    let mut forward = normal("forward", "default");
    forward.apply_on_forward = true;
    let mut egress_only = normal("egress", "default");
    egress_only.ingress = None;
    let mut untracked_out = ingress_only("untracked-out", model::Stage::Untracked);
    untracked_out.ingress = None;
    untracked_out.egress = Some([].into());
    let all = [
        ingress_only("untracked", model::Stage::Untracked),
        untracked_out,
        ingress_only("pre-dnat", model::Stage::PreDnat),
        normal("normal", "default"),
        forward,
        egress_only,
    ];
    let found = List::ALL.map(|list| {
        let list = list_of(&all, &eth0(), list);
        let found = names(&list).join(" ");
        (found, list.default_deny)
    });
    let expected = [
        ("untracked", false),
        ("untracked-out", false),
        ("pre-dnat", false),
        ("forward", false),
        ("forward", false),
        ("forward normal", true),
        ("egress forward normal", true),
    ]
    .map(|(names, default_deny)| (names.to_owned(), default_deny));
    assert_eq!(found, expected);
}

#[test]
fn the_selector_sees_labels_through_profiles() {
    let mut endpoint = labelled("e", &[], &[("y", "")]);
    endpoint.profiles = vec!["p".to_owned()];
    let all = [
        policy("other", 1.0, "has(x)"),
        policy("own", 1.0, "has(y)"),
        policy("inherited", 1.0, "z == 'p'"),
    ];
    let given = Given {
        policies: &all,
        tiers: &[],
        profiles: &[profile("p", &[("z", "p")])],
    };
    let list = given.list(&endpoint, List::PreDnat, false);
    assert_eq!(names(&list), ["inherited", "own"]);
}

#[test]
fn tiers_come_in_order_and_deny_at_the_forward_and_normal_stages() {
    let tiers = [
        tier("late", 2_000_000.0, TierDefault::Deny),
        tier("passing", 7.0, TierDefault::Pass),
    ];
    let mut policies = vec![
        normal("d", "default"),
        normal("b", "late"),
        normal("a", "late"),
        normal("p", "passing"),
        normal("m", "no-such-tier"),
    ];
    for policy in &mut policies {
        policy.apply_on_forward = true;
    }
    let found = |policies: &[Policy], list| {
        let given = Given {
            policies,
            tiers: &tiers,
            profiles: &[],
        };
        given.list(&eth0(), list, false)
    };
    for list in [
        List::NormalIn,
        List::NormalOut,
        List::ForwardIn,
        List::ForwardOut,
    ] {
        assert_eq!(
            tiers_of(&found(&policies, list)),
            [
                ("passing", false, vec!["p"]),
                ("default", true, vec!["d"]),
                ("late", true, vec!["a", "b"]),
                ("no-such-tier", true, vec!["m"]),
            ]
        );
    }
    // Before DNAT, and untracked, a tier's end always passes.
    for (stage, list) in [
        (model::Stage::PreDnat, List::PreDnat),
        (model::Stage::Untracked, List::UntrackedIn),
        (model::Stage::Untracked, List::UntrackedOut),
    ] {
        for policy in &mut policies {
            policy.stage = stage;
        }
        let list = found(&policies, list);
        assert_eq!(list.tiers.len(), 4);
        assert!(list.tiers.iter().all(|tier| !tier.default_deny));
    }
}

#[test]
fn a_tier_with_only_staged_policies_does_not_deny() {
    let mut staged = normal("staged", "default");
    staged.staged = Some(StagedAction::Learn);
    let only = list_of(std::slice::from_ref(&staged), &eth0(), List::NormalIn);
    assert_eq!(tiers_of(&only), [("default", false, vec!["staged"])]);
    assert!(!only.has_policy());

    // Nor does one whose enforced policy is not for this direction.
    let mut egress_only = normal("enforced", "default");
    egress_only.ingress = None;
    let both = [staged, egress_only];
    let list = list_of(&both, &eth0(), List::NormalIn);
    assert_eq!(tiers_of(&list), [("default", false, vec!["staged"])]);
    let list = list_of(&both, &eth0(), List::NormalOut);
    assert_eq!(
        tiers_of(&list),
        [("default", true, vec!["enforced", "staged"])]
    );
}

#[test]
fn staged_policies_without_rules_to_evaluate_are_left_out() {
    let all = [
        StagedAction::Set,
        StagedAction::Delete,
        StagedAction::Learn,
        StagedAction::Ignore,
    ]
    .map(|action| Policy {
        staged: Some(action),
        ..policy(&format!("{action:?}").to_lowercase(), 1.0, "")
    });
    assert_eq!(
        names(&list_of(&all, &eth0(), List::PreDnat)),
        ["learn", "set"]
    );
}

#[test]
fn profiles_come_in_the_order_of_the_endpoint_at_the_normal_stage_only() {
    let mut one = profile("one", &[]);
    one.ingress = vec![rule(RuleAction::Allow), rule(RuleAction::Deny)];
    let mut endpoint = eth0();
    endpoint.profiles = ["two", "projectcalico-default-allow", "one"]
        .map(str::to_owned)
        .to_vec();
    let given = Given {
        policies: &[],
        tiers: &[],
        profiles: &[one],
    };
    let found = |list| -> Vec<(String, bool, Vec<RuleAction>)> {
        given
            .list(&endpoint, list, false)
            .profiles
            .iter()
            .map(|p| {
                let actions = p.rules.iter().map(|rule| rule.action).collect();
                (p.object.to_string(), p.missing, actions)
            })
            .collect()
    };
    let profile = |name: &str, missing, actions: &[RuleAction]| {
        (format!("Profile({name})"), missing, actions.to_vec())
    };
    let allow = profile("projectcalico-default-allow", false, &[RuleAction::Allow]);
    assert_eq!(
        found(List::NormalIn),
        [
            profile("two", true, &[]),
            allow.clone(),
            profile("one", false, &[RuleAction::Allow, RuleAction::Deny]),
        ]
    );
    assert_eq!(
        found(List::NormalOut),
        [profile("two", true, &[]), allow, profile("one", false, &[]),]
    );
    assert_eq!(found(List::ForwardIn), []);
    assert_eq!(found(List::PreDnat), []);
}

#[test]
fn on_a_workloads_interface_only_pre_dnat_and_forward_count() {
    let mut endpoint = endpoint("e", "node1", "*", &[]);
    endpoint.profiles = vec!["p".to_owned()];
    let mut forward = normal("forward", "default");
    forward.apply_on_forward = true;
    let all = [policy("pre-dnat", 1.0, ""), forward];
    let given = Given {
        policies: &all,
        tiers: &[],
        profiles: &[],
    };
    for list in List::ALL {
        let found = given.list(&endpoint, list, true);
        match list {
            List::PreDnat => assert_eq!(names(&found), ["pre-dnat"]),
            List::ForwardIn | List::ForwardOut => {
                assert_eq!(tiers_of(&found), [("default", true, vec!["forward"])]);
            }
            List::UntrackedIn | List::UntrackedOut | List::NormalIn | List::NormalOut => {
                assert_eq!(found, SelectedList::default());
            }
        }
    }
}

#[test]
fn untracked_policies_have_no_effect_on_a_wildcard() {
    let untracked = Policy {
        stage: model::Stage::Untracked,
        ..policy("u", 1.0, "has(y)")
    };
    let all = [untracked, policy("p", 1.0, "")];
    let mut wildcard = labelled("w", &[], &[("y", "")]);
    wildcard.interface = InterfaceMatch::Wildcard;
    let named = labelled("n", &[], &[("y", "")]);
    assert_eq!(names(&list_of(&all, &named, List::UntrackedIn)), ["u"]);
    assert_eq!(
        list_of(&all, &wildcard, List::UntrackedIn),
        SelectedList::default()
    );
    let governing = [&named, &wildcard].map(|endpoint| Governing {
        endpoint,
        labels: Cow::Borrowed(&endpoint.labels),
    });
    assert_eq!(
        ignored_untracked(&all.map(Arc::new), &governing),
        [IgnoredUntracked {
            endpoint: "w".to_owned(),
            policy: asking("u"),
        }]
    );
}
