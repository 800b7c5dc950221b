//! Headers in all shapes, and bytes that are none.

use hostfw_common::{
    limits::MAX_EXTENSION_HEADERS,
    verdict::Reason::{NeighbourDiscovery, NoMatch, NotIp, RuleAllow, RuleDeny, Undecodable},
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::{
    lab::{Hook, ip, lab, socket},
    policy::{ENDPOINT, pre_dnat},
};

fn allow_80() -> String {
    let rules = "{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Deny}";
    [ENDPOINT, &pre_dnat("web", 1, rules)].concat()
}

fn web_v4() -> Packet {
    Packet::tcp(socket("203.0.113.10:4000"), socket("10.240.0.11:80"), SYN)
}

fn web_v6() -> Packet {
    Packet::tcp(socket("[2001:db8::9]:4000"), socket("[fd00::1]:80"), SYN)
}

#[test]
fn options_and_extensions_do_not_shift_the_ports() {
    let Some(mut lab) = lab("options") else {
        return;
    };
    lab.enforce(&allow_80());
    for hook in Hook::INGRESS {
        for words in 0..=10 {
            assert_eq!(
                lab.judge(hook, &web_v4().options(words)),
                RuleAllow,
                "{words}"
            );
        }
        for (kind, length) in [(0, 8), (43, 24), (60, 1024), (51, 12), (51, 24)] {
            let packet = web_v6().extension(kind, length);
            assert_eq!(lab.judge(hook, &packet), RuleAllow, "{kind} {length}");
        }
        let packet = web_v6().extension(0, 16).extension(60, 8).extension(51, 24);
        assert_eq!(lab.judge(hook, &packet), RuleAllow);
    }
}

/// The length of the packet is not always that of the frame, and a frame need not be
/// in one piece.
#[test]
fn frames_are_counted_with_all_their_bytes() {
    /// Longer than a page, in which the first piece of a frame is.
    const LONG: usize = 7_000;

    let Some(mut lab) = lab("lengths") else {
        return;
    };
    lab.enforce(&allow_80());
    let mut longer_than_the_field = web_v4().payload(&[0; LONG]).build();
    longer_than_the_field[16..18].fill(0);
    let mut jumbogram = web_v6().payload(&[0; LONG]).build();
    jumbogram[18..20].fill(0);
    let mut cut = web_v4().build();
    cut[16..18].copy_from_slice(&u16::MAX.to_be_bytes());
    let padded = |packet: Packet| [packet.build(), vec![0; 20]].concat();
    let frames = [
        ("IPv4", web_v4().build()),
        ("IPv6", web_v6().build()),
        ("IPv4, padded", padded(web_v4())),
        ("IPv6, padded", padded(web_v6())),
        ("IPv4 in pieces", web_v4().payload(&[0; LONG]).build()),
        ("IPv6 in pieces", web_v6().payload(&[0; LONG]).build()),
        ("IPv4 without a length", longer_than_the_field),
        ("IPv6 without a length", jumbogram),
        ("IPv4, cut", cut),
        ("behind a tag", web_v4().vlan(0).payload(&[0; LONG]).build()),
        ("ARP", [vec![0xff; 12], vec![8, 6], vec![0; 46]].concat()),
    ];
    for (what, frame) in frames {
        let counted = lab.counted(Hook::Xdp, &frame);
        assert_eq!(counted, frame.len() as u64, "{what}");
    }
}

#[test]
fn chains_of_extensions_have_an_end() {
    let Some(mut lab) = lab("extensions") else {
        return;
    };
    lab.enforce(&allow_80());
    let mut packet = web_v6();
    for count in 1..=MAX_EXTENSION_HEADERS + 2 {
        packet = packet.extension(60, 8);
        let expected = if count <= MAX_EXTENSION_HEADERS {
            RuleAllow
        } else {
            Undecodable
        };
        for hook in Hook::INGRESS {
            assert_eq!(lab.judge(hook, &packet), expected, "{count} headers");
        }
    }
    // Deeper than anybody looks.
    let deep = web_v6().extension(60, 2048).extension(60, 2048);
    assert_eq!(lab.judge(Hook::Xdp, &deep), Undecodable);
}

/// A protocol without ports: nothing behind the extension header is read.
#[test]
fn an_extension_header_that_goes_on_behind_the_end_is_cut() {
    let Some(mut lab) = lab("cut-extension") else {
        return;
    };
    lab.enforce(&allow_80());
    let packet = Packet::raw(ip("2001:db8::9"), ip("fd00::1"), 89, Vec::new()).extension(60, 64);
    let whole = packet.build();
    for hook in Hook::INGRESS {
        for length in [62, whole.len() - 1] {
            let (_, reason) = lab.judge_bytes(hook, &whole[..length]);
            assert_eq!(reason, Undecodable, "{length} bytes");
        }
        assert_ne!(lab.judge(hook, &packet), Undecodable);
    }
}

#[test]
fn cut_packets_are_dropped() {
    let Some(mut lab) = lab("cut") else {
        return;
    };
    lab.enforce(&allow_80());
    // Where the last byte that decides lies: TCP's flags.
    for (packet, decisive) in [
        (web_v4().build(), 14 + 20 + 14),
        (web_v6().build(), 14 + 40 + 14),
        (web_v6().extension(60, 16).build(), 14 + 40 + 16 + 14),
    ] {
        for length in 14..packet.len() {
            let expected = if length < decisive {
                Undecodable
            } else {
                RuleAllow
            };
            for hook in Hook::INGRESS {
                // The kernel runs no TC test on less than the IP header.
                if hook == Hook::TcIn && length <= 14 + 40 {
                    continue;
                }
                lab.forget();
                let (_, reason) = lab.judge_bytes(hook, &packet[..length]);
                assert_eq!(reason, expected, "{hook:?}, {length} bytes");
            }
        }
    }
}

#[test]
fn impossible_headers_are_dropped() {
    let Some(mut lab) = lab("impossible") else {
        return;
    };
    lab.enforce(&allow_80());
    let change = |packet: Packet, at: usize, value: u8| {
        let mut bytes = packet.build();
        bytes[14 + at] = value;
        bytes
    };
    for (what, bytes) in [
        ("IHL below 5", change(web_v4(), 0, 0x44)),
        ("another version", change(web_v4(), 0, 0x65)),
        ("total length below the header's", change(web_v4(), 3, 19)),
        ("total length without TCP's flags", change(web_v4(), 3, 39)),
        ("IHL past the end", change(web_v4(), 0, 0x4f)),
        ("IPv6 with another version", change(web_v6(), 0, 0x40)),
        ("payload without TCP's flags", change(web_v6(), 5, 19)),
        (
            "extension past the end",
            change(web_v6().extension(60, 8), 41, 200),
        ),
    ] {
        for hook in Hook::INGRESS {
            assert_eq!(lab.judge_bytes(hook, &bytes).1, Undecodable, "{what}");
        }
    }
}

#[test]
fn padding_is_not_part_of_the_packet() {
    let Some(mut lab) = lab("padding") else {
        return;
    };
    lab.enforce(&allow_80());
    let (from, to) = (ip("203.0.113.10"), ip("10.240.0.11"));
    let mut bytes = Packet::raw(from, to, 6, vec![0; 4]).build();
    bytes.extend([0; 60]);
    assert_eq!(lab.judge_bytes(Hook::Xdp, &bytes).1, Undecodable);
}

#[test]
fn what_is_not_ip_passes() {
    let Some(mut lab) = lab("not IP") else {
        return;
    };
    lab.enforce(&[ENDPOINT, &pre_dnat("deny", 1, "{action: Deny}")].concat());
    for ethertype in [0x0806u16, 0x88cc, 0x8847, 0x05dc] {
        let mut bytes = web_v4().build();
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        for hook in [Hook::Xdp, Hook::TcIn, Hook::TcOut] {
            assert_eq!(lab.judge_bytes(hook, &bytes).1, NotIp, "{ethertype:#x}");
        }
    }
}

#[test]
fn frames_of_a_vlan_are_the_vlans_and_priority_tags_are_not() {
    let Some(mut lab) = lab("VLAN") else {
        return;
    };
    lab.enforce(&allow_80());
    for packet in [web_v4(), web_v6()] {
        assert_eq!(lab.judge(Hook::Xdp, &packet.clone().vlan(7)), NotIp);
        // Priority 7, VLAN 0.
        assert_eq!(lab.judge(Hook::Xdp, &packet.vlan(0xe000)), RuleAllow);
    }
    let closed = Packet::udp(socket("203.0.113.10:4000"), socket("10.240.0.11:80"));
    assert_eq!(lab.judge(Hook::Xdp, &closed.vlan(0)), RuleDeny);
}

#[test]
fn neighbour_discovery_passes_from_next_door_only() {
    let Some(mut lab) = lab("neighbour discovery") else {
        return;
    };
    lab.enforce(&[ENDPOINT, &pre_dnat("deny", 1, "{action: Deny}")].concat());
    let (from, to) = (ip("fe80::1"), ip("ff02::1"));
    for kind in 0..=255u8 {
        let near = Packet::icmp(from, to, kind, 0, 0).hop_limit(255);
        let far = near.clone().hop_limit(64);
        for hook in Hook::INGRESS {
            lab.forget();
            let passes = lab.judge(hook, &near) == NeighbourDiscovery;
            assert_eq!(passes, matches!(kind, 130..=136 | 143), "{kind}");
            let passes = lab.judge(hook, &far) == NeighbourDiscovery;
            assert_eq!(passes, matches!(kind, 130..=132 | 143), "{kind} from afar");
        }
    }
    // The same numbers mean nothing in ICMP.
    let v4 = Packet::icmp(ip("203.0.113.10"), ip("10.240.0.11"), 135, 0, 0).hop_limit(255);
    assert_eq!(lab.judge(Hook::Xdp, &v4), RuleDeny);
    // And on the way out.
    let out = Packet::icmp(ip("fe80::2"), to, 135, 0, 0).hop_limit(255);
    assert_eq!(lab.judge(Hook::TcOut, &out), NeighbourDiscovery);
}

#[test]
fn interfaces_without_link_header_are_read_from_the_ip_header() {
    let Some(mut lab) = lab("link header") else {
        return;
    };
    let model = super::lab::model(&allow_80());
    let tunnel = hostfw_agent::model::Interface {
        link_header: false,
        ..super::lab::eth0()
    };
    let selection = hostfw_agent::select::select(&model, "node1", &[tunnel]);
    lab.switch(&hostfw_agent::compile::compile(&selection).unwrap());
    for packet in [web_v4(), web_v6()] {
        let packet = packet.without_link_header();
        assert_eq!(lab.judge(Hook::Xdp, &packet), RuleAllow);
    }
    let closed = Packet::udp(socket("203.0.113.10:4000"), socket("10.240.0.11:80"));
    assert_eq!(
        lab.judge(Hook::Xdp, &closed.without_link_header()),
        RuleDeny
    );
}

#[test]
fn unknown_protocols_are_judged_by_rules_without_ports() {
    let Some(mut lab) = lab("unknown protocols") else {
        return;
    };
    let allow = "{action: Allow, source: {nets: [203.0.113.0/24]}}";
    lab.enforce(&[ENDPOINT, &pre_dnat("allow", 1, allow)].concat());
    for protocol in [0, 2, 47, 50, 59, 89, 103, 112, 255] {
        for (from, expected) in [("203.0.113.10", RuleAllow), ("203.0.114.10", NoMatch)] {
            let packet = Packet::raw(ip(from), ip("10.240.0.11"), protocol, vec![0; 4]);
            assert_eq!(lab.judge(Hook::Xdp, &packet), expected, "{protocol}");
        }
    }
}
