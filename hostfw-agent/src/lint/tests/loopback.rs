use super::*;

const ALL: &str = "name: all, labels: {host: x}";
const WILDCARD: &str = "node: n1, interfaceName: '*'";

fn with(objects: &[(&str, &str, &str)]) -> Vec<String> {
    messages(&read(&super::objects(objects)))
}

fn cut_off(ways: &str) -> Vec<String> {
    vec![format!(
        "HostEndpoint(all): spec.interfaceName: '*' governs lo, too, and no policy or profile \
         allows all of what passes there {ways}: processes of the host reach each other on \
         fail-safe ports and where a rule allows it, and not else. Allow 127.0.0.0/8 and ::1, or \
         make a host endpoint for lo"
    )]
}

#[test]
fn an_endpoint_for_all_interfaces_governs_the_loopback_interface() {
    let all = ("HostEndpoint", ALL, WILDCARD);
    assert_eq!(with(&[all]), cut_off("in and out"));
    for (policy, ways) in [
        ("ingress: [{action: Allow}]", Some("out")),
        ("egress: [{action: Allow}]", Some("in")),
        (
            "selector: has(host), types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Log}]",
            Some("out"),
        ),
        (
            "ingress: [{action: Allow}], egress: [{action: Allow}]",
            None,
        ),
        (
            "selector: has(other), ingress: [{action: Allow}]",
            Some("in and out"),
        ),
        (
            "ingress: [{action: Allow, source: {nets: [10.0.0.0/8]}}]",
            Some("in and out"),
        ),
        (
            "ingress: [{action: Allow, source: {notNets: [127.0.0.0/8]}}]",
            Some("in and out"),
        ),
        (
            "ingress: [{action: Allow, protocol: TCP}]",
            Some("in and out"),
        ),
        (
            "ingress: [{action: Allow, ipVersion: 6}]",
            Some("in and out"),
        ),
        (
            "ingress: [{action: Allow, protocol: TCP, source: {nets: [127.0.0.0/8]}}]",
            Some("out"),
        ),
        (
            "ingress: [{action: Allow, source: {selector: has(local)}}]",
            Some("out"),
        ),
        (
            "ingress: [{action: Allow, source: {selector: has(far)}}]",
            Some("in and out"),
        ),
        (
            "preDNAT: true, applyOnForward: true, ingress: [{action: Allow}]",
            Some("out"),
        ),
    ] {
        let found = with(&[
            all,
            ("GlobalNetworkPolicy", "name: p", policy),
            (
                "GlobalNetworkSet",
                "name: s, labels: {local: x}",
                "nets: [127.0.0.0/8]",
            ),
            (
                "GlobalNetworkSet",
                "name: t, labels: {far: x}",
                "nets: [10.0.0.0/8]",
            ),
        ]);
        assert_eq!(found, ways.map(cut_off).unwrap_or_default(), "{policy}");
    }
    let staged = (
        "StagedGlobalNetworkPolicy",
        "name: p",
        "ingress: [{action: Allow}]",
    );
    assert_eq!(with(&[all, staged]), cut_off("in and out"));
}

#[test]
fn profiles_may_open_it() {
    let all = |profile: &str| format!("{WILDCARD}, profiles: [{profile}]");
    for (profile, ways) in [
        ("projectcalico-default-allow", None),
        ("open", None),
        ("half", Some("in")),
    ] {
        let found = with(&[
            ("HostEndpoint", ALL, &all(profile)),
            (
                "Profile",
                "name: open",
                "ingress: [{action: Allow}], egress: [{action: Allow}]",
            ),
            ("Profile", "name: half", "egress: [{action: Allow}]"),
        ]);
        assert_eq!(found, ways.map(cut_off).unwrap_or_default(), "{profile}");
    }
}

#[test]
fn another_endpoint_may_govern_it() {
    let all = ("HostEndpoint", ALL, WILDCARD);
    for (other, quiet) in [
        ("node: n1, interfaceName: lo", true),
        ("node: n2, interfaceName: lo", false),
        ("node: n1, interfaceName: eth0", false),
        ("node: n1, expectedIPs: [127.0.0.1]", true),
        ("node: n1, expectedIPs: [10.0.0.1]", false),
    ] {
        let found = with(&[all, ("HostEndpoint", "name: other", other)]);
        assert_eq!(found.is_empty(), quiet, "{other}");
    }
    // Of two for all interfaces the first governs.
    let twice = with(&[all, ("HostEndpoint", "name: b", WILDCARD)]);
    assert_eq!(twice, cut_off("in and out"));
    for (settings, quiet) in [
        (("name: default", "interfaceExclude: 'kube-ipvs0,lo'"), true),
        (("name: node.n1", "interfaceExclude: lo"), true),
        (("name: node.n1", "interfaceExclude: /^l.$/"), true),
        (("name: node.n2", "interfaceExclude: lo"), false),
        (("name: default", "interfaceExclude: kube-ipvs0"), false),
    ] {
        let found = with(&[all, ("FelixConfiguration", settings.0, settings.1)]);
        assert_eq!(found.is_empty(), quiet, "{settings:?}");
    }
}
