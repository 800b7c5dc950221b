//! Policies that close one IP version by speaking of the other alone.
//!
//! A rule whose nets are all IPv4 says nothing about IPv6. If it allows
//! something ahead of a rule that denies everything, that something is open in
//! IPv4 and closed in IPv6.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use super::{
    Warning,
    view::{Labelled, on},
};
use crate::{
    model::{
        Entity, IpVersion, Kind, Model, ObjectRef, Order, Policy, PortRange, Protocol, Rule,
        RuleAction, Stage, Tier,
    },
    selector::Selector,
};

/// Nets to name in a message before it gets too long.
const MOST_NAMED: usize = 3;

/// A rule and where it stands.
#[derive(Clone, Copy)]
struct Placed<'a> {
    policy: &'a Policy,
    index: usize,
    rule: &'a Rule,
}

/// What traps are told apart by: allowing policy, closed version, denying
/// policy.
type Key<'a> = (&'a str, IpVersion, &'a str);

/// Finds all such traps among pre-DNAT policies.
///
/// Which policies come together is known exactly for the endpoints there are.
/// For policies that match none of them, it is taken from their selectors:
/// those come together whose selectors are the same.
pub(super) fn closed_by_omission(model: &Model, endpoints: &[Labelled<'_>]) -> Vec<Warning> {
    let mut policies: Vec<&Policy> = model
        .policies
        .iter()
        .map(|policy| &**policy)
        .filter(|policy| policy.stage == Stage::PreDnat && policy.staged.is_none())
        .collect();
    sort(&mut policies, model);

    // Many endpoints, but few groups of policies.
    let mut groups: BTreeMap<Vec<usize>, Vec<&str>> = BTreeMap::new();
    for labelled in endpoints {
        let group = (0..policies.len())
            .filter(|&index| labelled.is_meant_by(policies[index]))
            .collect();
        let name = &labelled.endpoint.name;
        groups.entry(group).or_default().push(name);
    }
    let mut traps: BTreeMap<Key<'_>, (String, BTreeSet<&str>)> = BTreeMap::new();
    let mut matched = BTreeSet::new();
    for (group, endpoints) in groups {
        let members: Vec<&Policy> = group.iter().map(|&index| policies[index]).collect();
        matched.extend(group);
        for (key, message) in traps_among(&members) {
            traps
                .entry(key)
                .or_insert_with(|| (message, BTreeSet::new()))
                .1
                .extend(&endpoints);
        }
    }
    let mut seen: Vec<&Selector> = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        if matched.contains(&index) || seen.contains(&&policy.selector) {
            continue;
        }
        seen.push(&policy.selector);
        let group: Vec<&Policy> = policies
            .iter()
            .copied()
            .filter(|other| other.selector == policy.selector || other.selector.is_all())
            .collect();
        for (key, message) in traps_among(&group) {
            traps
                .entry(key)
                .or_insert_with(|| (message, BTreeSet::new()));
        }
    }
    traps
        .into_iter()
        .map(|((allowing, closed, _), (message, endpoints))| Warning {
            about: ObjectRef {
                kind: Kind::GlobalNetworkPolicy,
                name: allowing.to_owned(),
            },
            message: format!(
                "{message}{}. If that is not meant, allow {} nets as well, ahead of the denial",
                on(&Vec::from_iter(endpoints)),
                name(closed)
            ),
        })
        .collect()
}

/// Puts policies in the order of evaluation (Calico:
/// felix/calc/policy_sorter.go).
fn sort(policies: &mut [&Policy], model: &Model) {
    let fixed = Tier::always_there();
    let orders: HashMap<&str, Order> = model
        .tiers
        .iter()
        .chain(&fixed)
        .map(|tier| (&*tier.name, tier.order))
        .collect();
    policies.sort_by_cached_key(|policy| {
        let tier = orders.get(&*policy.tier);
        (
            tier.is_none(),
            tier.copied().unwrap_or(Order::LAST),
            policy.tier.clone(),
            policy.order,
            format!("{}//GlobalNetworkPolicy", policy.name),
        )
    });
}

/// The traps of policies that apply together, given in order of evaluation.
fn traps_among<'a>(policies: &[&'a Policy]) -> Vec<(Key<'a>, String)> {
    let rules: Vec<Placed<'a>> = policies
        .iter()
        .flat_map(|&policy| {
            policy
                .ingress
                .as_deref()
                .unwrap_or_default()
                .iter()
                .enumerate()
                .map(move |(index, rule)| Placed {
                    policy,
                    index,
                    rule,
                })
        })
        .collect();
    let mut traps = Vec::new();
    for (open, closed) in [
        (IpVersion::V4, IpVersion::V6),
        (IpVersion::V6, IpVersion::V4),
    ] {
        let Some(last) = rules.iter().position(|placed| {
            placed.rule.action != RuleAction::Log && matches_everything(placed.rule, closed)
        }) else {
            continue;
        };
        let denial = rules[last];
        if denial.rule.action != RuleAction::Deny {
            continue;
        }
        let allowing = || {
            rules[..last]
                .iter()
                .filter(|placed| placed.rule.action == RuleAction::Allow)
        };
        let counterparts = Wide::of(allowing().map(|placed| placed.rule), closed);
        let mut by_policy: BTreeMap<&str, Vec<Placed<'a>>> = BTreeMap::new();
        for allow in allowing().filter(|placed| speaks_only_of(placed.rule, open)) {
            if !counterparts.any_as_wide(allow.rule) {
                by_policy
                    .entry(&allow.policy.name)
                    .or_default()
                    .push(*allow);
            }
        }
        for (policy, alone) in by_policy {
            traps.push((
                (policy, closed, denial.policy.name.as_str()),
                format!(
                    "{} {} nets only, and then GlobalNetworkPolicy({}) denies everything: the \
                     same traffic over {} is closed",
                    describe(&alone),
                    name(open),
                    denial.policy.name,
                    name(closed)
                ),
            ));
        }
    }
    traps
}

/// The rules of one policy, at least one, as the subject of a sentence.
fn describe(rules: &[Placed<'_>]) -> String {
    let first = &rules[0];
    let first = format!("spec.ingress[{}] ({})", first.index, nets_of(first.rule));
    match rules.len() - 1 {
        0 => format!("{first} allows"),
        more => format!("{first} and {more} more rules allow"),
    }
}

fn name(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "IPv4",
        IpVersion::V6 => "IPv6",
    }
}

fn version_of(net: &IpNet) -> IpVersion {
    match net {
        IpNet::V4(_) => IpVersion::V4,
        IpNet::V6(_) => IpVersion::V6,
    }
}

fn net_lists(rule: &Rule) -> [&[IpNet]; 4] {
    [
        &rule.source.nets,
        &rule.source.not_nets,
        &rule.destination.nets,
        &rule.destination.not_nets,
    ]
}

fn nets_of(rule: &Rule) -> String {
    let nets: Vec<String> = net_lists(rule)
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    match nets.split_at_checked(MOST_NAMED) {
        Some((named, rest)) if !rest.is_empty() => {
            format!("{} and {} more", named.join(", "), rest.len())
        }
        Some(_) | None => nets.join(", "),
    }
}

/// Whether a rule is for one version because of its nets: not because the user
/// named the version, who then knows.
fn speaks_only_of(rule: &Rule, version: IpVersion) -> bool {
    rule.ip_version.is_none()
        && rule
            .protocol
            .is_none_or(|protocol| protocol.implied_version.is_none())
        && net_lists(rule).into_iter().flatten().next().is_some()
        && can_match(rule, version)
}

/// Whether some packet of this version can match.
fn can_match(rule: &Rule, version: IpVersion) -> bool {
    rule.ip_version.is_none_or(|only| only == version)
        && rule
            .protocol
            .and_then(|protocol| protocol.implied_version)
            .is_none_or(|only| only == version)
        && net_lists(rule)
            .into_iter()
            .all(|nets| nets.is_empty() || nets.iter().any(|net| version_of(net) == version))
}

/// Whether every packet of this version matches.
fn matches_everything(rule: &Rule, version: IpVersion) -> bool {
    can_match(rule, version)
        && rule.protocol.is_none()
        && rule.not_protocol.is_none()
        && rule.icmp.is_none()
        && rule.not_icmp.is_none()
        && [&rule.source, &rule.destination]
            .into_iter()
            .all(|entity| entity_matches_everything(entity, version))
}

fn entity_matches_everything(entity: &Entity, version: IpVersion) -> bool {
    let whole = |net: &IpNet| net.prefix_len() == 0 && version_of(net) == version;
    (entity.nets.is_empty() || entity.nets.iter().any(whole))
        && entity.not_nets.is_empty()
        && entity.ports.is_empty()
        && entity.named_ports.is_empty()
        && entity.not_ports.is_empty()
        && entity.not_named_ports.is_empty()
        && entity.service.is_none()
        && entity.selector.is_none()
        && entity.not_selector.is_none()
}

/// Rules, to be asked whether one is as wide as another.
///
/// By protocol and ports: these make nearly all of ten thousand rules differ,
/// and not every one is to be compared with every other.
struct Wide<'a>(HashMap<Ports<'a>, Vec<&'a Rule>>);

/// Protocol, ports of the source, and of the destination.
type Ports<'a> = (Option<Protocol>, &'a [PortRange], &'a [PortRange]);

impl<'a> Wide<'a> {
    /// Those of the rules that packets of this version can match.
    fn of(rules: impl Iterator<Item = &'a Rule>, version: IpVersion) -> Self {
        let mut by_ports: HashMap<Ports<'a>, Vec<&Rule>> = HashMap::new();
        for rule in rules.filter(|rule| can_match(rule, version)) {
            let ports = (rule.protocol, &*rule.source.ports, &*rule.destination.ports);
            by_ports.entry(ports).or_default().push(rule);
        }
        Self(by_ports)
    }

    /// Whether one of them [is as wide](is_as_wide) as this rule.
    fn any_as_wide(&self, rule: &Rule) -> bool {
        let protocols = [None, rule.protocol];
        let sources = [&[][..], &rule.source.ports];
        let destinations = [&[][..], &rule.destination.ports];
        // Where the rule has no criterion the two are the same: asked twice.
        protocols.into_iter().any(|protocol| {
            sources.into_iter().any(|source| {
                destinations.into_iter().any(|destination| {
                    self.0
                        .get(&(protocol, source, destination))
                        .is_some_and(|wide| wide.iter().any(|one| is_as_wide(one, rule)))
                })
            })
        })
    }
}

/// Whether a rule, nets apart, matches whatever the other does.
fn is_as_wide(rule: &Rule, other: &Rule) -> bool {
    fn wider<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
        one.is_none() || one == other
    }
    fn list_wider<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        one.is_empty() || one == other
    }
    wider(&rule.protocol, &other.protocol)
        && wider(&rule.not_protocol, &other.not_protocol)
        && wider(&rule.icmp, &other.icmp)
        && wider(&rule.not_icmp, &other.not_icmp)
        && [
            (&rule.source, &other.source),
            (&rule.destination, &other.destination),
        ]
        .into_iter()
        .all(|(one, other)| {
            list_wider(&one.ports, &other.ports)
                && list_wider(&one.named_ports, &other.named_ports)
                && list_wider(&one.not_named_ports, &other.not_named_ports)
                && wider(&one.service, &other.service)
                && list_wider(&one.not_ports, &other.not_ports)
                && wider(&one.selector, &other.selector)
                && wider(&one.not_selector, &other.not_selector)
        })
}
