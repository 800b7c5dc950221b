use std::net::IpAddr;

use super::*;
use crate::{
    model::{
        Failsafe, IcmpMatch, InterfaceMatch, IpVersion, Order, PortRange, Protocol, RuleAction,
        Stage,
    },
    resource::parse_documents,
    selector::Selector,
};

/// An object with this name and this spec in flow style.
fn resource(kind: &str, name: &str, spec: &str) -> Resource {
    with_metadata(kind, &format!("name: {name}"), spec)
}

#[track_caller]
fn with_metadata(kind: &str, metadata: &str, spec: &str) -> Resource {
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{metadata}}}\n\
         spec: {{{spec}}}\n"
    );
    let mut documents = parse_documents(&text);
    match documents.remove(0).result {
        Ok(mut resources) => resources.remove(0),
        Err(error) => panic!("{error}\n{text}"),
    }
}

fn gnp(spec: &str) -> Resource {
    resource("GlobalNetworkPolicy", "p", spec)
}

fn hep(spec: &str) -> Resource {
    resource("HostEndpoint", "h", spec)
}

fn felix(spec: &str) -> Resource {
    resource("FelixConfiguration", "default", spec)
}

/// A policy that is valid but for what this rule brings.
fn rule(rule: &str) -> Resource {
    gnp(&format!("egress: [{{{rule}}}]"))
}

#[track_caller]
fn valid(resource: &Resource) -> Object {
    validate(resource).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

#[track_caller]
fn policy(resource: &Resource) -> model::Policy {
    match valid(resource) {
        Object::Policy(policy) => policy,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn egress_rule(text: &str) -> model::Rule {
    policy(&rule(text)).egress.expect("egress rules").remove(0)
}

#[track_caller]
fn endpoint(resource: &Resource) -> model::HostEndpoint {
    match valid(resource) {
        Object::HostEndpoint(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn settings(resource: &Resource) -> model::FelixSettings {
    match valid(resource) {
        Object::Settings(settings) => settings,
        other => panic!("{other:?}"),
    }
}

/// The object is refused with exactly these messages.
#[track_caller]
fn refused(resource: &Resource, expected: &[&str]) {
    match validate(resource) {
        Ok(object) => panic!("{object:#?} instead of {expected:#?}"),
        Err(errors) => {
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn the_tutorial_is_valid() {
    let pinhole = policy(&gnp(
        "preDNAT: true, applyOnForward: true, order: 10, selector: has(host-endpoint), \
         ingress: [{action: Allow, protocol: TCP, \
         destination: {selector: has(host-endpoint), ports: [31852]}}]",
    ));
    assert_eq!(pinhole.stage, Stage::PreDnat);
    assert_eq!(pinhole.order, Order::new(10.0).expect("a number"));
    assert_eq!(pinhole.selector.to_string(), "has(host-endpoint)");
    assert_eq!(pinhole.egress, None);
    let rules = pinhole.ingress.expect("ingress rules");
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].action, RuleAction::Allow);
    assert_eq!(
        rules[0].destination.ports,
        [PortRange {
            first: 31852,
            last: 31852
        }]
    );
    assert_eq!(
        rules[0]
            .destination
            .selector
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("has(host-endpoint)")
    );

    let outbound = policy(&gnp(
        "order: 10, egress: [{action: Allow}], selector: has(host-endpoint)",
    ));
    assert_eq!(outbound.stage, Stage::Normal);
    assert_eq!(outbound.ingress, None);
    assert_eq!(outbound.egress.map(|rules| rules.len()), Some(1));

    let endpoint = endpoint(&with_metadata(
        "HostEndpoint",
        "name: node1-eth0, labels: {host-endpoint: ingress}",
        "interfaceName: eth0, node: node1",
    ));
    assert_eq!(endpoint.interface, InterfaceMatch::Name("eth0".to_owned()));
    assert_eq!(endpoint.node, "node1");
    assert_eq!(
        endpoint.labels.get("host-endpoint").map(String::as_str),
        Some("ingress")
    );
    assert_eq!(endpoint.expected_ips, [] as [IpAddr; 0]);
}

#[test]
fn defaults_of_a_policy() {
    let policy = policy(&gnp("egress: [{action: Log}]"));
    assert_eq!(policy.order, Order::LAST);
    assert_eq!(policy.selector, Selector::all());
    // What says nothing is as good as absent.
    let explicit = gnp(
        "tier: '', selector: '', namespaceSelector: '', serviceAccountSelector: '', \
         preDNAT: false, doNotTrack: false, applyOnForward: false, types: [], ingress: [], \
         performanceHints: [AssumeNeededOnEveryNode], egress: [{action: Log, \
         source: {nets: [], selector: ''}, metadata: {annotations: {a: b}}}]",
    );
    assert_eq!(super::tests::policy(&explicit), policy);
}

#[test]
fn types_are_inferred_from_the_rules() {
    const PRE: &str = "preDNAT: true, applyOnForward: true";
    let without_rules = policy(&gnp(PRE));
    assert_eq!(without_rules.ingress, Some(Vec::new()));
    assert_eq!(without_rules.egress, None);
    let egress = policy(&gnp("egress: [{action: Allow}]"));
    assert!(egress.ingress.is_none() && egress.egress.is_some());
    // Rules of a direction that is not among the types have no effect.
    let one_sided = policy(&gnp(
        "types: [Egress], ingress: [{action: Allow}], egress: [{action: Deny}]",
    ));
    assert!(one_sided.ingress.is_none() && one_sided.egress.is_some());
    // They are checked all the same.
    refused(
        &gnp("types: [Egress], ingress: [{action: Pass}]"),
        &[
            "spec.ingress[0].action: Pass is not enforced by this release: expected Allow, Deny or \
           Log, found Pass",
        ],
    );
    assert_eq!(policy(&gnp("types: [Egress]")).egress, Some(Vec::new()));
    refused(
        &gnp("types: [Egress, Egress]"),
        &["spec.types[1]: expected each type once, found Egress again"],
    );
}

#[test]
fn stages_that_are_not_enforced_are_named() {
    let normal_ingress = |found: &str| {
        format!(
            "spec.types: ingress policy other than preDNAT is not enforced by this release: \
             expected Egress alone, or preDNAT and applyOnForward true, found {found}"
        )
    };
    refused(&gnp("types: [Ingress]"), &[&normal_ingress("Ingress")]);
    refused(
        &gnp("ingress: [{action: Allow}]"),
        &[&normal_ingress("Ingress, inferred from the ingress rules")],
    );
    refused(
        &gnp("ingress: [{action: Allow}], egress: [{action: Allow}]"),
        &[&normal_ingress("Ingress, inferred from the ingress rules")],
    );
    refused(
        &gnp("selector: all()"),
        &[&normal_ingress(
            "Ingress, inferred from there being no egress rules",
        )],
    );
    refused(
        &gnp("applyOnForward: true, egress: [{action: Allow}]"),
        &[
            "spec.applyOnForward: applyOnForward without preDNAT is not enforced by this release: \
             expected false or nothing, found true",
        ],
    );
    const DO_NOT_TRACK: &str = "spec.doNotTrack: doNotTrack is not enforced by this release: \
                                expected false or nothing, found true";
    refused(
        &gnp("doNotTrack: true, applyOnForward: true"),
        &[DO_NOT_TRACK],
    );
    refused(
        &gnp("doNotTrack: true"),
        &[
            DO_NOT_TRACK,
            "spec.applyOnForward: expected true, for doNotTrack is true, found nothing",
        ],
    );
    refused(
        &gnp("doNotTrack: true, preDNAT: true, applyOnForward: true"),
        &[
            DO_NOT_TRACK,
            "spec.preDNAT: expected preDNAT or doNotTrack, not both, found both true",
        ],
    );
}

#[test]
fn pre_dnat_is_for_ingress_that_is_also_forwarded() {
    refused(
        &gnp("preDNAT: true"),
        &["spec.applyOnForward: expected true, for preDNAT is true, found nothing"],
    );
    refused(
        &gnp("preDNAT: true, applyOnForward: false"),
        &["spec.applyOnForward: expected true, for preDNAT is true, found false"],
    );
    refused(
        &gnp("preDNAT: true, applyOnForward: true, egress: [{action: Allow}]"),
        &["spec.egress: expected no egress rules, for preDNAT is true, found 1 rules"],
    );
    refused(
        &gnp("preDNAT: true, applyOnForward: true, types: [Ingress, Egress]"),
        &["spec.types: expected Ingress alone, for preDNAT is true, found Egress"],
    );
}

#[test]
fn other_fields_of_a_policy() {
    const E: &str = "egress: [{action: Allow}]";
    for (spec, expected) in [
        (
            "tier: security",
            "spec.tier: another tier is not enforced by this release: expected default, found \
             \"security\"",
        ),
        (
            "namespaceSelector: all()",
            "spec.namespaceSelector: namespaceSelector is not enforced by this release: expected \
             nothing, found \"all()\"",
        ),
        (
            "serviceAccountSelector: all()",
            "spec.serviceAccountSelector: serviceAccountSelector is not enforced by this release: \
             expected nothing, found \"all()\"",
        ),
        (
            "performanceHints: [Fast]",
            "spec.performanceHints[0]: expected AssumeNeededOnEveryNode, found \"Fast\"",
        ),
        (
            "selector: a = b",
            "spec.selector: expected an operator ('==', '!=', 'in', 'not in', 'contains', 'starts \
             with' or 'ends with') at character 3, found '=' in \"a = b\"",
        ),
        (
            "selector: \"has(a)\\n\"",
            "spec.selector: expected '&&', '||' or the end at character 7, found a newline (a \
             selector is one line) in \"has(a)\\n\"",
        ),
        (
            "selector: has(a) || global()",
            "spec.selector: expected a selector without global(), which is for namespaces alone, \
             found \"has(a) || global()\"",
        ),
    ] {
        refused(&gnp(&format!("{spec}, {E}")), &[expected]);
    }
    let selector = |length: usize| format!("selector: {}has(a), {E}", "!".repeat(length - 6));
    assert!(
        validate(&gnp(&selector(1024)
            .replace("selector: ", "selector: '")
            .replace("(a)", "(a)'")))
        .is_ok()
    );
    refused(
        &gnp(&selector(1025)
            .replace("selector: ", "selector: '")
            .replace("(a)", "(a)'")),
        &["spec.selector: expected at most 1024 characters, found 1025"],
    );
    let rules = |count: usize| format!("egress: [{}]", vec!["{action: Allow}"; count].join(","));
    assert!(validate(&gnp(&rules(1024))).is_ok());
    refused(
        &gnp(&rules(1025)),
        &["spec.egress: expected at most 1024 rules, found 1025"],
    );
}

#[test]
fn names_and_labels() {
    const DNS: &str = "metadata.name: expected a DNS subdomain (lower-case letters, digits, '-' \
                       and '.', at most 253 characters), found";
    for name in ["Node1", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b"] {
        refused(
            &with_metadata(
                "HostEndpoint",
                &format!("name: '{name}'"),
                "node: n1, interfaceName: e",
            ),
            &[&format!("{DNS} {name:?}")],
        );
    }
    let long = vec!["a"; 127].join(".");
    assert!(
        validate(&resource(
            "HostEndpoint",
            &long,
            "node: n1, interfaceName: e"
        ))
        .is_ok()
    );
    let errors = validate(&resource(
        "HostEndpoint",
        &format!("{long}.a"),
        "node: n1, interfaceName: e",
    ))
    .expect_err("255 characters");
    assert_eq!(errors[0].field, "metadata.name");

    const E: &str = "egress: [{action: Allow}]";
    assert!(validate(&resource("GlobalNetworkPolicy", "a.b", E)).is_ok());
    for name in ["a.b.c".to_owned(), "a".repeat(64)] {
        refused(
            &resource("GlobalNetworkPolicy", &name, E),
            &[&format!(
                "metadata.name: expected at most two parts joined by a dot, each of at most 63 \
                 characters, found {name:?}"
            )],
        );
    }
    refused(
        &with_metadata(
            "HostEndpoint",
            "name: h, namespace: default, generateName: x-",
            "node: n1, interfaceName: e",
        ),
        &[
            "metadata.namespace: expected nothing, for this kind is cluster-scoped, found \"default\"",
            "metadata.generateName: expected nothing, for names are not made up here, found \"x-\"",
        ],
    );
    assert!(
        validate(&with_metadata(
            "HostEndpoint",
            "name: h, namespace: '', labels: {a.b/c_D: '', x: A.b_c-1}, annotations: \
             {Example.org/x: 'any text'}",
            "node: n1, interfaceName: e"
        ))
        .is_ok()
    );
    for key in [
        "a b",
        "",
        "/a",
        "a/",
        "a/b/c",
        "A.b/c",
        "-a",
        &"a".repeat(64),
    ] {
        let errors = validate(&with_metadata(
            "HostEndpoint",
            &format!("name: h, labels: {{'{key}': x}}"),
            "node: n1, interfaceName: e",
        ))
        .expect_err(key);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.labels");
        assert!(
            errors[0]
                .expected
                .starts_with("keys like name or example.org/name")
        );
    }
    for value in ["a b", "-", "a-", &"a".repeat(64)] {
        let errors = validate(&with_metadata(
            "HostEndpoint",
            &format!("name: h, labels: {{k: '{value}'}}"),
            "node: n1, interfaceName: e",
        ))
        .expect_err(value);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.labels.k");
        assert!(errors[0].expected.starts_with("a label value"));
    }
    let errors = validate(&with_metadata(
        "HostEndpoint",
        "name: h, annotations: {'a b': x}",
        "node: n1, interfaceName: e",
    ))
    .expect_err("an annotation key with a space");
    assert_eq!(errors[0].field, "metadata.annotations");
}

#[test]
fn endpoints() {
    assert_eq!(
        endpoint(&hep("node: n1, interfaceName: '*'")).interface,
        InterfaceMatch::Wildcard
    );
    let by_address = endpoint(&hep(
        "node: n1, expectedIPs: [10.0.0.1, 'fd00::1', '::ffff:10.0.0.2']",
    ));
    assert_eq!(by_address.interface, InterfaceMatch::ExpectedIps);
    assert_eq!(
        by_address.expected_ips,
        ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"))
    );
    for (spec, expected) in [
        (
            "interfaceName: eth0",
            "spec.node: expected the name of a node, found nothing",
        ),
        (
            "node: '', interfaceName: eth0",
            "spec.node: expected the name of a node, found nothing",
        ),
        (
            "node: n1",
            "spec: expected interfaceName or expectedIPs, or both, found neither",
        ),
        (
            "node: n1, interfaceName: ''",
            "spec: expected interfaceName or expectedIPs, or both, found neither",
        ),
        (
            "node: n1, interfaceName: a/b",
            "spec.interfaceName: expected '*' or the name of an interface (letters, digits, '_', \
             '.' and '-', at most 15 characters), found \"a/b\"",
        ),
        (
            "node: n1, interfaceName: abcdefghijklmnop",
            "spec.interfaceName: expected '*' or the name of an interface (letters, digits, '_', \
             '.' and '-', at most 15 characters), found \"abcdefghijklmnop\"",
        ),
        (
            "node: n1, expectedIPs: [10.0.0.1, 10.0.0.0/8]",
            "spec.expectedIPs[1]: expected an IPv4 or IPv6 address, without a prefix length, \
             found \"10.0.0.0/8\"",
        ),
        (
            "node: n1, expectedIPs: [010.0.0.1]",
            "spec.expectedIPs[0]: expected an IPv4 or IPv6 address, without a prefix length, \
             found \"010.0.0.1\"",
        ),
        (
            "node: n1, interfaceName: eth0, profiles: [a, b]",
            "spec.profiles: profiles is not enforced by this release: expected an empty list, \
             found 2 profiles",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: TCP, port: 1}]",
            "spec.ports: ports (named ports) is not enforced by this release: expected an empty \
             list, found 1 ports",
        ),
    ] {
        refused(&hep(spec), &[expected]);
    }
}

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
        ("notICMP: {}", "notICMP: expected a type, found nothing"),
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
    ] {
        for field in ["ports", "notPorts"] {
            refused(
                &rule(&format!(
                    "action: Allow, protocol: TCP, source: {{{field}: [{port}]}}"
                )),
                &[&format!(
                    "spec.egress[0].source.{field}[0]: expected a port from 1 to 65535, or a \
                     range as \"1000:2000\", lower port first, found {found}"
                )],
            );
        }
    }
    refused(
        &rule("action: Allow, destination: {ports: [http]}"),
        &[
            "spec.egress[0].destination.ports[0]: a named port is not enforced by this release: \
           expected a port number or a range, found \"http\"",
        ],
    );
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
fn other_criteria_of_a_rule() {
    for side in ["source", "destination"] {
        let rule_with = egress_rule(&format!(
            "action: Deny, {side}: {{selector: has(a), notSelector: b == 'c'}}"
        ));
        let entity = if side == "source" {
            rule_with.source
        } else {
            rule_with.destination
        };
        assert_eq!(entity.selector, Selector::parse("has(a)").ok());
        assert_eq!(entity.not_selector, Selector::parse("b == 'c'").ok());
        for (text, expected) in [
            (
                "namespaceSelector: all()",
                "namespaceSelector: namespaceSelector is not enforced by this release: expected \
                 nothing, found \"all()\"",
            ),
            (
                "serviceAccounts: {names: [a]}",
                "serviceAccounts: serviceAccounts is not enforced by this release: expected \
                 nothing, found service accounts",
            ),
            (
                "services: {name: a, namespace: b}",
                "services: services is not enforced by this release: expected nothing, found a \
                 service",
            ),
            (
                "selector: global()",
                "selector: expected a selector without global(), which is for namespaces alone, \
                 found \"global()\"",
            ),
            (
                "notSelector: has(",
                "notSelector: expected a label name at character 5, found the end in \"has(\"",
            ),
        ] {
            refused(
                &rule(&format!("action: Allow, {side}: {{{text}}}")),
                &[&format!("spec.egress[0].{side}.{expected}")],
            );
        }
    }
    refused(
        &rule("action: Pass"),
        &[
            "spec.egress[0].action: Pass is not enforced by this release: expected Allow, Deny or \
           Log, found Pass",
        ],
    );
    refused(
        &rule("action: Allow, protocol: TCP, http: {methods: [GET]}"),
        &[
            "spec.egress[0].http: http is not enforced by this release: expected nothing, found \
           HTTP criteria",
        ],
    );
}

#[test]
fn settings_of_felix() {
    let all = settings(&felix(
        "failsafeInboundHostPorts: [{protocol: TCP, port: 22}, {protocol: SCTP, port: 1, net: \
         10.0.0.0/8}], failsafeOutboundHostPorts: [], interfacePrefix: 'cali,tap', \
         interfaceExclude: 'kube-ipvs0,dummy0', disableConntrackInvalidCheck: true",
    ));
    assert_eq!(all.node, None);
    assert_eq!(
        all.failsafe_inbound,
        Some(vec![
            Failsafe {
                protocol: 6,
                port: 22,
                net: None
            },
            Failsafe {
                protocol: 132,
                port: 1,
                net: "10.0.0.0/8".parse().ok()
            }
        ])
    );
    assert_eq!(all.failsafe_outbound, Some(Vec::new()));
    assert_eq!(all.disable_invalid_check, Some(true));
    assert_eq!(
        all.workload_prefixes,
        Some(vec!["cali".to_owned(), "tap".to_owned()])
    );
    assert_eq!(
        all.excluded_interfaces,
        Some(vec!["kube-ipvs0".to_owned(), "dummy0".to_owned()])
    );
    let none = settings(&resource("FelixConfiguration", "node.node1.example", ""));
    assert_eq!(
        none,
        model::FelixSettings {
            node: Some("node1.example".to_owned()),
            failsafe_inbound: None,
            failsafe_outbound: None,
            disable_invalid_check: None,
            workload_prefixes: None,
            excluded_interfaces: None,
        }
    );
    refused(
        &resource("FelixConfiguration", "global", ""),
        &["metadata.name: expected default or node.<name of a node>, found \"global\""],
    );
}

#[test]
fn settings_that_are_refused() {
    for (spec, expected) in [
        (
            "bpfEnabled: true",
            "spec.bpfEnabled: bpfEnabled is not enforced by this release: expected nothing, found \
             a value",
        ),
        (
            "logPrefix: x",
            "spec.logPrefix: logPrefix is not enforced by this release: expected nothing, found a \
             value",
        ),
        (
            "failsafeInboundHostPort: []",
            "spec: expected failsafeInboundHostPorts, failsafeOutboundHostPorts, interfacePrefix, \
             interfaceExclude or disableConntrackInvalidCheck, found the unknown field \
             \"failsafeInboundHostPort\"",
        ),
        (
            "failsafeInboundHostPorts: [{protocol: tcp, port: 22}]",
            "spec.failsafeInboundHostPorts[0].protocol: expected TCP, UDP or SCTP, found \"tcp\"",
        ),
        (
            "failsafeOutboundHostPorts: [{protocol: TCP, port: 0}]",
            "spec.failsafeOutboundHostPorts[0].port: expected a port from 1 to 65535, found 0",
        ),
        (
            "failsafeOutboundHostPorts: [{protocol: TCP, port: 65536}]",
            "spec.failsafeOutboundHostPorts[0].port: expected a port from 1 to 65535, found 65536",
        ),
        (
            "failsafeInboundHostPorts: [{protocol: TCP, port: 1, net: 10.0.0.1}]",
            "spec.failsafeInboundHostPorts[0].net: expected a CIDR with a prefix length, as \
             10.0.0.1/32, found \"10.0.0.1\"",
        ),
        (
            "interfaceExclude: '/^veth/,a'",
            "spec.interfaceExclude: a regular expression is not enforced by this release: \
             expected names separated by commas, found \"/^veth/\"",
        ),
        (
            "interfacePrefix: ''",
            "spec.interfacePrefix: expected names separated by commas (letters, digits, '_', '.' \
             and '-', at most 15 characters each), found \"\"",
        ),
        (
            "interfacePrefix: 'cali, tap'",
            "spec.interfacePrefix: expected names separated by commas (letters, digits, '_', '.' \
             and '-', at most 15 characters each), found \" tap\"",
        ),
    ] {
        refused(&felix(spec), &[expected]);
    }
    let many = vec!["{protocol: TCP, port: 1}"; 1025].join(",");
    refused(
        &felix(&format!("failsafeInboundHostPorts: [{many}]")),
        &["spec.failsafeInboundHostPorts: expected at most 1024 ports, found 1025"],
    );
}

#[test]
fn all_errors_of_an_object_come_at_once() {
    refused(
        &gnp(
            "tier: t, selector: '(', preDNAT: true, ingress: [{action: Pass, protocol: tcp}, \
             {action: Allow, source: {nets: [10.0.0.1, 'x']}}]",
        ),
        &[
            "spec.tier: another tier is not enforced by this release: expected default, found \"t\"",
            "spec.ingress[0].action: Pass is not enforced by this release: expected Allow, Deny \
             or Log, found Pass",
            "spec.ingress[0].protocol: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number \
             from 1 to 255, found \"tcp\"",
            "spec.ingress[1].source.nets[0]: expected a CIDR with a prefix length, as 10.0.0.1/32, \
             found \"10.0.0.1\"",
            "spec.ingress[1].source.nets[1]: expected a CIDR, as 10.0.0.0/8 or fd00::/8, found \
             \"x\"",
            "spec.applyOnForward: expected true, for preDNAT is true, found nothing",
            "spec.selector: expected a label name, 'has(', 'all()', 'global()', '!' or '(' at \
             character 2, found the end in \"(\"",
        ],
    );
}

#[test]
fn hostile_objects_give_short_messages() {
    const MANY: usize = 1 << 20;
    for resource in [
        gnp(&format!(
            "selector: '{}', egress: [{{action: Allow}}]",
            "(".repeat(MANY)
        )),
        rule(&format!(
            "action: Allow, source: {{selector: '{}'}}",
            "(".repeat(MANY)
        )),
        rule(&format!(
            "action: Allow, source: {{nets: ['{}']}}",
            "1".repeat(MANY)
        )),
        rule(&format!("action: Allow, protocol: '{}'", "1".repeat(MANY))),
        rule(&format!(
            "action: Allow, protocol: TCP, source: {{ports: ['{}']}}",
            "1:".repeat(MANY)
        )),
        felix(&format!("interfacePrefix: '{}'", "a".repeat(MANY))),
        hep(&format!(
            "node: n1, interfaceName: '{}'",
            "\u{1F600}".repeat(MANY / 4)
        )),
        resource(
            "HostEndpoint",
            &"a".repeat(MANY),
            "node: n1, interfaceName: e",
        ),
    ] {
        let errors = validate(&resource).expect_err("nonsense");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().len() < 1200, "{}", errors[0]);
    }
}

#[test]
fn a_model_is_sorted_by_name() {
    const E: &str = "egress: [{action: Allow}]";
    let objects = [
        resource("GlobalNetworkPolicy", "b", E),
        resource("HostEndpoint", "b", "node: n1, interfaceName: e"),
        resource("FelixConfiguration", "node.a", ""),
        resource("GlobalNetworkPolicy", "a", E),
        resource("FelixConfiguration", "default", ""),
        resource("HostEndpoint", "a", "node: n1, interfaceName: e"),
    ];
    let model = assemble(objects.iter().map(valid));
    let names: Vec<_> = model.policies.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let names: Vec<_> = model.endpoints.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let nodes: Vec<_> = model.settings.iter().map(|s| s.node.as_deref()).collect();
    assert_eq!(nodes, [None, Some("a")]);
}
