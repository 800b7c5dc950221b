//! Where nothing is enforced: everything passes, and what policy denies is
//! counted, told, and not forgotten.

use hostfw_common::{
    conntrack::FLOW_DENIED,
    endpoint::FLAG_OBSERVE,
    stage::List,
    verdict::{
        Reason::{
            self, EndpointDefault, Established, Forwarded, Invalid, NoMatch, Observed,
            OrphanFragment, RuleAllow, RuleDeny, Undecodable, UntrackedDeny,
        },
        Verdict,
    },
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, FIN, SYN},
};

use super::{
    lab::{
        Hook,
        Judged::{self, For, Would},
        Lab, image, lab, socket,
    },
    policy::{ENDPOINT, egress, pre_dnat},
    stages::untracked,
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:8080";

fn tcp(from: &str, to: &str, flags: u8) -> Packet {
    Packet::tcp(socket(from), socket(to), flags)
}

/// Puts resources in force, as an agent with `--observe-only` would.
fn observe(lab: &mut Lab, yaml: &[&str]) {
    let mut image = image(&yaml.concat());
    for endpoint in image.endpoints.values_mut() {
        endpoint.flags |= FLAG_OBSERVE;
    }
    lab.switch(&image);
    lab.events();
}

fn deny() -> String {
    pre_dnat("deny", 1, "{action: Deny}")
}

/// Reason, list and rule of what would have been dropped, as it was told.
fn told(lab: &mut Lab) -> Vec<(Option<Reason>, List, u16)> {
    lab.events()
        .iter()
        .map(|event| {
            let list = List::ALL[usize::from(event.list)];
            (Reason::from_number(event.reason), list, event.rule.index)
        })
        .collect()
}

/// What is said of the packet, which passes.
fn passes(lab: &Lab, hook: Hook, packet: &Packet) -> Judged {
    let (verdict, judged) = lab.judged(hook, &packet.build());
    assert_eq!(verdict, Verdict::Pass, "{judged:?} at {hook:?}");
    judged
}

#[test]
fn what_is_denied_passes_is_counted_and_told_every_time() {
    let Some(mut lab) = lab("observe") else {
        return;
    };
    let rules = "{action: Allow, protocol: UDP}, {action: Deny}";
    observe(&mut lab, &[ENDPOINT, &pre_dnat("deny", 1, rules)]);
    let opening = [SYN, ACK, FIN | ACK].map(|flags| tcp(CLIENT, SERVER, flags));
    for hook in Hook::INGRESS {
        lab.forget();
        for packet in &opening {
            assert_eq!(passes(&lab, hook, packet), Would(RuleDeny));
            assert_eq!(told(&mut lab), [(Some(RuleDeny), List::PreDnat, 1)]);
            // Its answer passes without policy, and confirms nothing.
            let answer = tcp(SERVER, CLIENT, SYN | ACK);
            assert_eq!(passes(&lab, Hook::TcOut, &answer), For(Observed));
            assert_eq!(passes(&lab, Hook::TcForward, &answer), For(Observed));
            assert_eq!(told(&mut lab), []);
            assert_eq!(lab.flow_counts(), (1, 0));
        }
    }
    // What policy allows is as ever.
    let udp = Packet::udp(socket(CLIENT), socket(SERVER));
    assert_eq!(passes(&lab, Hook::Xdp, &udp), For(RuleAllow));
    let answer = Packet::udp(socket(SERVER), socket(CLIENT));
    assert_eq!(passes(&lab, Hook::TcOut, &answer), For(Established));
    assert_eq!(told(&mut lab), []);
}

#[test]
fn what_the_host_sends_is_observed_likewise() {
    let Some(mut lab) = lab("observe-out") else {
        return;
    };
    observe(&mut lab, &[ENDPOINT]);
    for _ in 0..2 {
        let sent = tcp(SERVER, CLIENT, SYN);
        assert_eq!(passes(&lab, Hook::TcOut, &sent), Would(EndpointDefault));
        assert_eq!(
            told(&mut lab),
            [(Some(EndpointDefault), List::NormalOut, 0)]
        );
        let answer = tcp(CLIENT, SERVER, SYN | ACK);
        for hook in Hook::INGRESS {
            assert_eq!(passes(&lab, hook, &answer), For(Observed));
        }
    }
    // The forward hook would have denied it: that it goes out says nothing else.
    let forwarded = tcp(SERVER, CLIENT, ACK);
    assert_eq!(passes(&lab, Hook::TcForward, &forwarded), For(Forwarded));
    let answer = tcp(CLIENT, SERVER, ACK);
    assert_eq!(passes(&lab, Hook::Xdp, &answer), For(Observed));
    // One that was not denied is recorded.
    let other = "203.0.113.10:40001";
    let forwarded = tcp(SERVER, other, SYN);
    assert_eq!(passes(&lab, Hook::TcForward, &forwarded), For(Forwarded));
    let answer = tcp(other, SERVER, SYN | ACK);
    assert_eq!(passes(&lab, Hook::Xdp, &answer), For(Established));
}

#[test]
fn what_has_no_rule_to_deny_it_passes_too() {
    let Some(mut lab) = lab("observe-invalid") else {
        return;
    };
    observe(&mut lab, &[ENDPOINT, &deny()]);
    let null = tcp(CLIENT, SERVER, 0);
    assert_eq!(passes(&lab, Hook::Xdp, &null), Would(Invalid));
    assert_eq!(told(&mut lab), [(Some(Invalid), List::PreDnat, 0)]);
    let mut broken = tcp(CLIENT, SERVER, SYN).build();
    broken[14] = 0x42;
    let (verdict, judged) = lab.judged(Hook::Xdp, &broken);
    assert_eq!((verdict, judged), (Verdict::Pass, Would(Undecodable)));
    assert_eq!(lab.flow_counts(), (0, 0));
    // The first one would not have been let through, so nor would this.
    let fragment =
        |offset, more| Packet::udp(socket(CLIENT), socket(SERVER)).fragment(offset, more, 7);
    let (first, later) = (fragment(0, true), fragment(64, false));
    assert_eq!(passes(&lab, Hook::Xdp, &first), Would(RuleDeny));
    assert_eq!(passes(&lab, Hook::Xdp, &later), Would(OrphanFragment));
}

#[test]
fn untracked_deny_leaves_established_flows_as_they_are() {
    let Some(mut lab) = lab("observe-untracked") else {
        return;
    };
    let allow = pre_dnat("allow", 1, "{action: Allow}");
    observe(&mut lab, &[ENDPOINT, &allow]);
    let (opens, answers) = (tcp(CLIENT, SERVER, SYN), tcp(SERVER, CLIENT, SYN | ACK));
    assert_eq!(passes(&lab, Hook::Xdp, &opens), For(RuleAllow));
    assert_eq!(passes(&lab, Hook::TcOut, &answers), For(Established));
    let goes_on = tcp(CLIENT, SERVER, ACK);
    assert_eq!(passes(&lab, Hook::Xdp, &goes_on), For(Established));

    let untracked = untracked("{action: Deny}", "");
    observe(&mut lab, &[ENDPOINT, &allow, &untracked]);
    for flags in [ACK, SYN] {
        let packet = tcp(CLIENT, SERVER, flags);
        assert_eq!(passes(&lab, Hook::Xdp, &packet), Would(UntrackedDeny));
        assert_eq!(lab.flow_counts(), (0, 1));
    }
    assert_eq!(passes(&lab, Hook::TcOut, &answers), For(Established));
    // Of a new one only the opener's packets are judged.
    let other = "203.0.113.10:40001";
    let packet = tcp(other, SERVER, SYN);
    assert_eq!(passes(&lab, Hook::Xdp, &packet), Would(UntrackedDeny));
    let answer = tcp(SERVER, other, SYN | ACK);
    assert_eq!(passes(&lab, Hook::TcOut, &answer), For(Observed));
}

#[test]
fn a_flow_that_policy_comes_to_allow_is_established_from_then_on() {
    let Some(mut lab) = lab("observe-allow") else {
        return;
    };
    observe(&mut lab, &[ENDPOINT, &deny()]);
    let (opens, answers) = (tcp(CLIENT, SERVER, ACK), tcp(SERVER, CLIENT, ACK));
    assert_eq!(passes(&lab, Hook::Xdp, &opens), Would(RuleDeny));
    assert_eq!(passes(&lab, Hook::TcOut, &answers), For(Observed));
    observe(&mut lab, &[ENDPOINT, &pre_dnat("a", 1, "{action: Allow}")]);
    assert_eq!(passes(&lab, Hook::Xdp, &opens), For(RuleAllow));
    assert_eq!(passes(&lab, Hook::TcOut, &answers), For(Established));
    // And denied again it stays so, as when policy is enforced.
    observe(&mut lab, &[ENDPOINT, &deny()]);
    assert_eq!(passes(&lab, Hook::Xdp, &opens), For(Established));
}

#[test]
fn what_was_denied_counts_for_nothing_once_policy_is_enforced() {
    let Some(mut lab) = lab("observe-enforce") else {
        return;
    };
    observe(&mut lab, &[ENDPOINT, &deny()]);
    let (opens, answers) = (tcp(CLIENT, SERVER, SYN), tcp(SERVER, CLIENT, SYN | ACK));
    assert_eq!(passes(&lab, Hook::Xdp, &opens), Would(RuleDeny));
    assert!(lab.half_open_states().contains(&FLOW_DENIED));

    lab.enforce(&[ENDPOINT, &deny()].concat());
    assert_eq!(lab.judge(Hook::TcOut, &answers), EndpointDefault);
    assert_eq!(lab.judge(Hook::Xdp, &opens), RuleDeny);
    // Allowed, it is a flow like any other.
    lab.enforce(ENDPOINT);
    assert_eq!(lab.judge(Hook::Xdp, &opens), NoMatch);
    assert_eq!(lab.judge(Hook::TcOut, &answers), Established);
    let goes_on = tcp(CLIENT, SERVER, ACK);
    assert_eq!(lab.judge(Hook::Xdp, &goes_on), Established);
    assert_eq!(lab.flow_counts(), (0, 1));

    lab.forget();
    observe(&mut lab, &[ENDPOINT]);
    let sent = tcp(SERVER, CLIENT, SYN);
    assert_eq!(passes(&lab, Hook::TcOut, &sent), Would(EndpointDefault));
    lab.enforce(&[ENDPOINT, &egress("out", 1, "{action: Allow}"), &deny()].concat());
    let answer = tcp(CLIENT, SERVER, SYN | ACK);
    assert_eq!(lab.judge(Hook::Xdp, &answer), RuleDeny);
}
