//! Which policies apply to an endpoint, in which order.

use hostfw_common::{
    stage::{self, List},
    verdict::Direction,
};

use super::{
    SelectedEntity, SelectedList, SelectedPolicy, SelectedRule, SelectedTier, addresses::Addresses,
};
use crate::model::{Entity, HostEndpoint, Kind, ObjectRef, Policy, Rule, Stage};

/// A policy's rules for one stage and direction, as every endpoint shares
/// them, and the policy that says which endpoints do.
pub(super) struct Candidate<'a> {
    policy: &'a Policy,
    selected: SelectedPolicy,
}

/// The policies of a stage that have rules of the direction, in the order in
/// which they are evaluated, each with the addresses of its selectors, if it
/// applies to one of `endpoints`.
pub(super) fn candidates<'a>(
    policies: &'a [Policy],
    list: List,
    endpoints: &[&HostEndpoint],
    addresses: &mut Addresses<'_>,
) -> Vec<Candidate<'a>> {
    let mut policies: Vec<&Policy> = policies
        .iter()
        .filter(|policy| is_in(policy, list))
        .collect();
    policies.sort_by_cached_key(|policy| (policy.order, sort_key(&policy.name)));
    policies
        .into_iter()
        .filter(|policy| endpoints.iter().any(|e| policy.selector.matches(&e.labels)))
        .filter_map(|policy| {
            let rules = match list.direction() {
                Direction::Ingress => policy.ingress.as_deref(),
                Direction::Egress => policy.egress.as_deref(),
            }?;
            let rules = rules
                .iter()
                .map(|rule| select_rule(rule, &policy.name, addresses))
                .collect();
            let selected = SelectedPolicy {
                object: ObjectRef {
                    kind: Kind::GlobalNetworkPolicy,
                    name: policy.name.clone(),
                },
                staged: policy.staged,
                missing: false,
                rules,
            };
            Some(Candidate { policy, selected })
        })
        .collect()
}

fn is_in(policy: &Policy, list: List) -> bool {
    match list.stage() {
        stage::Stage::Untracked => policy.stage == Stage::Untracked,
        stage::Stage::PreDnat => policy.stage == Stage::PreDnat,
        stage::Stage::Forward => policy.stage == Stage::Normal && policy.apply_on_forward,
        stage::Stage::Normal => policy.stage == Stage::Normal,
    }
}

/// Those of the candidates that apply to the endpoint.
pub(super) fn applying(
    candidates: &[Candidate<'_>],
    list: List,
    endpoint: &HostEndpoint,
) -> SelectedList {
    let policies: Vec<SelectedPolicy> = candidates
        .iter()
        .filter(|candidate| candidate.policy.selector.matches(&endpoint.labels))
        .map(|candidate| candidate.selected.clone())
        .collect();
    let tier = SelectedTier {
        name: "default".to_owned(),
        default_deny: false,
        policies,
    };
    SelectedList {
        tiers: if tier.policies.is_empty() {
            Vec::new()
        } else {
            vec![tier]
        },
        profiles: Vec::new(),
        default_deny: list.stage() == stage::Stage::Normal,
    }
}

/// Decides between policies of the same order: bytewise on
/// `name/namespace/kind`, so that `a-b` comes before `a` (Calico:
/// felix/calc/policy_sorter.go).
fn sort_key(name: &str) -> String {
    format!("{name}//GlobalNetworkPolicy")
}

fn select_rule(rule: &Rule, policy: &str, addresses: &mut Addresses<'_>) -> SelectedRule {
    SelectedRule {
        action: rule.action,
        ip_version: rule.ip_version,
        protocol: rule.protocol,
        not_protocol: rule.not_protocol,
        icmp: rule.icmp,
        not_icmp: rule.not_icmp,
        source: select_entity(&rule.source, policy, addresses),
        destination: select_entity(&rule.destination, policy, addresses),
    }
}

fn select_entity(entity: &Entity, policy: &str, addresses: &mut Addresses<'_>) -> SelectedEntity {
    let (members, not_members) = match (&entity.selector, &entity.not_selector) {
        (Some(selector), except) => (
            Some(addresses.of(selector, except.as_ref(), policy)),
            Vec::new(),
        ),
        (None, Some(except)) => (None, addresses.of(except, None, policy)),
        (None, None) => (None, Vec::new()),
    };
    SelectedEntity {
        nets: entity.nets.clone(),
        not_nets: entity.not_nets.clone(),
        members,
        not_members,
        ports: entity.ports.clone(),
        points: None,
        not_ports: entity.not_ports.clone(),
        not_points: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Order, RuleAction},
        select::fixture::{endpoint, labelled, policy, rule},
        selector::Selector,
    };

    fn names(policies: &[Policy], endpoint: &HostEndpoint) -> Vec<String> {
        let endpoints = [endpoint.clone()];
        let mut addresses = Addresses::new(&endpoints, "node1", &[]);
        let candidates = candidates(
            policies,
            Stage::PreDnat,
            Direction::Ingress,
            &[endpoint],
            &mut addresses,
        );
        applying(&candidates, endpoint)
            .into_iter()
            .map(|p| p.name)
            .collect()
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
            names(&all, &endpoint("e", "node1", "eth0", &[])),
            ["minus", "nine", "ten", "none"]
        );
    }

    #[test]
    fn equal_orders_sort_by_name_with_the_kind_behind_it() {
        let all = ["a", "a-b", "a.b", "a0", "B"].map(|name| policy(name, 10.0, ""));
        // '-' and '.' sort before the '/' that ends a name; '0' after it.
        assert_eq!(
            names(&all, &endpoint("e", "node1", "eth0", &[])),
            ["B", "a-b", "a.b", "a", "a0"]
        );
        let zeros = [policy("b", -0.0, ""), policy("a", 0.0, "")];
        assert_eq!(
            names(&zeros, &endpoint("e", "node1", "eth0", &[])),
            ["a", "b"]
        );
    }

    #[test]
    fn only_policies_of_the_stage_with_the_direction_and_label_apply() {
        let mut egress_only = policy("egress", 1.0, "");
        egress_only.ingress = None;
        egress_only.egress = Some(Vec::new());
        let mut normal = policy("normal", 1.0, "");
        normal.stage = Stage::Normal;
        let other = policy("other", 1.0, "has(x)");
        let own = policy("own", 1.0, "has(y)");
        let all = [egress_only, normal, other, own];
        assert_eq!(names(&all, &labelled("e", &[], &[("y", "")])), ["own"]);
    }

    #[test]
    fn selectors_become_members_and_not_members() {
        let endpoints = [
            labelled("a", &["10.0.0.1"], &[("a", "")]),
            labelled("b", &["10.0.0.2"], &[("a", ""), ("b", "")]),
        ];
        let mut addresses = Addresses::new(&endpoints, "node1", &[]);
        let parse = |text| Some(Selector::parse(text).unwrap());
        let mut given = rule(RuleAction::Allow);
        given.source.not_selector = parse("has(b)");
        given.destination.selector = parse("has(a)");
        given.destination.not_selector = parse("has(b)");
        let selected = select_rule(&given, "p", &mut addresses);
        assert_eq!(selected.source.members, None);
        assert_eq!(
            selected.source.not_members,
            ["10.0.0.2/32".parse().unwrap()]
        );
        assert_eq!(
            selected.destination.members,
            Some(vec!["10.0.0.1/32".parse().unwrap()])
        );
        assert_eq!(selected.destination.not_members, []);

        given.destination.selector = parse("has(nobody)");
        let selected = select_rule(&given, "p", &mut addresses);
        // Matches nothing, which is not the same as no criterion.
        assert_eq!(selected.destination.members, Some(Vec::new()));
    }
}
