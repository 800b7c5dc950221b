//! Policy, fail-safes and defaults, for packets that open a flow.

use hostfw_common::verdict::Reason::{
    self, EndpointDefault, Failsafe, Forwarded, NoEndpoint, NoMatch, RuleAllow, RuleDeny,
    TierDefault,
};
use hostfw_tests::packet::{Packet, flags::SYN};

use super::lab::{Hook, Lab, ip, lab, socket};

/// Documents of the tutorial and an endpoint for the lab's interface.
const TUTORIAL: &str = concat!(
    include_str!("../../../examples/protect-hosts/1-policies.yaml"),
    "\n---\n",
    include_str!("../../../examples/protect-hosts/2-endpoints.yaml"),
    "\n---\n",
    include_str!("../../../examples/protect-hosts/3-nodeport.yaml"),
);

pub(super) const ENDPOINT: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1-eth0, labels: {host-endpoint: ingress}}
spec: {interfaceName: eth0, node: node1}
---
";

/// A pre-DNAT policy with these rules, in YAML flow style.
pub(super) fn pre_dnat(name: &str, order: u32, rules: &str) -> String {
    format!(
        "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: {name}}}
spec: {{order: {order}, preDNAT: true, applyOnForward: true, selector: all(), ingress: [{rules}]}}
---
"
    )
}

/// A policy with these rules for what the host sends.
pub(super) fn egress(name: &str, order: u32, rules: &str) -> String {
    format!(
        "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: {name}}}
spec: {{order: {order}, selector: all(), types: [Egress], egress: [{rules}]}}
---
"
    )
}

fn tcp(source: &str, destination: &str) -> Packet {
    Packet::tcp(socket(source), socket(destination), SYN)
}

fn udp(source: &str, destination: &str) -> Packet {
    Packet::udp(socket(source), socket(destination))
}

/// Judges each packet at both ingress hooks, which must agree.
fn incoming(lab: &Lab, cases: &[(Packet, Reason)]) {
    for (packet, expected) in cases {
        for hook in Hook::INGRESS {
            lab.forget();
            assert_eq!(lab.judge(hook, packet), *expected, "{hook:?} {packet:?}");
        }
    }
}

#[test]
fn tutorial_closes_the_node_but_for_the_pinhole() {
    let Some(mut lab) = lab("tutorial") else {
        return;
    };
    lab.enforce(TUTORIAL);
    incoming(
        &lab,
        &[
            // Within the cluster.
            (tcp("10.240.0.12:40000", "10.240.0.11:8080"), RuleAllow),
            (tcp("192.168.2.2:40000", "10.240.0.11:31900"), RuleAllow),
            (udp("10.240.255.255:40000", "192.168.1.2:53"), RuleAllow),
            // From outside, to the host, a closed NodePort, a pod.
            (tcp("203.0.113.10:40000", "10.240.0.11:8080"), RuleDeny),
            (tcp("203.0.113.10:40000", "10.240.0.11:31900"), RuleDeny),
            (tcp("203.0.113.10:40000", "192.168.1.2:8080"), RuleDeny),
            (tcp("10.241.0.0:40000", "10.240.0.11:8080"), RuleDeny),
            // The pinhole: this node's address, this port, this protocol.
            (tcp("203.0.113.10:40000", "10.240.0.11:31852"), RuleAllow),
            (tcp("203.0.113.10:40000", "10.240.0.12:31852"), RuleDeny),
            (tcp("203.0.113.10:40000", "10.240.0.11:31853"), RuleDeny),
            (udp("203.0.113.10:40000", "10.240.0.11:31852"), RuleDeny),
            // IPv6: only the pinhole, as the allow rule lists IPv4 nets.
            (
                tcp("[2001:db8::9]:40000", "[fd00:10:240::11]:31852"),
                RuleAllow,
            ),
            (
                tcp("[2001:db8::9]:40000", "[fd00:10:240::11]:8080"),
                RuleDeny,
            ),
            (
                tcp("[fd00:10:240::12]:40000", "[fd00:10:240::11]:8080"),
                RuleDeny,
            ),
        ],
    );
}

#[test]
fn default_failsafes_stay_open_whatever_the_destination() {
    let Some(mut lab) = lab("failsafes") else {
        return;
    };
    lab.enforce(&[ENDPOINT, &pre_dnat("deny", 1, "{action: Deny}")].concat());
    let mut cases = Vec::new();
    for port in [22, 179, 2379, 2380, 5473, 6443, 6666, 6667] {
        cases.push((
            tcp("203.0.113.10:40000", &format!("10.240.0.11:{port}")),
            Failsafe,
        ));
        cases.push((
            tcp("[2001:db8::9]:40000", &format!("[fd00::1]:{port}")),
            Failsafe,
        ));
        cases.push((
            udp("203.0.113.10:40000", &format!("10.240.0.11:{port}")),
            RuleDeny,
        ));
    }
    cases.extend([
        // Routed to a pod: fail-safes do not ask where to.
        (tcp("203.0.113.10:40000", "192.168.1.2:22"), Failsafe),
        (udp("203.0.113.10:67", "10.240.0.11:68"), Failsafe),
        (tcp("203.0.113.10:40000", "10.240.0.11:68"), RuleDeny),
        (tcp("203.0.113.10:22", "10.240.0.11:23"), RuleDeny),
    ]);
    incoming(&lab, &cases);
}

#[test]
fn failsafes_with_nets_hold_for_these_alone() {
    let Some(mut lab) = lab("failsafe nets") else {
        return;
    };
    let felix = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec:
  failsafeInboundHostPorts: [{protocol: TCP, port: 2222, net: 198.51.100.0/24}, {protocol: SCTP, port: 9}]
  failsafeOutboundHostPorts: [{protocol: UDP, port: 53, net: '2001:db8:53::/48'}]
---
";
    lab.enforce(&[ENDPOINT, felix, &pre_dnat("deny", 1, "{action: Deny}")].concat());
    let sctp = Packet::raw(
        ip("203.0.113.10"),
        ip("10.240.0.11"),
        132,
        vec![1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    incoming(
        &lab,
        &[
            (tcp("198.51.100.255:40000", "10.240.0.11:2222"), Failsafe),
            (tcp("198.51.101.0:40000", "10.240.0.11:2222"), RuleDeny),
            (tcp("[2001:db8::9]:40000", "[fd00::1]:2222"), RuleDeny),
            (tcp("198.51.100.1:40000", "10.240.0.11:22"), RuleDeny),
            (sctp, Failsafe),
        ],
    );
    for (destination, expected) in [
        ("[2001:db8:53::1]:53", Failsafe),
        ("[2001:db8:54::1]:53", EndpointDefault),
        ("[2001:db8:53::1]:54", EndpointDefault),
    ] {
        let packet = udp("[fd00:10:240::11]:40000", destination);
        assert_eq!(lab.judge(Hook::TcOut, &packet), expected, "{destination}");
    }
}

#[test]
fn host_egress_is_denied_unless_allowed_and_forwarded_is_not_judged() {
    let Some(mut lab) = lab("egress") else {
        return;
    };
    lab.enforce(ENDPOINT);
    let out = |lab: &Lab, hook, packet: &Packet| {
        lab.forget();
        lab.judge(hook, packet)
    };
    let web = tcp("10.240.0.11:40000", "203.0.113.10:80");
    let web_v6 = tcp("[fd00:10:240::11]:40000", "[2001:db8::9]:80");
    for packet in [&web, &web_v6] {
        assert_eq!(out(&lab, Hook::TcOut, packet), EndpointDefault);
        assert_eq!(out(&lab, Hook::TcForward, packet), Forwarded);
    }
    let dns = udp("10.240.0.11:40000", "203.0.113.53:53");
    assert_eq!(out(&lab, Hook::TcOut, &dns), Failsafe);
    let dhcp = udp("0.0.0.0:68", "255.255.255.255:67");
    assert_eq!(out(&lab, Hook::TcOut, &dhcp), Failsafe);

    let rules = "{action: Deny, destination: {nets: [203.0.113.11/32]}},
        {action: Allow, protocol: TCP, destination: {nets: [203.0.113.0/24], notPorts: [25]}}";
    lab.enforce(&[ENDPOINT, &egress("web", 1, rules)].concat());
    assert_eq!(out(&lab, Hook::TcOut, &web), RuleAllow);
    assert_eq!(out(&lab, Hook::TcOut, &web_v6), TierDefault);
    let other = tcp("10.240.0.11:40000", "203.0.113.11:80");
    assert_eq!(out(&lab, Hook::TcOut, &other), RuleDeny);
    let mail = tcp("10.240.0.11:40000", "203.0.113.10:25");
    assert_eq!(out(&lab, Hook::TcOut, &mail), TierDefault);
}

#[test]
fn without_pre_dnat_policy_all_comes_in() {
    let Some(mut lab) = lab("no policy") else {
        return;
    };
    lab.enforce(ENDPOINT);
    incoming(
        &lab,
        &[
            (tcp("203.0.113.10:40000", "10.240.0.11:8080"), NoMatch),
            // Invalid packets are dropped only where some policy applies.
            (
                Packet::tcp(socket("203.0.113.10:1"), socket("10.240.0.11:2"), 0),
                NoMatch,
            ),
        ],
    );
}

#[test]
fn an_interface_without_endpoint_is_left_alone() {
    let Some(mut lab) = lab("no endpoint") else {
        return;
    };
    lab.switch(&hostfw_agent::compile::image::Image::default());
    let packet = tcp("203.0.113.10:40000", "10.240.0.11:8080");
    for hook in [Hook::Xdp, Hook::TcIn, Hook::TcOut, Hook::TcForward] {
        assert_eq!(lab.judge(hook, &packet), NoEndpoint, "{hook:?}");
    }
    assert_eq!(lab.flow_counts(), (0, 0));
}

#[test]
fn equal_orders_go_by_name() {
    let Some(mut lab) = lab("equal orders") else {
        return;
    };
    let both = [
        ENDPOINT,
        &pre_dnat("a", 10, "{action: Allow}"),
        &pre_dnat("a-b", 10, "{action: Deny}"),
    ];
    lab.enforce(&both.concat());
    incoming(&lab, &[(tcp("203.0.113.10:1", "10.240.0.11:80"), RuleDeny)]);
}

#[test]
fn a_rule_with_nets_of_one_family_is_skipped_for_the_other() {
    let Some(mut lab) = lab("families") else {
        return;
    };
    let deny = "{action: Deny, source: {notNets: [10.0.0.0/8]}}";
    lab.enforce(&[ENDPOINT, &pre_dnat("deny", 1, deny)].concat());
    incoming(
        &lab,
        &[
            (tcp("203.0.113.10:1", "10.240.0.11:80"), RuleDeny),
            (tcp("10.9.9.9:1", "10.240.0.11:80"), NoMatch),
            (tcp("[2001:db8::1]:1", "[fd00::1]:80"), NoMatch),
        ],
    );
}

#[test]
fn protocols_types_codes_and_source_ports_count() {
    let Some(mut lab) = lab("criteria") else {
        return;
    };
    let rules = "{action: Allow, protocol: ICMP, icmp: {type: 8}},
        {action: Allow, protocol: ICMPv6, icmp: {type: 128, code: 0}},
        {action: Allow, protocol: 47},
        {action: Allow, protocol: UDP, source: {ports: ['1000:1003', 2000]}},
        {action: Deny, notProtocol: TCP},
        {action: Allow, source: {nets: [198.51.100.0/24]}, destination: {notNets: [10.240.0.0/24]}}";
    lab.enforce(&[ENDPOINT, &pre_dnat("mixed", 1, rules)].concat());
    let (outside, host) = (ip("203.0.113.10"), ip("10.240.0.11"));
    let (outside6, host6) = (ip("2001:db8::9"), ip("fd00:10:240::11"));
    incoming(
        &lab,
        &[
            (Packet::icmp(outside, host, 8, 0, 1), RuleAllow),
            (Packet::icmp(outside, host, 8, 7, 1), RuleAllow),
            (Packet::icmp(outside, host, 13, 0, 1), RuleDeny),
            (Packet::icmp(outside6, host6, 128, 0, 1), RuleAllow),
            (Packet::icmp(outside6, host6, 128, 1, 1), RuleDeny),
            (Packet::raw(outside, host, 47, vec![0; 8]), RuleAllow),
            (Packet::raw(outside, host, 48, vec![0; 8]), RuleDeny),
            (udp("203.0.113.10:999", "10.240.0.11:9"), RuleDeny),
            (udp("203.0.113.10:1000", "10.240.0.11:9"), RuleAllow),
            (udp("203.0.113.10:1003", "10.240.0.11:9"), RuleAllow),
            (udp("203.0.113.10:1004", "10.240.0.11:9"), RuleDeny),
            (udp("203.0.113.10:2000", "10.240.0.11:9"), RuleAllow),
            (tcp("203.0.113.10:1000", "10.240.0.11:9"), NoMatch),
            (tcp("198.51.100.1:1000", "10.240.1.11:9"), RuleAllow),
            (tcp("198.51.100.1:1000", "10.240.0.11:9"), NoMatch),
        ],
    );
}

#[test]
fn rules_that_log_report_in_order_and_decide_nothing() {
    let Some(mut lab) = lab("log") else {
        return;
    };
    let rules = "{action: Log, protocol: TCP}, {action: Log, protocol: UDP},
        {action: Log, source: {nets: [203.0.113.0/24]}}, {action: Allow, destination: {nets: [10.240.0.11/32]}},
        {action: Log}, {action: Deny}";
    lab.enforce(&[ENDPOINT, &pre_dnat("log", 1, rules)].concat());
    lab.events();
    for (destination, expected, logged) in [
        ("10.240.0.11:80", RuleAllow, &[0, 2][..]),
        ("10.240.0.99:80", RuleDeny, &[0, 2, 4][..]),
    ] {
        for hook in Hook::INGRESS {
            lab.forget();
            let packet = tcp("203.0.113.10:40000", destination);
            assert_eq!(lab.judge(hook, &packet), expected);
            let events = lab.events();
            let indices: Vec<u16> = events.iter().map(|event| event.rule.index).collect();
            assert_eq!(indices, logged, "{destination}");
            let event = events[0];
            assert_eq!(event.interface, super::lab::INTERFACE);
            assert_eq!(event.source.v4(), [203, 0, 113, 10]);
            assert_eq!(event.source_port, 40000u16.to_be_bytes());
            assert_eq!(event.destination_port, 80u16.to_be_bytes());
            assert_eq!((event.protocol, event.direction), (6, 0));
        }
    }
}

#[test]
fn more_logging_rules_than_are_reported_do_not_change_the_verdict() {
    let Some(mut lab) = lab("many logs") else {
        return;
    };
    let logs = "{action: Log},".repeat(200);
    let rules = format!("{logs} {{action: Allow, protocol: TCP}}, {{action: Deny}}");
    lab.enforce(&[ENDPOINT, &pre_dnat("log", 1, &rules)].concat());
    lab.events();
    for hook in Hook::INGRESS {
        lab.forget();
        assert_eq!(
            lab.judge(hook, &tcp("203.0.113.10:1", "10.240.0.11:80")),
            RuleAllow
        );
        assert_eq!(
            lab.judge(hook, &udp("203.0.113.10:1", "10.240.0.11:80")),
            RuleDeny
        );
    }
    let reported = hostfw_common::limits::MAX_LOGS_PER_PACKET as usize;
    assert_eq!(lab.events().len(), 4 * reported);
}

#[test]
fn every_rule_of_a_full_list_decides() {
    let Some(mut lab) = lab("full list") else {
        return;
    };
    // 4096 rules, each for a port of its own: four policies of 1024.
    let mut yaml = ENDPOINT.to_owned();
    for part in 0..4u32 {
        let rules: Vec<String> = (0..1024)
            .map(|rule| {
                let port = 1000 + part * 1024 + rule;
                let action = if rule % 2 == 0 { "Allow" } else { "Deny" };
                format!("{{action: {action}, protocol: TCP, destination: {{ports: [{port}]}}}}")
            })
            .collect();
        yaml += &pre_dnat(&format!("part{part}"), part, &rules.join(", "));
    }
    lab.enforce(&yaml);
    for rule in (0..4096u16).filter(|rule| rule % 64 < 2 || rule % 64 > 61) {
        let packet = tcp(
            "203.0.113.10:40000",
            &format!("10.240.0.11:{}", 1000 + rule),
        );
        let expected = if rule % 2 == 0 { RuleAllow } else { RuleDeny };
        // Fail-safes come first.
        let expected = if [2379, 2380].contains(&(1000 + rule)) {
            Failsafe
        } else {
            expected
        };
        assert_eq!(lab.judge(Hook::Xdp, &packet), expected, "rule {rule}");
    }
    let packet = tcp("203.0.113.10:40000", "10.240.0.11:5096");
    assert_eq!(lab.judge(Hook::Xdp, &packet), NoMatch);
}
