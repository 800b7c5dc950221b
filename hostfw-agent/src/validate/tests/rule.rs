use super::*;
use crate::model::{IcmpMatch, IpVersion, Protocol, RuleAction};

#[test]
fn protocols() {
    let named = |number, implied_version| Protocol {
        number,
        implied_version,
    };
    for (text, expected) in [
        ("TCP", named(6, None)),
        ("UDP", named(17, None)),
        ("ICMP", named(1, Some(IpVersion::V4))),
        ("ICMPv6", named(58, Some(IpVersion::V6))),
        ("SCTP", named(132, None)),
        ("UDPLite", named(136, None)),
        ("1", named(1, None)),
        ("'58'", named(58, None)),
        ("255", named(255, None)),
    ] {
        let rule = egress_rule(&format!("action: Allow, protocol: {text}"));
        assert_eq!(rule.protocol, Some(expected), "{text}");
        let rule = egress_rule(&format!("action: Allow, notProtocol: {text}"));
        assert_eq!(rule.not_protocol, Some(expected), "{text}");
    }
    for (text, found) in [
        ("tcp", "\"tcp\""),
        ("Icmp", "\"Icmp\""),
        ("0", "0"),
        ("256", "256"),
        ("-1", "-1"),
        ("'+6'", "\"+6\""),
        ("''", "\"\""),
        ("'999999999999999999999'", "\"999999999999999999999\""),
    ] {
        for field in ["protocol", "notProtocol"] {
            refused(
                &rule(&format!("action: Allow, {field}: {text}")),
                &[&format!(
                    "spec.egress[0].{field}: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a \
                     number from 1 to 255, found {found}"
                )],
            );
        }
    }
}

#[test]
fn ip_version_agrees_with_the_protocol() {
    assert_eq!(
        egress_rule("action: Allow, ipVersion: 6, protocol: ICMPv6").ip_version,
        Some(IpVersion::V6)
    );
    refused(
        &rule("action: Allow, ipVersion: 5"),
        &["spec.egress[0].ipVersion: expected 4 or 6, found 5"],
    );
    for (text, expected) in [
        (
            "ipVersion: 6, protocol: ICMP",
            "4, for protocol is \"ICMP\", found 6",
        ),
        ("ipVersion: 6, protocol: 1", "4, for protocol is 1, found 6"),
        (
            "ipVersion: 4, protocol: ICMPv6",
            "6, for protocol is \"ICMPv6\", found 4",
        ),
        (
            "ipVersion: 6, notProtocol: ICMP",
            "4, for notProtocol is \"ICMP\", found 6",
        ),
        (
            "ipVersion: 4, notProtocol: 58",
            "6, for notProtocol is 58, found 4",
        ),
    ] {
        refused(
            &rule(&format!("action: Allow, {text}")),
            &[&format!("spec.egress[0].ipVersion: expected {expected}")],
        );
    }
}

#[test]
fn icmp() {
    let rule_with = |text: &str| egress_rule(&format!("action: Allow, {text}"));
    assert_eq!(
        rule_with("protocol: ICMP, icmp: {type: 8, code: 0}").icmp,
        Some(IcmpMatch {
            kind: 8,
            code: Some(0)
        })
    );
    assert_eq!(
        rule_with("protocol: 58, icmp: {type: 254}, notICMP: {type: 0, code: 255}").not_icmp,
        Some(IcmpMatch {
            kind: 0,
            code: Some(255)
        })
    );
    assert_eq!(rule_with("protocol: ICMP, icmp: {}").icmp, None);
    assert_eq!(rule_with("notICMP: {}").not_icmp, None);
    assert!(rule_with("notICMP: {type: 3}").not_icmp.is_some());
    for (text, expected) in [
        (
            "protocol: ICMP, icmp: {type: 255}",
            "icmp.type: expected a number from 0 to 254, found 255",
        ),
        (
            "protocol: ICMP, icmp: {type: -1}",
            "icmp.type: expected a number from 0 to 254, found -1",
        ),
        (
            "protocol: ICMP, icmp: {type: 8, code: 256}",
            "icmp.code: expected a number from 0 to 255, found 256",
        ),
        (
            "protocol: ICMP, icmp: {code: 0}",
            "icmp.type: expected a type from 0 to 254, for there is a code, found nothing",
        ),
        (
            "icmp: {type: 8}",
            "icmp: expected protocol ICMP or ICMPv6 beside it, found no protocol",
        ),
        (
            "protocol: TCP, icmp: {type: 8}",
            "icmp: expected protocol ICMP or ICMPv6 beside it, found protocol \"TCP\"",
        ),
        (
            "notICMP: {code: 0}",
            "notICMP.type: expected a type from 0 to 254, for there is a code, found nothing",
        ),
        (
            "notICMP: {type: 300}",
            "notICMP.type: expected a number from 0 to 254, found 300",
        ),
    ] {
        refused(
            &rule(&format!("action: Allow, {text}")),
            &[&format!("spec.egress[0].{expected}")],
        );
    }
}

#[test]
fn ports() {
    let rule_with = egress_rule(
        "action: Allow, protocol: UDP, destination: {ports: [1, '2', '3:4', 65535, '7:7']}, \
         source: {notPorts: [9]}",
    );
    let ranges: Vec<_> = rule_with
        .destination
        .ports
        .iter()
        .map(|range| (range.first, range.last))
        .collect();
    assert_eq!(ranges, [(1, 1), (2, 2), (3, 4), (65535, 65535), (7, 7)]);
    assert_eq!(rule_with.source.not_ports.len(), 1);
    for protocol in ["TCP", "UDP", "SCTP", "6", "17", "132"] {
        egress_rule(&format!(
            "action: Allow, protocol: {protocol}, destination: {{ports: [1]}}"
        ));
    }
    for (port, found) in [
        ("0", "0"),
        ("65536", "65536"),
        ("-1", "-1"),
        ("'0'", "\"0\""),
        ("'2:1'", "\"2:1\""),
        ("'0:1'", "\"0:1\""),
        ("'1:65536'", "\"1:65536\""),
        ("'1:2:3'", "\"1:2:3\""),
        ("'1-2'", "\"1-2\""),
        ("' 1'", "\" 1\""),
        ("':'", "\":\""),
        ("''", "\"\""),
        ("'abcdefghijklmnop'", "\"abcdefghijklmnop\""),
        ("'-http'", "\"-http\""),
        ("'http-'", "\"http-\""),
        ("'a--b'", "\"a--b\""),
        ("'a_b'", "\"a_b\""),
    ] {
        for field in ["ports", "notPorts"] {
            refused(
                &rule(&format!(
                    "action: Allow, protocol: TCP, source: {{{field}: [{port}]}}"
                )),
                &[&format!(
                    "spec.egress[0].source.{field}[0]: expected a port from 1 to 65535, a range \
                     as \"1000:2000\", lower port first, or the name of a port, found {found}"
                )],
            );
        }
    }
    for (protocol, found) in [
        ("", "no protocol"),
        ("protocol: UDPLite,", "protocol \"UDPLite\""),
        ("protocol: 47,", "protocol 47"),
    ] {
        for field in ["ports", "notPorts"] {
            refused(
                &rule(&format!(
                    "action: Allow, {protocol} destination: {{{field}: [80]}}"
                )),
                &[&format!(
                    "spec.egress[0].destination.{field}: expected protocol TCP, UDP or SCTP \
                     beside them, found {found}"
                )],
            );
        }
    }
    let many = |count: usize| {
        rule(&format!(
            "action: Allow, protocol: TCP, destination: {{ports: [{}]}}",
            vec!["80"; count].join(",")
        ))
    };
    assert!(validate(&many(50)).is_ok());
    refused(
        &many(51),
        &["spec.egress[0].destination.ports: expected at most 50 ports, found 51"],
    );
}

#[test]
fn named_ports_bring_their_protocol_along() {
    for protocol in ["", "protocol: TCP,", "protocol: 132,"] {
        let rule = egress_rule(&format!(
            "action: Allow, {protocol} destination: {{ports: [http, dns-2], notPorts: [x]}}"
        ));
        assert_eq!(rule.destination.named_ports, ["http", "dns-2"]);
        assert_eq!(rule.destination.not_named_ports, ["x"]);
        assert_eq!(rule.destination.ports, []);
    }
    let mixed = egress_rule("action: Allow, protocol: TCP, source: {ports: [80, http, '1:2']}");
    assert_eq!(mixed.source.ports.len(), 2);
    assert_eq!(mixed.source.named_ports, ["http"]);
    for (protocol, ports, found) in [
        ("", "[80, http]", "no protocol"),
        ("protocol: ICMP,", "[http]", "protocol \"ICMP\""),
        ("protocol: UDPLite,", "[http]", "protocol \"UDPLite\""),
        ("protocol: 47,", "[http]", "protocol 47"),
    ] {
        for field in ["ports", "notPorts"] {
            refused(
                &rule(&format!(
                    "action: Allow, {protocol} destination: {{{field}: {ports}}}"
                )),
                &[&format!(
                    "spec.egress[0].destination.{field}: expected protocol TCP, UDP or SCTP \
                     beside them, found {found}"
                )],
            );
        }
    }
}

#[test]
fn nets() {
    let rule_with = egress_rule(
        "action: Allow, source: {nets: [10.0.0.0/8, 0.0.0.0/0]}, destination: {notNets: \
         [192.168.0.1/32]}",
    );
    assert_eq!(rule_with.source.nets.len(), 2);
    assert_eq!(
        rule_with.destination.not_nets[0].to_string(),
        "192.168.0.1/32"
    );
    for (net, expected, found) in [
        (
            "10.0.0.1",
            "a CIDR with a prefix length, as 10.0.0.1/32",
            "10.0.0.1",
        ),
        (
            "'fd00::1'",
            "a CIDR with a prefix length, as fd00::1/128",
            "fd00::1",
        ),
        (
            "10.0.0.1/8",
            "a CIDR without host bits, as 10.0.0.0/8",
            "10.0.0.1/8",
        ),
        (
            "'fd00::1/8'",
            "a CIDR without host bits, as fd00::/8",
            "fd00::1/8",
        ),
        (
            "10.0.0.0/33",
            "a CIDR, as 10.0.0.0/8 or fd00::/8",
            "10.0.0.0/33",
        ),
        ("10.0/8", "a CIDR, as 10.0.0.0/8 or fd00::/8", "10.0/8"),
        ("''", "a CIDR, as 10.0.0.0/8 or fd00::/8", ""),
        (
            "'::ffff:10.0.0.0/104'",
            "IPv4 addresses in their own notation",
            "::ffff:10.0.0.0/104",
        ),
    ] {
        for field in ["nets", "notNets"] {
            refused(
                &rule(&format!("action: Allow, source: {{{field}: [{net}]}}")),
                &[&format!(
                    "spec.egress[0].source.{field}[0]: expected {expected}, found {found:?}"
                )],
            );
        }
    }
    for net in ["0.0.0.0/0", "::/0"] {
        refused(
            &rule(&format!(
                "action: Allow, destination: {{notNets: ['{net}']}}"
            )),
            &[&format!(
                "spec.egress[0].destination.notNets: expected nets that leave some address over, \
                 found {net}"
            )],
        );
    }
    let many = |count: usize| {
        rule(&format!(
            "action: Allow, source: {{nets: [{}]}}",
            vec!["10.0.0.0/8"; count].join(",")
        ))
    };
    assert!(validate(&many(256)).is_ok());
    refused(
        &many(257),
        &["spec.egress[0].source.nets: expected at most 256 nets, found 257"],
    );
}

#[test]
fn nets_of_a_rule_are_of_one_family() {
    for (text, expected) in [
        (
            "source: {nets: [10.0.0.0/8, 'fd00::/8']}",
            "source.nets: expected IPv4 nets alone, as source.nets says, found fd00::/8",
        ),
        (
            "source: {nets: ['fd00::/8'], notNets: [10.0.0.0/8]}",
            "source.notNets: expected IPv6 nets alone, as source.nets says, found 10.0.0.0/8",
        ),
        (
            "source: {notNets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}",
            "destination.nets: expected IPv4 nets alone, as source.notNets says, found fd00::/8",
        ),
        (
            "ipVersion: 6, destination: {nets: [10.0.0.0/8]}",
            "destination.nets: expected IPv6 nets alone, as ipVersion says, found 10.0.0.0/8",
        ),
    ] {
        refused(
            &rule(&format!("action: Allow, {text}")),
            &[&format!("spec.egress[0].{expected}")],
        );
    }
}

#[test]
fn actions_and_notes() {
    for (text, action) in [
        ("Allow", RuleAction::Allow),
        ("Deny", RuleAction::Deny),
        ("Log", RuleAction::Log),
        ("Pass", RuleAction::Pass),
    ] {
        assert_eq!(egress_rule(&format!("action: {text}")).action, action);
    }
    egress_rule("action: Pass, metadata: {annotations: {Example.org/x: any text}}");
    let annotated = |annotations: &str| {
        rule(&format!(
            "action: Allow, metadata: {{annotations: {{{annotations}}}}}"
        ))
    };
    refused(
        &annotated("'a b': x"),
        &[
            "spec.egress[0].metadata.annotations: expected keys like name or example.org/name \
           (letters, digits, '-', '_' and '.', a letter or digit at either end, at most 63 \
           characters), found \"a b\"",
        ],
    );
    refused(
        &annotated(&format!("a: {}", "x".repeat(256 * 1024))),
        &[
            "spec.egress[0].metadata.annotations: expected at most 262144 bytes in all, found 262145",
        ],
    );
}
