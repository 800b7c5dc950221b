//! Section 11: the ten traps.

use super::*;

const ALLOW_ALL: &str = "ingress: [{action: Allow}]";
const DENY_ALL: &str = "ingress: [{action: Deny}]";

#[test]
fn trap_1_the_pinhole_needs_the_addresses_of_its_endpoint() {
    // Semantics 12.1: without expectedIPs, those of the interface count.
    let pinhole = pre_dnat(
        "allow-nodeport",
        "order: 10\ningress:\n- action: Allow\n  protocol: TCP\n  destination:\n    \
         selector: has(host-endpoint)\n    ports: [31852]",
    );
    let closed = pre_dnat("deny-rest", "order: 20\ningress: [{action: Deny}]");
    for endpoint in [
        ENDPOINT.to_owned(),
        ENDPOINT.replace("eth0}\n", &format!("eth0, expectedIPs: [{NODE}]}}\n")),
    ] {
        let node = node(&[&endpoint, &pinhole, &closed]);
        judged(
            &node,
            &inbound(31852),
            "allow preDNAT default/allow-nodeport[0] rule",
        );
        judged(
            &node,
            &inbound(31853),
            "deny preDNAT default/deny-rest[0] rule",
        );
        let elsewhere = packet(Direction::Ingress, Path::Forward, OUTSIDE, POD, 31852);
        judged(&node, &elsewhere, "deny preDNAT default/deny-rest[0] rule");
    }
    let elsewhere = ENDPOINT.replace("eth0}\n", "eth0, expectedIPs: [10.240.0.99]}\n");
    let node = node(&[&elsewhere, &pinhole, &closed]);
    judged(
        &node,
        &inbound(31852),
        "deny preDNAT default/deny-rest[0] rule",
    );
}

#[test]
fn trap_2_fail_safes_lead_around_pre_dnat_whatever_the_destination() {
    let closed = pre_dnat("closed", DENY_ALL);
    let open = node(&[ENDPOINT, &closed]);
    let answer = open.judge(&routed(22));
    assert_eq!(told(&answer), "allow - -/-[-] no-match");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match forward=no-match"
    );
    judged(&open, &routed(23), "deny preDNAT default/closed[0] rule");

    // The forward stage knows no fail-safes.
    let forward = policy("forward", "applyOnForward: true\ningress: [{action: Deny}]");
    let shut = node(&[ENDPOINT, &closed, &forward]);
    judged(&shut, &routed(22), "deny forward default/forward[0] rule");
}

#[test]
fn trap_3_an_endpoint_alone_denies_local_traffic_and_forwards() {
    let node = node(&[ENDPOINT]);
    judged(&node, &inbound(8080), "deny normal -/-[-] endpoint-default");
    judged(
        &node,
        &outbound(8080),
        "deny normal -/-[-] endpoint-default",
    );
    judged(&node, &routed(8080), "allow - -/-[-] no-match");
    judged(&node, &routed_out(8080), "allow - -/-[-] no-match");
}

#[test]
fn trap_4_a_pre_dnat_allow_is_final() {
    let pinhole = pre_dnat(
        "pinhole",
        "ingress: [{action: Allow, protocol: TCP, destination: {ports: [31852]}}]",
    );
    let closed = policy("closed", DENY_ALL);
    let node = node(&[ENDPOINT, &pinhole, &closed]);
    let answer = node.judge(&inbound(31852));
    assert_eq!(told(&answer), "allow preDNAT default/pinhole[0] rule");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=allow normal=skipped"
    );
    judged(&node, &inbound(31853), "deny normal default/closed[0] rule");
}

#[test]
fn trap_5_a_policy_for_egress_does_not_govern_ingress() {
    let egress = policy(
        "egress",
        "applyOnForward: true\negress: [{action: Allow, protocol: UDP}]",
    );
    let node = node(&[ENDPOINT, &egress]);
    judged(&node, &routed(8080), "allow - -/-[-] no-match");
    judged(
        &node,
        &routed_out(8080),
        "deny forward default/-[-] tier-default",
    );
}

#[test]
fn trap_6_all_is_not_any() {
    let allow = policy(
        "allow",
        "ingress: [{action: Allow, source: {selector: all()}}]",
    );
    let node = node(&[ENDPOINT, &allow]);
    let mut question = inbound(80);
    question.source = address("8.8.8.8");
    judged(&node, &question, "deny normal default/-[-] tier-default");
    question.source = address(NODE);
    judged(&node, &question, "allow normal default/allow[0] rule");
}

#[test]
fn trap_7_a_net_list_of_the_other_family_skips_the_rule() {
    let closed = pre_dnat(
        "closed",
        "ingress: [{action: Deny, source: {notNets: [10.0.0.0/8]}}]",
    );
    let node = node(&[ENDPOINT, &closed]);
    let answer = node.judge(&packet(
        Direction::Ingress,
        Path::Local,
        "2001:db8::1",
        NODE6,
        80,
    ));
    assert_eq!(told(&answer), "deny normal -/-[-] endpoint-default");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match normal=deny"
    );
    judged(&node, &inbound(80), "deny preDNAT default/closed[0] rule");
}

#[test]
fn trap_8_equal_orders_are_sorted_by_name_and_kind() {
    let a = pre_dnat("a", &format!("order: 10\n{ALLOW_ALL}"));
    let b = pre_dnat("a-b", &format!("order: 10\n{DENY_ALL}"));
    for objects in [[ENDPOINT, &a, &b], [&b, &a, ENDPOINT]] {
        judged(
            &node(&objects),
            &inbound(80),
            "deny preDNAT default/a-b[0] rule",
        );
    }
}

#[test]
fn trap_9_a_tier_of_staged_policies_is_skipped() {
    let tier = object("Tier", "t1", "order: 1\ndefaultAction: Deny");
    let staged = object(
        "StagedGlobalNetworkPolicy",
        "t1.staged",
        &format!("tier: t1\nselector: has(host-endpoint)\n{DENY_ALL}"),
    );
    let allow = policy("allow", ALLOW_ALL);
    let node = node(&[ENDPOINT, &tier, &staged, &allow]);
    judged(&node, &inbound(80), "allow normal default/allow[0] rule");
}

#[test]
fn trap_10_an_established_flow_outlives_a_change_of_policy() {
    let node = node(&[ENDPOINT, &pre_dnat("closed", DENY_ALL)]);
    let mut question = inbound(80);
    judged(&node, &question, "deny preDNAT default/closed[0] rule");
    question.state = State::Established;
    let answer = node.judge(&question);
    assert_eq!(told(&answer), "allow - -/-[-] established");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=skipped normal=skipped"
    );
}
