//! Endpoints for all interfaces, which govern the loopback interface, too.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use hostfw_common::verdict::Direction;

use super::{
    Warning,
    view::{Labelled, rules_of, rules_of_profile},
};
use crate::{
    model::{
        Entity, HostEndpoint, InterfaceMatch, IpVersion, Kind, Model, NetworkSet, ObjectRef,
        Policy, Rule, RuleAction, Stage,
    },
    selector::Selector,
};

const LOOPBACK: &str = "lo";

/// Where processes of a host usually talk to each other.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Finds endpoints that govern `lo`, where nothing allows what passes there.
pub(super) fn cut_off(model: &Model, endpoints: &[Labelled<'_>]) -> Vec<Warning> {
    let governing: Vec<&Labelled<'_>> = endpoints
        .iter()
        .filter(|labelled| governs_loopback(labelled.endpoint, model))
        .collect();
    if governing.is_empty() {
        return Vec::new();
    }
    let openers = Openers::new(model);
    governing
        .into_iter()
        .filter_map(|labelled| {
            let closed: Vec<&str> = Direction::ALL
                .into_iter()
                .filter(|&direction| !openers.open(labelled, direction))
                .map(|direction| match direction {
                    Direction::Ingress => "in",
                    Direction::Egress => "out",
                })
                .collect();
            (!closed.is_empty()).then(|| Warning {
                about: ObjectRef::new(Kind::HostEndpoint, None, &labelled.endpoint.name),
                message: format!(
                    "spec.interfaceName: '*' governs {LOOPBACK}, too, and no policy or profile \
                     allows all of what passes there {}: processes of the host reach each other \
                     on fail-safe ports and where a rule allows it, and not else. Allow \
                     127.0.0.0/8 and ::1, or make a host endpoint for {LOOPBACK}",
                    closed.join(" and ")
                ),
            })
        })
        .collect()
}

fn governs_loopback(endpoint: &HostEndpoint, model: &Model) -> bool {
    let excluded = [Some(&endpoint.node), None]
        .into_iter()
        .find_map(|node| {
            let layer = model.settings.iter().find(|s| s.node.as_ref() == node)?;
            layer.excluded_interfaces.as_ref()
        })
        .is_some_and(|names| names.iter().any(|names| names.mean(LOOPBACK)));
    let rivals = model.endpoints.iter().filter(|e| e.node == endpoint.node);
    endpoint.interface == InterfaceMatch::Wildcard
        && !excluded
        && !rivals.into_iter().any(|rival| match &rival.interface {
            InterfaceMatch::Name(name) => name == LOOPBACK,
            InterfaceMatch::ExpectedIps => rival.expected_ips.iter().any(IpAddr::is_loopback),
            InterfaceMatch::Wildcard => rival.name < endpoint.name,
        })
}

/// What allows whatever passes on `lo`, in one direction or both.
struct Openers<'a> {
    policies: Vec<(&'a Policy, Direction)>,
    profiles: BTreeSet<(&'a str, Direction)>,
}

impl<'a> Openers<'a> {
    fn new(model: &'a Model) -> Self {
        let sets: Vec<&NetworkSet> = model
            .sets
            .iter()
            .map(|set| &**set)
            .filter(|set| set.nets.iter().any(|net| net.contains(&LOCALHOST)))
            .collect();
        let allow = |rules: &[Rule]| rules.iter().any(|rule| allows_loopback(rule, &sets));
        let directions = Direction::ALL.into_iter();
        let policies = model
            .policies
            .iter()
            .map(|policy| &**policy)
            .filter(|policy| policy.staged.is_none() && policy.stage != Stage::Untracked);
        Self {
            policies: policies
                .flat_map(|policy| directions.clone().map(move |d| (policy, d)))
                .filter(|&(policy, direction)| allow(rules_of(policy, direction)))
                .collect(),
            profiles: model
                .profiles
                .iter()
                .flat_map(|profile| directions.clone().map(move |d| (profile, d)))
                .filter(|&(profile, direction)| allow(rules_of_profile(profile, direction)))
                .map(|(profile, direction)| (&*profile.name, direction))
                .collect(),
        }
    }

    /// Whether one of them applies.
    fn open(&self, labelled: &Labelled<'_>, direction: Direction) -> bool {
        labelled.has_allow_all()
            || self
                .policies
                .iter()
                .any(|(policy, of)| *of == direction && labelled.is_meant_by(policy))
            || labelled
                .profiles
                .iter()
                .any(|profile| self.profiles.contains(&(&*profile.name, direction)))
    }
}

fn allows_loopback(rule: &Rule, sets: &[&NetworkSet]) -> bool {
    let sides = [&rule.source, &rule.destination];
    let is_for_ipv4 = rule.ip_version != Some(IpVersion::V6)
        && rule
            .protocol
            .is_none_or(|protocol| protocol.implied_version.is_none());
    let all_protocols = rule.protocol.is_none()
        && rule.icmp.is_none()
        && sides
            .into_iter()
            .all(|side| side.ports.is_empty() && side.named_ports.is_empty());
    rule.action == RuleAction::Allow
        && is_for_ipv4
        && sides.into_iter().all(|side| holds_localhost(side, sets))
        // Whoever writes of loopback has thought of it.
        && (all_protocols || sides.into_iter().any(speaks_of_loopback))
}

/// Whether a side matches the address of the host itself; `sets` are those
/// that hold it.
fn holds_localhost(side: &Entity, sets: &[&NetworkSet]) -> bool {
    let is_of_a_set = |selector: &Selector| sets.iter().any(|set| selector.matches(&set.labels));
    (side.nets.is_empty() || side.nets.iter().any(|net| net.contains(&LOCALHOST)))
        && !side.not_nets.iter().any(|net| net.contains(&LOCALHOST))
        && side.service.is_none()
        && side.selector.as_ref().is_none_or(is_of_a_set)
}

fn speaks_of_loopback(side: &Entity) -> bool {
    side.nets.iter().any(|net| net.addr().is_loopback())
}
