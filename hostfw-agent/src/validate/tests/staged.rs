use super::*;
use crate::model::StagedAction;

fn staged(spec: &str) -> Resource {
    resource("StagedGlobalNetworkPolicy", "p", spec)
}

#[test]
fn a_staged_policy_is_a_policy_with_an_action() {
    for (text, action) in [
        ("", StagedAction::Set),
        ("stagedAction: ''", StagedAction::Set),
        ("stagedAction: Set", StagedAction::Set),
        ("stagedAction: Learn", StagedAction::Learn),
        ("stagedAction: Ignore", StagedAction::Ignore),
        ("stagedAction: Delete", StagedAction::Delete),
    ] {
        assert_eq!(policy(&staged(text)).staged, Some(action), "{text}");
    }
    const SPEC: &str = "tier: t, order: 5, selector: has(a), preDNAT: true, applyOnForward: true, \
                        ingress: [{action: Deny}]";
    let mut set = policy(&staged(SPEC));
    assert_eq!(set.object_ref().to_string(), "StagedGlobalNetworkPolicy(p)");
    set.staged = None;
    assert_eq!(set, policy(&gnp(SPEC)));
}

#[test]
fn what_takes_a_policy_away_says_nothing_but_which() {
    valid(&staged(
        "stagedAction: Delete, tier: t, selector: '', preDNAT: false, types: [], ingress: []",
    ));
    for (field, value, found) in [
        ("order", "0", "0"),
        ("selector", "all()", "\"all()\""),
        ("namespaceSelector", "has(a)", "\"has(a)\""),
        ("serviceAccountSelector", "has(a)", "\"has(a)\""),
        ("types", "[Ingress]", "1 type"),
        ("ingress", "[{action: Allow}, {action: Deny}]", "2 rules"),
        ("egress", "[{action: Allow}]", "1 rule"),
        ("applyOnForward", "true", "true"),
        ("performanceHints", "[AssumeNeededOnEveryNode]", "1 hint"),
    ] {
        refused(
            &staged(&format!("stagedAction: Delete, {field}: {value}")),
            &[&format!(
                "spec.{field}: expected nothing but tier, for stagedAction is Delete, found \
                 {found}"
            )],
        );
    }
    for field in ["preDNAT", "doNotTrack"] {
        refused(
            &staged(&format!(
                "stagedAction: Delete, {field}: true, applyOnForward: true"
            )),
            &[field, "applyOnForward"].map(|field| {
                &*Box::leak(
                    format!(
                        "spec.{field}: expected nothing but tier, for stagedAction is Delete, \
                         found true"
                    )
                    .into_boxed_str(),
                )
            }),
        );
    }
}

#[test]
fn staged_policies_are_checked_like_others() {
    refused(
        &staged("stagedAction: set"),
        &["spec.stagedAction: expected Set, Delete, Learn or Ignore, found \"set\""],
    );
    refused(
        &staged("preDNAT: true, selector: global()"),
        &[
            "spec.applyOnForward: expected true, for preDNAT is true, found nothing",
            "spec.selector: expected a selector without global(), which is for the namespaces of \
             a rule alone, found \"global()\"",
        ],
    );
    refused(
        &resource("StagedGlobalNetworkPolicy", "a.b.c", ""),
        &[
            "metadata.name: expected at most two parts joined by a dot, each of at most 63 \
             characters, found \"a.b.c\"",
        ],
    );
}
