//! A packet's way through the stages (semantics section 7, and section 12
//! where it says otherwise).

use hostfw_common::{
    stage::{List, Stage},
    verdict::Direction,
};

use super::{
    Governed, Reference,
    packet::Packet,
    trace::{Event, Rules, Trace},
};
use crate::{
    model::{Kind, ObjectRef},
    question::{Answer, Outcome, Path, Question, StageAnswer, State, Why},
    resource::Action,
};

/// The stages on a packet's way, with the list that each evaluates.
const fn way(direction: Direction, path: Path) -> &'static [List] {
    match (direction, path) {
        (Direction::Ingress, Path::Local) => &[List::UntrackedIn, List::PreDnat, List::NormalIn],
        (Direction::Ingress, Path::Forward) => &[List::UntrackedIn, List::PreDnat, List::ForwardIn],
        (Direction::Egress, Path::Local) => &[List::UntrackedOut, List::NormalOut],
        (Direction::Egress, Path::Forward) => &[List::ForwardOut],
    }
}

/// What a stage decides.
struct Decision {
    allowed: bool,
    why: Why,
    tier: Option<String>,
    policy: Option<String>,
    rule: Option<u16>,
}

impl Decision {
    /// Without a rule.
    const fn by(why: Why, allowed: bool) -> Self {
        Self {
            allowed,
            why,
            tier: None,
            policy: None,
            rule: None,
        }
    }
}

/// What happens to a packet, stage by stage.
struct Progress {
    ahead: &'static [List],
    behind: Vec<StageAnswer>,
}

impl Progress {
    /// The list of the stage, if that comes next.
    fn next(&mut self, stage: Stage) -> Option<List> {
        let (&list, ahead) = self.ahead.split_first()?;
        if list.stage() != stage {
            return None;
        }
        self.ahead = ahead;
        Some(list)
    }

    fn push(&mut self, stage: Stage, outcome: Outcome) {
        self.behind.push(StageAnswer { stage, outcome });
    }

    fn no_match(&mut self, list: List) {
        self.push(list.stage(), Outcome::NoMatch);
    }

    /// The end, at a stage that decides.
    fn decided(mut self, list: List, decision: Decision) -> Answer {
        let outcome = if decision.allowed {
            Outcome::Allow
        } else {
            Outcome::Deny
        };
        self.push(list.stage(), outcome);
        self.end(Some(list.stage()), decision)
    }

    /// The end, without a stage that decided.
    fn allowed(self, why: Why) -> Answer {
        self.end(None, Decision::by(why, true))
    }

    /// The end: what lies ahead is skipped.
    fn end(mut self, stage: Option<Stage>, decision: Decision) -> Answer {
        for list in self.ahead {
            self.push(list.stage(), Outcome::Skipped);
        }
        Answer {
            allowed: decision.allowed,
            stage,
            tier: decision.tier,
            policy: decision.policy,
            rule: decision.rule,
            reason: decision.why,
            stages: self.behind,
        }
    }
}

pub(super) fn walk(reference: &Reference, question: &Question, trace: &mut Trace) -> Answer {
    let mut progress = Progress {
        ahead: way(question.direction, question.path),
        behind: Vec::new(),
    };
    let wire = Packet::wire(question);
    let Some(governed) = reference.governed.get(&question.interface) else {
        return progress.allowed(Why::NoEndpoint);
    };
    if wire.is_neighbour_discovery() {
        return progress.allowed(Why::NeighbourDiscovery);
    }
    // Only what comes in is translated behind the hooks that see the wire.
    let routed = match question.direction {
        Direction::Ingress => wire.translated(question.translated),
        Direction::Egress => wire,
    };
    let mut judge = Judge {
        reference,
        governed,
        invalid: question.state == State::Invalid && reference.settings.check_invalid,
        trace,
    };

    // Ahead of connection tracking.
    if let Some(list) = progress.next(Stage::Untracked) {
        match judge.untracked(list, &wire) {
            Some(decision) => return progress.decided(list, decision),
            None => progress.no_match(list),
        }
    }
    if reference.settings.is_tunnel(&wire, &reference.nodes) {
        match question.path {
            Path::Local => return progress.allowed(Why::Tunnel),
            // Somebody else's: it passes pre-DNAT policy, and no more.
            Path::Forward => {
                if let Some(list) = progress.next(Stage::PreDnat) {
                    judge.trace.note(list.stage(), || Event::Tunnel);
                    progress.no_match(list);
                }
            }
        }
    }
    if question.state == State::Established {
        return progress.allowed(Why::Established);
    }
    if let Some(list) = progress.next(Stage::PreDnat) {
        match judge.pre_dnat(list, &wire) {
            Some(decision) => return progress.decided(list, decision),
            None => progress.no_match(list),
        }
    }
    if let Some(list) = progress.next(Stage::Forward) {
        match judge.forward(list, &routed) {
            Some(decision) => return progress.decided(list, decision),
            None => progress.no_match(list),
        }
    }
    if governed.workload && question.path == Path::Local {
        return progress.allowed(Why::Workload);
    }
    if let Some(list) = progress.next(Stage::Normal) {
        let decision = judge.normal(list, &routed);
        return progress.decided(list, decision);
    }
    progress.allowed(Why::NoMatch)
}

/// Judges stage by stage; `None` where a stage has nothing to say.
struct Judge<'a> {
    reference: &'a Reference,
    governed: &'a Governed,
    /// Connection tracking finds the packet impossible, and that matters.
    invalid: bool,
    trace: &'a mut Trace,
}

impl Judge<'_> {
    /// Fail-safes lead around the stage: there is no connection tracking that
    /// would know replies, so either list holds for both directions, by the
    /// port of this host or of the other one.
    fn untracked(&mut self, list: List, packet: &Packet) -> Option<Decision> {
        let settings = &self.reference.settings;
        let (to, from) = (packet.destination, packet.source);
        let failsafe = match list.direction() {
            Direction::Ingress => {
                let reply = || settings.outbound.open(packet, from.port, from);
                let own = settings.inbound.open(packet, to.port, from);
                own.map(|entry| (Direction::Ingress, entry))
                    .or_else(|| Some((Direction::Egress, reply()?)))
            }
            Direction::Egress => {
                let reply = || settings.inbound.open(packet, from.port, to);
                let own = settings.outbound.open(packet, to.port, to);
                own.map(|entry| (Direction::Egress, entry))
                    .or_else(|| Some((Direction::Ingress, reply()?)))
            }
        };
        if let Some((of, entry)) = failsafe {
            self.trace.note(list.stage(), || Event::Failsafe {
                list: of,
                net: entry.net,
            });
            return None;
        }
        self.tiers(list, packet)
    }

    /// Fail-safes lead around the stage, whatever the destination.
    fn pre_dnat(&mut self, list: List, packet: &Packet) -> Option<Decision> {
        let enforced = self.governed.lists[list as usize]
            .iter()
            .flat_map(|tier| &tier.policies)
            .any(|policy| !policy.staged);
        if self.invalid && enforced {
            return Some(self.drop_invalid(list));
        }
        if self.is_failsafe(list, packet) {
            return None;
        }
        self.tiers(list, packet)
    }

    /// No fail-safes: the packet is not for this host.
    fn forward(&mut self, list: List, packet: &Packet) -> Option<Decision> {
        if self.invalid {
            return Some(self.drop_invalid(list));
        }
        self.tiers(list, packet)
    }

    /// The only stage that always decides.
    fn normal(&mut self, list: List, packet: &Packet) -> Decision {
        if self.invalid {
            return self.drop_invalid(list);
        }
        if self.is_failsafe(list, packet) {
            return Decision::by(Why::Failsafe, true);
        }
        self.tiers(list, packet)
            .or_else(|| self.profiles(list, packet))
            .unwrap_or(Decision::by(Why::EndpointDefault, false))
    }

    fn drop_invalid(&mut self, list: List) -> Decision {
        self.trace.note(list.stage(), || Event::Invalid);
        Decision::by(Why::Invalid, false)
    }

    /// Whether the destination's port is a fail-safe one, of this host for what
    /// comes in, of the others for what goes out.
    fn is_failsafe(&mut self, list: List, packet: &Packet) -> bool {
        let settings = &self.reference.settings;
        let port = packet.destination.port;
        let direction = list.direction();
        let entry = match direction {
            Direction::Ingress => settings.inbound.open(packet, port, packet.source),
            Direction::Egress => settings.outbound.open(packet, port, packet.destination),
        };
        if let Some(entry) = entry {
            self.trace.note(list.stage(), || Event::Failsafe {
                list: direction,
                net: entry.net,
            });
        }
        entry.is_some()
    }

    fn tiers(&mut self, list: List, packet: &Packet) -> Option<Decision> {
        let stage = list.stage();
        'tiers: for tier in &self.governed.lists[list as usize] {
            for policy in &tier.policies {
                let rules = Rules {
                    stage,
                    tier: Some(&tier.name),
                    object: &policy.object,
                    staged: policy.staged,
                    rules: policy.rules(list.direction()),
                };
                let first = rules.first(packet, self.trace);
                let Some((index, action)) = first.filter(|_| !policy.staged) else {
                    continue;
                };
                match action {
                    Action::Allow | Action::Deny => {
                        return Some(Decision {
                            allowed: action == Action::Allow,
                            why: Why::Rule,
                            tier: Some(tier.name.clone()),
                            policy: Some(policy.object.name.clone()),
                            rule: Some(index),
                        });
                    }
                    Action::Pass => continue 'tiers,
                    Action::Log => {}
                }
            }
            self.trace.note(stage, || Event::TierDefault {
                tier: tier.name.clone(),
                denies: tier.denies,
            });
            if tier.denies {
                return Some(Decision {
                    tier: Some(tier.name.clone()),
                    ..Decision::by(Why::TierDefault, false)
                });
            }
        }
        None
    }

    fn profiles(&mut self, list: List, packet: &Packet) -> Option<Decision> {
        for (name, profile) in &self.governed.profiles {
            let decision = |allowed, rule| {
                Some(Decision {
                    policy: Some(name.clone()),
                    rule,
                    ..Decision::by(Why::Profile, allowed)
                })
            };
            let Some(profile) = profile else {
                self.trace
                    .note(list.stage(), || Event::MissingProfile(name.clone()));
                return decision(false, None);
            };
            let object = ObjectRef {
                kind: Kind::Profile,
                name: name.clone(),
            };
            let rules = Rules {
                stage: list.stage(),
                tier: None,
                object: &object,
                staged: false,
                rules: profile.rules(list.direction()),
            };
            match rules.first(packet, self.trace) {
                Some((index, Action::Allow)) => return decision(true, Some(index)),
                Some((index, Action::Deny)) => return decision(false, Some(index)),
                // Nothing follows that a Pass could pass to.
                Some((_, Action::Pass)) => return None,
                Some((_, Action::Log)) | None => {}
            }
        }
        None
    }
}
