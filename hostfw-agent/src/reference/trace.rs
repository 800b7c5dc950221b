//! What was looked at on a packet's way.

use hostfw_common::{stage::Stage, verdict::Direction};
use ipnet::IpNet;

use super::{criterion::Mismatch, packet::Packet, rule::Rule};
use crate::{
    model::ObjectRef,
    question::Answer,
    resource::{self, Action},
};

/// An answer, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The answer.
    pub answer: Answer,
    /// The endpoint that governs the interface, if one does.
    pub endpoint: Option<String>,
    /// All that was looked at, in order.
    pub steps: Vec<Step>,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// What happened.
    pub event: Event,
}

/// What happened at a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A rule was looked at.
    Rule {
        /// The tier; `None` for a profile's rule.
        tier: Option<String>,
        /// The policy or profile.
        object: ObjectRef,
        /// Its position in its direction's list, from 0.
        index: u16,
        /// As it is written.
        rule: Box<resource::Rule>,
        /// The policy is only reported: nothing is decided by it.
        staged: bool,
        /// The criterion that did not match; `None` if all did.
        missed: Option<Mismatch>,
    },
    /// A profile that the endpoint lists does not exist: it denies everything.
    MissingProfile(String),
    /// The tier's default action was reached.
    TierDefault {
        /// The tier.
        tier: String,
        /// It denies; otherwise the next tier is looked at.
        denies: bool,
    },
    /// A fail-safe port led around the stage, or let the packet through.
    Failsafe {
        /// Whether it is one of the inbound or of the outbound ones.
        list: Direction,
        /// The other side's net, if it is limited to one.
        net: Option<IpNet>,
    },
    /// The packet is a tunnel's between nodes, which leads around the stage.
    Tunnel,
    /// Connection tracking finds the packet impossible.
    Invalid,
}

/// Collects steps, if somebody wants them.
pub(super) struct Trace(Option<Vec<Step>>);

impl Trace {
    pub(super) const fn off() -> Self {
        Self(None)
    }

    pub(super) const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0.unwrap_or_default()
    }

    pub(super) fn note(&mut self, stage: Stage, event: impl FnOnce() -> Event) {
        if let Some(steps) = &mut self.0 {
            steps.push(Step {
                stage,
                event: event(),
            });
        }
    }
}

/// The rules of a policy or a profile, and what messages say of them.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) stage: Stage,
    pub(super) tier: Option<&'a str>,
    pub(super) object: &'a ObjectRef,
    pub(super) staged: bool,
    pub(super) rules: &'a [Rule],
}

impl Rules<'_> {
    /// The first rule with an action that is not Log that matches the packet,
    /// with its index.
    pub(super) fn first(&self, packet: &Packet, trace: &mut Trace) -> Option<(u16, Action)> {
        for (index, rule) in (0..).zip(self.rules) {
            let missed = rule.missed(packet);
            let matches = missed.is_none();
            trace.note(self.stage, || Event::Rule {
                tier: self.tier.map(str::to_owned),
                object: self.object.clone(),
                index,
                rule: Box::new(rule.written.clone()),
                staged: self.staged,
                missed: missed.map(|missed| missed.tell(packet)),
            });
            if matches && rule.action != Action::Log {
                return Some((index, rule.action));
            }
        }
        None
    }
}
