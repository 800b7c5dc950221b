//! Packets that somebody has made to get past the programs, or to have them cut
//! what is none of their business.

use hostfw_common::verdict::Reason::{
    EndpointDefault, Established, Failsafe, Invalid, NotIp, OrphanFragment, Related, RuleAllow,
    RuleDeny, Undecodable,
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, FIN, RST, SYN},
};

use super::{
    lab::{Hook, Lab, ip, lab, socket},
    policy::{ENDPOINT, egress, pre_dnat},
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:31852";

fn deny_all() -> String {
    [ENDPOINT, &pre_dnat("deny", 1, "{action: Deny}")].concat()
}

/// Nothing may come in, everything may go out.
fn outbound_only() -> String {
    [&deny_all(), &egress("allow", 1, "{action: Allow}")[..]].concat()
}

fn allow_all() -> String {
    [ENDPOINT, &pre_dnat("allow", 1, "{action: Allow}")].concat()
}

fn incoming(flags: u8) -> Packet {
    Packet::tcp(socket(CLIENT), socket(SERVER), flags)
}

fn outgoing(flags: u8) -> Packet {
    Packet::tcp(socket(SERVER), socket(CLIENT), flags)
}

/// A connection from outside, opened while it was allowed; nothing is allowed
/// any more.
fn closed_behind(lab: &mut Lab) {
    lab.forget();
    lab.enforce(&allow_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(SYN | ACK)), Established);
    lab.enforce(&deny_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
}

/// Puts 802.1Q or 802.1ad tags in front of the ethertype.
fn tagged(packet: &Packet, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = packet.build();
    for (ethertype, tag) in tags.iter().rev() {
        let tag = [ethertype.to_be_bytes(), tag.to_be_bytes()].concat();
        bytes.splice(12..12, tag);
    }
    bytes
}

#[test]
fn priority_tags_hide_nothing_however_many() {
    let Some(mut lab) = lab("priority tags") else {
        return;
    };
    lab.enforce(&deny_all());
    let v6 = Packet::tcp(socket("[2001:db8::9]:4000"), socket("[fd00::1]:80"), SYN);
    for packet in [incoming(SYN), v6] {
        for hook in Hook::INGRESS {
            for (tags, expected) in [
                (&[(0x8100, 0)][..], RuleDeny),
                (&[(0x88a8, 0)], RuleDeny),
                (&[(0x8100, 0), (0x8100, 0)], RuleDeny),
                (&[(0x88a8, 0xe000), (0x8100, 0x2000)], RuleDeny),
                (&[(0x8100, 0), (0x8100, 0), (0x8100, 0)], Undecodable),
                // Another VLAN's, behind a priority tag too.
                (&[(0x8100, 7)], NotIp),
                (&[(0x88a8, 7), (0x8100, 8)], NotIp),
                (&[(0x8100, 0), (0x8100, 7)], NotIp),
            ] {
                let bytes = tagged(&packet, tags);
                assert_eq!(lab.judge_bytes(hook, &bytes).1, expected, "{tags:x?}");
            }
        }
    }
}

#[test]
fn mapped_addresses_on_the_wire_are_of_no_ipv4_flow() {
    let Some(mut lab) = lab("mapped addresses") else {
        return;
    };
    lab.enforce(&outbound_only());
    let (host, web) = ("10.240.0.11:5000", "198.51.100.7:443");
    let (host6, web6) = ("[::ffff:10.240.0.11]:5000", "[::ffff:198.51.100.7]:443");
    let opening = Packet::tcp(socket(host), socket(web), SYN);
    assert_eq!(lab.judge(Hook::TcOut, &opening), RuleAllow);
    let disguised = Packet::tcp(socket(web6), socket(host6), SYN | ACK);
    for hook in Hook::INGRESS {
        assert_eq!(lab.judge(hook, &disguised), Undecodable);
    }
    assert_eq!(lab.flow_counts(), (1, 0));
    // One of them is enough.
    let half = Packet::tcp(socket("[2001:db8::7]:443"), socket(host6), SYN);
    assert_eq!(lab.judge(Hook::Xdp, &half), Undecodable);
    // Close by, but something else: an IPv4-translated address (RFC 2765).
    let translated = Packet::tcp(socket("[::ffff:0:1.2.3.4]:1"), socket("[fd00::1]:2"), SYN);
    assert_eq!(lab.judge(Hook::Xdp, &translated), RuleDeny);
}

#[test]
fn protocols_that_linux_does_not_skip_are_what_the_packet_carries() {
    let Some(mut lab) = lab("not skipped") else {
        return;
    };
    // Port 22 is a fail-safe.
    let ssh = Packet::tcp(socket("[2001:db8::9]:4000"), socket("[fd00::1]:22"), SYN);
    for (kind, expected) in [(0, Failsafe), (60, Failsafe), (43, Failsafe)] {
        lab.enforce(&deny_all());
        let packet = ssh.clone().extension(kind, 8);
        assert_eq!(lab.judge(Hook::Xdp, &packet), expected, "{kind}");
    }
    for kind in [135, 139, 140] {
        lab.forget();
        let disguised = ssh.clone().extension(kind, 8);
        assert_eq!(lab.judge(Hook::Xdp, &disguised), RuleDeny, "{kind}");
        // A rule that names it applies, as it does in IPv4.
        let rules = format!("{{action: Allow, protocol: {kind}}}, {{action: Deny}}");
        lab.enforce(&[ENDPOINT, &pre_dnat("named", 1, &rules)].concat());
        let (from, to) = (ip("2001:db8::9"), ip("fd00::1"));
        // No next header, eight bytes.
        let message = Packet::raw(from, to, kind, vec![59, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lab.judge(Hook::Xdp, &message), RuleAllow, "{kind}");
        lab.enforce(&deny_all());
    }
}

#[test]
fn fragments_are_not_nested() {
    let Some(mut lab) = lab("nested fragments") else {
        return;
    };
    lab.enforce(&allow_all());
    let (from, to) = (socket("[2001:db8::9]:4000"), socket("[fd00::1]:500"));
    // A later fragment within a first one: extension 44 has no options here,
    // so its header is all zeros but for what follows.
    let nested = Packet::udp(from, to)
        .fragment(0, true, 1)
        .extension(44, 8)
        .build();
    assert_eq!(lab.judge_bytes(Hook::Xdp, &nested).1, Undecodable);
    let once = Packet::udp(from, to).fragment(0, true, 1);
    assert_eq!(lab.judge(Hook::Xdp, &once), RuleAllow);
}

#[test]
fn fragmented_neighbour_discovery_brings_nothing_along() {
    let Some(mut lab) = lab("fragmented neighbour discovery") else {
        return;
    };
    lab.enforce(&deny_all());
    let (from, to) = (ip("fe80::1"), ip("fe80::2"));
    let first = Packet::icmp(from, to, 135, 0, 0)
        .hop_limit(255)
        .fragment(0, true, 9);
    lab.judge(Hook::Xdp, &first);
    let later = Packet::raw(from, to, 58, vec![0; 32])
        .hop_limit(255)
        .fragment(2, false, 9);
    assert_eq!(lab.judge(Hook::Xdp, &later), OrphanFragment);
}

#[test]
fn an_error_goes_to_the_one_who_sent_what_it_quotes() {
    let Some(mut lab) = lab("misdirected errors") else {
        return;
    };
    lab.enforce(&outbound_only());
    let router = ip("198.51.100.1");
    let query = Packet::udp(socket("10.240.0.11:5000"), socket("198.51.100.7:5353"));
    assert_eq!(lab.judge(Hook::TcOut, &query), RuleAllow);
    let to = |address| Packet::icmp_error(router, ip(address), 3, 3, &query);
    for hook in Hook::INGRESS {
        assert_eq!(lab.judge(hook, &to("10.240.0.11")), Related);
        // A pod behind the node, and another address of the node.
        assert_eq!(lab.judge(hook, &to("192.168.1.5")), Invalid);
        assert_eq!(lab.judge(hook, &to("10.240.0.12")), Invalid);
    }
    let (host, web) = ("[fd00:10:240::11]:5000", "[2001:db8::7]:5353");
    let query = Packet::udp(socket(host), socket(web));
    assert_eq!(lab.judge(Hook::TcOut, &query), RuleAllow);
    let error = Packet::icmp_error(ip("2001:db8::1"), ip("fd00:192::5"), 1, 4, &query);
    assert_eq!(lab.judge(Hook::Xdp, &error), Invalid);
    // An error about an error is about no flow.
    let error = Packet::icmp_error(ip("2001:db8::1"), socket(host).ip(), 1, 4, &query);
    assert_eq!(lab.judge(Hook::Xdp, &error), Related);
    let outgoing = Packet::icmp_error(socket(host).ip(), ip("2001:db8::1"), 1, 4, &error);
    let twice = Packet::icmp_error(ip("2001:db8::1"), socket(host).ip(), 1, 4, &outgoing);
    assert_eq!(lab.judge(Hook::Xdp, &twice), Invalid);
}

#[test]
fn an_identifier_that_looks_like_a_request_opens_no_way_in() {
    let Some(mut lab) = lab("identifier") else {
        return;
    };
    lab.enforce(&outbound_only());
    for (host, outside, request, reply) in [
        ("10.240.0.11", "203.0.113.10", 8, 0),
        ("fd00:10:240::11", "2001:db8::9", 128, 129),
    ] {
        let (host, outside) = (ip(host), ip(outside));
        // The type and code of a request, where the other side's port is.
        let identifier = u16::from(request) << 8;
        let ping = Packet::icmp(host, outside, request, 0, identifier);
        let pong = Packet::icmp(outside, host, reply, 0, identifier);
        let attack = Packet::icmp(outside, host, request, 0, identifier);
        assert_eq!(lab.judge(Hook::TcOut, &ping), RuleAllow);
        assert_eq!(lab.judge(Hook::Xdp, &attack), RuleDeny, "half-open");
        assert_eq!(lab.judge(Hook::Xdp, &pong), Established);
        assert_eq!(lab.judge(Hook::Xdp, &attack), RuleDeny, "confirmed");
        assert_eq!(lab.judge(Hook::TcOut, &ping), Established);
    }
}

#[test]
fn a_reply_that_nobody_asked_for_opens_nothing() {
    let Some(mut lab) = lab("unasked reply") else {
        return;
    };
    // In, anything; out, nothing that is not an answer.
    lab.enforce(&allow_all());
    let (host, outside) = (ip("10.240.0.11"), ip("203.0.113.10"));
    let reply = Packet::icmp(outside, host, 0, 0, 7);
    assert_eq!(lab.judge(Hook::Xdp, &reply), RuleAllow);
    let request = Packet::icmp(host, outside, 8, 0, 7);
    assert_eq!(lab.judge(Hook::TcOut, &request), EndpointDefault);
    assert_eq!(lab.flow_counts(), (0, 0));
}

#[test]
fn a_connection_that_the_host_has_ended_cannot_be_had_again() {
    let Some(mut lab) = lab("ended by the host") else {
        return;
    };
    // The client says nothing of an end, and begins anew on the same ports.
    closed_behind(&mut lab);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(FIN | ACK)), Established);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny, "after FIN");
    // It does as if the host's reset were a stray one.
    closed_behind(&mut lab);
    assert_eq!(lab.judge(Hook::TcOut, &outgoing(RST)), Established);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny, "after RST");
}

#[test]
fn a_forged_end_and_a_forged_beginning_cut_no_connection() {
    let Some(mut lab) = lab("forged end") else {
        return;
    };
    for forged in [RST, FIN | ACK] {
        closed_behind(&mut lab);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(forged)), Established);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleDeny);
        // The two who talk do not notice.
        assert_eq!(lab.judge(Hook::TcOut, &outgoing(ACK)), Established);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
    }
}

#[test]
fn a_new_connection_inherits_no_end_from_the_last_one() {
    let Some(mut lab) = lab("inherited end") else {
        return;
    };
    let minute = 60_000_000_000;
    if !lab.can_age(hostfw_common::conntrack::timeout::TCP_FIN + minute) {
        println!("skipped: the machine has not been up for that long");
        return;
    }
    let idle = |lab: &mut Lab, what: &str| {
        assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow, "{what}");
        assert_eq!(lab.judge(Hook::TcOut, &outgoing(SYN | ACK)), Established);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established);
        lab.enforce(&deny_all());
        lab.age(hostfw_common::conntrack::timeout::TCP_FIN + minute);
        assert_eq!(lab.judge(Hook::Xdp, &incoming(ACK)), Established, "{what}");
    };
    // A retransmission of the last one's end comes after all was forgotten.
    lab.enforce(&allow_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(FIN | ACK)), RuleAllow);
    idle(&mut lab, "half-open");
    // All of the last one is still known.
    lab.forget();
    lab.enforce(&allow_all());
    assert_eq!(lab.judge(Hook::Xdp, &incoming(SYN)), RuleAllow);
    for (hook, packet) in [
        (Hook::TcOut, outgoing(SYN | ACK)),
        (Hook::Xdp, incoming(FIN | ACK)),
        (Hook::TcOut, outgoing(FIN | ACK)),
    ] {
        assert_eq!(lab.judge(hook, &packet), Established);
    }
    idle(&mut lab, "confirmed");
}
