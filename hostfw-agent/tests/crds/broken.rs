//! Objects that the definitions must refuse, and those that they must take.

use std::fs;

use hostfw_agent::crd;
use serde_json::Value;

/// Kind, what is wrong with its `spec` (or its name, after a `#`), and what the
/// definition says about it.
pub(crate) const BAD: &[(&str, &str, &str)] = &[
    (
        "HostEndpoint",
        "node: node1",
        "interfaceName or expectedIPs, or both, must be given",
    ),
    (
        "HostEndpoint",
        "node: node1, interfaceName: ''",
        "interfaceName or expectedIPs",
    ),
    ("HostEndpoint", "interfaceName: eth0", ".spec.node: missing"),
    (
        "HostEndpoint",
        "node: '', interfaceName: eth0",
        ".spec.node: minLength",
    ),
    (
        "HostEndpoint",
        "node: node1, interfaceName: 'eth 0'",
        ".spec.interfaceName: pattern",
    ),
    (
        "HostEndpoint",
        "node: node1, interfaceName: a-name-of-sixteen",
        "pattern",
    ),
    (
        "HostEndpoint",
        "node: node1, expectedIPs: [10.0.0.0/8]",
        "expectedIPs[0]: pattern",
    ),
    (
        "HostEndpoint",
        "node: node1, expectedIPs: [1.1.1.1], ports: [{name: '-', protocol: TCP, port: 1}]",
        "ports[0].name: pattern",
    ),
    (
        "HostEndpoint",
        "node: node1, expectedIPs: [1.1.1.1], ports: [{name: a, protocol: ICMP, port: 1}]",
        "ports[0].protocol: pattern",
    ),
    (
        "HostEndpoint",
        "node: node1, expectedIPs: [1.1.1.1], ports: [{name: a, protocol: 300, port: 1}]",
        "ports[0].protocol: maximum",
    ),
    (
        "HostEndpoint",
        "node: node1, expectedIPs: [1.1.1.1], ports: [{name: a, protocol: TCP, port: 0}]",
        "ports[0].port: minimum",
    ),
    (
        "HostEndpointTemplate",
        "nodeSelector: all()",
        ".spec.interfacePattern: missing",
    ),
    (
        "HostEndpointTemplate",
        "interfacePattern: ''",
        ".spec.interfacePattern: minLength",
    ),
    (
        "HostEndpointTemplate",
        "interfacePattern: a, labels: {a: '-'}",
        ".spec.labels.a: pattern",
    ),
    (
        "HostEndpointTemplate",
        "interfacePattern: a, labels: {a: b}, labelsFromNode: [a]",
        "labelsFromNode may not name what labels holds",
    ),
    (
        "HostEndpointTemplate",
        "interfacePattern: a, labelsFromNode: ['']",
        "labelsFromNode[0]: minLength",
    ),
    (
        "GlobalNetworkPolicy",
        "#a.b.c",
        "the name must be one label, or two",
    ),
    ("GlobalNetworkPolicy", "tier: A", ".spec.tier: pattern"),
    (
        "GlobalNetworkPolicy",
        "types: [Ingress, Ingress]",
        "each type may stand only once",
    ),
    (
        "GlobalNetworkPolicy",
        "performanceHints: [none]",
        "performanceHints[0]: not in enum",
    ),
    (
        "GlobalNetworkPolicy",
        "preDNAT: true",
        "applyOnForward must be true if preDNAT is",
    ),
    (
        "GlobalNetworkPolicy",
        "doNotTrack: true, applyOnForward: false",
        "applyOnForward must be true if doNotTrack is",
    ),
    (
        "GlobalNetworkPolicy",
        "doNotTrack: true, preDNAT: true, applyOnForward: true",
        "preDNAT and doNotTrack may not both be true",
    ),
    (
        "GlobalNetworkPolicy",
        "preDNAT: true, applyOnForward: true, egress: [{action: Deny}]",
        "a preDNAT policy may not have egress rules",
    ),
    (
        "GlobalNetworkPolicy",
        "preDNAT: true, applyOnForward: true, types: [Egress]",
        "a preDNAT policy may not have the type Egress",
    ),
    (
        "StagedGlobalNetworkPolicy",
        "stagedAction: delete",
        "stagedAction: not in enum",
    ),
    (
        "StagedGlobalNetworkPolicy",
        "stagedAction: Delete, order: 1",
        "nothing but tier may be given",
    ),
    (
        "StagedGlobalNetworkPolicy",
        "stagedAction: Delete, selector: a",
        "nothing but tier may be given",
    ),
    (
        "StagedGlobalNetworkPolicy",
        "stagedAction: Delete, types: [Egress]",
        "nothing but tier may be given",
    ),
    (
        "StagedGlobalNetworkPolicy",
        "stagedAction: Delete, applyOnForward: true",
        "nothing but tier may be given",
    ),
    ("GlobalNetworkSet", "nets: [nonsense]", "nets[0]: pattern"),
    ("Tier", "#a.b", "the name must be one label"),
    ("Tier", "defaultAction: deny", "defaultAction: not in enum"),
    (
        "Tier",
        "#default",
        "order and defaultAction of the tier default are fixed",
    ),
    (
        "Tier",
        "#kube-admin",
        "order and defaultAction of the tier kube-admin are fixed",
    ),
    (
        "Tier",
        "#kube-baseline",
        "order and defaultAction of the tier kube-baseline are fixed",
    ),
    (
        "Profile",
        "labelsToApply: {a: ' '}",
        "labelsToApply.a: pattern",
    ),
    (
        "FelixConfiguration",
        "#other",
        "the name must be default or node",
    ),
    ("FelixConfiguration", "vxlanPort: 0", "vxlanPort: minimum"),
    (
        "FelixConfiguration",
        "failsafeInboundHostPorts: [{protocol: tcp, port: 1}]",
        "protocol: not in enum",
    ),
    (
        "FelixConfiguration",
        "failsafeInboundHostPorts: [{protocol: TCP, port: 1, net: x}]",
        "net: pattern",
    ),
];

/// Rules that are wrong in a list of egress rules, or of ingress rules after a
/// `#`.
pub(crate) const BAD_RULES: &[(&str, &str)] = &[
    ("ipVersion: 5", "ipVersion: not in enum"),
    ("protocol: tcp", "protocol: pattern"),
    ("protocol: 256", "protocol: maximum"),
    ("notProtocol: 0", "notProtocol: minimum"),
    (
        "protocol: ICMP, ipVersion: 6",
        "ipVersion may not be 6 if protocol is ICMP",
    ),
    (
        "protocol: '58', ipVersion: 4",
        "ipVersion may not be 4 if protocol is ICMPv6",
    ),
    (
        "notProtocol: 1, ipVersion: 6",
        "ipVersion may not be 6 if notProtocol is ICMP",
    ),
    (
        "icmp: {type: 8}",
        "protocol must be ICMP or ICMPv6 if icmp is given",
    ),
    (
        "protocol: TCP, icmp: {type: 8}",
        "protocol must be ICMP or ICMPv6",
    ),
    ("protocol: ICMP, icmp: {code: 0}", "a code needs a type"),
    ("protocol: ICMP, icmp: {type: 255}", "icmp.type: maximum"),
    ("notICMP: {type: 1, code: 256}", "notICMP.code: maximum"),
    ("http: {methods: [GET]}", "an egress rule may not have http"),
    (
        "#action: Deny, http: {methods: [GET]}",
        "http is for rules with action Allow",
    ),
    (
        "#protocol: UDP, http: {methods: [GET]}",
        "http is for rules with action Allow",
    ),
    (
        "source: {services: {name: a, namespace: b}}",
        "services may be given for the destination only",
    ),
    (
        "#destination: {services: {name: a, namespace: b}}",
        "services may be given for the source only",
    ),
    (
        "destination: {services: {name: a}}",
        "services.namespace: missing",
    ),
    (
        "destination: {services: {name: '', namespace: b}}",
        "services.name: minLength",
    ),
    (
        "destination: {services: {name: a, namespace: b}, selector: a}",
        "may stand beside services",
    ),
    (
        "protocol: TCP, destination: {services: {name: a, namespace: b}, ports: [1]}",
        "may stand beside services",
    ),
    (
        "#source: {services: {name: a, namespace: b}, nets: [10.0.0.0/8]}",
        "may stand beside services",
    ),
    ("source: {nets: [10.0.0.1]}", "nets[0]: pattern"),
    (
        "source: {nets: [10.0.0.0/8, 'fd00::/8']}",
        "source.nets: anyOf",
    ),
    (
        "source: {nets: [10.0.0.0/8], notNets: ['fd00::/8']}",
        "source.nets and source.notNets must be of one family",
    ),
    (
        "source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}",
        "source.nets and destination.nets must be",
    ),
    (
        "ipVersion: 6, destination: {notNets: [10.0.0.0/8]}",
        "destination.notNets must be of the family that ipVersion says",
    ),
    (
        "ipVersion: 4, source: {nets: ['fd00::/8']}",
        "source.nets must be of the family that ipVersion says",
    ),
    (
        "source: {notNets: [0.0.0.0/0]}",
        "notNets must leave some address over",
    ),
    (
        "destination: {ports: [80]}",
        "destination.ports needs protocol",
    ),
    (
        "destination: {ports: ['80:90']}",
        "destination.ports needs protocol",
    ),
    (
        "protocol: ICMP, destination: {ports: [http]}",
        "destination.ports needs protocol",
    ),
    (
        "protocol: 47, source: {notPorts: [1]}",
        "source.notPorts needs protocol",
    ),
    (
        "protocol: TCP, destination: {ports: [0]}",
        "ports[0]: minimum",
    ),
    (
        "protocol: TCP, destination: {ports: [65536]}",
        "ports[0]: maximum",
    ),
    (
        "protocol: TCP, destination: {ports: ['a b']}",
        "ports[0]: pattern",
    ),
    (
        "destination: {nets: [10.0.0.0/8], notNets: ['fd00::/8']}",
        "destination.nets and destination.notNets must be of one family",
    ),
    (
        "source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}",
        "source.nets and destination.notNets must be of one family",
    ),
    (
        "source: {notNets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}",
        "source.notNets and destination.nets must be of one family",
    ),
    (
        "source: {notNets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}",
        "source.notNets and destination.notNets must be of one family",
    ),
    (
        "ipVersion: 6, destination: {nets: [10.0.0.0/8]}",
        "destination.nets must be of the family that ipVersion says",
    ),
    (
        "ipVersion: 4, source: {notNets: ['fd00::/8']}",
        "source.notNets must be of the family that ipVersion says",
    ),
    (
        "protocol: ICMP, destination: {notPorts: [1]}",
        "destination.notPorts needs protocol",
    ),
    (
        "protocol: ICMP, source: {ports: [1]}",
        "source.ports needs protocol",
    ),
    (
        "ipVersion: 4, notProtocol: ICMPv6",
        "ipVersion may not be 4 if notProtocol is ICMPv6",
    ),
];

/// A document with this spec.
pub(crate) fn text(kind: &str, spec: &str) -> String {
    let version = if kind == "HostEndpointTemplate" {
        "hostfw.io/v1alpha1"
    } else {
        "projectcalico.org/v3"
    };
    let default = if kind == "FelixConfiguration" {
        "default"
    } else {
        "x"
    };
    let (name, spec) = match spec.strip_prefix('#') {
        Some(name) => (name, ""),
        None => (default, spec),
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// Documents that are each wrong in one way, and what a definition says of it.
pub(crate) fn broken() -> Vec<(String, &'static str)> {
    let objects = BAD
        .iter()
        .map(|&(kind, spec, why)| (text(kind, spec), why))
        .chain(BAD_RULES.iter().flat_map(|&(rule, why)| {
            let (direction, rule) = match rule.strip_prefix('#') {
                Some(rule) => ("ingress", rule),
                None => ("egress", rule),
            };
            let action = if rule.contains("action:") {
                ""
            } else {
                "action: Allow, "
            };
            let spec = format!("{direction}: [{{{action}{rule}}}]");
            [
                (text("GlobalNetworkPolicy", &spec), why),
                (text("Profile", &spec), why),
            ]
        }));
    objects.collect()
}

/// The texts of all examples and golden cases.
pub(crate) fn texts() -> Vec<String> {
    let mut files = Vec::new();
    for folder in [
        "tests/golden",
        "../examples/protect-hosts",
        "../examples/templates",
    ] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                files.push(path);
            }
        }
    }
    files
        .iter()
        .map(|file| fs::read_to_string(file).expect("a file"))
        .collect()
}

/// What the rules of all definitions say when they are broken.
pub(crate) fn messages() -> Vec<String> {
    let mut all = Vec::new();
    for definition in crd::all() {
        collect(&definition.value, &mut all);
    }
    all.sort();
    all.dedup();
    all
}

fn collect(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(message)) = fields.get("message")
                && fields.contains_key("rule")
            {
                found.push(message.clone());
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
