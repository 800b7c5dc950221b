//! Fragments: later ones have no ports, and follow the first.

use hostfw_common::verdict::Reason::{
    self, Forwarded, OrphanFragment, RuleAllow, RuleDeny, Undecodable,
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::{
    lab::{Hook, ip, lab, socket},
    policy::{ENDPOINT, pre_dnat},
};

fn policies() -> String {
    let rules = "{action: Allow, protocol: UDP, destination: {ports: [500]}}, {action: Deny}";
    [ENDPOINT, &pre_dnat("udp", 1, rules)].concat()
}

/// First and later fragment of a datagram.
fn fragments(v6: bool, port: u16, identification: u32) -> (Packet, Packet) {
    let (from, to) = if v6 {
        ("[2001:db8::9]:4000".to_owned(), format!("[fd00::1]:{port}"))
    } else {
        (
            "203.0.113.10:4000".to_owned(),
            format!("10.240.0.11:{port}"),
        )
    };
    let (from, to) = (socket(&from), socket(&to));
    (
        Packet::udp(from, to).fragment(0, true, identification),
        Packet::raw(from.ip(), to.ip(), 17, vec![0; 32]).fragment(2, false, identification),
    )
}

#[test]
fn later_fragments_follow_the_first() {
    let Some(mut lab) = lab("fragments") else {
        return;
    };
    lab.enforce(&policies());
    for v6 in [false, true] {
        for hook in Hook::INGRESS {
            lab.forget();
            let (first, later) = fragments(v6, 500, 1);
            let (_, other) = fragments(v6, 500, 2);
            assert_eq!(lab.judge(hook, &later), OrphanFragment, "before the first");
            assert_eq!(lab.judge(hook, &first), RuleAllow);
            assert_eq!(lab.judge(hook, &later), Reason::Fragment);
            assert_eq!(lab.judge(hook, &later), Reason::Fragment);
            assert_eq!(lab.judge(hook, &other), OrphanFragment, "another datagram");

            let (first, later) = fragments(v6, 501, 3);
            assert_eq!(lab.judge(hook, &first), RuleDeny);
            assert_eq!(
                lab.judge(hook, &later),
                OrphanFragment,
                "of a denied datagram"
            );
        }
    }
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let Some(mut lab) = lab("atomic fragment") else {
        return;
    };
    lab.enforce(&policies());
    let (from, to) = (socket("[2001:db8::9]:4000"), socket("[fd00::1]:500"));
    let atomic = Packet::udp(from, to).fragment(0, false, 9);
    assert_eq!(lab.judge(Hook::Xdp, &atomic), RuleAllow);
    let later = Packet::raw(from.ip(), to.ip(), 17, vec![0; 8]).fragment(2, false, 9);
    assert_eq!(lab.judge(Hook::Xdp, &later), OrphanFragment);
}

#[test]
fn tcp_headers_cannot_be_split_over_fragments() {
    let Some(mut lab) = lab("tiny fragments") else {
        return;
    };
    let allow = [ENDPOINT, &pre_dnat("allow", 1, "{action: Allow}")].concat();
    lab.enforce(&allow);
    let (from, to) = (ip("203.0.113.10"), ip("10.240.0.11"));
    let tiny = Packet::raw(from, to, 6, vec![0; 16]).fragment(0, true, 1);
    assert_eq!(lab.judge(Hook::Xdp, &tiny), Undecodable);
    let over = Packet::raw(from, to, 6, vec![0; 16]).fragment(1, false, 1);
    assert_eq!(lab.judge(Hook::Xdp, &over), Undecodable);
    let fair = Packet::tcp(socket("203.0.113.10:1"), socket("10.240.0.11:2"), SYN);
    assert_eq!(lab.judge(Hook::Xdp, &fair.fragment(0, true, 1)), RuleAllow);
}

#[test]
fn forwarded_fragments_are_not_judged() {
    let Some(mut lab) = lab("forwarded fragments") else {
        return;
    };
    lab.enforce(&policies());
    let (_, later) = fragments(false, 500, 1);
    assert_eq!(lab.judge(Hook::TcForward, &later), Forwarded);
    assert_eq!(lab.judge(Hook::TcOut, &later), OrphanFragment);
}
