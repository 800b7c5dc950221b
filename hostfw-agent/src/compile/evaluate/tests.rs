//! That lists decide as their rules say is tested in `tests/property.rs`.

use std::net::IpAddr;

use super::*;
use crate::{
    compile::{
        compile,
        fixture::{
            governed_by, in_default_tier, numbered, policy, profile, rule, selection, staged, tier,
        },
    },
    model::{
        Failsafe, PortRange, RuleAction,
        RuleAction::{Allow, Deny, Log, Pass},
    },
    select::{SelectedList, SelectedPolicy, Selection, Tunnels},
};

const NODE1: &str = "10.240.0.11";
const NODE2: &str = "10.240.0.12";
const OUTSIDE: &str = "203.0.113.9";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// TCP from outside to a port of the node.
fn inbound(port: u16) -> Question {
    Question {
        interface: "eth2".to_owned(),
        direction: Direction::Ingress,
        path: Path::Local,
        protocol: 6,
        source: address(OUTSIDE),
        source_port: 40000,
        destination: address(NODE1),
        destination_port: port,
        icmp: None,
        translated: None,
        state: State::New,
    }
}

fn forwarded(port: u16) -> Question {
    Question {
        path: Path::Forward,
        ..inbound(port)
    }
}

fn outbound(port: u16) -> Question {
    Question {
        direction: Direction::Egress,
        source: address(NODE1),
        destination: address(OUTSIDE),
        ..inbound(port)
    }
}

fn all(action: RuleAction) -> Vec<SelectedPolicy> {
    vec![policy("all", vec![rule(action)])]
}

/// Endpoint on interface 2, with policies of the tier `default`.
fn with(lists: Vec<(List, Vec<SelectedPolicy>)>) -> Selection {
    let lists = lists
        .into_iter()
        .map(|(list, policies)| in_default_tier(list, policies));
    selection(vec![governed_by(2, "e", lists.collect())])
}

fn judge(selection: &Selection, question: &Question) -> Answer {
    answer(&compile(selection).unwrap(), 2, question)
}

/// Whether it passes, why, the stage that said so, and what each stage said.
fn told(answer: &Answer) -> (bool, Why, Option<Stage>, Vec<Outcome>) {
    let outcomes = answer.stages.iter().map(|stage| stage.outcome).collect();
    (answer.allowed, answer.reason, answer.stage, outcomes)
}

use self::Outcome::{Allow as Passed, Deny as Dropped, NoMatch, Skipped};

#[test]
fn what_is_not_governed_passes() {
    let question = inbound(80);
    let answer = answer(&compile(&with(vec![])).unwrap(), 3, &question);
    let stages = vec![Skipped, Skipped, Skipped];
    assert_eq!(told(&answer), (true, Why::NoEndpoint, None, stages));
}

#[test]
fn without_policy_the_host_is_closed_and_what_it_routes_passes() {
    let nothing = with(vec![]);
    let normal = Some(Stage::Normal);
    let closed = |stages| (false, Why::EndpointDefault, normal, stages);
    assert_eq!(
        told(&judge(&nothing, &inbound(8080))),
        closed(vec![NoMatch, NoMatch, Dropped])
    );
    assert_eq!(
        told(&judge(&nothing, &outbound(80))),
        closed(vec![NoMatch, Dropped])
    );
    assert_eq!(
        told(&judge(&nothing, &forwarded(8080))),
        (true, Why::NoMatch, None, vec![NoMatch; 3])
    );
    let out = Question {
        path: Path::Forward,
        ..outbound(80)
    };
    assert_eq!(
        told(&judge(&nothing, &out)),
        (true, Why::NoMatch, None, vec![NoMatch])
    );
}

#[test]
fn an_allow_is_final_for_the_stages_behind_it() {
    let lists = |action| {
        vec![
            (List::UntrackedIn, all(action)),
            (List::PreDnat, all(Deny)),
            (List::NormalIn, all(Deny)),
        ]
    };
    let found = judge(&with(lists(Allow)), &inbound(80));
    let untracked = Some(Stage::Untracked);
    let stages = vec![Passed, Skipped, Skipped];
    assert_eq!(told(&found), (true, Why::Rule, untracked, stages));
    assert_eq!(found.tier.as_deref(), Some("default"));
    assert_eq!(found.policy.as_deref(), Some("all"));
    assert_eq!(found.rule, Some(0));

    let found = judge(&with(lists(Pass)), &inbound(80));
    let stages = vec![NoMatch, Dropped, Skipped];
    assert_eq!(
        told(&found),
        (false, Why::Rule, Some(Stage::PreDnat), stages)
    );
}

fn failsafe(port: u16) -> Failsafe {
    Failsafe {
        protocol: 6,
        port,
        net: None,
    }
}

#[test]
fn fail_safes_lead_around_and_are_final_at_the_normal_stage_only() {
    let mut denying = with(List::ALL.map(|list| (list, all(Deny))).into());
    denying.failsafe_inbound = vec![failsafe(22)];
    denying.failsafe_outbound = vec![failsafe(53)];
    let normal = Some(Stage::Normal);
    assert_eq!(
        told(&judge(&denying, &inbound(22))),
        (true, Why::Failsafe, normal, vec![NoMatch, NoMatch, Passed])
    );
    assert_eq!(
        told(&judge(&denying, &outbound(53))),
        (true, Why::Failsafe, normal, vec![NoMatch, Passed])
    );
    // The forward stage has none.
    assert_eq!(
        told(&judge(&denying, &forwarded(22))),
        (
            false,
            Why::Rule,
            Some(Stage::Forward),
            vec![NoMatch, NoMatch, Dropped]
        )
    );
    // A reply to a fail-safe port passes the untracked stage.
    let reply = Question {
        source_port: 53,
        ..inbound(40000)
    };
    assert_eq!(
        told(&judge(&denying, &reply)).3,
        [NoMatch, Dropped, Skipped]
    );
    let reply = Question {
        source_port: 22,
        ..outbound(40000)
    };
    assert_eq!(told(&judge(&denying, &reply)).3, [NoMatch, Dropped]);
    let other = Question {
        source_port: 53,
        ..outbound(40000)
    };
    assert_eq!(told(&judge(&denying, &other)).3, [Dropped, Skipped]);
}

#[test]
fn translation_is_seen_behind_pre_dnat_only() {
    let to = |port| {
        let mut rule = rule(Allow);
        rule.protocol = Some(numbered(6));
        rule.destination.ports = vec![PortRange {
            first: port,
            last: port,
        }];
        vec![policy("p", vec![rule])]
    };
    let mut question = forwarded(31852);
    question.translated = Some((address("192.168.1.7"), 8080));
    let early = with(vec![(List::PreDnat, to(31852))]);
    assert_eq!(judge(&early, &question).stage, Some(Stage::PreDnat));
    let early = with(vec![(List::PreDnat, to(8080))]);
    assert_eq!(judge(&early, &question).reason, Why::NoMatch);
    let late = with(vec![(List::ForwardIn, to(8080))]);
    assert_eq!(judge(&late, &question).reason, Why::Rule);
    let late = with(vec![(List::ForwardIn, to(31852))]);
    let found = judge(&late, &question);
    assert_eq!(found.reason, Why::TierDefault);
    assert_eq!(found.tier.as_deref(), Some("default"));
    assert_eq!((found.policy, found.rule), (None, None));
    // A fail-safe at the normal stage is that of the translated port.
    let mut open = with(vec![]);
    open.failsafe_inbound = vec![failsafe(8080)];
    question.path = Path::Local;
    assert_eq!(judge(&open, &question).reason, Why::Failsafe);
}

#[test]
fn invalid_is_dropped_ahead_of_fail_safes_but_not_at_the_untracked_stage() {
    let mut some = with(vec![(List::PreDnat, all(Allow))]);
    some.failsafe_inbound = vec![failsafe(22)];
    let question = Question {
        state: State::Invalid,
        ..inbound(22)
    };
    let found = judge(&some, &question);
    let stages = vec![NoMatch, Dropped, Skipped];
    let pre_dnat = Some(Stage::PreDnat);
    assert_eq!(told(&found), (false, Why::Invalid, pre_dnat, stages));
    // Without pre-DNAT policy, the next stage drops it.
    let none = with(vec![]);
    let found = judge(&none, &question);
    let stages = vec![NoMatch, NoMatch, Dropped];
    let normal = Some(Stage::Normal);
    assert_eq!(told(&found), (false, Why::Invalid, normal, stages));
    some.disable_invalid_check = true;
    assert_eq!(judge(&some, &question).reason, Why::Failsafe);
    let untracked = with(vec![(List::UntrackedIn, all(Allow))]);
    assert!(judge(&untracked, &question).allowed);
}

#[test]
fn established_comes_behind_the_untracked_stage() {
    let denying = with(List::ALL.map(|list| (list, all(Deny))).into());
    let mut question = inbound(80);
    question.state = State::Established;
    let untracked = Some(Stage::Untracked);
    let found = told(&judge(&denying, &question));
    assert_eq!(
        found,
        (false, Why::Rule, untracked, vec![Dropped, Skipped, Skipped])
    );
    let tracked = with(vec![(List::PreDnat, all(Deny))]);
    let found = told(&judge(&tracked, &question));
    assert_eq!(
        found,
        (
            true,
            Why::Established,
            None,
            vec![NoMatch, Skipped, Skipped]
        )
    );
}

#[test]
fn tunnels_pass_between_nodes_and_lead_around_pre_dnat_only_if_forwarded() {
    let tracked = [
        List::PreDnat,
        List::NormalIn,
        List::NormalOut,
        List::ForwardIn,
    ];
    let mut denying = with(tracked.map(|list| (list, all(Deny))).into());
    denying.tunnels = Tunnels {
        protocols: [vec![(4, 0), (17, 4789)], vec![]],
        nodes: vec![address(NODE1), address(NODE2)],
    };
    let ipip = Question {
        protocol: 4,
        source: address(NODE2),
        source_port: 0,
        ..inbound(0)
    };
    let found = told(&judge(&denying, &ipip));
    let stages = vec![NoMatch, Skipped, Skipped];
    assert_eq!(found, (true, Why::Tunnel, None, stages));
    let vxlan = Question {
        protocol: 17,
        destination: address(NODE2),
        ..outbound(4789)
    };
    let found = told(&judge(&denying, &vxlan));
    assert_eq!(found, (true, Why::Tunnel, None, vec![NoMatch, Skipped]));

    let routed = Question {
        path: Path::Forward,
        ..ipip.clone()
    };
    let found = told(&judge(&denying, &routed));
    let stages = vec![NoMatch, NoMatch, Dropped];
    assert_eq!(found, (false, Why::Rule, Some(Stage::Forward), stages));

    let strangers = Question {
        source: address(OUTSIDE),
        ..ipip
    };
    assert_eq!(judge(&denying, &strangers).stage, Some(Stage::PreDnat));
    let other_port = Question {
        destination_port: 4790,
        ..vxlan
    };
    assert_eq!(judge(&denying, &other_port).reason, Why::Rule);
}

#[test]
fn profiles_come_last_and_a_missing_one_has_no_rule() {
    let list = |profiles| {
        let tiers = vec![tier("t", false, all(Log)), tier("u", true, all(Pass))];
        let selected = SelectedList {
            tiers,
            profiles,
            default_deny: true,
        };
        selection(vec![governed_by(2, "e", vec![(List::NormalIn, selected)])])
    };
    let found = judge(&list(vec![profile("p", vec![rule(Allow)])]), &inbound(80));
    assert_eq!((found.allowed, found.reason), (true, Why::Profile));
    assert_eq!(found.policy.as_deref(), Some("p"));
    assert_eq!((found.tier, found.rule), (None, Some(0)));

    let mut gone = profile("gone", vec![]);
    gone.missing = true;
    let found = judge(&list(vec![gone]), &inbound(80));
    assert_eq!((found.allowed, found.reason), (false, Why::Profile));
    assert_eq!(found.policy.as_deref(), Some("gone"));
    assert_eq!((found.tier, found.rule), (None, None));

    let found = judge(&list(vec![]), &inbound(80));
    assert_eq!(found.reason, Why::EndpointDefault);
}

#[test]
fn staged_and_log_rules_are_reported_and_decide_nothing() {
    let policies = vec![
        staged("s", vec![rule(Log), rule(Deny), rule(Log)]),
        policy("a", vec![rule(Log), rule(Allow), rule(Log)]),
    ];
    let selection = with(vec![(List::NormalIn, policies)]);
    let image = compile(&selection).unwrap();
    let found = evaluate(&image, 2, &inbound(80));
    assert!(found.answer.allowed);
    let reported: Vec<_> = found
        .reported
        .iter()
        .map(|(list, entry)| {
            let name = &image.names.policy(entry.policy).unwrap().name;
            let action = Action::from_number(entry.action).unwrap();
            (*list, name.as_str(), entry.index, action)
        })
        .collect();
    assert_eq!(
        reported,
        [
            (List::NormalIn, "s", 0, Action::Log),
            (List::NormalIn, "s", 1, Action::StagedDeny),
            (List::NormalIn, "a", 0, Action::Log),
        ]
    );
}

#[test]
fn workloads_and_neighbour_discovery_are_left_alone() {
    let mut workload = with(vec![]);
    workload.governed[0].workload = true;
    let found = told(&judge(&workload, &inbound(80)));
    let stages = vec![NoMatch, NoMatch, Skipped];
    assert_eq!(found, (true, Why::Workload, None, stages));

    let denying = with(List::ALL.map(|list| (list, all(Deny))).into());
    let mut message = Question {
        protocol: 58,
        source: address("fe80::1"),
        destination: address("fe80::2"),
        icmp: Some((135, 0)),
        ..inbound(0)
    };
    let found = told(&judge(&denying, &message));
    let stages = vec![Skipped; 3];
    assert_eq!(found, (true, Why::NeighbourDiscovery, None, stages));
    message.icmp = Some((128, 0));
    assert_eq!(judge(&denying, &message).reason, Why::Rule);
}
