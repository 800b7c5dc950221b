//! Packets that somebody has made to get past the programs, or to have them cut
//! what is none of their business.

use hostfw_common::verdict::Reason::{
    Failsafe, NotIp, OrphanFragment, RuleAllow, RuleDeny, Undecodable,
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::{
    lab::{Hook, ip, lab, socket},
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
