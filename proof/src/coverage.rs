//! What decided, how often: stages, criteria, actions, defaults. A run that
//! never reached something has proved nothing about it.

use std::{collections::BTreeMap, fmt};

use hostfw_agent::{
    question::{Answer, Outcome, Path, Question, State, Why},
    resource::{Action, EntityRule, NumberOrText, Resource, Rule},
};
use hostfw_common::verdict::Direction;
use serde::{Deserialize, Serialize};

use crate::generate::Scene;

/// What must have decided, each by itself: every stage and direction with each
/// of its outcomes, every reason, every criterion of a rule that matched, and
/// every criterion for which one did not.
const REQUIRED: &[&str] = &[
    "stage untracked in: allow",
    "stage untracked in: deny",
    "stage untracked in: no-match",
    "stage untracked out: allow",
    "stage untracked out: deny",
    "stage untracked out: no-match",
    "stage preDNAT in: allow",
    "stage preDNAT in: deny",
    "stage preDNAT in: no-match",
    "stage forward in: allow",
    "stage forward in: deny",
    "stage forward in: no-match",
    "stage forward out: allow",
    "stage forward out: deny",
    "stage forward out: no-match",
    "stage normal in: allow",
    "stage normal in: deny",
    "stage normal out: allow",
    "stage normal out: deny",
    "path in local",
    "path in forward",
    "path out local",
    "path out forward",
    "family IPv4",
    "family IPv6",
    "state new",
    "state established",
    "state invalid",
    "translated destination",
    "reason rule",
    "reason profile",
    "reason missing profile",
    "reason failsafe",
    "reason tier-default",
    "reason endpoint-default",
    "reason no-match",
    "reason established",
    "reason invalid",
    "reason tunnel",
    "reason neighbour-discovery",
    "reason no-endpoint",
    "reason workload",
    "action Allow",
    "action Deny",
    "action Log",
    "action Pass",
    "action Pass of a profile",
    "action staged Allow",
    "action staged Deny",
    "action staged Pass",
    "action staged Log",
    "matched: no criterion",
    "matched: ipVersion 4",
    "matched: ipVersion 6",
    "matched: protocol by name",
    "matched: protocol by number",
    "matched: notProtocol",
    "matched: icmp type",
    "matched: icmp code",
    "matched: notICMP type",
    "matched: notICMP code",
    "matched: source.nets",
    "matched: source.notNets",
    "matched: source.ports number",
    "matched: source.ports range",
    "matched: source.ports name",
    "matched: source.notPorts number",
    "matched: source.notPorts range",
    "matched: source.notPorts name",
    "matched: source.selector",
    "matched: source.notSelector",
    "matched: source.namespaceSelector",
    "matched: source.serviceAccounts",
    "matched: destination.nets",
    "matched: destination.notNets",
    "matched: destination.ports number",
    "matched: destination.ports range",
    "matched: destination.ports name",
    "matched: destination.notPorts number",
    "matched: destination.notPorts range",
    "matched: destination.notPorts name",
    "matched: destination.selector",
    "matched: destination.notSelector",
    "matched: destination.namespaceSelector",
    "matched: destination.serviceAccounts",
    "missed: ipVersion",
    "missed: protocol",
    "missed: notProtocol",
    "missed: icmp",
    "missed: notICMP",
    "missed: source.nets",
    "missed: source.notNets",
    "missed: source.ports",
    "missed: source.notPorts",
    "missed: source.selector",
    "missed: source.notSelector",
    "missed: source.services",
    "missed: destination.nets",
    "missed: destination.notNets",
    "missed: destination.ports",
    "missed: destination.notPorts",
    "missed: destination.selector",
    "missed: destination.notSelector",
    "missed: destination.services",
];

/// Each of them at least so often.
pub const LEAST: u64 = 100;

/// Counts of what decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
}

impl Coverage {
    /// Counts one thing.
    pub fn count(&mut self, what: &str) {
        if let Some(count) = self.counts.get_mut(what) {
            *count += 1;
        } else {
            self.counts.insert(what.to_owned(), 1);
        }
    }

    /// Counts what an answer rests on.
    pub fn answer(&mut self, scene: &Scene, question: &Question, answer: &Answer) {
        let way = match question.direction {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        };
        self.count(match (question.direction, question.path) {
            (Direction::Ingress, Path::Local) => "path in local",
            (Direction::Ingress, Path::Forward) => "path in forward",
            (Direction::Egress, Path::Local) => "path out local",
            (Direction::Egress, Path::Forward) => "path out forward",
        });
        self.count(if question.source.is_ipv4() {
            "family IPv4"
        } else {
            "family IPv6"
        });
        self.count(match question.state {
            State::New => "state new",
            State::Established => "state established",
            State::Invalid => "state invalid",
        });
        if question.translated.is_some() {
            self.count("translated destination");
        }
        for stage in &answer.stages {
            let outcome = match stage.outcome {
                Outcome::Allow => "allow",
                Outcome::Deny => "deny",
                Outcome::NoMatch => "no-match",
                Outcome::Skipped => continue,
            };
            self.count(&format!("stage {} {way}: {outcome}", stage.stage.name()));
        }
        self.count(match (answer.reason, answer.rule) {
            (Why::Rule, _) => "reason rule",
            (Why::Profile, Some(_)) => "reason profile",
            (Why::Profile, None) => "reason missing profile",
            (Why::Failsafe, _) => "reason failsafe",
            (Why::TierDefault, _) => "reason tier-default",
            (Why::EndpointDefault, _) => "reason endpoint-default",
            (Why::NoMatch, _) => "reason no-match",
            (Why::Established, _) => "reason established",
            (Why::Invalid, _) => "reason invalid",
            (Why::Tunnel, _) => "reason tunnel",
            (Why::NeighbourDiscovery, _) => "reason neighbour-discovery",
            (Why::NoEndpoint, _) => "reason no-endpoint",
            (Why::Workload, _) => "reason workload",
        });
        if let Some(rule) = deciding_rule(scene, question.direction, answer) {
            self.rule(rule);
        }
    }

    /// Counts that a rule matched no packet, for this field of it.
    pub fn missed(&mut self, field: &str) {
        self.count(&format!("missed: {field}"));
    }

    /// Counts that a rule that does not decide matched.
    pub fn met(&mut self, action: Action, staged: bool, profile: bool) {
        self.count(match (action, staged, profile) {
            (Action::Log, false, _) => "action Log",
            (Action::Pass, false, false) => "action Pass",
            (Action::Pass, false, true) => "action Pass of a profile",
            (Action::Allow, false, _) => "action Allow",
            (Action::Deny, false, _) => "action Deny",
            (Action::Allow, true, _) => "action staged Allow",
            (Action::Deny, true, _) => "action staged Deny",
            (Action::Pass, true, _) => "action staged Pass",
            (Action::Log, true, _) => "action staged Log",
        });
    }

    fn rule(&mut self, rule: &Rule) {
        let mut any = false;
        let mut matched = |what: &str| {
            any = true;
            self.count(&format!("matched: {what}"));
        };
        match rule.ip_version {
            Some(4) => matched("ipVersion 4"),
            Some(_) => matched("ipVersion 6"),
            None => {}
        }
        match &rule.protocol {
            Some(NumberOrText::Text(text)) if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                matched("protocol by name");
            }
            Some(NumberOrText::Text(_) | NumberOrText::Number(_)) => matched("protocol by number"),
            None => {}
        }
        if rule.not_protocol.is_some() {
            matched("notProtocol");
        }
        for (fields, kind, code) in [
            (&rule.icmp, "icmp type", "icmp code"),
            (&rule.not_icmp, "notICMP type", "notICMP code"),
        ] {
            if let Some(fields) = fields {
                if fields.kind.is_some() {
                    matched(kind);
                }
                if fields.code.is_some() {
                    matched(code);
                }
            }
        }
        entity("source", &rule.source, &mut matched);
        entity("destination", &rule.destination, &mut matched);
        if !any {
            self.count("matched: no criterion");
        }
    }

    /// Adds what another run has counted.
    pub fn absorb(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
    }

    /// What decided too rarely, with its count.
    #[must_use]
    pub fn gaps(&self) -> Vec<(&'static str, u64)> {
        REQUIRED
            .iter()
            .map(|what| (*what, self.counts.get(*what).copied().unwrap_or(0)))
            .filter(|(_, count)| *count < LEAST)
            .collect()
    }
}

fn entity(side: &str, entity: &EntityRule, matched: &mut dyn FnMut(&str)) {
    let filled = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    for (given, field) in [
        (!entity.nets.is_empty(), "nets"),
        (!entity.not_nets.is_empty(), "notNets"),
        (filled(&entity.selector), "selector"),
        (filled(&entity.not_selector), "notSelector"),
        (filled(&entity.namespace_selector), "namespaceSelector"),
        (entity.service_accounts.is_some(), "serviceAccounts"),
        (entity.services.is_some(), "services"),
    ] {
        if given {
            matched(&format!("{side}.{field}"));
        }
    }
    for (ports, field) in [(&entity.ports, "ports"), (&entity.not_ports, "notPorts")] {
        for how in ["number", "range", "name"] {
            if ports.iter().any(|port| written_as(port) == how) {
                matched(&format!("{side}.{field} {how}"));
            }
        }
    }
}

fn written_as(port: &NumberOrText) -> &'static str {
    match port {
        NumberOrText::Number(_) => "number",
        NumberOrText::Text(text) if text.contains(':') => "range",
        NumberOrText::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => "number",
        NumberOrText::Text(_) => "name",
    }
}

/// The rule that an answer names, as it is written.
fn deciding_rule<'a>(scene: &'a Scene, direction: Direction, answer: &Answer) -> Option<&'a Rule> {
    let (name, index) = (answer.policy.as_deref()?, usize::from(answer.rule?));
    scene.resources.iter().find_map(|resource| {
        let (ingress, egress) = match (resource, answer.reason) {
            (Resource::GlobalNetworkPolicy(policy), Why::Rule) => {
                (&policy.spec.ingress, &policy.spec.egress)
            }
            (Resource::Profile(profile), Why::Profile) => {
                (&profile.spec.ingress, &profile.spec.egress)
            }
            _ => return None,
        };
        if resource.metadata().name != name {
            return None;
        }
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
        .get(index)
    })
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>12}  {what}")?;
        }
        Ok(())
    }
}
