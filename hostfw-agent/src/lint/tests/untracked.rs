use super::*;

const IN: &str = "doNotTrack: true, applyOnForward: true, selector: has(a), ingress: [{action: \
                  Allow, protocol: UDP}]";

fn with(profiles: &str, others: &[(&str, &str, &str)]) -> Vec<String> {
    let endpoint = format!("node: n1, interfaceName: eth0, profiles: [{profiles}]");
    let mut all = vec![
        ("HostEndpoint", "name: h, labels: {a: b}", endpoint.as_str()),
        ("GlobalNetworkPolicy", "name: in", IN),
        ("Profile", "name: open", "egress: [{action: Allow}]"),
    ];
    all.extend(others);
    messages(&read(&objects(&all)))
}

#[test]
fn answers_to_untracked_packets_need_rules_of_their_own() {
    let warned = [
        "GlobalNetworkPolicy(in): spec.ingress allows packets without connection tracking, and no \
         rule allows what answers them on HostEndpoint(h). Add rules for the answers to spec.egress",
    ];
    assert_eq!(with("", &[]), warned);
    const OUT: &str = "GlobalNetworkPolicy";
    for spec in [
        "egress: [{action: Deny}]",
        "selector: has(other), egress: [{action: Allow}]",
        "ingress: [{action: Allow}]",
    ] {
        assert_eq!(with("", &[(OUT, "name: out", spec)]), warned, "{spec}");
    }
    assert_eq!(
        with(
            "",
            &[(
                "StagedGlobalNetworkPolicy",
                "name: out",
                "egress: [{action: Allow}]"
            )]
        ),
        warned
    );
    for spec in [
        "egress: [{action: Allow}]",
        "doNotTrack: true, applyOnForward: true, egress: [{action: Allow}], types: [Egress]",
    ] {
        let others = [
            (OUT, "name: out", spec),
            (OUT, "name: rest", "ingress: [{action: Allow}]"),
        ];
        assert_eq!(with("", &others), [] as [&str; 0], "{spec}");
    }
    for profile in ["open", "projectcalico-default-allow"] {
        assert_eq!(with(profile, &[]), [] as [&str; 0], "{profile}");
    }
}
