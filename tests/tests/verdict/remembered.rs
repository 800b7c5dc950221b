//! What the programs at the wire remember of packets of the same classes, and what
//! they must not.

use hostfw_common::verdict::Reason::{RuleAllow, RuleDeny, TierDefault};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::{
    lab::{Hook, Lab, lab, socket},
    policy::{ENDPOINT, egress, pre_dnat},
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:8080";

fn incoming() -> Packet {
    Packet::tcp(socket(CLIENT), socket(SERVER), SYN)
}

fn enforce(lab: &mut Lab, rules: &str) {
    lab.enforce(&[ENDPOINT, &pre_dnat("p", 1, rules)].concat());
    lab.forget();
    lab.events();
}

/// The packet has the same classes in both generations, by number, and the first
/// rule that matches is another one.
#[test]
fn what_decided_in_a_generation_does_not_in_the_next() {
    let Some(mut lab) = lab("remembered") else {
        return;
    };
    stay_on_this_processor();
    let first = "{action: Allow, source: {nets: ['203.0.113.0/24']}}, {action: Deny}";
    let next = "{action: Allow, source: {nets: ['203.0.113.0/24']}, \
                destination: {nets: ['10.240.0.12/32']}}, {action: Deny}";
    for hook in Hook::INGRESS {
        for _ in 0..4 {
            enforce(&mut lab, first);
            for _ in 0..2 {
                lab.forget();
                assert_eq!(lab.judge(hook, &incoming()), RuleAllow);
            }
            enforce(&mut lab, next);
            for _ in 0..2 {
                assert_eq!(lab.judge(hook, &incoming()), RuleDeny, "{hook:?}");
            }
        }
    }
}

#[test]
fn what_reports_does_so_for_every_packet() {
    let Some(mut lab) = lab("remembered-log") else {
        return;
    };
    stay_on_this_processor();
    enforce(&mut lab, "{action: Log}, {action: Deny}");
    for _ in 0..3 {
        assert_eq!(lab.judge(Hook::Xdp, &incoming()), RuleDeny);
        assert_eq!(lab.events().len(), 1);
    }
}

/// The lists of both directions have classes of the same numbers.
#[test]
fn what_decided_for_one_direction_does_not_for_the_other() {
    let Some(mut lab) = lab("remembered-lists") else {
        return;
    };
    stay_on_this_processor();
    let from = "{action: Deny, source: {nets: ['203.0.113.0/24']}}";
    let other = "{action: Allow, source: {nets: ['203.0.113.99/32']}}";
    lab.enforce(&[ENDPOINT, &pre_dnat("in", 1, from), &egress("out", 1, other)].concat());
    for _ in 0..2 {
        assert_eq!(lab.judge(Hook::Xdp, &incoming()), RuleDeny);
        assert_eq!(lab.judge(Hook::TcOut, &incoming()), TierDefault);
    }
}

/// What a processor remembers is its own.
pub(super) fn stay_on_this_processor() {
    // SAFETY: plain system calls; the set is as large as is said, and zeros are
    // an empty one.
    unsafe {
        let here = libc::sched_getcpu();
        assert!(here >= 0);
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(here as usize, &mut set);
        let done = libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        assert_eq!(done, 0);
    }
}
