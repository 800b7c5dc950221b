//! What decided, how often: stages, criteria, actions, defaults. A run that
//! never reached something has proved nothing about it.

mod required;
mod rule;

use std::{collections::BTreeMap, fmt};

use hostfw_agent::{
    question::{Answer, Outcome, Path, Question, State, Why},
    reference::{Event, Explanation, Step},
    resource::{Action, Resource},
};
use hostfw_common::{stage::Stage, verdict::Direction};
use serde::{Deserialize, Serialize};

use crate::generate::Scene;

/// Each thing that must decide does so at least so often.
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
        let (way, path) = (way(question.direction), path(question.path));
        let family = family(question);
        self.count(match question.state {
            State::New => "state new",
            State::Established => "state established",
            State::Invalid => "state invalid",
        });
        if question.translated.is_some() {
            self.count(&format!("translated destination {family}"));
        }
        for stage in &answer.stages {
            if stage.outcome == Outcome::NoMatch {
                let name = stage.stage.name();
                self.count(&format!("{name} {way} {family}: no match"));
            }
        }
        let why = reason(answer);
        if let Some(stage) = answer.stage {
            let verdict = if answer.allowed { "allow" } else { "deny" };
            let name = stage.name();
            self.count(&format!("{name} {way} {family}: {verdict} by {why}"));
        } else {
            self.count(&format!("{way} {path} {family}: {why}"));
        }
        // Only with the check switched off does it come so far.
        if question.state == State::Invalid
            && answer.reason != Why::Invalid
            && matches!(answer.stage, Some(Stage::Forward | Stage::Normal))
        {
            self.count("invalid, which is not checked");
        }
        if let Some(rule) = rule::deciding(scene, question.direction, answer) {
            rule::matched(rule, family, &mut |what| self.count(what));
        }
    }

    /// Counts what was met on the way: rules that do not decide, rules that do
    /// not match, fail-safes, the ends of tiers, and which endpoint governs.
    pub fn steps(&mut self, scene: &Scene, question: &Question, explanation: &Explanation) {
        let family = family(question);
        for (index, step) in explanation.steps.iter().enumerate() {
            let at = format!("{} {}", step.stage.name(), way(question.direction));
            match &step.event {
                Event::Rule {
                    tier,
                    rule,
                    staged,
                    missed,
                    ..
                } => match missed {
                    Some(mismatch) => rule::missed(rule, question, &mismatch.field, &mut |what| {
                        self.count(what);
                    }),
                    None => {
                        if let Some(action) = action(rule.action, *staged, tier.is_none()) {
                            self.count(&format!("{at}: {action}"));
                        }
                    }
                },
                Event::TierDefault { tier, denies } => {
                    let (before, stage) = (&explanation.steps[..index], step.stage);
                    let end = end_of_tier(scene, before, (tier, stage), *denies);
                    self.count(&format!("{at}: {end}"));
                }
                Event::Failsafe { list, net } => {
                    let by = if *list == question.direction {
                        "by destination port"
                    } else {
                        "by source port"
                    };
                    self.count(&format!("{at} {family}: fail-safe {by}"));
                    let limit = if net.is_some() { "one net" } else { "all" };
                    self.count(&format!("fail-safe {} for {limit}", protocol(question)));
                }
                Event::Tunnel => self.count(&format!("{at} {family}: tunnel led around")),
                // They decide, and are counted with the answer.
                Event::Invalid | Event::MissingProfile(_) => {}
            }
        }
        if let Some(endpoint) = &explanation.endpoint {
            self.endpoint(scene, question, endpoint);
        }
    }

    /// Counts by what the endpoint governs the interface.
    fn endpoint(&mut self, scene: &Scene, question: &Question, name: &str) {
        if name.contains('/') {
            self.count("endpoint by a template");
            return;
        }
        let spec = scene.resources.iter().find_map(|resource| {
            let Resource::HostEndpoint(endpoint) = resource else {
                return None;
            };
            (endpoint.metadata.name == name).then_some(&endpoint.spec)
        });
        let how = match spec.and_then(|spec| spec.interface.as_deref()) {
            Some("*") if question.interface == "lo" => "by *, of lo",
            Some("*") if question.interface.starts_with("cali") => "by *, of a workload",
            Some("*") => "by *",
            Some(_) => "by its name",
            None => "by expectedIPs",
        };
        self.count(&format!("endpoint {how}"));
    }

    /// Adds what another run has counted.
    pub fn absorb(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
    }

    /// What decided too rarely, with its count.
    #[must_use]
    pub fn gaps(&self) -> Vec<(String, u64)> {
        required::all()
            .into_iter()
            .map(|what| {
                let count = self.counts.get(&what).copied().unwrap_or(0);
                (what, count)
            })
            .filter(|(_, count)| *count < LEAST)
            .collect()
    }
}

/// How a tier without a rule that decided ends.
fn end_of_tier(
    scene: &Scene,
    before: &[Step],
    (name, stage): (&str, Stage),
    denies: bool,
) -> &'static str {
    let tier = scene.resources.iter().find_map(|resource| {
        let Resource::Tier(tier) = resource else {
            return None;
        };
        (tier.metadata.name == name).then_some(&tier.spec)
    });
    let fixed = ["default", "kube-admin", "kube-baseline"].contains(&name);
    let passes = name.starts_with("kube-")
        || tier.is_some_and(|tier| tier.default_action.as_deref() == Some("Pass"));
    let mut policies = before.iter().filter_map(|step| {
        let Event::Rule { tier, staged, .. } = &step.event else {
            return None;
        };
        let of_tier = step.stage == stage && tier.as_deref() == Some(name);
        of_tier.then_some(*staged)
    });
    match (denies, passes, stage) {
        (true, ..) if tier.is_none() && !fixed => "Deny of a tier that does not exist",
        (true, ..) => "Deny of a tier",
        (false, ..) if policies.clone().count() > 0 && policies.all(|staged| staged) => {
            "end of a tier of staged rules"
        }
        (false, _, Stage::Untracked | Stage::PreDnat) => "end of a tier",
        (false, true, _) => "Pass of a tier",
        (false, false, _) => "end of a tier without rules",
    }
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

const fn path(path: Path) -> &'static str {
    match path {
        Path::Local => "local",
        Path::Forward => "forward",
    }
}

const fn family(question: &Question) -> &'static str {
    if question.source.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    }
}

const fn protocol(question: &Question) -> &'static str {
    match question.protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "other",
    }
}

const fn reason(answer: &Answer) -> &'static str {
    match (answer.reason, answer.rule) {
        (Why::Rule, _) => "rule",
        (Why::Profile, Some(_)) => "profile",
        (Why::Profile, None) => "missing profile",
        (Why::Failsafe, _) => "fail-safe",
        (Why::TierDefault, _) => "tier default",
        (Why::EndpointDefault, _) => "endpoint default",
        (Why::NoMatch, _) => "no match",
        (Why::Established, _) => "established",
        (Why::Invalid, _) => "invalid",
        (Why::Tunnel, _) => "tunnel",
        (Why::NeighbourDiscovery, _) => "neighbour discovery",
        (Why::NoEndpoint, _) => "no endpoint",
        (Why::Workload, _) => "workload",
    }
}

/// An action that does not decide; those that do are counted with the answer.
const fn action(action: Action, staged: bool, profile: bool) -> Option<&'static str> {
    match (action, staged, profile) {
        (Action::Log, false, false) => Some("Log"),
        (Action::Pass, false, false) => Some("Pass"),
        (Action::Log, false, true) => Some("Log of a profile"),
        (Action::Pass, false, true) => Some("Pass of a profile"),
        (Action::Allow | Action::Deny, false, _) => None,
        (Action::Allow, true, _) => Some("staged Allow"),
        (Action::Deny, true, _) => Some("staged Deny"),
        (Action::Pass, true, _) => Some("staged Pass"),
        (Action::Log, true, _) => Some("staged Log"),
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{count:>12}  {what}")?;
        }
        Ok(())
    }
}
