//! The second judge: reads an image as the programs read the maps, stage by
//! stage. For explaining a verdict, and for tests.
//!
//! It knows nothing but the image and the question: not the resources, not the
//! selection.

mod tables;

use std::{net::IpAddr, ops::ControlFlow};

use hostfw_common::{
    endpoint::{Endpoint, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_WORKLOAD},
    failsafe::CLASS_TUNNEL,
    policy::{Action, RuleEntry, TABLE_DEFAULT_DENY},
    stage::{List, Stage},
    verdict::Direction,
};

use self::tables::{Broken, Packet};
use super::{
    image::{Image, Names},
    rule::protocol,
};
use crate::{
    model::Kind,
    question::{Answer, Outcome, Path, Question, StageAnswer, State, Why},
};

/// What an image says about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// What becomes of it.
    pub answer: Answer,
    /// The entry that decided, if one did.
    pub rule: Option<RuleEntry>,
    /// Entries that are reported, in order, with the list that holds them:
    /// those with action Log, and those of staged policies.
    pub reported: Vec<(List, RuleEntry)>,
}

/// What becomes of a packet on the interface of this index.
///
/// # Panics
///
/// As [`evaluate`].
#[must_use]
pub fn answer(image: &Image, interface: u32, question: &Question) -> Answer {
    evaluate(image, interface, question).answer
}

/// What becomes of a packet on the interface of this index, and what is
/// reported of it.
///
/// # Panics
///
/// If the addresses of the question are of two families, or the image is not
/// one that [`compile`](super::compile) makes.
#[must_use]
pub fn evaluate(image: &Image, interface: u32, question: &Question) -> Evaluation {
    let lists = way(question.direction, question.path);
    let mut walk = Walk {
        image,
        question,
        met: Vec::new(),
        reported: Vec::new(),
    };
    let decided = match image.endpoints.get(&interface) {
        None => Decided::allowed(Why::NoEndpoint),
        Some(endpoint) => match walk.go(endpoint, lists) {
            ControlFlow::Break(decided) => decided,
            ControlFlow::Continue(()) => Decided::allowed(Why::NoMatch),
        },
    };
    let Walk {
        met: mut stages,
        reported,
        ..
    } = walk;
    let rest = lists[stages.len()..].iter().map(|list| StageAnswer {
        stage: list.stage(),
        outcome: Outcome::Skipped,
    });
    stages.extend(rest);
    let origin = decided.origin(&image.names);
    Evaluation {
        answer: Answer {
            allowed: decided.allowed,
            stage: decided.stage,
            tier: origin.tier,
            policy: origin.policy,
            rule: origin.rule,
            reason: decided.why,
            stages,
        },
        rule: decided.rule,
        reported,
    }
}

/// The lists that a packet meets, in order.
const fn way(direction: Direction, path: Path) -> &'static [List] {
    match (direction, path) {
        (Direction::Ingress, Path::Local) => &[List::UntrackedIn, List::PreDnat, List::NormalIn],
        (Direction::Ingress, Path::Forward) => &[List::UntrackedIn, List::PreDnat, List::ForwardIn],
        (Direction::Egress, Path::Local) => &[List::UntrackedOut, List::NormalOut],
        (Direction::Egress, Path::Forward) => &[List::ForwardOut],
    }
}

/// The end of a packet's way.
struct Decided {
    allowed: bool,
    why: Why,
    stage: Option<Stage>,
    rule: Option<RuleEntry>,
}

/// The names of what decided.
#[derive(Default)]
struct Origin {
    tier: Option<String>,
    policy: Option<String>,
    rule: Option<u16>,
}

impl Decided {
    /// Let through, by no stage.
    const fn allowed(why: Why) -> Self {
        Self {
            allowed: true,
            why,
            stage: None,
            rule: None,
        }
    }

    /// Dropped by a stage, and by no entry.
    const fn denied(why: Why, stage: Stage) -> Self {
        Self {
            allowed: false,
            why,
            stage: Some(stage),
            rule: None,
        }
    }

    /// By an entry of a list.
    fn by(entry: RuleEntry, stage: Stage, names: &Names) -> Self {
        let profile = || {
            let policy = names.policy(entry.policy);
            policy.is_some_and(|object| object.kind == Kind::Profile)
        };
        Self {
            allowed: entry.action == Action::Allow as u8,
            why: if entry.action == Action::TierDeny as u8 {
                Why::TierDefault
            } else if profile() {
                Why::Profile
            } else {
                Why::Rule
            },
            stage: Some(stage),
            rule: Some(entry),
        }
    }

    fn origin(&self, names: &Names) -> Origin {
        let Some(entry) = self.rule else {
            return Origin::default();
        };
        if self.why == Why::TierDefault {
            return Origin {
                tier: names.tier(entry.policy.number).map(str::to_owned),
                ..Origin::default()
            };
        }
        let policy = names.named(entry.policy);
        let missing = policy.is_some_and(|policy| policy.missing);
        Origin {
            tier: names.tier_of(entry.policy).map(str::to_owned),
            policy: policy.map(|policy| policy.object.name.clone()),
            rule: (!missing).then_some(entry.index),
        }
    }
}

/// A packet on its way.
struct Walk<'a> {
    image: &'a Image,
    question: &'a Question,
    /// The stages that have looked at it so far.
    met: Vec<StageAnswer>,
    reported: Vec<(List, RuleEntry)>,
}

impl Walk<'_> {
    /// The order of checks. Breaks off when all is decided.
    fn go(&mut self, endpoint: &Endpoint, lists: &[List]) -> ControlFlow<Decided> {
        let question = self.question;
        if is_neighbour_discovery(question) {
            return ControlFlow::Break(Decided::allowed(Why::NeighbourDiscovery));
        }
        let mut lists = lists;
        if let [list, rest @ ..] = lists
            && list.stage() == Stage::Untracked
        {
            self.untracked(endpoint, *list)?;
            lists = rest;
        }
        if self.is_tunnel() {
            if question.path == Path::Local {
                return ControlFlow::Break(Decided::allowed(Why::Tunnel));
            }
            if let [List::PreDnat, rest @ ..] = lists {
                self.meet(Stage::PreDnat, Outcome::NoMatch);
                lists = rest;
            }
        }
        if question.state == State::Established {
            return ControlFlow::Break(Decided::allowed(Why::Established));
        }
        for &list in lists {
            self.tracked(endpoint, list)?;
        }
        ControlFlow::Continue(())
    }

    /// A stage ahead of connection tracking. Fail-safes of both lists lead
    /// around it, for there is no state by which a reply is known.
    fn untracked(&mut self, endpoint: &Endpoint, list: List) -> ControlFlow<Decided> {
        let direction = list.direction();
        let question = self.question;
        if self.is_failsafe(direction, question.destination_port)
            || self.is_failsafe(direction.opposite(), question.source_port)
        {
            self.meet(Stage::Untracked, Outcome::NoMatch);
            return ControlFlow::Continue(());
        }
        self.rules(endpoint, list)
    }

    /// A stage behind connection tracking.
    fn tracked(&mut self, endpoint: &Endpoint, list: List) -> ControlFlow<Decided> {
        let stage = list.stage();
        if stage == Stage::Normal && endpoint.flags & FLAG_WORKLOAD != 0 {
            return ControlFlow::Break(Decided::allowed(Why::Workload));
        }
        let drop_invalid = match stage {
            Stage::PreDnat => FLAG_DROP_INVALID_PRE_DNAT,
            Stage::Untracked | Stage::Forward | Stage::Normal => FLAG_DROP_INVALID,
        };
        if self.question.state == State::Invalid && endpoint.flags & drop_invalid != 0 {
            self.meet(stage, Outcome::Deny);
            return ControlFlow::Break(Decided::denied(Why::Invalid, stage));
        }
        let (_, port) = self.destination(list);
        if stage == Stage::Forward || !self.is_failsafe(list.direction(), port) {
            return self.rules(endpoint, list);
        }
        if stage != Stage::Normal {
            self.meet(stage, Outcome::NoMatch);
            return ControlFlow::Continue(());
        }
        self.meet(stage, Outcome::Allow);
        ControlFlow::Break(Decided {
            stage: Some(stage),
            ..Decided::allowed(Why::Failsafe)
        })
    }

    /// The rules of a list, then its default.
    fn rules(&mut self, endpoint: &Endpoint, list: List) -> ControlFlow<Decided> {
        let stage = list.stage();
        let packet = self.packet(list);
        let id = endpoint.lists[list as usize][packet.family() as usize];
        let Some(table) = self.image.list(id) else {
            panic!("{list:?} of {endpoint:?}: no list");
        };
        let reported = &mut self.reported;
        let decided = tables::decide(self.image, table, &packet, |entry| {
            reported.push((list, entry));
        });
        let decided = match decided {
            Ok(Some(entry)) => Decided::by(entry, stage, &self.image.names),
            Ok(None) if table.flags & TABLE_DEFAULT_DENY != 0 => {
                Decided::denied(Why::EndpointDefault, stage)
            }
            Ok(None) => {
                self.meet(stage, Outcome::NoMatch);
                return ControlFlow::Continue(());
            }
            Err(Broken) => panic!("{list:?} of {endpoint:?}: no table for {packet:?}"),
        };
        let outcome = if decided.allowed {
            Outcome::Allow
        } else {
            Outcome::Deny
        };
        self.meet(stage, outcome);
        ControlFlow::Break(decided)
    }

    fn meet(&mut self, stage: Stage, outcome: Outcome) {
        self.met.push(StageAnswer { stage, outcome });
    }

    /// The destination that a list sees: behind DNAT for what comes in and is
    /// routed.
    fn destination(&self, list: List) -> (IpAddr, u16) {
        let question = self.question;
        let translated = match list {
            List::ForwardIn | List::NormalIn => question.translated,
            List::UntrackedIn
            | List::UntrackedOut
            | List::PreDnat
            | List::ForwardOut
            | List::NormalOut => None,
        };
        translated.unwrap_or((question.destination, question.destination_port))
    }

    fn packet(&self, list: List) -> Packet {
        let question = self.question;
        let (destination, port) = self.destination(list);
        let with_ports = protocol::WITH_PORTS.contains(&question.protocol);
        let is_icmp = [protocol::ICMP, protocol::ICMPV6].contains(&question.protocol);
        let (kind, code) = question.icmp.unwrap_or_default();
        Packet {
            source: question.source,
            destination,
            protocol: question.protocol,
            source_port: if with_ports { question.source_port } else { 0 },
            service: if with_ports {
                port
            } else if is_icmp {
                u16::from_be_bytes([kind, code])
            } else {
                0
            },
        }
    }

    /// Whether the port is a fail-safe one of the list of a direction, with
    /// the other side's address.
    fn is_failsafe(&self, list: Direction, port: u16) -> bool {
        let remote = match self.question.direction {
            Direction::Ingress => self.question.source,
            Direction::Egress => self.question.destination,
        };
        let protocol = self.question.protocol;
        tables::failsafe(self.image, list as u8, protocol, port, remote).is_some()
    }

    /// Whether it goes from node to node, in a tunnel.
    fn is_tunnel(&self) -> bool {
        let question = self.question;
        let protocol = question.protocol;
        let port = if protocol::WITH_PORTS.contains(&protocol) {
            question.destination_port
        } else {
            0
        };
        let mut ends = [question.source, question.destination].into_iter();
        ends.all(|end| tables::failsafe(self.image, CLASS_TUNNEL, protocol, port, end).is_some())
    }
}

/// Neighbour discovery and multicast listener messages, without which IPv6
/// does not work at all. The hop limit, of which a question says nothing, is
/// taken to be right.
fn is_neighbour_discovery(question: &Question) -> bool {
    question.source.is_ipv6()
        && question.protocol == protocol::ICMPV6
        && matches!(question.icmp, Some((130..=136 | 143, _)))
}

#[cfg(test)]
mod tests;
