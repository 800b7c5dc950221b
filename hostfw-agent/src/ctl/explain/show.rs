//! How answers look: lines of JSON for programs, a few lines of text for
//! people.

use std::fmt::{self, Write as _};

use hostfw_common::{stage::Stage, verdict::Direction};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Live,
    packet::{has_ports, is_icmp, protocol_name},
};
use crate::{
    model::Kind,
    observe::live::FlowStatus,
    question::{Answer, Outcome, Path, Question, State, Why},
    reference::{Event, Explanation, Step},
    resource::Rule,
};

/// An answer, and what is to be told beside it.
pub(super) struct Shown<'a> {
    pub(super) question: &'a Question,
    pub(super) answer: &'a Answer,
    /// Endpoint and steps, as the reference judge has them.
    pub(super) explanation: &'a Explanation,
    /// The rule that decided, as it is written.
    pub(super) rule: Option<&'a Rule>,
    /// A live node, and the flow that the packet is one of, if there is one.
    pub(super) live: Option<(&'a Live, Option<&'a FlowStatus>)>,
    /// Everything that was looked at is told.
    pub(super) verbose: bool,
}

const fn verdict(answer: &Answer) -> &'static str {
    if answer.allowed { "allow" } else { "deny" }
}

/// An answer as `-o json` has it: the keys that docs/explain.md lists, in that
/// order.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    verdict: &'static str,
    stage: Option<&'static str>,
    tier: Option<&'a str>,
    policy: Option<&'a str>,
    rule: Option<u16>,
    reason: Why,
    stages: Vec<StageLine>,
    #[serde(flatten)]
    live: Option<LiveLine>,
    #[serde(flatten)]
    verbose: Option<VerboseLine<'a>>,
}

#[derive(Debug, Serialize)]
struct StageLine {
    stage: &'static str,
    outcome: Outcome,
}

/// What a live node adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LiveLine {
    generation: u64,
    /// What is denied passes all the same.
    observe_only: bool,
    /// `established`: an entry decides first.
    conntrack: Option<&'static str>,
}

/// What `-v` adds.
#[derive(Debug, Serialize)]
struct VerboseLine<'a> {
    endpoint: Option<&'a str>,
    steps: Vec<Value>,
}

impl<'a> Line<'a> {
    pub(super) fn new(answer: &'a Answer) -> Self {
        Self {
            verdict: verdict(answer),
            stage: answer.stage.map(Stage::name),
            tier: answer.tier.as_deref(),
            policy: answer.policy.as_deref(),
            rule: answer.rule,
            reason: answer.reason,
            stages: answer
                .stages
                .iter()
                .map(|stage| StageLine {
                    stage: stage.stage.name(),
                    outcome: stage.outcome,
                })
                .collect(),
            live: None,
            verbose: None,
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = serde_json::to_string(self).expect("plain structs always have a JSON form");
        f.write_str(&line)
    }
}

impl Shown<'_> {
    /// One line of JSON.
    pub(super) fn line(&self) -> Line<'_> {
        Line {
            live: self.live.map(|(live, flow)| LiveLine {
                generation: live.generation,
                observe_only: live.observe_only,
                conntrack: flow.map(flow_state),
            }),
            verbose: self.verbose.then(|| VerboseLine {
                endpoint: self.explanation.endpoint.as_deref(),
                steps: self.explanation.steps.iter().map(step_json).collect(),
            }),
            ..Line::new(self.answer)
        }
    }

    /// What decided, in words.
    fn decided(&self) -> String {
        let Answer {
            stage,
            tier,
            policy,
            rule,
            reason,
            ..
        } = self.answer;
        let stage = stage.map_or("", |stage| stage.name());
        let tier = tier.as_deref().unwrap_or_default();
        let policy = policy.as_deref().unwrap_or_default();
        let list = match self.question.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let at =
            |rule: &Option<u16>| rule.map_or(String::new(), |index| format!("{list}[{index}]"));
        match reason {
            Why::Rule => format!(
                "rule {} of {}({policy}) in tier {tier}, at the {stage} stage",
                at(rule),
                Kind::GlobalNetworkPolicy
            ),
            Why::Profile if rule.is_none() => format!(
                "{}({policy}), which is missing or invalid and so denies everything, at the {stage} stage",
                Kind::Profile
            ),
            Why::Profile => format!(
                "rule {} of {}({policy}), at the {stage} stage",
                at(rule),
                Kind::Profile
            ),
            Why::Failsafe => format!("a fail-safe port, at the {stage} stage"),
            Why::TierDefault => format!(
                "the default action of tier {tier}, whose rules do not match, at the {stage} stage"
            ),
            Why::EndpointDefault => {
                format!("nothing allows it, and the {stage} stage denies what nothing allows")
            }
            Why::NoMatch => "no stage on its way has anything against it".to_owned(),
            Why::Established => "it belongs to a flow that was allowed".to_owned(),
            Why::Invalid => {
                format!("connection tracking finds it invalid, at the {stage} stage")
            }
            Why::Tunnel => "it is a tunnel's, between nodes".to_owned(),
            Why::NeighbourDiscovery => {
                "it is a neighbour discovery or multicast listener message".to_owned()
            }
            Why::NoEndpoint => "no HostEndpoint governs the interface".to_owned(),
            Why::Workload => {
                "the interface is a workload's, and packets between a workload and its own host \
                 are left alone"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", verdict(self.answer), self.decided())?;
        if let Some(rule) = self.rule {
            writeln!(f, "  rule: {}", written(rule))?;
        }
        writeln!(f, "  packet: {}", packet(self.question))?;
        let endpoint = self.explanation.endpoint.as_deref();
        let endpoint = endpoint.map_or("none".to_owned(), |name| {
            format!("{}({name})", Kind::HostEndpoint)
        });
        writeln!(f, "  endpoint: {endpoint}")?;
        let stages: Vec<String> = self
            .answer
            .stages
            .iter()
            .map(|stage| {
                let outcome = match stage.outcome {
                    Outcome::Allow => "allow",
                    Outcome::Deny => "deny",
                    Outcome::NoMatch => "no-match",
                    Outcome::Skipped => "skipped",
                };
                format!("{} {outcome}", stage.stage.name())
            })
            .collect();
        writeln!(f, "  stages: {}", stages.join(", "))?;
        if let Some((_, flow)) = self.live {
            match flow.map(flow_state) {
                Some("established") => f.write_str(
                    "  conntrack: an entry decides first: the packet is of an established flow \
                     and passes, unless the untracked stage drops it\n",
                )?,
                Some(_) => f.write_str(
                    "  conntrack: the flow is known and half open: its packets are judged anew\n",
                )?,
                None => f.write_str("  conntrack: no entry\n")?,
            }
        }
        if self.verbose {
            for step in &self.explanation.steps {
                writeln!(f, "  - {}", step_text(step))?;
            }
        }
        Ok(())
    }
}

const fn flow_state(flow: &FlowStatus) -> &'static str {
    if flow.confirmed {
        "established"
    } else {
        "half-open"
    }
}

/// A rule on one line, as it is written.
fn written(rule: &Rule) -> String {
    serde_json::to_string(rule).expect("a rule always has a JSON form")
}

fn packet(question: &Question) -> String {
    let way = match (question.direction, question.path) {
        (Direction::Ingress, Path::Local) => "in, for a local process",
        (Direction::Ingress, Path::Forward) => "in, to be forwarded",
        (Direction::Egress, Path::Local) => "out, of a local process",
        (Direction::Egress, Path::Forward) => "out, forwarded",
    };
    let ports = has_ports(question.protocol);
    let end = |address: std::net::IpAddr, port: u16| {
        if ports {
            std::net::SocketAddr::new(address, port).to_string()
        } else {
            address.to_string()
        }
    };
    let mut text = format!(
        "{} {way}: {} {} -> {}",
        question.interface,
        protocol_name(question.protocol),
        end(question.source, question.source_port),
        end(question.destination, question.destination_port),
    );
    let mut add = |more: fmt::Arguments<'_>| {
        text.write_fmt(more).expect("a String takes everything");
    };
    if let Some((address, port)) = question.translated {
        add(format_args!(", translated to {}", end(address, port)));
    }
    if let Some((kind, code)) = question.icmp.filter(|_| is_icmp(question.protocol)) {
        add(format_args!(", type {kind} code {code}"));
    }
    match question.state {
        State::New => add(format_args!(", new")),
        State::Established => add(format_args!(", established")),
        State::Invalid => add(format_args!(", invalid")),
    }
    text
}

fn step_text(step: &Step) -> String {
    let stage = step.stage.name();
    match &step.event {
        Event::Rule {
            tier,
            object,
            index,
            rule,
            staged,
            missed,
        } => {
            let tier = tier
                .as_ref()
                .map_or(String::new(), |tier| format!(" tier {tier},"));
            let outcome = match missed {
                Some(missed) => format!("passed over, {missed}"),
                None if *staged => "matches, but is only staged".to_owned(),
                None => "matches".to_owned(),
            };
            format!(
                "{stage}:{tier} {object} [{index}] {:?}: {outcome}",
                rule.action
            )
        }
        Event::MissingProfile(profile) => {
            format!(
                "{stage}: {}({profile}) is missing or invalid: deny",
                Kind::Profile
            )
        }
        Event::TierDefault { tier, denies: true } => {
            format!("{stage}: end of tier {tier}: deny, by its default")
        }
        Event::TierDefault {
            tier,
            denies: false,
        } => format!("{stage}: end of tier {tier}: go on"),
        Event::Failsafe { list, .. } => {
            format!(
                "{stage}: a fail-safe port of the {} list",
                failsafe_list(*list)
            )
        }
        Event::Tunnel => format!("{stage}: a tunnel between nodes goes around it"),
        Event::Invalid => format!("{stage}: connection tracking finds the packet invalid"),
    }
}

fn step_json(step: &Step) -> Value {
    let stage = step.stage.name();
    match &step.event {
        Event::Rule {
            tier,
            object,
            index,
            rule,
            staged,
            missed,
        } => json!({
            "stage": stage,
            "what": "rule",
            "tier": tier,
            "kind": object.kind.name(),
            "policy": object.name,
            "rule": index,
            "action": rule.action,
            "staged": staged,
            "matched": missed.is_none(),
            "criterion": missed.as_ref().map(|missed| missed.field.as_str()),
            "found": missed.as_ref().map(|missed| missed.found.as_str()),
        }),
        Event::MissingProfile(profile) => json!({
            "stage": stage,
            "what": "missing-profile",
            "policy": profile,
        }),
        Event::TierDefault { tier, denies } => json!({
            "stage": stage,
            "what": "tier-end",
            "tier": tier,
            "denies": denies,
        }),
        Event::Failsafe { list, net } => json!({
            "stage": stage,
            "what": "failsafe",
            "list": failsafe_list(*list),
            "net": net,
        }),
        Event::Tunnel => json!({"stage": stage, "what": "tunnel"}),
        Event::Invalid => json!({"stage": stage, "what": "invalid"}),
    }
}

const fn failsafe_list(list: Direction) -> &'static str {
    match list {
        Direction::Ingress => "inbound",
        Direction::Egress => "outbound",
    }
}
