mod loopback;
mod references;
mod unenforced;
mod untracked;

use super::*;
use crate::{
    resource::parse_documents,
    validate::{assemble, validate},
};

const ALLOW_V4: &str = "{name: allow, spec: {order: 10, SELECTOR, ingress: [{action: Allow, \
                        source: {nets: [10.240.0.0/16, 192.168.0.0/16]}}]}}";
const ALLOW_V6: &str = "{name: allow-v6, spec: {order: 10, SELECTOR, ingress: [{action: Allow, \
                        source: {nets: ['fd00:10::/32']}}]}}";
const DENY: &str = "{name: deny, spec: {order: 20, SELECTOR, ingress: [{action: Deny}]}}";
const PINHOLE: &str = "{name: pinhole, spec: {order: 10, SELECTOR, ingress: [{action: Allow, \
                       protocol: TCP, destination: {selector: has(host-endpoint), \
                       ports: [31852]}}]}}";

/// The pre-DNAT policies, all with this selector, and endpoints with these
/// labels.
fn model(selector: &str, policies: &[&str], endpoints: &[(&str, &str)]) -> Model {
    let mut text = String::new();
    for policy in policies {
        let policy = policy
            .replace("{name: ", "metadata: {name: ")
            .replace(
                ", spec: {",
                "}\nspec: {preDNAT: true, applyOnForward: true, ",
            )
            .replace("SELECTOR", &format!("selector: \"{selector}\""));
        let policy = policy.strip_suffix('}').expect("one brace too many");
        text += &format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n{}\n",
            policy.strip_prefix('{').unwrap_or(policy)
        );
    }
    for (name, labels) in endpoints {
        text += &format!(
            "---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\n\
             metadata: {{name: {name}, labels: {{{labels}}}}}\n\
             spec: {{node: n1, interfaceName: eth0}}\n"
        );
    }
    read(&text)
}

fn read(text: &str) -> Model {
    assemble(parse_documents(text).into_iter().flat_map(|document| {
        document
            .result
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .iter()
            .map(|resource| validate(resource).unwrap_or_else(|errors| panic!("{errors:?}")))
            .collect::<Vec<_>>()
    }))
}

fn messages(model: &Model) -> Vec<String> {
    lint(model).iter().map(ToString::to_string).collect()
}

const SELECTOR: &str = "has(host-endpoint)";
const NODE1: (&str, &str) = ("node1-eth0", "host-endpoint: ingress");
const NODE2: (&str, &str) = ("node2-eth0", "host-endpoint: ingress");
const OTHER: (&str, &str) = ("other", "role: db");

const TRAP: &str = "GlobalNetworkPolicy(allow): spec.ingress[0] (10.240.0.0/16, \
                    192.168.0.0/16) allows IPv4 nets only, and then GlobalNetworkPolicy(deny) denies \
                    everything: the same traffic over IPv6 is closed";
const ADVICE: &str = ". If that is not meant, allow IPv6 nets as well, ahead of the denial";

#[test]
fn an_ipv4_allow_before_a_denial_of_everything_closes_ipv6() {
    // Before there is any endpoint, by the selectors' text.
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, DENY], &[])),
        [format!("{TRAP}{ADVICE}")]
    );
    // With endpoints, for those that both policies apply to.
    assert_eq!(
        messages(&model(SELECTOR, &[DENY, ALLOW_V4], &[NODE1, OTHER])),
        [format!("{TRAP} on HostEndpoint(node1-eth0){ADVICE}")]
    );
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, DENY], &[NODE2, NODE1])),
        [format!(
            "{TRAP} on the host endpoints node1-eth0, node2-eth0{ADVICE}"
        )]
    );
    // Endpoints that neither applies to do not hide the trap.
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, DENY], &[OTHER])),
        [format!("{TRAP}{ADVICE}")]
    );
    let many: Vec<String> = (0..5).map(|index| format!("e{index}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), NODE1.1)).collect();
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, DENY], &many)),
        [format!(
            "{TRAP} on the host endpoints e0, e1, e2 and 2 more{ADVICE}"
        )]
    );
}

#[test]
fn one_policy_gets_one_warning() {
    let rules = vec![
        "{action: Allow, source: {nets: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, \
                      169.254.0.0/16]}}";
        300
    ]
    .join(",");
    let allow = format!("{{name: allow, spec: {{order: 10, SELECTOR, ingress: [{rules}]}}}}");
    let endpoints: Vec<String> = (0..300).map(|index| format!("e{index}")).collect();
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|name| (name.as_str(), NODE1.1))
        .collect();
    assert_eq!(
        messages(&model(SELECTOR, &[&allow, DENY], &endpoints)),
        [format!(
            "GlobalNetworkPolicy(allow): spec.ingress[0] (10.0.0.0/8, 172.16.0.0/12, \
             192.168.0.0/16 and 1 more) and 299 more rules allow IPv4 nets only, and then \
             GlobalNetworkPolicy(deny) denies everything: the same traffic over IPv6 is closed on \
             the host endpoints e0, e1, e10 and 297 more{ADVICE}"
        )]
    );
}

#[test]
fn a_pinhole_does_not_make_up_for_it() {
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, PINHOLE, DENY], &[NODE1])),
        [format!("{TRAP} on HostEndpoint(node1-eth0){ADVICE}")]
    );
}

#[test]
fn ipv6_that_is_allowed_as_well_is_no_trap() {
    for endpoints in [&[][..], &[NODE1, OTHER]] {
        let model = model(SELECTOR, &[ALLOW_V4, ALLOW_V6, DENY], endpoints);
        assert_eq!(messages(&model), [] as [&str; 0]);
    }
    // After the denial it comes too late.
    let late = ALLOW_V6.replace("order: 10", "order: 30");
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &late, DENY], &[])),
        [format!("{TRAP}{ADVICE}")]
    );
}

#[test]
fn it_works_the_other_way_round() {
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V6, DENY], &[])),
        [
            "GlobalNetworkPolicy(allow-v6): spec.ingress[0] (fd00:10::/32) allows IPv6 nets only, \
          and then GlobalNetworkPolicy(deny) denies everything: the same traffic over IPv4 is \
          closed. If that is not meant, allow IPv4 nets as well, ahead of the denial"
        ]
    );
}

#[test]
fn what_looks_alike_and_is_no_trap() {
    let with = |name: &str, order: &str, rule: &str| {
        format!("{{name: {name}, spec: {{order: {order}, SELECTOR, ingress: [{rule}]}}}}")
    };
    let allow_all = with("open", "15", "{action: Allow}");
    let deny_v4 = with("deny-v4", "20", "{action: Deny, ipVersion: 4}");
    let deny_net = with(
        "deny-net",
        "20",
        "{action: Deny, source: {nets: ['fd00::/8']}}",
    );
    let deny_tcp = with("deny-tcp", "20", "{action: Deny, protocol: TCP}");
    let log = with("log", "20", "{action: Log}");
    let said = with(
        "said",
        "10",
        "{action: Allow, ipVersion: 4, source: {nets: [10.0.0.0/8]}}",
    );
    let icmp = with(
        "icmp",
        "10",
        "{action: Allow, protocol: ICMP, source: {nets: [10.0.0.0/8]}}",
    );
    for policies in [
        &[ALLOW_V4][..],
        &[DENY],
        &[PINHOLE, DENY],
        &[ALLOW_V4, &allow_all, DENY],
        &[ALLOW_V4, &deny_v4],
        &[ALLOW_V4, &deny_net],
        &[ALLOW_V4, &deny_tcp],
        &[ALLOW_V4, &log],
        &[&said, DENY],
        &[&icmp, DENY],
        // The denial comes first: the allow does nothing in either version.
        &[&DENY.replace("order: 20", "order: 5"), ALLOW_V4],
        // On equal order names decide, `p-deny` before `p`.
        &[
            &ALLOW_V4.replace("name: allow", "name: p"),
            &DENY
                .replace("name: deny", "name: p-deny")
                .replace("order: 20", "order: 10"),
        ],
        // And `deny` before `x-allow`.
        &[
            &ALLOW_V4
                .replace("name: allow", "name: x-allow")
                .replace("order: 10", "order: 20"),
            DENY,
        ],
    ] {
        assert_eq!(
            messages(&model(SELECTOR, policies, &[NODE1])),
            [] as [&str; 0],
            "{policies:?}"
        );
    }
}

#[test]
fn denials_of_one_version_and_of_all_its_addresses_count() {
    for rule in [
        "{action: Deny, ipVersion: 6}",
        "{action: Deny, source: {nets: ['::/0']}}",
    ] {
        let deny = format!("{{name: deny, spec: {{order: 20, SELECTOR, ingress: [{rule}]}}}}");
        assert_eq!(
            messages(&model(SELECTOR, &[ALLOW_V4, &deny], &[])),
            [format!("{TRAP}{ADVICE}")],
            "{rule}"
        );
    }
}

#[test]
fn selectors_decide_what_comes_together() {
    let deny_all = DENY.replace("SELECTOR", "selector: ''");
    let deny_db = DENY.replace("SELECTOR", "selector: has(role)");
    // all() applies to whatever the other policy applies to.
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &deny_all], &[])).len(),
        1
    );
    // Other spellings of the same selector are the same.
    let spelled = DENY.replace("SELECTOR", "selector: ' ( has( host-endpoint ) )'");
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &spelled], &[])).len(),
        1
    );
    // Different selectors: nobody knows before there are endpoints, ...
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &deny_db], &[])).len(),
        0
    );
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &deny_db], &[NODE1, OTHER])).len(),
        0
    );
    // ... and then it is known.
    let both = ("both", "host-endpoint: x, role: db");
    assert_eq!(
        messages(&model(SELECTOR, &[ALLOW_V4, &deny_db], &[NODE1, both])),
        [format!("{TRAP} on HostEndpoint(both){ADVICE}")]
    );
}

#[test]
fn normal_policies_are_left_alone() {
    let model = read(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\n\
         spec: {egress: [{action: Allow, destination: {nets: [10.0.0.0/8]}}, {action: Deny}]}",
    );
    assert_eq!(messages(&model), [] as [&str; 0]);
}

#[test]
fn emptied_fail_safes() {
    let felix = |name: &str, spec: &str| {
        read(&format!(
            "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\n\
             metadata: {{name: {name}}}\nspec: {{{spec}}}"
        ))
    };
    assert_eq!(
        messages(&felix("default", "failsafeInboundHostPorts: []")),
        [
            "FelixConfiguration(default): spec.failsafeInboundHostPorts is empty: no port of the \
          host stays reachable (SSH included) unless a policy allows it. Leave the field out to \
          have the defaults"
        ]
    );
    assert_eq!(
        messages(&felix("node.n1", "failsafeOutboundHostPorts: []")),
        [
            "FelixConfiguration(node.n1): spec.failsafeOutboundHostPorts is empty: the host itself \
          reaches nothing (DNS included) unless a policy allows it. Leave the field out to have \
          the defaults"
        ]
    );
    for spec in ["", "failsafeInboundHostPorts: [{protocol: TCP, port: 22}]"] {
        assert_eq!(messages(&felix("default", spec)), [] as [&str; 0]);
    }
}

/// Documents in flow style: kind, name and spec.
fn objects(objects: &[(&str, &str, &str)]) -> String {
    let one = |(kind, metadata, spec): &(&str, &str, &str)| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{metadata}}}\n\
             spec: {{{spec}}}\n"
        )
    };
    objects.iter().map(one).collect()
}

fn resources(text: &str) -> Vec<Resource> {
    let documents = parse_documents(text).into_iter();
    documents
        .flat_map(|document| document.result.expect("an object"))
        .collect()
}

/// What is said of a policy with this spec alone.
fn warnings(spec: &str) -> Vec<String> {
    let text = objects(&[("GlobalNetworkPolicy", "name: p", spec)]);
    resources(&text)
        .iter()
        .flat_map(lint_resource)
        .map(|warning| warning.to_string())
        .collect()
}

#[test]
fn tiers_and_staging_decide_what_comes_first() {
    let trap = |allow: (&str, &str), deny: (&str, &str)| {
        let text = objects(&[
            ("Tier", "name: early", "order: 1"),
            ("Tier", "name: late", "order: 2"),
            (
                allow.0,
                "name: allow",
                &format!(
                    "preDNAT: true, applyOnForward: true, tier: {}, ingress: [{{action: Allow, \
                     source: {{nets: [10.0.0.0/8]}}}}]",
                    allow.1
                ),
            ),
            (
                deny.0,
                "name: deny",
                &format!(
                    "preDNAT: true, applyOnForward: true, order: -5, tier: {}, ingress: [{{action: \
                     Deny}}]",
                    deny.1
                ),
            ),
        ]);
        messages(&read(&text)).len()
    };
    const ENFORCED: &str = "GlobalNetworkPolicy";
    const STAGED: &str = "StagedGlobalNetworkPolicy";
    assert_eq!(trap((ENFORCED, "early"), (ENFORCED, "late")), 1);
    assert_eq!(trap((ENFORCED, "late"), (ENFORCED, "default")), 1);
    assert_eq!(trap((ENFORCED, "late"), (ENFORCED, "early")), 0);
    assert_eq!(trap((ENFORCED, "late"), (ENFORCED, "late")), 0);
    assert_eq!(trap((STAGED, "early"), (ENFORCED, "late")), 0);
    assert_eq!(trap((ENFORCED, "early"), (STAGED, "late")), 0);
}

#[test]
fn policies_for_namespaces_apply_to_no_host() {
    assert_eq!(
        warnings("namespaceSelector: all(), egress: [{action: Allow}]"),
        [
            "GlobalNetworkPolicy(p): spec.namespaceSelector asks for labels that host endpoints \
             do not have: the policy applies to none of them"
        ]
    );
    assert_eq!(
        warnings("serviceAccountSelector: has(a)"),
        [
            "GlobalNetworkPolicy(p): spec.serviceAccountSelector asks for labels that host \
             endpoints do not have: the policy applies to none of them"
        ]
    );
    assert_eq!(
        warnings("selector: all(), namespaceSelector: a != 'b'"),
        [
            "GlobalNetworkPolicy(p): spec.selector: beside namespaceSelector, all() means what \
             lives in a namespace: the policy applies to no host endpoint. Leave it out to mean \
             all"
        ]
    );
    for spec in [
        "",
        "selector: all()",
        "namespaceSelector: a != 'b'",
        "selector: has(x), namespaceSelector: a != 'b'",
        "namespaceSelector: ''",
    ] {
        assert_eq!(warnings(spec), [] as [&str; 0], "{spec}");
    }
}

#[test]
fn rules_of_a_direction_that_is_not_among_the_types() {
    assert_eq!(
        warnings("types: [Egress], ingress: [{action: Deny}], egress: [{action: Allow}]"),
        [
            "GlobalNetworkPolicy(p): spec.ingress has 1 rules that have no effect, because \
          spec.types does not hold Ingress"
        ]
    );
    for spec in [
        "egress: [{action: Allow}]",
        "types: [Egress], egress: [{action: Allow}]",
    ] {
        assert_eq!(warnings(spec), [] as [&str; 0]);
    }
}
