//! Conntrack: what follows from earlier packets.

use hostfw_common::{
    conntrack::timeout,
    verdict::Reason::{
        self, EndpointDefault, Established, Forwarded, Invalid, Learning, NoMatch, Related,
        RuleAllow, RuleDeny,
    },
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, FIN, PSH, RST, SYN, URG},
};

use super::{
    lab::{Hook, Lab, ip, lab, socket},
    policy::{ENDPOINT, egress, pre_dnat},
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:31852";

fn allow_31852() -> String {
    let rules = "{action: Allow, protocol: TCP, destination: {ports: [31852]}}, {action: Deny}";
    [ENDPOINT, &pre_dnat("pinhole", 1, rules)].concat()
}

fn deny_all() -> String {
    [ENDPOINT, &pre_dnat("deny", 1, "{action: Deny}")].concat()
}

fn incoming(flags: u8) -> Packet {
    Packet::tcp(socket(CLIENT), socket(SERVER), flags)
}

fn outgoing(flags: u8) -> Packet {
    Packet::tcp(socket(SERVER), socket(CLIENT), flags)
}

/// Opens the flow from outside, and has it answered.
fn open(lab: &Lab) {
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    assert_eq!(
        lab.judge(Hook::TcForward, &outgoing(SYN | ACK)),
        Established
    );
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
}

#[test]
fn answers_pass_although_egress_is_denied() {
    let Some(mut lab) = lab("answers") else {
        return;
    };
    lab.enforce(&allow_31852());
    assert_eq!(
        lab.judge(Hook::TcOut, &outgoing(SYN | ACK)),
        EndpointDefault
    );
    open(&lab);
    assert_eq!(lab.flow_counts(), (0, 1));
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(ACK | PSH)), Established);
    assert_eq!(lab.judge(Hook::TcIn, &incoming(ACK)), Established);
}

#[test]
fn a_flow_from_outside_is_confirmed_when_its_opener_goes_on() {
    let Some(mut lab) = lab("forged") else {
        return;
    };
    lab.enforce(&allow_31852());
    // The sender may be forged: the answer goes to somebody else.
    for answer in [SYN | ACK, RST | ACK] {
        lab.forget();
        assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
        for _ in 0..2 {
            assert_eq!(lab.judge(Hook::TcOut, &outgoing(answer)), Established);
            assert_eq!(lab.flow_counts(), (1, 0));
        }
    }
    lab.forget();
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(SYN | ACK)), Established);
    // That it asks again proves nothing.
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), Established);
    assert_eq!(lab.flow_counts(), (1, 0));
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
    assert_eq!(lab.flow_counts(), (0, 1));
    // Nobody forges what the node has asked.
    lab.forget();
    assert_eq!(lab.judge(Hook::TcForward, &outgoing(SYN)), Forwarded);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN | ACK)), Established);
    assert_eq!(lab.flow_counts(), (0, 1));
}

#[test]
fn an_unanswered_flow_is_judged_anew_by_each_packet() {
    let Some(mut lab) = lab("half-open") else {
        return;
    };
    lab.enforce(&allow_31852());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    assert_eq!(lab.flow_counts(), (1, 0));
    lab.enforce(&deny_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny);
}

#[test]
fn an_established_flow_outlives_the_policy_that_let_it_in() {
    let Some(mut lab) = lab("established") else {
        return;
    };
    lab.enforce(&allow_31852());
    open(&lab);
    lab.enforce(&deny_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK | PSH)), Established);
    assert_eq!(lab.judge(Hook::TcForward, &outgoing(ACK)), Established);
    // Another flow of the same client is a new one.
    let other = Packet::tcp(socket("203.0.113.10:40001"), socket(SERVER), ACK);
    assert_eq!(lab.judge(Hook::Xdp, &other), RuleDeny);
}

#[test]
fn a_denied_packet_leaves_no_state() {
    let Some(mut lab) = lab("denied") else {
        return;
    };
    lab.enforce(&deny_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(ACK)), EndpointDefault);
    assert_eq!(lab.flow_counts(), (0, 0));
}

#[test]
fn answers_to_the_host_and_to_forwarded_flows_come_in() {
    let Some(mut lab) = lab("outbound") else {
        return;
    };
    let policies = [&deny_all(), &egress("allow", 1, "{action: Allow}")[..]].concat();
    lab.enforce(&policies);
    for (hook, opened, port) in [
        (Hook::TcOut, RuleAllow, 1000),
        (Hook::TcForward, Forwarded, 2000),
    ] {
        for (local, remote) in [
            (format!("10.240.0.11:{port}"), "198.51.100.7:443"),
            (format!("[fd00:10:240::11]:{port}"), "[2001:db8::7]:443"),
        ] {
            let (local, remote) = (socket(&local), socket(remote));
            let answer = Packet::tcp(remote, local, SYN | ACK);
            assert_eq!(lab.judge(Hook::Xdp, &answer), RuleDeny, "unasked");
            assert_eq!(lab.judge(hook, &Packet::tcp(local, remote, SYN)), opened);
            assert_eq!(lab.judge(Hook::Xdp, &answer), Established);
            let (query, answer) = (Packet::udp(local, remote), Packet::udp(remote, local));
            assert_eq!(lab.judge(hook, &query), opened);
            assert_eq!(lab.judge(Hook::TcIn, &answer), Established);
        }
    }
}

#[test]
fn pings_match_by_identifier_and_direction() {
    let Some(mut lab) = lab("ping") else {
        return;
    };
    let policies = [&deny_all(), &egress("allow", 1, "{action: Allow}")[..]].concat();
    lab.enforce(&policies);
    for (host, outside, request, reply) in [
        ("10.240.0.11", "203.0.113.10", 8, 0),
        ("fd00:10:240::11", "2001:db8::9", 128, 129),
    ] {
        let (host, outside) = (ip(host), ip(outside));
        let ping = Packet::icmp(host, outside, request, 0, 7);
        assert_eq!(lab.judge(Hook::TcOut, &ping), RuleAllow);
        // Of another ping, and a request with the same identifier.
        for unasked in [
            Packet::icmp(outside, host, reply, 0, 8),
            Packet::icmp(outside, host, request, 0, 7),
        ] {
            assert_eq!(lab.judge(Hook::Xdp, &unasked), RuleDeny, "{unasked:?}");
        }
        let pong = Packet::icmp(outside, host, reply, 0, 7);
        assert_eq!(lab.judge(Hook::Xdp, &pong), Established);
    }
}

#[test]
fn icmp_errors_follow_the_flow_that_they_quote() {
    let Some(mut lab) = lab("errors") else {
        return;
    };
    let policies = [&allow_31852(), &egress("allow", 1, "{action: Allow}")[..]].concat();
    lab.enforce(&policies);
    let router = ip("198.51.100.1");
    let query = Packet::udp(socket("10.240.0.11:5000"), socket("203.0.113.10:53000"));
    let unreachable = Packet::icmp_error(router, ip("10.240.0.11"), 3, 3, &query);
    assert_eq!(lab.judge(Hook::Xdp, &unreachable), Invalid, "about nothing");
    assert_eq!(lab.judge(Hook::TcOut, &query), RuleAllow);
    for hook in Hook::INGRESS {
        assert_eq!(lab.judge(hook, &unreachable), Related);
    }
    // It quotes what went out: a packet that would have come in is no quote.
    let reversed = Packet::udp(socket("203.0.113.10:53000"), socket("10.240.0.11:5000"));
    let reversed = Packet::icmp_error(router, ip("10.240.0.11"), 3, 3, &reversed);
    assert_eq!(lab.judge(Hook::Xdp, &reversed), Invalid);

    // The other way: the host refuses what came in.
    open(&lab);
    let refusal = Packet::icmp_error(ip("10.240.0.11"), ip("203.0.113.10"), 3, 1, &incoming(ACK));
    assert_eq!(lab.judge(Hook::TcOut, &refusal), Related);

    // IPv6, with an extension header in the quote.
    let query = Packet::udp(
        socket("[fd00:10:240::11]:5000"),
        socket("[2001:db8::9]:53000"),
    );
    assert_eq!(lab.judge(Hook::TcOut, &query), RuleAllow);
    let (router, host) = (ip("2001:db8::1"), ip("fd00:10:240::11"));
    for quoted in [query.clone(), query.clone().extension(60, 8)] {
        let too_big = Packet::icmp_error(router, host, 2, 0, &quoted);
        assert_eq!(lab.judge(Hook::Xdp, &too_big), Related);
    }
    let other = Packet::udp(
        socket("[fd00:10:240::11]:5001"),
        socket("[2001:db8::9]:53000"),
    );
    let too_big = Packet::icmp_error(router, host, 2, 0, &other);
    assert_eq!(lab.judge(Hook::Xdp, &too_big), Invalid);
}

#[test]
fn impossible_tcp_flags_are_invalid_even_to_failsafe_ports() {
    let Some(mut lab) = lab("flags") else {
        return;
    };
    let policies = [&deny_all(), &egress("allow", 1, "{action: Allow}")[..]].concat();
    lab.enforce(&policies);
    let invalid = |flags: u8| !possible(flags);
    for flags in 0..64 {
        let packet = Packet::tcp(socket(CLIENT), socket("10.240.0.11:22"), flags);
        let expected = if invalid(flags) {
            Invalid
        } else {
            Reason::Failsafe
        };
        for hook in Hook::INGRESS {
            lab.forget();
            assert_eq!(lab.judge(hook, &packet), expected, "{flags:#b}");
        }
        let packet = Packet::tcp(socket("10.240.0.11:1"), socket(CLIENT), flags);
        let expected = if invalid(flags) { Invalid } else { RuleAllow };
        lab.forget();
        assert_eq!(lab.judge(Hook::TcOut, &packet), expected, "{flags:#b}");
    }
}

/// The combinations that Linux takes for possible, pushed or not.
fn possible(flags: u8) -> bool {
    [
        SYN,
        SYN | URG,
        SYN | ACK,
        RST,
        RST | ACK,
        FIN | ACK,
        FIN | ACK | URG,
        ACK,
        ACK | URG,
    ]
    .contains(&(flags & !PSH))
}

#[test]
fn the_invalid_check_can_be_switched_off() {
    let Some(mut lab) = lab("no invalid check") else {
        return;
    };
    let felix = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {disableConntrackInvalidCheck: true}
---
";
    lab.enforce(&[&allow_31852(), felix].concat());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(0)), RuleAllow);
    assert_eq!(lab.flow_counts(), (0, 0), "an invalid packet opens no flow");
}

#[test]
fn a_closed_flow_can_be_opened_again_only_by_policy() {
    let Some(mut lab) = lab("reopen") else {
        return;
    };
    for end in [
        &[(true, FIN | ACK), (false, FIN | ACK)][..],
        &[(false, RST)],
    ] {
        lab.forget();
        lab.enforce(&allow_31852());
        open(&lab);
        // In the middle of a flow, a stray SYN belongs to it.
        assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), Established);
        for (from_client, flags) in end {
            let reason = if *from_client {
                lab.judge(Hook::Xdp, &incoming(*flags))
            } else {
                lab.judge(Hook::TcForward, &outgoing(*flags))
            };
            assert_eq!(reason, Established);
        }
        lab.enforce(&deny_all());
        assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny);
    }
}

#[test]
fn a_stray_reset_does_not_end_a_flow_that_goes_on() {
    let Some(mut lab) = lab("stray reset") else {
        return;
    };
    lab.enforce(&allow_31852());
    open(&lab);
    lab.enforce(&deny_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(RST)), Established);
    assert_eq!(lab.judge(Hook::TcForward, &outgoing(ACK)), Established);
    lab.age(timeout::TCP_RESET * 2);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
}

#[test]
fn flows_time_out() {
    let Some(mut lab) = lab("time-outs") else {
        return;
    };
    let minute = 60_000_000_000;
    if !lab.can_age(timeout::TCP_FIN + minute) {
        println!("skipped: the machine has not been up for that long");
        return;
    }
    let udp = "{action: Allow, protocol: UDP}, {action: Allow, protocol: TCP}";
    let allow = [ENDPOINT, &pre_dnat("allow", 1, udp)].concat();
    let datagram = Packet::udp(socket(CLIENT), socket(SERVER));
    let answer = Packet::udp(socket(SERVER), socket(CLIENT));
    for (age, expected) in [
        (timeout::UDP_CONFIRMED - minute, Established),
        (timeout::UDP_CONFIRMED + minute, RuleDeny),
    ] {
        lab.forget();
        lab.enforce(&allow);
        assert_eq!(lab.judge(Hook::Xdp, &datagram), RuleAllow);
        assert_eq!(lab.judge(Hook::TcOut, &answer), Established);
        lab.enforce(&deny_all());
        lab.age(age);
        assert_eq!(lab.judge(Hook::Xdp, &datagram), expected, "UDP after {age}");
    }
    // Unanswered, and then too late.
    lab.forget();
    lab.enforce(&allow);
    assert_eq!(lab.judge(Hook::Xdp, &datagram), RuleAllow);
    lab.age(timeout::UDP_HALF_OPEN + minute);
    assert_eq!(lab.judge(Hook::TcOut, &answer), EndpointDefault);
    // Established for days, but not once a side has ended it.
    for (flags, age, expected) in [
        (ACK, timeout::TCP_FIN + minute, Established),
        (FIN | ACK, timeout::TCP_FIN - minute, Established),
        (FIN | ACK, timeout::TCP_FIN + minute, RuleDeny),
        (RST, timeout::TCP_RESET + minute, RuleDeny),
    ] {
        lab.forget();
        lab.enforce(&allow);
        open(&lab);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(flags)), Established);
        lab.enforce(&deny_all());
        lab.age(age);
        let found = lab.judge(Hook::Xdp, &incoming(ACK));
        assert_eq!(found, expected, "TCP after {flags:#b} and {age}");
    }
}

#[test]
fn learning_records_and_judges_nothing() {
    let Some(mut lab) = lab("learning") else {
        return;
    };
    let model = super::lab::model(&deny_all());
    let selection = hostfw_agent::select::select(&model, "node1", &[super::lab::eth0()]);
    let mut image = hostfw_agent::compile::compile(&selection).unwrap();
    let final_image = image.clone();
    for endpoint in image.endpoints.values_mut() {
        endpoint.flags |= hostfw_common::endpoint::FLAG_LEARNING;
    }
    lab.switch(&image);
    // A connection in full swing, seen from either side first.
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Learning);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(ACK)), Established);
    let (pod, web) = (socket("10.240.0.11:1"), socket("198.51.100.7:443"));
    assert_eq!(
        lab.judge(Hook::TcOut, &Packet::tcp(pod, web, ACK)),
        Learning
    );
    assert_eq!(
        lab.judge(Hook::Xdp, &Packet::tcp(web, pod, ACK)),
        Established
    );
    assert_eq!(lab.judge(Hook::Xdp, &incoming(0)), Learning, "invalid");
    lab.switch(&final_image);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
    assert_eq!(
        lab.judge(Hook::Xdp, &Packet::tcp(web, pod, ACK)),
        Established
    );
    let stranger = Packet::tcp(socket("203.0.113.66:1"), socket(SERVER), ACK);
    assert_eq!(lab.judge(Hook::Xdp, &stranger), RuleDeny);
}

#[test]
fn no_match_opens_flows_too() {
    let Some(mut lab) = lab("no match") else {
        return;
    };
    lab.enforce(ENDPOINT);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), NoMatch);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(SYN | ACK)), Established);
}
