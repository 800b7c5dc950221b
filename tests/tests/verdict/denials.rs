//! What is told of packets that are dropped: each kind of them, and not all of a
//! flood.

use std::time::Instant;

use hostfw_common::{
    counter::{Checkpoint, Outcome, ReasonCounter},
    event::Event,
    limits::DENIALS_PER_SECOND,
    policy::Action,
    stage::List,
    verdict::Reason::{
        self, EndpointDefault, Invalid, OrphanFragment, RuleAllow, RuleDeny, TierDefault,
        Undecodable, UntrackedDeny,
    },
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::{
    lab::{Hook, INTERFACE, Lab, ip, lab, socket},
    policy::{ENDPOINT, egress, pre_dnat},
    remembered::stay_on_this_processor,
    stages::untracked,
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:8080";
/// Places that kinds of packets share.
const KINDS: u64 = 64;

fn to_port(port: u16) -> Packet {
    let mut to = socket(SERVER);
    to.set_port(port);
    Packet::tcp(socket(CLIENT), to, SYN)
}

/// The only denial that was told of.
fn only(lab: &mut Lab) -> Event {
    let denials = lab.denials();
    assert_eq!(denials.len(), 1, "{denials:?}");
    denials[0]
}

/// A rule of Deny: reason, list and index.
fn by_rule(event: &Event) -> (Option<Reason>, List, u16) {
    assert_eq!(Action::from_number(event.rule.action), Some(Action::Deny));
    told(event)
}

fn told(event: &Event) -> (Option<Reason>, List, u16) {
    let list = List::ALL[usize::from(event.list)];
    (Reason::from_number(event.reason), list, event.rule.index)
}

#[test]
fn a_packet_that_is_dropped_is_told_of_with_what_dropped_it() {
    let Some(mut lab) = lab("denials") else {
        return;
    };
    stay_on_this_processor();
    let rules = "{action: Allow, protocol: UDP}, {action: Log, protocol: TCP}, \
                 {action: Deny, protocol: TCP, destination: {ports: [8080]}}";
    let raw = "{action: Allow, protocol: 132}, {action: Deny, protocol: 132}, {action: Deny, protocol: 47}";
    lab.enforce(&[ENDPOINT, &untracked(raw, ""), &pre_dnat("p", 1, rules)].concat());
    for hook in Hook::INGRESS {
        lab.all_events();
        // The second one's rule would be remembered, if none reported.
        for _ in 0..2 {
            assert_eq!(lab.judge(hook, &to_port(8080)), RuleDeny);
            let event = only(&mut lab);
            assert_eq!(by_rule(&event), (Some(RuleDeny), List::PreDnat, 2));
            assert_eq!(
                (event.interface, event.outcome),
                (INTERFACE, Outcome::Enforced as u8)
            );
            assert_eq!(event.source.v4(), [203, 0, 113, 10]);
            assert_eq!(event.destination.v4(), [10, 240, 0, 11]);
            assert_eq!(u16::from_be_bytes(event.source_port), 40_000);
            assert_eq!(u16::from_be_bytes(event.destination_port), 8080);
            assert_eq!((event.protocol, event.direction, event.family), (6, 0, 0));
            assert!(event.time > 0);
        }
        // Untracked policy, with what it remembers and without.
        let (from, to) = (ip("203.0.113.10"), ip("10.240.0.11"));
        for _ in 0..3 {
            let packet = Packet::raw(from, to, 47, vec![0; 16]);
            assert_eq!(lab.judge(hook, &packet), UntrackedDeny);
            let event = only(&mut lab);
            assert_eq!(by_rule(&event), (Some(UntrackedDeny), List::UntrackedIn, 2));
            assert_eq!(event.protocol, 47);
        }
        // What comes ahead of all stages.
        let mut broken = to_port(80).build();
        broken[14] = 0x42;
        assert_eq!(lab.judge_bytes(hook, &broken).1, Undecodable);
        assert_eq!(only(&mut lab).reason, Undecodable as u8);
        let later = Packet::udp(socket(CLIENT), socket(SERVER)).fragment(64, false, 7);
        assert_eq!(lab.judge(hook, &later), OrphanFragment);
        let event = only(&mut lab);
        assert_eq!(event.reason, OrphanFragment as u8);
        assert_eq!(event.source.v4(), [203, 0, 113, 10]);
        assert_eq!(event.rule.action, 0);
        // And a stage by itself.
        let null = Packet::tcp(socket(CLIENT), socket(SERVER), 0);
        assert_eq!(lab.judge(hook, &null), Invalid);
        assert_eq!(told(&only(&mut lab)), (Some(Invalid), List::PreDnat, 0));
        // What passes is not told of.
        let udp = Packet::udp(socket(CLIENT), socket(SERVER));
        assert_eq!(lab.judge(hook, &udp), RuleAllow);
        assert_eq!(lab.denials(), []);
    }
}

#[test]
fn what_is_remembered_is_told_of_as_at_first() {
    let Some(mut lab) = lab("denials-remembered") else {
        return;
    };
    stay_on_this_processor();
    let raw = "{action: Deny, protocol: 132}, {action: Deny, protocol: 47}";
    let rules = "{action: Allow, protocol: UDP}, {action: Deny, protocol: TCP}";
    let sent = "{action: Allow, protocol: UDP}, {action: Allow, protocol: 47}, {action: Deny}";
    lab.enforce(
        &[
            ENDPOINT,
            &untracked(raw, ""),
            &pre_dnat("in", 1, rules),
            &egress("out", 1, sent),
        ]
        .concat(),
    );
    lab.all_events();
    let answer = Packet::tcp(socket(SERVER), socket(CLIENT), SYN);
    for _ in 0..3 {
        for hook in Hook::INGRESS {
            assert_eq!(lab.judge(hook, &to_port(8080)), RuleDeny);
            let event = only(&mut lab);
            assert_eq!(by_rule(&event), (Some(RuleDeny), List::PreDnat, 1));
        }
        assert_eq!(lab.judge(Hook::TcOut, &answer), RuleDeny);
        let event = only(&mut lab);
        assert_eq!(by_rule(&event), (Some(RuleDeny), List::NormalOut, 2));
    }
}

#[test]
fn defaults_that_drop_are_told_of() {
    let Some(mut lab) = lab("denials-defaults") else {
        return;
    };
    stay_on_this_processor();
    let sent = Packet::tcp(socket(SERVER), socket(CLIENT), SYN);
    let other = "{action: Allow, destination: {nets: ['203.0.113.99/32']}}";
    for (policies, reason, action) in [
        (String::new(), EndpointDefault, Action::Allow),
        (egress("out", 1, other), TierDefault, Action::TierDeny),
    ] {
        lab.enforce(&[ENDPOINT, &*policies].concat());
        lab.all_events();
        // The second time what was remembered decides.
        for _ in 0..2 {
            assert_eq!(lab.judge(Hook::TcOut, &sent), reason);
            let event = only(&mut lab);
            assert_eq!(told(&event), (Some(reason), List::NormalOut, 0));
            assert_eq!(event.rule.action, action as u8);
            assert_eq!(event.direction, 1);
        }
    }
}

#[test]
fn of_a_flood_so_many_are_told_of_and_the_others_counted() {
    let Some(mut lab) = lab("denials-flood") else {
        return;
    };
    stay_on_this_processor();
    lab.enforce(&[ENDPOINT, &pre_dnat("p", 1, "{action: Deny}")].concat());
    lab.all_events();
    let (before, hidden_before) = lab.dropped(Checkpoint::WireIn, RuleDeny);
    let begin = Instant::now();
    let mut shown = 0;
    for _ in 0..40 {
        for _ in 0..250 {
            assert_eq!(
                lab.judge_quickly(Hook::Xdp, &to_port(80)),
                RuleDeny.verdict()
            );
        }
        shown += lab.denials().len() as u64;
    }
    // A second may have begun before the first packet, and another one since.
    let seconds = begin.elapsed().as_secs() + 2;
    let most = seconds * (u64::from(DENIALS_PER_SECOND) + KINDS);
    assert!((1..=most).contains(&shown), "{shown} in {seconds} s");
    let (dropped, hidden) = lab.dropped(Checkpoint::WireIn, RuleDeny);
    assert_eq!(dropped - before, 10_000);
    assert_eq!(hidden - hidden_before + shown, 10_000);
}

#[test]
fn what_is_not_of_the_flood_is_told_of_in_the_middle_of_it() {
    let Some(mut lab) = lab("denials-kinds") else {
        return;
    };
    stay_on_this_processor();
    lab.enforce(&[ENDPOINT, &pre_dnat("p", 1, "{action: Deny}")].concat());
    lab.all_events();
    // In a second that does not end, which has told of as many as it may.
    lab.set_denials(|counter| ReasonCounter {
        since: u64::MAX,
        left: 0,
        kinds: 0,
        ..counter
    });
    for _ in 0..100 {
        assert_eq!(lab.judge(Hook::Xdp, &to_port(80)), RuleDeny);
    }
    assert_eq!(lab.denials().len(), 1);
    // Some kinds share a place.
    let ports = 5000..5032;
    for _ in 0..10 {
        for port in ports.clone() {
            assert_eq!(lab.judge(Hook::Xdp, &to_port(port)), RuleDeny);
        }
    }
    let told = lab.denials().len();
    assert!((16..=32).contains(&told), "{told}");
    // However many there are, so many are told of.
    for port in 10_000..12_000 {
        assert_eq!(lab.judge(Hook::Xdp, &to_port(port)), RuleDeny);
    }
    let more = lab.denials().len();
    assert!(told + more < KINDS as usize, "{told} and {more}");
}

#[test]
fn a_buffer_that_nobody_reads_loses_nothing_from_the_count() {
    let Some(mut lab) = lab("denials-full") else {
        return;
    };
    stay_on_this_processor();
    lab.enforce(&[ENDPOINT, &pre_dnat("p", 1, "{action: Deny}")].concat());
    lab.all_events();
    let (_, hidden) = lab.dropped(Checkpoint::WireIn, RuleDeny);
    lab.set_denials(|counter| ReasonCounter {
        since: u64::MAX,
        left: u32::MAX,
        ..counter
    });
    for _ in 0..4000 {
        assert_eq!(
            lab.judge_quickly(Hook::Xdp, &to_port(80)),
            RuleDeny.verdict()
        );
    }
    let shown = lab.denials().len() as u64;
    let (_, hidden_after) = lab.dropped(Checkpoint::WireIn, RuleDeny);
    assert!((1000..4000).contains(&shown), "{shown}");
    assert_eq!(hidden_after - hidden + shown, 4000);
}
