//! Section 2: tiers, orders, actions and profiles.

use super::*;

fn in_tier(tier: &str, name: &str, spec: &str) -> String {
    policy(name, &format!("tier: {tier}\n{spec}"))
}

fn tier(name: &str, spec: &str) -> String {
    object("Tier", name, spec)
}

#[test]
fn tiers_come_by_order_then_name_and_those_without_object_last() {
    let deny = "ingress: [{action: Deny}]";
    let all = [
        ("late", Some("defaultAction: Pass")),
        ("gone", None),
        ("b", Some("order: 5")),
        ("a", Some("order: 5")),
        ("kube-admin", None),
        ("default", None),
        ("kube-baseline", None),
    ];
    let order = [
        "a",
        "b",
        "kube-admin",
        "default",
        "kube-baseline",
        "late",
        "gone",
    ];
    let mut objects = vec![ENDPOINT.to_owned()];
    for (name, spec) in all {
        objects.extend(spec.map(|spec| tier(name, spec)));
        objects.push(in_tier(name, &format!("p-{name}"), deny));
    }
    // Take away the first one, again and again.
    for name in order {
        let node = node(&objects.iter().map(String::as_str).collect::<Vec<_>>());
        judged(
            &node,
            &inbound(80),
            &format!("deny normal {name}/p-{name}[0] rule"),
        );
        objects.retain(|object| !object.contains(&format!("name: 'p-{name}'")));
    }
}

#[test]
fn tier_defaults_deny_or_pass() {
    let miss = "ingress: [{action: Allow, protocol: UDP}]";
    let hit = "ingress: [{action: Allow}]";
    for (spec, expected) in [
        ("order: 1", "deny normal t/-[-] tier-default"),
        (
            "order: 1\ndefaultAction: Deny",
            "deny normal t/-[-] tier-default",
        ),
        (
            "order: 1\ndefaultAction: Pass",
            "allow normal default/n[0] rule",
        ),
    ] {
        let node = node(&[
            ENDPOINT,
            &tier("t", spec),
            &in_tier("t", "m", miss),
            &policy("n", hit),
        ]);
        judged(&node, &inbound(80), expected);
        // A policy for the other direction alone does not make the tier decide.
        judged_by(&node, &outbound(80), false, Why::EndpointDefault);
    }
    // A tier without object denies.
    judged(
        &node(&[ENDPOINT, &in_tier("gone", "m", miss)]),
        &inbound(80),
        "deny normal gone/-[-] tier-default",
    );
}

#[test]
fn pass_goes_to_the_next_tier_and_then_to_the_profiles() {
    let with_profile = ENDPOINT.replace("eth0}", "eth0, profiles: [open]}");
    let pass = in_tier(
        "t",
        "pass",
        "order: 1\ningress: [{action: Log}, {action: Pass}, {action: Deny}]",
    );
    let behind = in_tier("t", "rest", "order: 9\ningress: [{action: Deny}]");
    let open = object("Profile", "open", "ingress: [{action: Allow}]");
    let objects = [
        with_profile.as_str(),
        &tier("t", "order: 1"),
        &pass,
        &behind,
        &open,
    ];
    judged(
        &node(&objects),
        &inbound(80),
        "allow normal -/open[0] profile",
    );

    let next = policy("n", "ingress: [{action: Deny}]");
    let with_next = node(&[&objects[..], &[&next]].concat());
    judged(&with_next, &inbound(80), "deny normal default/n[0] rule");
}

#[test]
fn pass_before_dnat_goes_on_behind_the_tier() {
    let pass = pre_dnat("a", "ingress: [{action: Pass}]");
    let deny = pre_dnat("b", "ingress: [{action: Deny}]");
    let late = pre_dnat(
        "c",
        "tier: kube-baseline\ningress: [{action: Deny, protocol: UDP}]",
    );
    let node = node(&[ENDPOINT, &pass, &deny, &late]);
    judged(&node, &routed(80), "allow - -/-[-] no-match");
    let mut udp = routed(80);
    udp.protocol = 17;
    judged(&node, &udp, "deny preDNAT kube-baseline/c[0] rule");
}

#[test]
fn orders_come_first_and_absent_ones_last() {
    let policies = [
        policy("z", "order: -1\ningress: [{action: Log}]"),
        policy("b", "order: 2.5\ningress: [{action: Deny, protocol: UDP}]"),
        policy("a", "ingress: [{action: Deny}]"),
        policy("c", "order: 10\ningress: [{action: Allow}]"),
    ];
    let mut objects = vec![ENDPOINT];
    objects.extend(policies.iter().map(String::as_str));
    let node = node(&objects);
    judged(&node, &inbound(80), "allow normal default/c[0] rule");
    let mut udp = inbound(80);
    udp.protocol = 17;
    judged(&node, &udp, "deny normal default/b[0] rule");
}

#[test]
fn types_are_inferred_from_the_rules() {
    for (spec, inbound_by, outbound_by) in [
        // Nothing at all: ingress, and its tier denies.
        ("order: 1", Why::TierDefault, Why::EndpointDefault),
        ("egress: [{action: Deny}]", Why::EndpointDefault, Why::Rule),
        ("ingress: [{action: Deny}]", Why::Rule, Why::EndpointDefault),
        (
            "ingress: [{action: Deny}]\negress: [{action: Deny}]",
            Why::Rule,
            Why::Rule,
        ),
        // Rules of a direction that is not meant count for nothing.
        (
            "types: [Egress]\ningress: [{action: Deny}]",
            Why::EndpointDefault,
            Why::TierDefault,
        ),
        (
            "types: [Ingress, Egress]",
            Why::TierDefault,
            Why::TierDefault,
        ),
    ] {
        let node = node(&[ENDPOINT, &policy("n", spec)]);
        judged_by(&node, &inbound(80), false, inbound_by);
        judged_by(&node, &outbound(80), false, outbound_by);
    }
}

#[test]
fn staged_policies_never_decide() {
    for action in [
        "",
        "stagedAction: Set\n",
        "stagedAction: Learn\n",
        "stagedAction: Ignore\n",
    ] {
        let staged = object(
            "StagedGlobalNetworkPolicy",
            "s",
            &format!("{action}selector: has(host-endpoint)\ningress: [{{action: Allow}}]"),
        );
        let node = node(&[ENDPOINT, &staged]);
        judged(&node, &inbound(80), "deny normal -/-[-] endpoint-default");
        let told = node.explain(&inbound(80)).steps.iter().any(|step| {
            matches!(
                &step.event,
                super::super::Event::Rule {
                    staged: true,
                    missed: None,
                    ..
                }
            )
        });
        assert_eq!(told, action != "stagedAction: Ignore\n", "{action}");
    }
}

#[test]
fn profiles_come_in_listed_order_behind_all_tiers() {
    let endpoint = ENDPOINT.replace("eth0}", "eth0, profiles: [z, a]}");
    let a = object("Profile", "a", "ingress: [{action: Allow}]");
    let z = object(
        "Profile",
        "z",
        "ingress: [{action: Log}, {action: Deny, protocol: UDP}]",
    );
    let both = node(&[&endpoint, &a, &z]);
    judged(&both, &inbound(80), "allow normal -/a[0] profile");
    let mut udp = inbound(80);
    udp.protocol = 17;
    judged(&both, &udp, "deny normal -/z[1] profile");
    judged(&both, &outbound(80), "deny normal -/-[-] endpoint-default");

    // One that does not exist denies everything.
    judged(
        &node(&[&endpoint, &a]),
        &inbound(80),
        "deny normal -/z[-] profile",
    );
    // Pass has nothing to pass to.
    let pass = object("Profile", "z", "ingress: [{action: Pass}]");
    judged(
        &node(&[&endpoint, &a, &pass]),
        &inbound(80),
        "deny normal -/-[-] endpoint-default",
    );
}

#[test]
fn policies_see_labels_that_profiles_apply() {
    let endpoint = ENDPOINT
        .replace("labels: {host-endpoint: ingress}", "labels: {role: own}")
        .replace("eth0}", "eth0, profiles: [x, 'y']}");
    let x = object("Profile", "x", "labelsToApply: {role: x, tier: x}");
    let y = object(
        "Profile",
        "y",
        "labelsToApply: {tier: 'y', host-endpoint: 'y'}",
    );
    let objects = |selector: &str| {
        [
            endpoint.clone(),
            x.clone(),
            y.clone(),
            object(
                "GlobalNetworkPolicy",
                "n",
                &format!("selector: {selector}\ningress: [{{action: Allow}}]"),
            ),
        ]
    };
    for (selector, applies) in [
        ("role == 'own'", true),
        ("role == 'x'", false),
        ("tier == 'x'", true),
        ("host-endpoint == 'y'", true),
    ] {
        let node = node(&objects(selector).each_ref().map(String::as_str));
        assert_eq!(node.judge(&inbound(80)).allowed, applies, "{selector}");
    }
}

#[test]
fn selectors_of_namespaces_and_service_accounts_narrow_a_policy() {
    for (spec, applies) in [
        ("namespaceSelector: all()", false),
        ("namespaceSelector: has(x)", false),
        ("namespaceSelector: x != 'y'", true),
        ("selector: all()\nnamespaceSelector: x != 'y'", false),
        ("selector: all()", true),
        ("serviceAccountSelector: '!has(x)'", true),
        ("serviceAccountSelector: all()", false),
        ("selector: all()\nserviceAccountSelector: '!has(x)'", false),
        ("namespaceSelector: ''", true),
    ] {
        let only = object(
            "GlobalNetworkPolicy",
            "n",
            &format!("{spec}\ningress: [{{action: Allow}}]"),
        );
        let node = node(&[ENDPOINT, &only]);
        assert_eq!(node.judge(&inbound(80)).allowed, applies, "{spec}");
    }
}
