//! Policies, enforced and staged.

use std::collections::BTreeSet;

use hostfw_agent::resource::{
    Action, GlobalNetworkPolicySpec, Object, PolicyType, Resource, StagedGlobalNetworkPolicySpec,
};
use hostfw_common::verdict::Direction;

use super::{
    objects::{labels, metadata},
    pools::{NAMES, TIERS},
    rule::{Place, rule},
    selector,
};
use crate::random::Random;

/// Where a policy is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    Untracked,
    PreDnat,
    Forward,
    Normal,
}

pub(super) fn policies(random: &mut Random) -> Vec<Resource> {
    let mut budget = match random.below(100) {
        0 => 300,
        1..=4 => 100,
        5..=24 => 30,
        _ => 12,
    };
    // Small sets are where defaults decide.
    let count = if random.percent(10) {
        random.below(3)
    } else {
        1 + random.below(9)
    };
    let mut taken = BTreeSet::new();
    let mut policies = Vec::new();
    for _ in 0..count {
        let staged = random.percent(20);
        let name = *random.one_of(&NAMES);
        if !taken.insert((name, staged)) {
            continue;
        }
        let most = if budget > 30 { budget } else { budget.min(6) };
        let (spec, rules) = policy(random, most);
        budget = budget.saturating_sub(rules).max(2);
        let metadata = metadata(name, labels(random, 5));
        policies.push(if staged {
            Resource::StagedGlobalNetworkPolicy(Object {
                metadata,
                spec: stage(random, spec),
            })
        } else {
            Resource::GlobalNetworkPolicy(Object { metadata, spec })
        });
    }
    policies
}

fn stage(random: &mut Random, spec: GlobalNetworkPolicySpec) -> StagedGlobalNetworkPolicySpec {
    let action = *random.one_of(&[
        None,
        Some("Set"),
        Some("Learn"),
        Some("Ignore"),
        Some("Set"),
        Some("Learn"),
        Some("Delete"),
    ]);
    let mut spec = spec;
    for rule in spec.ingress.iter_mut().chain(&mut spec.egress) {
        // Else the first rule that decides would mostly be the first of all.
        if random.percent(35) && rule.http.is_none() {
            rule.action = *random.one_of(&[Action::Log, Action::Pass]);
        }
    }
    let tier = spec.tier.clone();
    let spec = if action == Some("Delete") {
        // It may hold nothing else.
        GlobalNetworkPolicySpec {
            tier,
            ..GlobalNetworkPolicySpec::default()
        }
    } else {
        spec
    };
    // The same fields, and one more.
    let mut value = serde_json::to_value(spec).expect("a spec is a value");
    if let Some(action) = action {
        value["stagedAction"] = action.into();
    }
    serde_json::from_value(value).expect("the value is a spec")
}

fn policy(random: &mut Random, most: usize) -> (GlobalNetworkPolicySpec, usize) {
    let point = *random.one_of(&[
        Point::Untracked,
        Point::PreDnat,
        Point::PreDnat,
        Point::Forward,
        Point::Forward,
        Point::Forward,
        Point::Normal,
        Point::Normal,
    ]);
    let mut rules = |direction, percent: usize| {
        if !random.percent(percent) {
            return Vec::new();
        }
        // Up to all of them, but mostly few.
        let most = if random.percent(20) {
            most
        } else {
            most.min(4)
        };
        random.several(&(1..=most.max(1)), |random| {
            rule(
                random,
                Place {
                    direction,
                    profile: false,
                },
            )
        })
    };
    let ingress = rules(Direction::Ingress, 70);
    let egress = if point == Point::PreDnat {
        Vec::new()
    } else {
        rules(Direction::Egress, 60)
    };
    let types: &[&[PolicyType]] = match point {
        Point::PreDnat => &[&[], &[PolicyType::Ingress]],
        Point::Untracked | Point::Forward | Point::Normal => &[
            &[],
            &[],
            &[],
            &[PolicyType::Ingress],
            &[PolicyType::Egress],
            &[PolicyType::Ingress, PolicyType::Egress],
            &[PolicyType::Egress, PolicyType::Ingress],
        ],
    };
    let count = ingress.len() + egress.len();
    let set = |value: bool| value.then_some(true);
    let spec = GlobalNetworkPolicySpec {
        tier: random.some(60, |random| (*random.one_of(&TIERS)).to_owned()),
        order: random.some(70, |random| *random.one_of(&[10.0, 10.0, 20.5, -1.0, 0.0])),
        selector: random.some(85, selector::of_endpoints),
        namespace_selector: random.some(4, |random| {
            (*random.one_of(&["all()", "!has(team)", "has(team)", "role != 'web'"])).to_owned()
        }),
        service_account_selector: random.some(2, |_| "!has(team)".to_owned()),
        types: random.one_of(types).to_vec(),
        ingress,
        egress,
        pre_dnat: match point {
            Point::PreDnat => Some(true),
            Point::Untracked | Point::Forward | Point::Normal => random.some(5, |_| false),
        },
        do_not_track: set(point == Point::Untracked),
        apply_on_forward: set(point != Point::Normal),
        performance_hints: Vec::new(),
    };
    (spec, count)
}
