use super::*;
use crate::model::{InterfaceMatch, Order, PortRange, RuleAction, Stage};
use crate::selector::Selector;

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
    assert!(endpoint.expected_ips.is_empty());
}

#[test]
fn defaults_of_a_policy() {
    let policy = policy(&gnp("egress: [{action: Log}]"));
    assert_eq!(policy.order, Order::LAST);
    assert_eq!(policy.selector, Selector::all());
    assert_eq!(policy.tier, "default");
    assert_eq!(policy.staged, None);
    // What says nothing is as good as absent.
    let explicit = gnp(
        "tier: '', selector: '', namespaceSelector: '', serviceAccountSelector: '', \
         preDNAT: false, doNotTrack: false, applyOnForward: false, types: [], ingress: [], \
         performanceHints: [AssumeNeededOnEveryNode], egress: [{action: Log, \
         source: {nets: [], selector: ''}, metadata: {annotations: {a: b}}}]",
    );
    assert_eq!(super::policy(&explicit), policy);
}

#[test]
fn types_are_inferred_from_the_rules() {
    let without_rules = policy(&gnp(""));
    assert_eq!(without_rules.ingress, Some([].into()));
    assert_eq!(without_rules.egress, None);
    let egress = policy(&gnp("egress: [{action: Allow}]"));
    assert!(egress.ingress.is_none() && egress.egress.is_some());
    let ingress = policy(&gnp("ingress: [{action: Allow}]"));
    assert!(ingress.ingress.is_some() && ingress.egress.is_none());
    let both = policy(&gnp(
        "ingress: [{action: Allow}], egress: [{action: Allow}]",
    ));
    assert!(both.ingress.is_some() && both.egress.is_some());
    // Rules of a direction that is not among the types have no effect.
    let one_sided = policy(&gnp(
        "types: [Egress], ingress: [{action: Allow}], egress: [{action: Deny}]",
    ));
    assert!(one_sided.ingress.is_none() && one_sided.egress.is_some());
    // They are checked all the same.
    refused(
        &gnp("types: [Egress], ingress: [{action: Pass, ipVersion: 5}]"),
        &["spec.ingress[0].ipVersion: expected 4 or 6, found 5"],
    );
    assert_eq!(policy(&gnp("types: [Egress]")).egress, Some([].into()));
    refused(
        &gnp("types: [Egress, Egress]"),
        &["spec.types[1]: expected each type once, found Egress again"],
    );
}

#[test]
fn every_stage() {
    for (spec, stage, forward) in [
        ("", Stage::Normal, false),
        ("applyOnForward: false", Stage::Normal, false),
        ("applyOnForward: true", Stage::Normal, true),
        ("preDNAT: true, applyOnForward: true", Stage::PreDnat, true),
        (
            "doNotTrack: true, applyOnForward: true, types: [Ingress, Egress]",
            Stage::Untracked,
            true,
        ),
    ] {
        let policy = policy(&gnp(spec));
        assert_eq!(
            (policy.stage, policy.apply_on_forward),
            (stage, forward),
            "{spec}"
        );
    }
    refused(
        &gnp("doNotTrack: true"),
        &["spec.applyOnForward: expected true, for doNotTrack is true, found nothing"],
    );
    refused(
        &gnp("doNotTrack: true, applyOnForward: false"),
        &["spec.applyOnForward: expected true, for doNotTrack is true, found false"],
    );
    refused(
        &gnp("doNotTrack: true, preDNAT: true, applyOnForward: true"),
        &["spec.preDNAT: expected preDNAT or doNotTrack, not both, found both true"],
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
        &["spec.egress: expected no egress rules, for preDNAT is true, found a list of 1"],
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
            "tier: a.b",
            "spec.tier: expected the name of a tier (lower-case letters, digits and '-', at most \
             63 characters), found \"a.b\"",
        ),
        (
            "tier: Security",
            "spec.tier: expected the name of a tier (lower-case letters, digits and '-', at most \
             63 characters), found \"Security\"",
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
    ] {
        refused(&gnp(&format!("{spec}, {E}")), &[expected]);
    }
    let rules = |count: usize| format!("egress: [{}]", vec!["{action: Allow}"; count].join(","));
    assert!(validate(&gnp(&rules(1024))).is_ok());
    refused(
        &gnp(&rules(1025)),
        &["spec.egress: expected at most 1024 rules, found 1025"],
    );
}

#[test]
fn a_policy_is_in_a_tier() {
    for tier in ["security", "default", "kube-admin", "0-a"] {
        assert_eq!(policy(&gnp(&format!("tier: {tier}"))).tier, tier);
    }
}
