//! Random rules and packets: the loaded programs must decide as the compiled
//! tables say, which are held against a naive matcher elsewhere.

#[path = "../../../hostfw-agent/tests/property/random.rs"]
#[expect(
    dead_code,
    reason = "the tests of the compiler use more of the generator"
)]
mod generator;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use generator::Random;
use hostfw_agent::{
    compile::{
        compile,
        evaluate::{Evaluation, evaluate},
    },
    question::{Outcome, Path, Question, State, Why},
};
use hostfw_common::{
    event::{Event, NO_REASON},
    policy::Action,
    stage::{List, Stage},
    verdict::{Direction, Reason, Verdict},
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::lab::{Hook, INTERFACE, lab};

const SELECTIONS: u64 = 300;
const PACKETS: usize = 60;

#[test]
fn programs_decide_as_the_tables_say() {
    let Some(mut lab) = lab("random") else {
        return;
    };
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..SELECTIONS {
        let mut random = Random::new(1 << 32 | seed);
        let mut selection = random.selection();
        selection.governed.truncate(1);
        selection.governed[0].interface.index = INTERFACE;
        let image = compile(&selection).unwrap();
        lab.switch(&image);
        lab.events();
        for _ in 0..PACKETS {
            let mut question = random.question(&selection, &selection.governed[0]);
            // Those of the netfilter programs are asked elsewhere.
            question.path = Path::Local;
            let Some(packet) = packet(&question) else {
                continue;
            };
            let hook = match question.direction {
                Direction::Ingress => *random.one_of(&Hook::INGRESS),
                Direction::Egress => Hook::TcOut,
            };
            let evaluation = evaluate(&image, INTERFACE, &question);
            lab.forget();
            let expected = reason(&question, &evaluation);
            lab.report_next(hook.checkpoint(), expected);
            let found = lab.judge(hook, &packet);
            let context = || {
                format!(
                    "seed {seed}, {hook:?}, {question:?}, {evaluation:?}, {:#?}",
                    selection.governed
                )
            };
            // At the pre-DNAT stage, a fail-safe only leads around the rules.
            let same = if found == Reason::Failsafe && hook != Hook::TcOut {
                expected == Reason::NoMatch
            } else {
                found == expected
            };
            assert!(same, "{found:?}, expected {expected:?}: {}", context());
            // Each list reports so many at most.
            let mut lists: BTreeMap<List, usize> = BTreeMap::new();
            let reported: Vec<_> = evaluation
                .reported
                .iter()
                .filter(|(list, _)| hook == Hook::TcOut || is_at_the_wire(*list))
                .filter(|(list, _)| {
                    let count = lists.entry(*list).or_default();
                    *count += 1;
                    *count <= hostfw_common::limits::MAX_LOGS_PER_PACKET as usize
                })
                .map(|&(list, rule)| (list as u8, rule))
                .collect();
            let (denials, events): (Vec<_>, Vec<_>) = lab
                .all_events()
                .into_iter()
                .partition(|event| event.reason != NO_REASON);
            let events: Vec<_> = events.iter().map(|e| (e.list, e.rule)).collect();
            assert_eq!(events, reported, "{}", context());
            let denials: Vec<_> = denials
                .iter()
                .map(|e| (Reason::from_number(e.reason), stage(e), e.rule))
                .collect();
            let denial = (found.verdict() == Verdict::Drop).then(|| {
                let by_a_rule = matches!(
                    found,
                    Reason::RuleDeny | Reason::UntrackedDeny | Reason::TierDefault
                );
                let rule = evaluation.rule.filter(|_| by_a_rule);
                let stage = evaluation.answer.stage;
                (Some(found), stage, rule.unwrap_or_default())
            });
            assert_eq!(denials, Vec::from_iter(denial), "{}", context());
            *met.entry(found.name().to_owned()).or_default() += 1;
            for (_, rule) in events {
                let action = Action::from_number(rule.action).unwrap();
                *met.entry(format!("{action:?}")).or_default() += 1;
            }
        }
    }
    for (what, least) in [
        ("untracked-allow", 500),
        ("untracked-deny", 500),
        ("tunnel", 50),
        ("invalid", 50),
        ("failsafe", 100),
        ("rule-allow", 500),
        ("rule-deny", 500),
        ("tier-default", 50),
        ("no-match", 500),
        ("endpoint-default", 50),
        ("workload", 50),
        ("Log", 200),
        ("StagedAllow", 50),
        ("StagedDeny", 50),
        ("StagedPass", 50),
    ] {
        let count = met.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count} of {met:?}");
    }
}

/// The stage that has reported.
fn stage(event: &Event) -> Option<Stage> {
    assert_eq!(event.outcome, 0, "{event:?}");
    let list = List::ALL[usize::from(event.list)];
    assert_eq!(event.direction, list.direction() as u8);
    Some(list.stage())
}

/// Whether the program that sees what comes in looks at a list.
fn is_at_the_wire(list: List) -> bool {
    matches!(list, List::UntrackedIn | List::PreDnat)
}

/// The reason that the program at the wire must give.
fn reason(question: &Question, evaluation: &Evaluation) -> Reason {
    let answer = &evaluation.answer;
    match answer.reason {
        Why::Tunnel => return Reason::Tunnel,
        Why::NeighbourDiscovery => return Reason::NeighbourDiscovery,
        Why::NoEndpoint => return Reason::NoEndpoint,
        Why::Established
        | Why::Invalid
        | Why::Rule
        | Why::Profile
        | Why::Failsafe
        | Why::TierDefault
        | Why::EndpointDefault
        | Why::NoMatch
        | Why::Workload => {}
    }
    let outcome = |stage| {
        answer
            .stages
            .iter()
            .find(|met| met.stage == stage)
            .map(|met| met.outcome)
    };
    match outcome(Stage::Untracked) {
        Some(Outcome::Allow) => return Reason::UntrackedAllow,
        Some(Outcome::Deny) => return Reason::UntrackedDeny,
        Some(Outcome::NoMatch | Outcome::Skipped) | None => {}
    }
    if question.direction == Direction::Ingress {
        return match outcome(Stage::PreDnat) {
            Some(Outcome::Allow) => Reason::RuleAllow,
            Some(Outcome::Deny) if answer.reason == Why::Invalid => Reason::Invalid,
            Some(Outcome::Deny) => Reason::RuleDeny,
            Some(Outcome::NoMatch | Outcome::Skipped) | None => Reason::NoMatch,
        };
    }
    match answer.reason {
        Why::Rule | Why::Profile if answer.allowed => Reason::RuleAllow,
        Why::Rule | Why::Profile => Reason::RuleDeny,
        Why::Failsafe => Reason::Failsafe,
        Why::TierDefault => Reason::TierDefault,
        Why::EndpointDefault => Reason::EndpointDefault,
        Why::Invalid => Reason::Invalid,
        Why::Workload => Reason::Workload,
        why @ (Why::NoMatch
        | Why::Established
        | Why::Tunnel
        | Why::NeighbourDiscovery
        | Why::NoEndpoint) => panic!("{why:?} of {question:?}"),
    }
}

/// The packet of a question; `None` if there is none that has its state by
/// itself, or something ahead of policy decides about it.
fn packet(question: &Question) -> Option<Packet> {
    let (source, destination) = (question.source, question.destination);
    let from = SocketAddr::new(source, question.source_port);
    let to = SocketAddr::new(destination, question.destination_port);
    let flags = match (question.state, question.protocol) {
        (State::New, _) => SYN,
        (State::Invalid, 6) => 0,
        (State::Invalid | State::Established, _) => return None,
    };
    match (question.protocol, source, question.icmp) {
        (6, _, _) => Some(Packet::tcp(from, to, flags)),
        (17, _, _) => Some(Packet::udp(from, to)),
        // ICMP errors: their flow decides.
        (1, IpAddr::V4(_), Some((3 | 4 | 5 | 11 | 12, _))) => None,
        (58, IpAddr::V6(_), Some((0..128, _))) => None,
        // Neighbour discovery with a hop limit that makes it none.
        (58, IpAddr::V6(_), Some((133..=136, _))) => None,
        (1 | 58, _, Some((kind, code))) => {
            let mut payload = vec![kind, code, 0, 0];
            payload.extend(question.source_port.to_be_bytes());
            payload.extend([0; 4]);
            Some(Packet::raw(source, destination, question.protocol, payload))
        }
        (protocol, _, _) => {
            let mut payload = question.source_port.to_be_bytes().to_vec();
            payload.extend(question.destination_port.to_be_bytes());
            payload.extend([0; 8]);
            Some(Packet::raw(source, destination, protocol, payload))
        }
    }
}
