mod addresses;
mod endpoint;
mod felix;
mod metadata;
mod policy;
mod profile;
mod rule;
mod selector;
mod service;
mod set;
mod staged;
mod template;
mod tier;

use super::*;
use crate::resource::parse_documents;

/// An object with this name and this spec in flow style.
fn resource(kind: &str, name: &str, spec: &str) -> Resource {
    with_metadata(kind, &format!("name: {name}"), spec)
}

#[track_caller]
fn with_metadata(kind: &str, metadata: &str, spec: &str) -> Resource {
    let known = model::Kind::ALL
        .into_iter()
        .find(|known| known.name() == kind);
    let version = known.expect("a known kind").api_version();
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n"
    );
    let mut documents = parse_documents(&text);
    match documents.remove(0).result {
        Ok(mut resources) => resources.remove(0),
        Err(error) => panic!("{error}\n{text}"),
    }
}

fn gnp(spec: &str) -> Resource {
    resource("GlobalNetworkPolicy", "p", spec)
}

fn hep(spec: &str) -> Resource {
    resource("HostEndpoint", "h", spec)
}

fn felix(spec: &str) -> Resource {
    resource("FelixConfiguration", "default", spec)
}

/// A policy that is valid but for what this rule brings.
fn rule(rule: &str) -> Resource {
    gnp(&format!("egress: [{{{rule}}}]"))
}

#[track_caller]
fn valid(resource: &Resource) -> Object {
    validate(resource).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

#[track_caller]
fn policy(resource: &Resource) -> model::Policy {
    let value = valid(resource);
    let Object::Policy(policy) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(policy)
}

#[track_caller]
fn egress_rule(text: &str) -> model::Rule {
    policy(&rule(text)).egress.expect("egress rules")[0].clone()
}

#[track_caller]
fn endpoint(resource: &Resource) -> model::HostEndpoint {
    let value = valid(resource);
    let Object::HostEndpoint(endpoint) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(endpoint)
}

#[track_caller]
fn settings(resource: &Resource) -> model::FelixSettings {
    let value = valid(resource);
    let Object::Settings(settings) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(settings)
}

/// The object is refused with exactly these messages.
#[track_caller]
fn refused(resource: &Resource, expected: &[&str]) {
    match validate(resource) {
        Ok(object) => panic!("{object:#?} instead of {expected:#?}"),
        Err(errors) => {
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn all_errors_of_an_object_come_at_once() {
    refused(
        &gnp(
            "tier: T, selector: '(', preDNAT: true, ingress: [{action: Pass, protocol: tcp}, \
             {action: Allow, source: {nets: [10.0.0.1, 'x']}}]",
        ),
        &[
            "spec.tier: expected the name of a tier (lower-case letters, digits and '-', at most \
             63 characters), found \"T\"",
            "spec.ingress[0].protocol: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number \
             from 1 to 255, found \"tcp\"",
            "spec.ingress[1].source.nets[0]: expected a CIDR with a prefix length, as 10.0.0.1/32, \
             found \"10.0.0.1\"",
            "spec.ingress[1].source.nets[1]: expected a CIDR, as 10.0.0.0/8 or fd00::/8, found \
             \"x\"",
            "spec.applyOnForward: expected true, for preDNAT is true, found nothing",
            "spec.selector: expected a label name, 'has(', 'all()', 'global()', '!' or '(' at \
             character 2, found the end in \"(\"",
        ],
    );
}

#[test]
fn not_every_one_of_many_errors_is_told() {
    let rules = vec!["{action: Pass, ipVersion: 5}"; 1000].join(",");
    let errors = validate(&gnp(&format!("egress: [{rules}]"))).expect_err("IPv5");
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[99].field, "spec.egress[99].ipVersion");
    assert_eq!(
        errors[100].to_string(),
        "spec: expected no further errors, found 900 more"
    );
}

#[test]
fn hostile_objects_give_short_messages() {
    const MANY: usize = 1 << 20;
    for resource in [
        gnp(&format!(
            "selector: '{}', egress: [{{action: Allow}}]",
            "(".repeat(MANY)
        )),
        rule(&format!(
            "action: Allow, source: {{selector: '{}'}}",
            "(".repeat(MANY)
        )),
        rule(&format!(
            "action: Allow, source: {{nets: ['{}']}}",
            "1".repeat(MANY)
        )),
        rule(&format!("action: Allow, protocol: '{}'", "1".repeat(MANY))),
        rule(&format!(
            "action: Allow, protocol: TCP, source: {{ports: ['{}']}}",
            "1:".repeat(MANY)
        )),
        felix(&format!("interfacePrefix: '{}'", "a".repeat(MANY))),
        felix(&format!("interfaceExclude: '/{}/'", "a".repeat(MANY))),
        felix(&format!("interfaceExclude: '/{}/'", "(".repeat(MANY))),
        felix("interfaceExclude: '/(((a{1000}){1000}){1000}){1000}/'"),
        hep(&format!(
            "node: n1, interfaceName: '{}'",
            "\u{1F600}".repeat(MANY / 4)
        )),
        resource(
            "HostEndpoint",
            &"a".repeat(MANY),
            "node: n1, interfaceName: e",
        ),
        gnp(&format!("tier: '{}'", "a".repeat(MANY))),
        gnp(&format!("namespaceSelector: '{}'", "!".repeat(MANY))),
        rule(&format!(
            "action: Allow, destination: {{namespaceSelector: '{}'}}",
            "has(a)&&".repeat(MANY / 8)
        )),
        rule(&format!(
            "action: Allow, source: {{namespaceSelector: 'global() {}'}}",
            "&& global()".repeat(MANY / 11)
        )),
        rule(&format!(
            "action: Allow, source: {{serviceAccounts: {{names: ['{}']}}}}",
            "A".repeat(MANY)
        )),
        rule(&format!(
            "action: Allow, destination: {{ports: ['{}']}}",
            "a".repeat(MANY)
        )),
        resource(
            "Tier",
            "t",
            &format!("defaultAction: '{}'", "a".repeat(MANY)),
        ),
        resource(
            "GlobalNetworkSet",
            "s",
            &format!("nets: ['{}']", "1".repeat(MANY)),
        ),
        resource(
            "Profile",
            "p",
            &format!("labelsToApply: {{a: '{}'}}", "b".repeat(MANY)),
        ),
        resource(
            "StagedGlobalNetworkPolicy",
            "p",
            &format!("stagedAction: '{}'", "b".repeat(MANY)),
        ),
        with_metadata(
            "NetworkSet",
            &format!("name: s, namespace: '{}'", "A".repeat(MANY)),
            "",
        ),
    ] {
        let errors = validate(&resource).expect_err("nonsense");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().len() < 1200, "{}", errors[0]);
    }
}

#[test]
fn a_model_is_sorted_by_name() {
    const E: &str = "egress: [{action: Allow}]";
    let objects = [
        resource("GlobalNetworkPolicy", "b", E),
        resource("HostEndpoint", "b", "node: n1, interfaceName: e"),
        resource("FelixConfiguration", "node.a", ""),
        resource("GlobalNetworkPolicy", "a", E),
        resource("FelixConfiguration", "default", ""),
        resource("HostEndpoint", "a", "node: n1, interfaceName: e"),
        resource("StagedGlobalNetworkPolicy", "a", E),
        resource("Tier", "b", ""),
        resource("Tier", "a", ""),
        resource("Profile", "b", ""),
        resource("Profile", "a", ""),
        with_metadata("NetworkSet", "name: a, namespace: z", ""),
        with_metadata("NetworkSet", "name: b, namespace: x", ""),
        resource("GlobalNetworkSet", "c", ""),
    ];
    let model = assemble(objects.iter().map(valid));
    let names: Vec<_> = model
        .policies
        .iter()
        .map(|policy| policy.object_ref().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "GlobalNetworkPolicy(a)",
            "GlobalNetworkPolicy(b)",
            "StagedGlobalNetworkPolicy(a)"
        ]
    );
    let names: Vec<_> = model.tiers.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let names: Vec<_> = model.profiles.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let names: Vec<_> = model
        .sets
        .iter()
        .map(|s| (s.namespace.as_deref(), s.name.as_str()))
        .collect();
    assert_eq!(names, [(None, "c"), (Some("x"), "b"), (Some("z"), "a")]);
    let names: Vec<_> = model.endpoints.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let nodes: Vec<_> = model.settings.iter().map(|s| s.node.as_deref()).collect();
    assert_eq!(nodes, [None, Some("a")]);
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let reference = include_str!("../../../../docs/policy.md");
    let mut kinds = std::collections::BTreeSet::new();
    for example in reference.split("```yaml\n").skip(1) {
        let (example, _) = example.split_once("```").expect("an end");
        for document in parse_documents(example) {
            for resource in document.result.expect("an object") {
                valid(&resource);
                kinds.insert(resource.kind());
            }
        }
    }
    assert_eq!(kinds.len(), crate::model::Kind::ALL.len(), "{kinds:?}");
}

/// Damages a text in a few places. The numbers come from a generator with a
/// fixed start, so that a failure can be had again.
fn damage(text: &str, random: &mut impl FnMut(usize) -> usize) -> String {
    const PIECES: [&str; 24] = [
        "",
        " ",
        "\n",
        "\t",
        "'",
        "\"",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "- ",
        "---\n",
        "&a ",
        "*a",
        "!!",
        "|",
        "\u{1F600}",
        "\0",
        "null",
        "-1",
        "1e400",
        "(",
    ];
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=random(4) {
        let at = random(characters.len());
        let end = (at + random(3)).min(characters.len());
        characters.splice(at..end, PIECES[random(PIECES.len())].chars());
    }
    characters.into_iter().collect()
}

const OTHER_KINDS: &str = "\
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: p}
spec:
  tier: t
  namespaceSelector: all() && has(x)
  stagedAction: Learn
  ingress: [{action: Pass, source: {services: {name: a, namespace: b}}, http: {paths: [{exact: /a}]}}]
---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}, spec: {order: 1, defaultAction: Pass}}
---
{apiVersion: projectcalico.org/v3, kind: NetworkSet, metadata: {name: s, namespace: ns1}, spec: {nets: [10.0.0.1, 'fd00::1/8']}}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.ns1}
spec: {labelsToApply: {a: b}, egress: [{action: Deny, destination: {namespaceSelector: global(), serviceAccounts: {names: [a]}}}]}
---
apiVersion: hostfw.io/v1alpha1
kind: HostEndpointTemplate
metadata: {name: t}
spec: {order: 1, nodeSelector: has(a), interfacePattern: 'eth[0-9]+', labels: {a: b}, labelsFromNode: [c]}
---
{apiVersion: v1, kind: Node, metadata: {name: node1, labels: {a: b}}}
";

#[test]
fn damaged_texts_do_not_panic() {
    let seed = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p, labels: {a: b}}
spec:
  order: 10
  selector: \"has(a) && !(b in {'c', 'd'}) || e starts with 'f'\"
  egress:
  - {action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}}
  - action: Deny
    protocol: 6
    source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16], notPorts: [1, '2:3', http]}
    destination: {notSelector: g ends with 'h'}
---
{\"apiVersion\": \"projectcalico.org/v3\", \"kind\": \"HostEndpoint\", \"metadata\": {\"name\": \"h\"},
 \"spec\": {\"node\": \"n\", \"expectedIPs\": [\"fd00::1\"]}}
";
    let mut state = 1_u64;
    // Knuth's MMIX generator; its upper bits are the good ones.
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let seed = format!("{seed}---\n{OTHER_KINDS}");
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..1_000 {
        for document in parse_documents(&damage(&seed, &mut random)) {
            match document.result {
                Ok(resources) => {
                    for resource in &resources {
                        accepted += usize::from(validate(resource).is_ok());
                        assert_eq!(
                            Resource::from_value(&resource.to_value()).as_ref(),
                            Ok(resource)
                        );
                    }
                }
                Err(error) => refused += usize::from(!error.to_string().is_empty()),
            }
        }
    }
    // Both ways are taken: the damage is neither too light nor too heavy.
    assert!(accepted > 250 && refused > 250, "{accepted}, {refused}");
}
