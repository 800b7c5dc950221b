use super::*;

#[track_caller]
fn of_policy(spec: &str) -> String {
    policy(&gnp(spec)).selector.to_string()
}

#[track_caller]
fn source(side: &str) -> (Option<String>, Option<String>) {
    let entity = egress_rule(&format!("action: Allow, source: {{{side}}}")).source;
    (
        entity.selector.map(|selector| selector.to_string()),
        entity.not_selector.map(|selector| selector.to_string()),
    )
}

#[track_caller]
fn one(side: &str) -> String {
    let (selector, not) = source(side);
    assert_eq!(not, None);
    selector.expect("a selector")
}

#[test]
fn the_selectors_of_a_policy_make_one() {
    for (spec, expected) in [
        ("", "all()"),
        ("selector: ''", "all()"),
        ("selector: a == 'b'", "a == 'b'"),
        ("selector: all()", "all()"),
        (
            "namespaceSelector: a == 'b' && !has(c)",
            "pcns.a == 'b' && !has(pcns.c)",
        ),
        (
            "namespaceSelector: all()",
            "has(projectcalico.org/namespace)",
        ),
        (
            "selector: all(), namespaceSelector: a != 'b'",
            "has(projectcalico.org/namespace) && pcns.a != 'b'",
        ),
        (
            "selector: has(x) || all(), namespaceSelector: all()",
            "(has(x) || has(projectcalico.org/namespace)) && has(projectcalico.org/namespace)",
        ),
        (
            "serviceAccountSelector: all()",
            "has(projectcalico.org/serviceaccount)",
        ),
        (
            "selector: all(), serviceAccountSelector: has(a)",
            "has(projectcalico.org/serviceaccount) && has(pcsa.a)",
        ),
        (
            "selector: has(x), namespaceSelector: has(a), serviceAccountSelector: \"b in {'c'}\"",
            "(has(x) && has(pcns.a)) && pcsa.b in {'c'}",
        ),
    ] {
        assert_eq!(of_policy(spec), expected, "{spec}");
    }
    // An endpoint of a host is in no namespace, and so meets negations alone.
    let labels = std::collections::BTreeMap::from([("x".to_owned(), String::new())]);
    for (spec, expected) in [
        ("namespaceSelector: all()", false),
        ("namespaceSelector: has(a)", false),
        ("namespaceSelector: a != 'b'", true),
        ("selector: all(), namespaceSelector: a != 'b'", false),
        (
            "selector: has(x), namespaceSelector: \"a not in {'b'}\"",
            true,
        ),
        ("serviceAccountSelector: all()", false),
        ("serviceAccountSelector: '!has(a)'", true),
    ] {
        assert_eq!(
            policy(&gnp(spec)).selector.matches(&labels),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn selectors_of_a_policy_that_are_refused() {
    for field in ["selector", "namespaceSelector", "serviceAccountSelector"] {
        for text in ["global()", "has(a) || !global( )", "a == 'global()'"] {
            refused(
                &gnp(&format!("{field}: \"{text}\"")),
                &[&format!(
                    "spec.{field}: expected a selector without global(), which is for the \
                     namespaces of a rule alone, found {text:?}"
                )],
            );
        }
        refused(
            &gnp(&format!("{field}: has(")),
            &[&format!(
                "spec.{field}: expected a label name at character 5, found the end in \"has(\""
            )],
        );
        let text = |length: usize| format!("{field}: '{}has(a)'", "!".repeat(length - 6));
        valid(&gnp(&text(1024)));
        refused(
            &gnp(&text(1025)),
            &[&format!(
                "spec.{field}: expected at most 1024 characters, found 1025"
            )],
        );
    }
}

#[test]
fn the_selectors_of_a_side_make_one() {
    assert_eq!(source(""), (None, None));
    assert_eq!(
        source("selector: '', notSelector: '', namespaceSelector: '', serviceAccounts: {}"),
        (None, None)
    );
    assert_eq!(
        source("selector: has(a), notSelector: b == 'c'"),
        (Some("has(a)".to_owned()), Some("b == 'c'".to_owned()))
    );
    assert_eq!(
        source("notSelector: global()"),
        (None, Some("global()".to_owned()))
    );
    for (side, expected) in [
        ("selector: all()", "all()"),
        (
            "namespaceSelector: all()",
            "has(projectcalico.org/namespace)",
        ),
        (
            "namespaceSelector: global()",
            "!has(projectcalico.org/namespace)",
        ),
        (
            "namespaceSelector: ' global( ) '",
            "!has(projectcalico.org/namespace)",
        ),
        (
            "namespaceSelector: \"a in {'b'} && all()\"",
            "pcns.a in {'b'} && has(projectcalico.org/namespace)",
        ),
        // Unlike that of a policy, the selector beside it stays as it is.
        (
            "namespaceSelector: has(a), selector: all()",
            "has(pcns.a) && all()",
        ),
        (
            "serviceAccounts: {names: [b, a]}",
            "projectcalico.org/serviceaccount in {'a', 'b'}",
        ),
        ("serviceAccounts: {selector: has(a)}", "has(pcsa.a)"),
        ("serviceAccounts: {selector: all()}", "all()"),
        (
            "serviceAccounts: {names: [a], selector: b == 'c'}, selector: has(d), \
             namespaceSelector: has(e)",
            "has(pcns.e) && projectcalico.org/serviceaccount in {'a'} && pcsa.b == 'c' && has(d)",
        ),
    ] {
        assert_eq!(one(side), expected, "{side}");
    }
}

#[test]
fn selectors_of_a_side_that_are_refused() {
    for side in ["source", "destination"] {
        for (text, expected) in [
            (
                "selector: global()",
                "selector: expected a selector without global(), which is for the namespaces of \
                 a rule alone, found \"global()\"",
            ),
            (
                "namespaceSelector: global() || has(a)",
                "namespaceSelector: expected global() alone, or a selector without it, found \
                 \"global() || has(a)\"",
            ),
            (
                "namespaceSelector: '!global()'",
                "namespaceSelector: expected global() alone, or a selector without it, found \
                 \"!global()\"",
            ),
            (
                "namespaceSelector: has(",
                "namespaceSelector: expected a label name at character 5, found the end in \
                 \"has(\"",
            ),
            (
                "notSelector: has(",
                "notSelector: expected a label name at character 5, found the end in \"has(\"",
            ),
            (
                "serviceAccounts: {selector: has(}",
                "serviceAccounts.selector: expected a label name at character 5, found the end \
                 in \"has(\"",
            ),
            (
                "serviceAccounts: {names: [a, \"b'\"]}",
                "serviceAccounts.names[1]: expected the name of a service account, found \"b'\"",
            ),
            (
                "selector: \"has(a)\\n\"",
                "selector: expected '&&', '||' or the end at character 7, found a newline (a \
                 selector is one line) in \"has(a)\\n\"",
            ),
        ] {
            refused(
                &rule(&format!("action: Allow, {side}: {{{text}}}")),
                &[&format!("spec.egress[0].{side}.{expected}")],
            );
        }
    }
}
