//! Section 7, and what section 12 decides about it.

use super::*;

fn untracked(name: &str, spec: &str) -> String {
    policy(
        name,
        &format!("doNotTrack: true\napplyOnForward: true\n{spec}"),
    )
}

#[test]
fn an_untracked_allow_skips_every_later_stage() {
    let allow = untracked("u", "ingress: [{action: Allow}]\negress: [{action: Allow}]");
    let closed = pre_dnat("p", "ingress: [{action: Deny}]");
    let forward = policy(
        "n",
        "applyOnForward: true\ningress: [{action: Deny}]\negress: [{action: Deny}]",
    );
    let node = node(&[ENDPOINT, &allow, &closed, &forward]);
    for (question, rest) in [
        (inbound(80), "preDNAT=skipped normal=skipped"),
        (routed(80), "preDNAT=skipped forward=skipped"),
        (outbound(80), "normal=skipped"),
    ] {
        let answer = node.judge(&question);
        assert_eq!(told(&answer), "allow untracked default/u[0] rule");
        assert_eq!(stages(&answer), format!("untracked=allow {rest}"));
    }
    // Forwarded packets go out without the untracked stage.
    let answer = node.judge(&routed_out(80));
    assert_eq!(told(&answer), "deny forward default/n[0] rule");
    assert_eq!(stages(&answer), "forward=deny");
}

#[test]
fn untracked_policy_comes_before_connection_tracking() {
    let node = node(&[
        ENDPOINT,
        &untracked("u", "ingress: [{action: Deny, protocol: UDP}]"),
    ]);
    for state in [State::Established, State::Invalid] {
        let mut question = inbound(4000);
        question.protocol = 17;
        question.state = state;
        judged(&node, &question, "deny untracked default/u[0] rule");
    }
}

#[test]
fn untracked_replies_need_rules_of_their_own_but_for_fail_safes() {
    let closed = untracked("u", "ingress: [{action: Deny}]\negress: [{action: Deny}]");
    let node = node(&[ENDPOINT, &closed]);
    // In: the host's ssh, and replies to the host's DNS.
    let mut reply = inbound(50_000);
    reply.protocol = 17;
    reply.source_port = 53;
    for question in [inbound(22), reply] {
        assert!(stages(&node.judge(&question)).starts_with("untracked=no-match"));
    }
    // Out: the host's DNS, and replies of the host's ssh.
    let mut dns = outbound(53);
    dns.protocol = 17;
    let mut reply = outbound(50_000);
    reply.source_port = 22;
    for question in [dns, reply] {
        assert!(stages(&node.judge(&question)).starts_with("untracked=no-match"));
    }
    // By the lists of the other direction nothing is open.
    let mut question = inbound(50_000);
    question.source_port = 22;
    judged(&node, &question, "deny untracked default/u[0] rule");
    judged(&node, &outbound(22), "deny untracked default/u[0] rule");
}

#[test]
fn untracked_policy_has_no_effect_on_a_wildcard_endpoint() {
    let wildcard = ENDPOINT.replace("eth0}", "'*'}");
    let node = node(&[&wildcard, &untracked("u", "ingress: [{action: Deny}]")]);
    let answer = node.judge(&inbound(80));
    assert_eq!(told(&answer), "deny normal -/-[-] endpoint-default");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match normal=deny"
    );
}

#[test]
fn tier_ends_pass_before_dnat_and_without_tracking() {
    let rule = "ingress: [{action: Deny, protocol: UDP}]";
    let node = node(&[ENDPOINT, &pre_dnat("p", rule), &untracked("u", rule)]);
    let answer = node.judge(&routed(80));
    assert_eq!(told(&answer), "allow - -/-[-] no-match");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match forward=no-match"
    );
}

#[test]
fn pre_dnat_and_untracked_policies_are_of_their_own_stage_alone() {
    for spec in ["preDNAT: true", "doNotTrack: true"] {
        let allow = policy(
            "p",
            &format!("{spec}\napplyOnForward: true\ningress: [{{action: Allow, protocol: UDP}}]"),
        );
        let node = node(&[ENDPOINT, &allow]);
        // Were it normal policy too, its tier would decide.
        judged(&node, &inbound(80), "deny normal -/-[-] endpoint-default");
        judged(&node, &routed(80), "allow - -/-[-] no-match");
    }
}

#[test]
fn forward_policy_is_normal_policy_too() {
    let node = node(&[
        ENDPOINT,
        &policy(
            "f",
            "applyOnForward: true\ningress: [{action: Allow, protocol: TCP}]",
        ),
    ]);
    judged(&node, &routed(80), "allow forward default/f[0] rule");
    judged(&node, &inbound(80), "allow normal default/f[0] rule");
    let mut udp = routed(80);
    udp.protocol = 17;
    judged(&node, &udp, "deny forward default/-[-] tier-default");
}

#[test]
fn normal_policy_without_apply_on_forward_is_not_asked_about_forwarded_packets() {
    let node = node(&[
        ENDPOINT,
        &policy("n", "ingress: [{action: Deny}]\negress: [{action: Deny}]"),
    ]);
    judged(&node, &routed(80), "allow - -/-[-] no-match");
    judged(&node, &routed_out(80), "allow - -/-[-] no-match");
    judged(&node, &inbound(80), "deny normal default/n[0] rule");
    judged(&node, &outbound(80), "deny normal default/n[0] rule");
}

#[test]
fn later_stages_see_the_translated_destination() {
    let node = node(&[
        ENDPOINT,
        &pre_dnat(
            "p",
            "ingress: [{action: Deny, protocol: TCP, destination: {ports: [9000]}}]",
        ),
        &policy(
            "f",
            "applyOnForward: true\ningress:\n- {action: Allow, protocol: TCP, destination: {nets: \
             [10.48.0.0/16], ports: [9000]}}\n- {action: Deny}",
        ),
    ]);
    let mut question = packet(Direction::Ingress, Path::Forward, OUTSIDE, NODE, 31852);
    judged(&node, &question, "deny forward default/f[1] rule");
    question.translated = Some((address(POD), 9000));
    judged(&node, &question, "allow forward default/f[0] rule");
    // Fail-safes of the normal stage, too.
    let mut question = inbound(31852);
    question.translated = Some((address(NODE), 22));
    judged(&node, &question, "allow normal -/-[-] failsafe");
}

#[test]
fn established_packets_pass_all_but_the_untracked_stage() {
    let node = node(&[
        ENDPOINT,
        &policy("n", "applyOnForward: true\negress: [{action: Deny}]"),
    ]);
    for mut question in [inbound(80), outbound(80), routed(80), routed_out(80)] {
        question.state = State::Established;
        judged_by(&node, &question, true, Why::Established);
    }
}

#[test]
fn invalid_packets_are_dropped_ahead_of_fail_safes() {
    let invalid = |mut question: Question| {
        question.state = State::Invalid;
        question
    };
    let bare = node(&[ENDPOINT]);
    judged(&bare, &invalid(inbound(22)), "deny normal -/-[-] invalid");
    judged(&bare, &invalid(outbound(53)), "deny normal -/-[-] invalid");
    judged(&bare, &invalid(routed(80)), "deny forward -/-[-] invalid");
    judged(
        &bare,
        &invalid(routed_out(80)),
        "deny forward -/-[-] invalid",
    );

    // At the pre-DNAT stage only if a policy applies, and a staged one does
    // not.
    let p = pre_dnat("p", "ingress: [{action: Allow, protocol: UDP}]");
    judged(
        &node(&[ENDPOINT, &p]),
        &invalid(inbound(22)),
        "deny preDNAT -/-[-] invalid",
    );
    let staged = p.replace("kind: Global", "kind: StagedGlobal");
    judged(
        &node(&[ENDPOINT, &staged]),
        &invalid(inbound(22)),
        "deny normal -/-[-] invalid",
    );

    let off = object(
        "FelixConfiguration",
        "default",
        "disableConntrackInvalidCheck: true",
    );
    judged(
        &node(&[ENDPOINT, &p, &off]),
        &invalid(inbound(22)),
        "allow normal -/-[-] failsafe",
    );
}

#[test]
fn normal_policy_for_one_direction_leaves_the_other_to_profiles() {
    let ingress = policy("in", "ingress: [{action: Allow}]");
    let with_profile = ENDPOINT.replace("eth0}", "eth0, profiles: [open]}");
    let profile = object("Profile", "open", "egress: [{action: Allow}]");
    let node = node(&[&with_profile, &ingress, &profile]);
    judged(&node, &outbound(80), "allow normal -/open[0] profile");
    judged(&node, &inbound(80), "allow normal default/in[0] rule");
}

#[test]
fn fail_safes_pass_the_normal_stage_both_ways() {
    let closed = policy("n", "ingress: [{action: Deny}]\negress: [{action: Deny}]");
    let node = node(&[ENDPOINT, &closed]);
    judged(&node, &inbound(22), "allow normal -/-[-] failsafe");
    judged(&node, &outbound(6443), "allow normal -/-[-] failsafe");
    judged(&node, &outbound(22), "deny normal default/n[0] rule");
    // Of their protocol.
    let mut udp = inbound(22);
    udp.protocol = 17;
    judged(&node, &udp, "deny normal default/n[0] rule");
}

#[test]
fn settings_override_field_by_field() {
    let common = object(
        "FelixConfiguration",
        "default",
        "failsafeInboundHostPorts: []\nfailsafeOutboundHostPorts:\n- {protocol: TCP, port: 99, net: \
         192.0.2.0/24}",
    );
    let own = object(
        "FelixConfiguration",
        "node.node1",
        "failsafeInboundHostPorts: [{protocol: SCTP, port: 7}]",
    );
    let other = object(
        "FelixConfiguration",
        "node.node2",
        "failsafeOutboundHostPorts: []",
    );
    let node = node(&[ENDPOINT, &common, &own, &other]);
    judged_by(&node, &inbound(22), false, Why::EndpointDefault);
    let mut sctp = inbound(7);
    sctp.protocol = 132;
    judged_by(&node, &sctp, true, Why::Failsafe);
    judged_by(&node, &outbound(99), true, Why::Failsafe);
    let mut far = outbound(99);
    far.destination = address("198.51.100.1");
    judged_by(&node, &far, false, Why::EndpointDefault);
}

#[test]
fn tunnels_between_nodes_pass_ahead_of_pre_dnat_and_normal_policy() {
    let other = "kind: HostEndpoint\nmetadata: {name: node2-eth0}\nspec: {node: node2, \
                 interfaceName: eth0, expectedIPs: [10.240.0.12, 'fd00::12']}\n";
    let objects = [
        ENDPOINT,
        other,
        &pre_dnat("p", "ingress: [{action: Deny}]"),
        &policy("f", "applyOnForward: true\ningress: [{action: Deny}]"),
    ];
    let tunnel = |protocol, port, source: &str, destination: &str| {
        let mut question = packet(Direction::Ingress, Path::Local, source, destination, port);
        question.protocol = protocol;
        question
    };
    let plain = node(&objects);
    for (question, passes) in [
        (tunnel(17, 4789, "10.240.0.12", NODE), true),
        (tunnel(17, 4789, "fd00::12", NODE6), true),
        (tunnel(4, 0, "10.240.0.12", NODE), true),
        (tunnel(4, 0, "fd00::12", NODE6), false),
        (tunnel(17, 51820, "10.240.0.12", NODE), true),
        (tunnel(17, 51821, "10.240.0.12", NODE), false),
        (tunnel(17, 51821, "fd00::12", NODE6), true),
        (tunnel(17, 4789, OUTSIDE, NODE), false),
        (tunnel(6, 4789, "10.240.0.12", NODE), false),
    ] {
        assert_eq!(
            plain.judge(&question).reason == Why::Tunnel,
            passes,
            "{question:?}"
        );
    }
    let mut out = packet(Direction::Egress, Path::Local, NODE, "10.240.0.12", 4789);
    out.protocol = 17;
    judged(&plain, &out, "allow - -/-[-] tunnel");

    // Forwarded, it only passes the pre-DNAT stage.
    let mut forwarded = tunnel(17, 4789, "10.240.0.12", NODE);
    forwarded.path = Path::Forward;
    let answer = plain.judge(&forwarded);
    assert_eq!(told(&answer), "deny forward default/f[0] rule");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match forward=deny"
    );

    forwarded.state = State::Established;
    let answer = plain.judge(&forwarded);
    assert_eq!(told(&answer), "allow - -/-[-] established");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match forward=skipped"
    );

    // Geneve is none unless it has a port.
    let geneve = tunnel(17, 6081, "10.240.0.12", NODE);
    judged_by(&node(&objects), &geneve, false, Why::Rule);
    let port = object("FelixConfiguration", "default", "genevePort: 6081");
    let configured = node(&[&objects[..], &[&port]].concat());
    judged_by(&configured, &geneve, true, Why::Tunnel);

    let ports = object("FelixConfiguration", "default", "vxlanPort: 4790");
    let moved = node(&[&objects[..], &[&ports]].concat());
    judged_by(
        &moved,
        &tunnel(17, 4790, "10.240.0.12", NODE),
        true,
        Why::Tunnel,
    );
    judged_by(
        &moved,
        &tunnel(17, 4789, "10.240.0.12", NODE),
        false,
        Why::Rule,
    );

    // Untracked policy comes first.
    let deny = untracked("u", "ingress: [{action: Deny}]");
    let shut = node(&[&objects[..], &[&deny]].concat());
    judged(
        &shut,
        &tunnel(17, 4789, "10.240.0.12", NODE),
        "deny untracked default/u[0] rule",
    );
}

#[test]
fn neighbour_discovery_passes_every_stage() {
    let node = node(&[
        ENDPOINT,
        &untracked("u", "ingress: [{action: Deny}]"),
        &pre_dnat("p", "ingress: [{action: Deny}]"),
    ]);
    let message = |kind| {
        let mut question = packet(Direction::Ingress, Path::Local, "fe80::1", "ff02::1", 0);
        question.protocol = 58;
        question.source_port = 0;
        question.icmp = Some((kind, 0));
        question
    };
    for kind in [130, 133, 134, 135, 136, 143] {
        let answer = node.judge(&message(kind));
        assert_eq!(told(&answer), "allow - -/-[-] neighbour-discovery");
        assert_eq!(
            stages(&answer),
            "untracked=skipped preDNAT=skipped normal=skipped"
        );
    }
    for kind in [128, 129, 137, 142, 144] {
        judged(&node, &message(kind), "deny untracked default/u[0] rule");
    }
}

#[test]
fn without_an_endpoint_nothing_is_judged() {
    let node = node(&[ENDPOINT, &pre_dnat("p", "ingress: [{action: Deny}]")]);
    for name in ["eth1", "lo", "eth9"] {
        let mut question = inbound(80);
        question.interface = name.to_owned();
        let answer = node.judge(&question);
        assert_eq!(told(&answer), "allow - -/-[-] no-endpoint");
        assert_eq!(
            stages(&answer),
            "untracked=skipped preDNAT=skipped normal=skipped"
        );
    }
}

#[test]
fn a_wildcard_covers_what_is_left() {
    let wildcard = ENDPOINT
        .replace("node1-eth0", "a-all")
        .replace("eth0}", "'*'}");
    let named = ENDPOINT.replace("host-endpoint: ingress", "plain: '1'");
    let node = node(&[
        &wildcard,
        &named,
        &pre_dnat("p", "ingress: [{action: Deny, protocol: UDP}]"),
        &policy("f", "applyOnForward: true\ningress: [{action: Deny}]"),
    ]);
    let on = |interface: &str, path, protocol| {
        let mut question = inbound(80);
        question.interface = interface.to_owned();
        question.path = path;
        question.protocol = protocol;
        question
    };
    // The endpoint with a name has no policy.
    judged(
        &node,
        &on("eth0", Path::Local, 17),
        "deny normal -/-[-] endpoint-default",
    );
    for interface in ["eth1", "lo"] {
        judged(
            &node,
            &on(interface, Path::Local, 6),
            "deny normal default/f[0] rule",
        );
    }
    // A workload's interface: no normal policy.
    judged(
        &node,
        &on("cali7", Path::Local, 17),
        "deny preDNAT default/p[0] rule",
    );
    judged(
        &node,
        &on("cali7", Path::Forward, 6),
        "deny forward default/f[0] rule",
    );
    let answer = node.judge(&on("cali7", Path::Local, 6));
    assert_eq!(told(&answer), "allow - -/-[-] workload");
    assert_eq!(
        stages(&answer),
        "untracked=no-match preDNAT=no-match normal=skipped"
    );
}

#[test]
fn workload_and_excluded_interfaces_are_settings() {
    let wildcard = ENDPOINT.replace("eth0}", "'*'}");
    let named = ENDPOINT
        .replace("name: node1-eth0", "name: a")
        .replace("eth0}", "eth1}");
    let settings = object(
        "FelixConfiguration",
        "default",
        "interfacePrefix: tap,eth1\ninterfaceExclude: eth0,other",
    );
    let node = node(&[&wildcard, &named, &settings]);
    let on = |interface: &str| {
        let mut question = inbound(80);
        question.interface = interface.to_owned();
        question
    };
    judged_by(&node, &on("eth0"), true, Why::NoEndpoint);
    judged_by(&node, &on("eth1"), true, Why::Workload);
    judged_by(&node, &on("cali7"), false, Why::EndpointDefault);
    let expression = settings.replace("eth0,other", "/^et.0$/");
    let node = super::node(&[&wildcard, &named, &expression]);
    judged_by(&node, &on("eth0"), true, Why::NoEndpoint);
    judged_by(&node, &on("cali7"), false, Why::EndpointDefault);
}

#[test]
fn the_smallest_name_governs_whether_by_name_or_by_address() {
    let by_name = ENDPOINT.replace("node1-eth0", "b");
    let by_address = format!(
        "kind: HostEndpoint\nmetadata: {{name: a}}\nspec: {{node: node1, expectedIPs: ['{NODE}'], \
         profiles: [projectcalico-default-allow]}}\n"
    );
    judged(
        &node(&[&by_name, &by_address]),
        &inbound(80),
        "allow normal -/projectcalico-default-allow[0] profile",
    );
    // A name given, the addresses do not count.
    let named_otherwise = by_address.replace("spec: {", "spec: {interfaceName: eth9, ");
    judged_by(
        &node(&[&by_name, &named_otherwise]),
        &inbound(80),
        false,
        Why::EndpointDefault,
    );
    // Nor do endpoints of other nodes.
    let elsewhere = by_address.replace("node: node1", "node: Node1");
    judged_by(
        &node(&[&by_name, &elsewhere]),
        &inbound(80),
        false,
        Why::EndpointDefault,
    );
}
