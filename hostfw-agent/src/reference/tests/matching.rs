//! Sections 3 to 5: what rules match.

use super::*;

const SETS: [&str; 4] = [
    "kind: GlobalNetworkSet\nmetadata: {name: partners, labels: {role: partner}}\nspec: {nets: \
     [192.0.2.7/24, 2001:db8::/64, '::ffff:10.9.9.9']}\n",
    "kind: GlobalNetworkSet\nmetadata: {name: banned, labels: {role: partner, banned: 'yes'}}\n\
     spec: {nets: [192.0.2.128/25, 198.51.100.0/24]}\n",
    "kind: NetworkSet\nmetadata: {name: inside, namespace: web, labels: {role: inside}}\nspec: \
     {nets: [203.0.113.0/24]}\n",
    "kind: Profile\nmetadata: {name: kns.web}\nspec: {labelsToApply: {pcns.team: web}}\n",
];

/// Whether the rule matches: it stands alone in a normal policy. Written as
/// the fields beside the action.
#[track_caller]
fn matches(rule: &str, question: &Question, expected: bool) {
    let rule = if rule.is_empty() {
        String::new()
    } else {
        format!(", {rule}")
    };
    let key = match question.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let own = policy("n", &format!("{key}: [{{action: Allow{rule}}}]"));
    let endpoint = ENDPOINT.replace(
        "interfaceName: eth0}",
        "interfaceName: eth0, ports: [{name: http, protocol: TCP, port: 80}, {name: dns, protocol: \
         UDP, port: 53}]}",
    );
    let none = object(
        "FelixConfiguration",
        "default",
        "failsafeInboundHostPorts: []\nfailsafeOutboundHostPorts: []",
    );
    let mut objects = vec![endpoint.as_str(), &own, &none];
    objects.extend(SETS);
    let answer = node(&objects).judge(question);
    assert_eq!(answer.reason == Why::Rule, expected, "{rule}: {question:?}");
}

fn from(source: &str) -> Question {
    let mut question = inbound(80);
    question.source = address(source);
    if question.source.is_ipv6() {
        question.destination = address(NODE6);
    }
    question
}

fn of(protocol: u8, port: u16) -> Question {
    let mut question = inbound(port);
    question.protocol = protocol;
    question
}

fn icmp(kind: u8, code: u8) -> Question {
    let mut question = of(1, 0);
    question.source_port = 0;
    question.icmp = Some((kind, code));
    question
}

fn icmp6(kind: u8, code: u8) -> Question {
    let mut question = from("2001:db8::1");
    question.protocol = 58;
    question.icmp = Some((kind, code));
    question
}

#[test]
fn families_and_protocols() {
    matches("", &inbound(80), true);
    matches("ipVersion: 4", &inbound(80), true);
    matches("ipVersion: 6", &inbound(80), false);
    matches("ipVersion: 6", &from("2001:db8::1"), true);
    for (protocol, number) in [
        ("TCP", 6),
        ("UDP", 17),
        ("SCTP", 132),
        ("UDPLite", 136),
        ("ICMP", 1),
        ("47", 47),
        ("'47'", 47),
    ] {
        matches(&format!("protocol: {protocol}"), &of(number, 80), true);
        matches(&format!("protocol: {protocol}"), &of(99, 80), false);
        matches(&format!("notProtocol: {protocol}"), &of(number, 80), false);
        matches(&format!("notProtocol: {protocol}"), &of(99, 80), true);
    }
    // A name says the family, a number does not.
    matches("protocol: ICMP", &icmp(8, 0), true);
    matches("protocol: ICMPv6", &icmp6(128, 0), true);
    let mut crossed = from("2001:db8::1");
    crossed.protocol = 1;
    matches("protocol: ICMP", &crossed, false);
    matches("protocol: 1", &crossed, true);
}

#[test]
fn icmp_types_and_codes() {
    matches("protocol: ICMP, icmp: {type: 8}", &icmp(8, 3), true);
    matches("protocol: ICMP, icmp: {type: 8}", &icmp(0, 0), false);
    matches(
        "protocol: ICMP, icmp: {type: 3, code: 4}",
        &icmp(3, 4),
        true,
    );
    matches(
        "protocol: ICMP, icmp: {type: 3, code: 4}",
        &icmp(3, 1),
        false,
    );
    matches("protocol: ICMP, notICMP: {type: 8}", &icmp(8, 0), false);
    matches("protocol: ICMP, notICMP: {type: 8}", &icmp(0, 0), true);
    matches(
        "protocol: ICMP, notICMP: {type: 3, code: 4}",
        &icmp(3, 1),
        true,
    );
    matches(
        "protocol: ICMP, notICMP: {type: 3, code: 4}",
        &icmp(3, 4),
        false,
    );
    // Without a protocol: ICMP of the packet's family.
    matches("notICMP: {type: 8}", &icmp(0, 0), true);
    matches("notICMP: {type: 8}", &icmp(8, 0), false);
    matches("notICMP: {type: 8}", &icmp6(128, 0), true);
    matches("notICMP: {type: 8}", &inbound(80), false);
    matches("protocol: ICMPv6, icmp: {type: 128}", &icmp6(128, 0), true);
}

#[test]
fn nets() {
    for (rule, source, expected) in [
        ("source: {nets: [192.0.2.0/24]}", "192.0.2.255", true),
        ("source: {nets: [192.0.2.0/24]}", "192.0.3.0", false),
        (
            "source: {nets: [10.0.0.0/8, 192.0.2.0/24]}",
            "192.0.2.1",
            true,
        ),
        ("source: {nets: [192.0.2.0/24]}", "2001:db8::1", false),
        ("source: {nets: [0.0.0.0/0]}", "2001:db8::1", false),
        ("source: {notNets: [192.0.2.0/24]}", "192.0.2.1", false),
        ("source: {notNets: [192.0.2.0/24]}", "192.0.3.1", true),
        ("source: {notNets: [192.0.2.0/24]}", "2001:db8::1", false),
        (
            "source: {nets: [192.0.2.0/24], notNets: [192.0.2.1/32]}",
            "192.0.2.1",
            false,
        ),
        (
            "source: {nets: [192.0.2.0/24], notNets: [192.0.2.1/32]}",
            "192.0.2.2",
            true,
        ),
        ("destination: {nets: [10.240.0.11/32]}", "192.0.2.1", true),
        ("destination: {nets: [10.240.0.12/32]}", "192.0.2.1", false),
        (
            "destination: {notNets: [10.240.0.0/16]}",
            "192.0.2.1",
            false,
        ),
    ] {
        matches(rule, &from(source), expected);
    }
}

#[test]
fn ports_by_number() {
    for (ports, port, expected) in [
        ("[80]", 80, true),
        ("['80']", 80, true),
        ("[80]", 81, false),
        ("[1, '79:81']", 81, true),
        ("['79:81']", 82, false),
        ("['1:65535']", 65_535, true),
    ] {
        matches(
            &format!("protocol: TCP, destination: {{ports: {ports}}}"),
            &inbound(port),
            expected,
        );
        matches(
            &format!("protocol: TCP, destination: {{notPorts: {ports}}}"),
            &inbound(port),
            !expected,
        );
        let mut question = inbound(1);
        question.source_port = port;
        matches(
            &format!("protocol: TCP, source: {{ports: {ports}}}"),
            &question,
            expected,
        );
    }
}

#[test]
fn ports_by_name() {
    let named = |ports: &str| format!("destination: {{ports: {ports}}}");
    matches(&named("[http]"), &inbound(80), true);
    matches(&named("[http]"), &inbound(81), false);
    // Name, protocol and address.
    matches(&named("[http]"), &of(17, 80), false);
    matches(&named("[dns]"), &of(17, 53), true);
    let mut elsewhere = inbound(80);
    elsewhere.destination = address("10.240.0.99");
    matches(&named("[http]"), &elsewhere, false);
    // Names and numbers are alternatives.
    matches(
        &format!("protocol: TCP, {}", named("[http, 8080]")),
        &inbound(8080),
        true,
    );
    matches(
        &format!("protocol: TCP, {}", named("[http, 8080]")),
        &inbound(80),
        true,
    );
    matches(
        &format!("protocol: UDP, {}", named("[http]")),
        &of(17, 80),
        false,
    );
    matches(&named("[nowhere]"), &inbound(80), false);
    // Filtered by the selector of the side.
    matches(
        "destination: {ports: [http], selector: has(host-endpoint)}",
        &inbound(80),
        true,
    );
    matches(
        "destination: {ports: [http], selector: role == 'partner'}",
        &inbound(80),
        false,
    );
    matches(
        "destination: {ports: [http], notSelector: has(host-endpoint)}",
        &inbound(80),
        false,
    );
    // Negated: of all that has ports.
    let not = "destination: {notPorts: [http]}";
    matches(not, &inbound(80), false);
    matches(not, &inbound(81), true);
    matches(not, &elsewhere, true);
    matches(not, &icmp(8, 0), false);
}

#[test]
fn selectors_match_known_addresses() {
    for (rule, source, expected) in [
        ("source: {selector: role == 'partner'}", "192.0.2.1", true),
        ("source: {selector: role == 'partner'}", "2001:db8::5", true),
        ("source: {selector: role == 'partner'}", "10.9.9.9", true),
        ("source: {selector: role == 'partner'}", "10.9.9.8", false),
        ("source: {selector: has(host-endpoint)}", NODE, true),
        ("source: {selector: has(nothing)}", "192.0.2.1", false),
        ("source: {selector: ''}", "8.8.8.8", true),
        // An unknown address is in no object.
        ("source: {notSelector: role == 'partner'}", "8.8.8.8", true),
        (
            "source: {notSelector: role == 'partner'}",
            "192.0.2.1",
            false,
        ),
        ("source: {notSelector: all()}", "8.8.8.8", true),
        // Together they pick objects, not addresses.
        (
            "source: {selector: has(role), notSelector: has(banned)}",
            "192.0.2.200",
            true,
        ),
        (
            "source: {selector: has(role), notSelector: has(banned)}",
            "198.51.100.1",
            false,
        ),
        (
            "source: {selector: has(role), notSelector: has(banned)}",
            "8.8.8.8",
            false,
        ),
        (
            "source: {selector: role == 'partner', nets: [192.0.2.0/30]}",
            "192.0.2.4",
            false,
        ),
    ] {
        matches(rule, &from(source), expected);
    }
}

#[test]
fn namespaces_and_service_accounts() {
    for (rule, source, expected) in [
        ("source: {namespaceSelector: all()}", "203.0.113.1", true),
        ("source: {namespaceSelector: all()}", "192.0.2.1", false),
        ("source: {namespaceSelector: global()}", "192.0.2.1", true),
        ("source: {namespaceSelector: global()}", NODE, true),
        (
            "source: {namespaceSelector: global()}",
            "203.0.113.1",
            false,
        ),
        ("source: {namespaceSelector: global()}", "8.8.8.8", false),
        (
            "source: {namespaceSelector: team == 'web'}",
            "203.0.113.1",
            true,
        ),
        (
            "source: {namespaceSelector: team == 'db'}",
            "203.0.113.1",
            false,
        ),
        (
            "source: {namespaceSelector: team == 'web', selector: role == 'x'}",
            "203.0.113.1",
            false,
        ),
        (
            "source: {namespaceSelector: team == 'web', notSelector: has(role)}",
            "203.0.113.1",
            false,
        ),
        (
            "source: {selector: projectcalico.org/namespace == 'web'}",
            "203.0.113.1",
            true,
        ),
        (
            "source: {serviceAccounts: {names: [a]}}",
            "203.0.113.1",
            false,
        ),
        (
            "source: {serviceAccounts: {selector: all()}}",
            "192.0.2.1",
            true,
        ),
        (
            "source: {serviceAccounts: {selector: '!has(x)'}}",
            "192.0.2.1",
            true,
        ),
        ("source: {serviceAccounts: {}}", "8.8.8.8", true),
        (
            "source: {services: {name: a, namespace: b}}",
            "192.0.2.1",
            false,
        ),
    ] {
        matches(rule, &from(source), expected);
    }
}

#[test]
fn egress_rules_match_what_goes_out() {
    matches(
        "destination: {selector: role == 'partner'}",
        &outbound(443),
        true,
    );
    matches(
        "destination: {nets: [198.51.100.0/24]}",
        &outbound(443),
        false,
    );
    matches(
        "protocol: TCP, destination: {ports: [443]}",
        &outbound(443),
        true,
    );
}

#[test]
fn the_trace_names_the_criterion_that_did_not_match() {
    let rules = "ingress:\n- {action: Deny, protocol: UDP}\n- {action: Deny, source: {nets: \
                 [10.0.0.0/8]}}\n- {action: Deny, protocol: TCP, destination: {ports: [443]}}\n- \
                 {action: Deny, source: {namespaceSelector: has(x)}}\n- {action: Allow}\n- \
                 {action: Deny}";
    let node = node(&[ENDPOINT, &policy("n", rules)]);
    let told: Vec<(u16, Option<String>)> = node
        .explain(&inbound(80))
        .steps
        .into_iter()
        .filter_map(|step| {
            let super::super::Event::Rule { index, missed, .. } = step.event else {
                return None;
            };
            Some((index, missed.map(|missed| missed.to_string())))
        })
        .collect();
    let expected = [
        (0, Some("protocol: the packet has TCP over IPv4")),
        (1, Some("source.nets: the packet has 192.0.2.99")),
        (
            2,
            Some("destination.ports: the packet has TCP, port 80 of 10.240.0.11"),
        ),
        (
            3,
            Some(
                "source.namespaceSelector: the packet has 192.0.2.99, which is none of the 0 \
                 known nets",
            ),
        ),
        (4, None),
    ];
    assert_eq!(
        told,
        expected.map(|(index, missed)| (index, missed.map(str::to_owned)))
    );
}

#[test]
fn what_cannot_be_read_is_left_out_and_named() {
    let objects = [
        policy("a", "selector: has(").replace("selector: has(host-endpoint)\n", ""),
        policy("b", "ingress: [{action: Allow, ipVersion: 5}]"),
        policy("c", "ingress: [{action: Allow, protocol: tcp}]"),
        policy("d", "ingress: [{action: Allow, source: {nets: [nowhere]}}]"),
        object(
            "FelixConfiguration",
            "default",
            "failsafeInboundHostPorts: [{protocol: X, port: 1}]",
        ),
    ];
    let mut all = vec![ENDPOINT];
    all.extend(objects.iter().map(String::as_str));
    let reference = Reference::new(&resources(&all), "node1", &interfaces());
    let left_out: Vec<String> = reference
        .left_out()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        left_out,
        [
            "FelixConfiguration(default)",
            "GlobalNetworkPolicy(a)",
            "GlobalNetworkPolicy(b)",
            "GlobalNetworkPolicy(c)",
            "GlobalNetworkPolicy(d)",
        ]
    );
    judged(&reference, &inbound(22), "allow normal -/-[-] failsafe");
    judged(
        &reference,
        &inbound(80),
        "deny normal -/-[-] endpoint-default",
    );
}
