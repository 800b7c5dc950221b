use super::*;

fn told(kind: &str, spec: &str) -> Vec<String> {
    let text = objects(&[(kind, "name: default", spec)]);
    resources(&text)
        .iter()
        .inspect(|resource| assert!(validate(resource).is_ok()))
        .flat_map(|resource| unenforced(resource, Known::default()))
        .map(|unenforced| unenforced.to_string())
        .collect()
}

const POLICY: &str = "GlobalNetworkPolicy";

#[test]
fn criteria_that_the_store_has_no_objects_for() {
    const PODS: &str = "no pods are known here, so of what lives in namespaces it matches network \
                        sets alone";
    for (rules, field, why) in [
        (
            "ingress: [{action: Log}, {action: Allow, http: {methods: [GET]}}]",
            "ingress[1].http",
            "host policy does not look into requests, so the rule allows all that meets its other \
             criteria",
        ),
        (
            "ingress: [{action: Allow, source: {services: {name: a, namespace: b}}}]",
            "ingress[0].source.services",
            "no services are known here, so the rule matches nothing",
        ),
        (
            "egress: [{action: Allow, destination: {services: {name: a, namespace: b}}}]",
            "egress[0].destination.services",
            "no services are known here, so the rule matches nothing",
        ),
        (
            "egress: [{action: Allow, destination: {serviceAccounts: {names: [a]}}}]",
            "egress[0].destination.serviceAccounts",
            "no pods are known here, so only what is said of missing labels can match",
        ),
        (
            "egress: [{action: Allow, source: {namespaceSelector: all()}}]",
            "egress[0].source.namespaceSelector",
            PODS,
        ),
    ] {
        let expected = |kind: &str| {
            vec![format!(
                "{kind}(default): spec.{field} is not enforced: {why}"
            )]
        };
        for kind in [POLICY, "StagedGlobalNetworkPolicy", "Profile"] {
            assert_eq!(told(kind, rules), expected(kind), "{rules}");
        }
    }
    for spec in [
        // Of no effect anyway.
        "types: [Egress], ingress: [{action: Allow, http: {}}]",
        // Means what is known.
        "egress: [{action: Allow, destination: {namespaceSelector: global()}}]",
        "egress: [{action: Allow, destination: {namespaceSelector: '', serviceAccounts: {}}}]",
        // Host endpoints are in no namespace: that much is certain.
        "namespaceSelector: has(a)",
        "tier: t, performanceHints: [AssumeNeededOnEveryNode]",
    ] {
        assert_eq!(told(POLICY, spec), [] as [&str; 0], "{spec}");
    }
}

#[test]
fn not_every_one_of_many_is_told() {
    let rules = vec!["{action: Allow, http: {}, source: {namespaceSelector: all()}}"; 1000];
    let told = told(POLICY, &format!("ingress: [{}]", rules.join(",")));
    assert_eq!(told.len(), 20);
    let more: Vec<_> = told
        .iter()
        .filter(|text| text.ends_with(" (as with 990 more fields of the object)"))
        .map(|text| text.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        more,
        [
            Some("spec.ingress[9].http"),
            Some("spec.ingress[9].source.namespaceSelector")
        ]
    );
}

#[test]
fn staged_actions_that_are_not_evaluated() {
    for action in ["Delete", "Ignore"] {
        assert_eq!(
            told(
                "StagedGlobalNetworkPolicy",
                &format!("stagedAction: {action}")
            ),
            [format!(
                "StagedGlobalNetworkPolicy(default): spec.stagedAction is not enforced: what \
                 {action} would change is not evaluated, and not reported"
            )]
        );
    }
    for spec in ["", "stagedAction: Set", "stagedAction: Learn"] {
        assert_eq!(told("StagedGlobalNetworkPolicy", spec), [] as [&str; 0]);
    }
}

#[test]
fn settings_that_hostfw_has_no_use_for() {
    assert_eq!(
        told(
            "FelixConfiguration",
            "bpfEnabled: false, bpfLogLevel: '', ipipMTU: null, logPrefix: x, vxlanPort: 1"
        ),
        [
            "FelixConfiguration(default): spec.bpfEnabled is not enforced: the setting is of no \
             effect on host policy as hostfw enforces it"
        ]
    );
}

#[test]
fn untracked_policy_on_all_interfaces() {
    let model = read(&objects(&[
        (
            "HostEndpoint",
            "name: a, labels: {x: z}",
            "node: n1, interfaceName: '*'",
        ),
        (
            "HostEndpoint",
            "name: b, labels: {x: z}",
            "node: n2, interfaceName: '*'",
        ),
        ("HostEndpoint", "name: c", "node: n3, interfaceName: '*'"),
        (
            "HostEndpoint",
            "name: d, labels: {x: z}",
            "node: n3, interfaceName: eth0",
        ),
        (
            POLICY,
            "name: p",
            "selector: has(x), doNotTrack: true, applyOnForward: true",
        ),
        (
            POLICY,
            "name: q",
            "selector: '!has(x)', doNotTrack: true, applyOnForward: true",
        ),
        (POLICY, "name: r", "selector: has(x)"),
    ]));
    let told: Vec<String> = unenforced_together(&model)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "GlobalNetworkPolicy(p): spec.doNotTrack is not enforced: untracked policy leaves out \
             endpoints for all interfaces ('*'), as HostEndpoint(a) and 1 more",
            "GlobalNetworkPolicy(q): spec.doNotTrack is not enforced: untracked policy leaves out \
             endpoints for all interfaces ('*'), as HostEndpoint(c)",
        ]
    );
}
