use super::*;
use crate::model::RuleAction;

#[track_caller]
fn profile(resource: &Resource) -> model::Profile {
    let value = valid(resource);
    let Object::Profile(profile) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(profile)
}

#[test]
fn profiles_have_rules_and_labels() {
    let full = profile(&resource(
        "Profile",
        "kns.default",
        "ingress: [{action: Allow}, {action: Deny}], egress: [{action: Pass}], labelsToApply: \
         {pcns.a: b}",
    ));
    assert_eq!(full.name, "kns.default");
    let actions = |rules: &[model::Rule]| rules.iter().map(|r| r.action).collect::<Vec<_>>();
    assert_eq!(
        actions(&full.ingress),
        [RuleAction::Allow, RuleAction::Deny]
    );
    assert_eq!(actions(&full.egress), [RuleAction::Pass]);
    assert_eq!(
        full.labels_to_apply.get("pcns.a").map(String::as_str),
        Some("b")
    );
    let empty = profile(&resource("Profile", "p", ""));
    assert!(empty.ingress.is_empty() && empty.egress.is_empty());
}

#[test]
fn profiles_that_are_refused() {
    refused(
        &resource(
            "Profile",
            "p",
            "ingress: [{action: Allow, protocol: tcp}], egress: [{action: Allow, ipVersion: 5}], \
             labelsToApply: {'a b': c, d: 'e f'}",
        ),
        &[
            "spec.labelsToApply: expected keys like name or example.org/name (letters, digits, \
             '-', '_' and '.', a letter or digit at either end, at most 63 characters), found \
             \"a b\"",
            "spec.labelsToApply.d: expected a label value (letters, digits, '-', '_' and '.', a \
             letter or digit at either end, at most 63 characters), found \"e f\"",
            "spec.ingress[0].protocol: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number \
             from 1 to 255, found \"tcp\"",
            "spec.egress[0].ipVersion: expected 4 or 6, found 5",
        ],
    );
    let rules = vec!["{action: Allow}"; 1025].join(",");
    refused(
        &resource("Profile", "p", &format!("egress: [{rules}]")),
        &["spec.egress: expected at most 1024 rules, found 1025"],
    );
}
