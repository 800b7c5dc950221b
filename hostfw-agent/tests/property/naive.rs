//! The meaning of a selection, read straight from it: no tables, no prefixes,
//! no bits.

use std::net::IpAddr;

use hostfw_agent::{
    model::{Failsafe, IcmpMatch, IpVersion, Kind, ObjectRef, PortRange, RuleAction},
    question::{Answer, Outcome, Path, Question, StageAnswer, State, Why},
    select::{Governed, Point, SelectedEntity, SelectedPolicy, SelectedRule, Selection},
};
use hostfw_common::{
    stage::{List, Stage},
    verdict::Direction,
};
use ipnet::IpNet;

/// A rule that is reported, with its list, policy and index.
pub(crate) type Reported = (List, ObjectRef, usize);

/// What is decided about a packet, and what is reported of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) answer: Answer,
    pub(crate) reported: Vec<Reported>,
}

struct Facts {
    source: IpAddr,
    destination: IpAddr,
    version: IpVersion,
    protocol: u8,
    ports: Option<(u16, u16)>,
    /// Type and code, if the packet is ICMP of its own family.
    icmp: Option<(u8, u8)>,
}

impl Facts {
    fn of(question: &Question, list: List) -> Self {
        let wire = (question.destination, question.destination_port);
        let late = matches!(list, List::ForwardIn | List::NormalIn);
        let (destination, port) = question.translated.filter(|_| late).unwrap_or(wire);
        let v4 = question.source.is_ipv4();
        let icmp = if v4 { 1 } else { 58 };
        Self {
            source: question.source,
            destination,
            version: if v4 { IpVersion::V4 } else { IpVersion::V6 },
            protocol: question.protocol,
            ports: has_ports(question.protocol).then_some((question.source_port, port)),
            icmp: question.icmp.filter(|_| question.protocol == icmp),
        }
    }
}

fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

/// What a stage has to say: what decides with what it is called by, or what
/// becomes of the stage.
enum Said {
    Final(bool, Why, Called),
    NoMatch,
}

/// Tier, policy and rule.
type Called = (Option<String>, Option<String>, Option<u16>);

pub(crate) fn decide(selection: &Selection, governed: &Governed, question: &Question) -> Decision {
    let lists: &[List] = match (question.direction, question.path) {
        (Direction::Ingress, Path::Local) => &[List::UntrackedIn, List::PreDnat, List::NormalIn],
        (Direction::Ingress, Path::Forward) => &[List::UntrackedIn, List::PreDnat, List::ForwardIn],
        (Direction::Egress, Path::Local) => &[List::UntrackedOut, List::NormalOut],
        (Direction::Egress, Path::Forward) => &[List::ForwardOut],
    };
    let mut reported = Vec::new();
    let mut answer = Answer {
        allowed: true,
        stage: None,
        tier: None,
        policy: None,
        rule: None,
        reason: Why::NoMatch,
        stages: Vec::new(),
    };
    let mut over = false;
    let (kind, _) = question.icmp.unwrap_or((0, 0));
    if question.protocol == 58
        && question.source.is_ipv6()
        && ((130..=136).contains(&kind) || kind == 143)
    {
        answer.reason = Why::NeighbourDiscovery;
        over = true;
    }
    let tunnel = is_tunnel(selection, question);
    for &list in lists {
        let stage = list.stage();
        // What is looked at between the untracked and the other stages.
        let mut outcome = Outcome::Skipped;
        if !over && stage != Stage::Untracked {
            if tunnel && question.path == Path::Local {
                answer.reason = Why::Tunnel;
                over = true;
            } else if tunnel && stage == Stage::PreDnat {
                outcome = Outcome::NoMatch;
            } else if question.state == State::Established {
                answer.reason = Why::Established;
                over = true;
            } else if stage == Stage::Normal && governed.workload {
                answer.reason = Why::Workload;
                over = true;
            }
        }
        if !over && outcome == Outcome::Skipped {
            match ask(selection, governed, question, list, &mut reported) {
                Said::NoMatch => outcome = Outcome::NoMatch,
                Said::Final(allowed, reason, (tier, policy, rule)) => {
                    over = true;
                    outcome = if allowed {
                        Outcome::Allow
                    } else {
                        Outcome::Deny
                    };
                    answer = Answer {
                        allowed,
                        stage: Some(stage),
                        tier,
                        policy,
                        rule,
                        reason,
                        stages: answer.stages,
                    };
                }
            }
        }
        answer.stages.push(StageAnswer { stage, outcome });
    }
    Decision { answer, reported }
}

fn ask(
    selection: &Selection,
    governed: &Governed,
    question: &Question,
    list: List,
    reported: &mut Vec<Reported>,
) -> Said {
    let facts = Facts::of(question, list);
    let nobody = (None, None, None);
    let (inbound, outbound) = (&selection.failsafe_inbound, &selection.failsafe_outbound);
    let has = |failsafes: &[Failsafe], remote, port: fn((u16, u16)) -> u16| {
        let port = facts.ports.map(port);
        failsafes
            .iter()
            .any(|failsafe| is_failsafe(failsafe, facts.protocol, remote, port))
    };
    let to = |(_, to): (u16, u16)| to;
    let from = |(from, _): (u16, u16)| from;
    let stage = list.stage();
    let checks = !selection.disable_invalid_check;
    let invalid = question.state == State::Invalid && checks;
    let failsafe = match list {
        List::UntrackedIn => has(inbound, facts.source, to) || has(outbound, facts.source, from),
        List::UntrackedOut => {
            has(outbound, facts.destination, to) || has(inbound, facts.destination, from)
        }
        List::PreDnat | List::NormalIn => has(inbound, facts.source, to),
        List::NormalOut => has(outbound, facts.destination, to),
        List::ForwardIn | List::ForwardOut => false,
    };
    let drops_invalid = match stage {
        Stage::Untracked => false,
        Stage::PreDnat => governed
            .list(list)
            .tiers
            .iter()
            .any(|tier| tier.policies.iter().any(|policy| policy.staged.is_none())),
        Stage::Forward | Stage::Normal => true,
    };
    if invalid && drops_invalid {
        return Said::Final(false, Why::Invalid, nobody);
    }
    if failsafe {
        return if stage == Stage::Normal {
            Said::Final(true, Why::Failsafe, nobody)
        } else {
            Said::NoMatch
        };
    }
    rules(governed, list, &facts, reported)
}

fn rules(governed: &Governed, list: List, facts: &Facts, reported: &mut Vec<Reported>) -> Said {
    let selected = governed.list(list);
    let mut read = |policy: &SelectedPolicy| {
        for (index, rule) in policy.rules.iter().enumerate() {
            if !matches_rule(rule, facts) {
                continue;
            }
            let is_log = rule.action == RuleAction::Log;
            if is_log || policy.staged.is_some() {
                reported.push((list, policy.object.clone(), index));
            }
            if is_log {
                continue;
            }
            if policy.staged.is_some() {
                return None;
            }
            return Some((rule.action, index as u16));
        }
        None
    };
    'tiers: for tier in &selected.tiers {
        for policy in &tier.policies {
            let Some((action, index)) = read(policy) else {
                continue;
            };
            if action == RuleAction::Pass {
                continue 'tiers;
            }
            let name = policy.object.name.clone();
            let called = (Some(tier.name.clone()), Some(name), Some(index));
            return Said::Final(action == RuleAction::Allow, Why::Rule, called);
        }
        if tier.default_deny {
            let called = (Some(tier.name.clone()), None, None);
            return Said::Final(false, Why::TierDefault, called);
        }
    }
    for profile in &selected.profiles {
        assert_eq!(profile.object.kind, Kind::Profile);
        let name = Some(profile.object.name.clone());
        if profile.missing {
            return Said::Final(false, Why::Profile, (None, name, None));
        }
        match read(profile) {
            None => {}
            Some((RuleAction::Pass, _)) => break,
            Some((action, index)) => {
                let called = (None, name, Some(index));
                return Said::Final(action == RuleAction::Allow, Why::Profile, called);
            }
        }
    }
    if selected.default_deny {
        Said::Final(false, Why::EndpointDefault, (None, None, None))
    } else {
        Said::NoMatch
    }
}

fn is_tunnel(selection: &Selection, question: &Question) -> bool {
    let [v4, v6] = &selection.tunnels.protocols;
    let protocols = if question.source.is_ipv4() { v4 } else { v6 };
    let nodes = &selection.tunnels.nodes;
    protocols.iter().any(|&(protocol, port)| {
        protocol == question.protocol && (!has_ports(protocol) || port == question.destination_port)
    }) && nodes.contains(&question.source)
        && nodes.contains(&question.destination)
}

fn is_failsafe(failsafe: &Failsafe, protocol: u8, remote: IpAddr, port: Option<u16>) -> bool {
    failsafe.protocol == protocol
        && port == Some(failsafe.port)
        && failsafe.net.is_none_or(|net| net.contains(&remote))
}

fn matches_rule(rule: &SelectedRule, facts: &Facts) -> bool {
    if rule
        .ip_version
        .is_some_and(|version| version != facts.version)
    {
        return false;
    }
    if let Some(protocol) = rule.protocol
        && (protocol.number != facts.protocol
            || protocol
                .implied_version
                .is_some_and(|version| version != facts.version))
    {
        return false;
    }
    if rule
        .not_protocol
        .is_some_and(|protocol| protocol.number == facts.protocol)
    {
        return false;
    }
    let is = |message: IcmpMatch, (kind, code): (u8, u8)| {
        message.kind == kind && message.code.is_none_or(|wanted| wanted == code)
    };
    if let Some(wanted) = rule.icmp
        && facts.icmp.is_none_or(|message| !is(wanted, message))
    {
        return false;
    }
    if let Some(unwanted) = rule.not_icmp
        && facts.icmp.is_none_or(|message| is(unwanted, message))
    {
        return false;
    }
    let (source, destination) = (facts.source, facts.destination);
    let port = |port: fn((u16, u16)) -> u16| facts.ports.map(|ports| (facts.protocol, port(ports)));
    matches_entity(&rule.source, source, port(|(source, _)| source))
        && matches_entity(&rule.destination, destination, port(|(_, to)| to))
}

/// `port`: with its protocol.
fn matches_entity(entity: &SelectedEntity, address: IpAddr, port: Option<(u8, u16)>) -> bool {
    let in_any = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
    let of_family = |nets: &[IpNet]| {
        nets.iter()
            .any(|net| net.addr().is_ipv4() == address.is_ipv4())
    };
    for list in [&entity.nets, &entity.not_nets] {
        if !list.is_empty() && !of_family(list) {
            return false;
        }
    }
    if !entity.nets.is_empty() && !in_any(&entity.nets) {
        return false;
    }
    if in_any(&entity.not_nets) || in_any(&entity.not_members) {
        return false;
    }
    if let Some(members) = &entity.members
        && !in_any(members)
    {
        return false;
    }
    let wants_port = !entity.ports.is_empty() || entity.points.is_some();
    let refuses_port = !entity.not_ports.is_empty() || entity.not_points.is_some();
    let Some((protocol, port)) = port else {
        return !wants_port && !refuses_port;
    };
    let within = |ranges: &[PortRange]| {
        ranges
            .iter()
            .any(|range| (range.first..=range.last).contains(&port))
    };
    let point = Point {
        address,
        protocol,
        port,
    };
    let among = |points: &Option<Vec<Point>>| {
        let points = points.as_ref();
        points.is_some_and(|points| points.contains(&point))
    };
    (!wants_port || within(&entity.ports) || among(&entity.points))
        && !within(&entity.not_ports)
        && !among(&entity.not_points)
}
