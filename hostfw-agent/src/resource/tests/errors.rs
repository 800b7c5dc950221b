use super::*;

#[test]
fn errors_name_object_field_expected_and_found() {
    const P: &str = "document 1 (line 1): GlobalNetworkPolicy(p): ";
    for (spec, expected) in [
        (
            "ingress: [{action: Allow}, {action: allow}]",
            "spec.ingress[1].action: expected one of Allow, Deny, Log, Pass, found \"allow\"",
        ),
        (
            "ingress: [{action: 1}]",
            "spec.ingress[0].action: expected one of Allow, Deny, Log, Pass, found 1",
        ),
        (
            "ingress: [{source: {}}]",
            "spec.ingress[0].action: expected a value, for it is required, found nothing",
        ),
        (
            "types: [ingress]",
            "spec.types[0]: expected one of Ingress, Egress, found \"ingress\"",
        ),
        ("order: ten", "spec.order: expected a number, found \"ten\""),
        (
            "preDNAT: 'true'",
            "spec.preDNAT: expected true or false, found \"true\"",
        ),
        (
            "selector: yes",
            "spec.selector: expected a string, found true (put it in quotes: YAML takes y, n, \
             yes, no, on and off for booleans)",
        ),
        (
            "selector: {}",
            "spec.selector: expected a string, found an object",
        ),
        (
            "ingress: {}",
            "spec.ingress: expected a list, found an object",
        ),
        (
            "ingress: [[Allow]]",
            "spec.ingress[0]: expected an object, found a list",
        ),
        (
            "ingress: [null]",
            "spec.ingress[0]: expected an object, found null",
        ),
        (
            "ingress: [{action: Allow, protocol: 1.5}]",
            "spec.ingress[0].protocol: expected a whole number or a string, found 1.5",
        ),
        (
            "ingress: [{action: Allow, ipVersion: 4.5}]",
            "spec.ingress[0].ipVersion: expected a whole number, found 4.5",
        ),
        (
            "ingress: [{action: Allow, source: {ports: [18446744073709551615]}}]",
            "spec.ingress[0].source.ports[0]: expected a whole number or a string, found \
             18446744073709551615",
        ),
        (
            "egress: [{action: Allow, destination: {net: 10.0.0.0/8}}]",
            "spec.egress[0].destination.net: expected one of the fields nets, notNets, ports, \
             notPorts, selector, notSelector, namespaceSelector, serviceAccounts, services, \
             found the unknown field \"net\"",
        ),
    ] {
        assert_eq!(message(&policy_with(spec)), format!("{P}{expected}"));
    }
    assert_eq!(
        message(&ENDPOINT.replace("host-endpoint: ingress", "host-endpoint: true")),
        "document 1 (line 1): HostEndpoint(node1-eth0): metadata.labels.host-endpoint: expected a \
         string, found true (put it in quotes: YAML takes y, n, yes, no, on and off for booleans)"
    );
    assert_eq!(
        message(&ENDPOINT.replace("labels:", "label:"))
            .split(": expected")
            .next(),
        Some("document 1 (line 1): HostEndpoint(node1-eth0): metadata.label")
    );
    assert_eq!(
        message(&format!("{ENDPOINT}status: {{}}\n")),
        "document 1 (line 1): HostEndpoint(node1-eth0): status: expected one of the fields \
         apiVersion, kind, metadata, spec, found the unknown field \"status\""
    );
}

#[test]
fn no_kind_takes_unknown_fields() {
    for (kind, spec, expected) in [
        (
            "HostEndpoint",
            "interface: eth0",
            "spec.interface: expected one of the fields node, interfaceName, expectedIPs, \
             profiles, ports, found the unknown field \"interface\"",
        ),
        (
            "HostEndpoint",
            "ports: [{name: a, protocol: TCP, port: 1, hostPort: 1}]",
            "spec.ports[0].hostPort: expected one of the fields name, protocol, port, found the \
             unknown field \"hostPort\"",
        ),
        (
            "HostEndpoint",
            "ports: [{name: a, port: 1}]",
            "spec.ports[0].protocol: expected a value, for it is required, found nothing",
        ),
        (
            "GlobalNetworkPolicy",
            "stagedAction: Set",
            "spec.stagedAction: expected one of the fields tier, order, selector, \
             namespaceSelector, serviceAccountSelector, types, ingress, egress, preDNAT, \
             doNotTrack, applyOnForward, performanceHints, found the unknown field \
             \"stagedAction\"",
        ),
        (
            "GlobalNetworkPolicy",
            "egress: [{action: Allow, source: {serviceAccounts: {name: a}}}]",
            "spec.egress[0].source.serviceAccounts.name: expected one of the fields names, \
             selector, found the unknown field \"name\"",
        ),
        (
            "GlobalNetworkSet",
            "cidrs: []",
            "spec.cidrs: expected one of the fields nets, found the unknown field \"cidrs\"",
        ),
        (
            "Tier",
            "action: Pass",
            "spec.action: expected one of the fields order, defaultAction, found the unknown \
             field \"action\"",
        ),
        (
            "Profile",
            "labels: {}",
            "spec.labels: expected one of the fields ingress, egress, labelsToApply, found the \
             unknown field \"labels\"",
        ),
        (
            "FelixConfiguration",
            "failsafeInboundHostPorts: [{protocol: TCP, port: 1, nets: []}]",
            "spec.failsafeInboundHostPorts[0].nets: expected one of the fields protocol, port, \
             net, found the unknown field \"nets\"",
        ),
    ] {
        let text = format!(
            "{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: x}}, spec: \
             {{{spec}}}}}"
        );
        assert_eq!(
            message(&text),
            format!("document 1 (line 1): {kind}(x): {expected}")
        );
    }
}

#[test]
fn objects_of_a_namespace_are_named_with_it() {
    let set = |metadata: &str| {
        message(&format!(
            "{{apiVersion: projectcalico.org/v3, kind: NetworkSet, metadata: {{{metadata}}}, \
             spec: {{net: []}}}}"
        ))
    };
    const REST: &str = "spec.net: expected one of the fields nets, found the unknown field \"net\"";
    assert_eq!(
        set("name: s, namespace: ns1"),
        format!("document 1 (line 1): NetworkSet(ns1/s): {REST}")
    );
    assert_eq!(
        set("name: s"),
        format!("document 1 (line 1): NetworkSet(s): {REST}")
    );
}

#[test]
fn kind_version_and_name_are_checked() {
    const KINDS: &str = "expected HostEndpoint, HostEndpointTemplate, Node, GlobalNetworkPolicy, \
                         StagedGlobalNetworkPolicy, GlobalNetworkSet, NetworkSet, Tier, Profile, \
                         FelixConfiguration, WorkloadEndpoint, EndpointSlice or NodeAddresses, found";
    for (text, expected) in [
        ("{}", format!("kind: {KINDS} nothing")),
        ("{kind: 1}", format!("kind: {KINDS} \"1\"")),
        ("{kind: Pod}", format!("kind: {KINDS} \"Pod\"")),
        (
            "{kind: NetworkPolicy}",
            format!("kind: {KINDS} NetworkPolicy, which is not enforced by this release"),
        ),
        (
            "{kind: HostEndpoint}",
            "apiVersion: expected projectcalico.org/v3, found nothing".to_owned(),
        ),
        (
            "{kind: HostEndpoint, apiVersion: crd.projectcalico.org/v1, metadata: {name: h}}",
            "HostEndpoint(h): apiVersion: expected projectcalico.org/v3, found \
             \"crd.projectcalico.org/v1\""
                .to_owned(),
        ),
        (
            "{kind: HostEndpoint, apiVersion: projectcalico.org/v3}",
            "metadata.name: expected a name, found nothing".to_owned(),
        ),
        (
            "{kind: HostEndpoint, apiVersion: projectcalico.org/v3, metadata: {name: 5}}",
            "metadata.name: expected a string, found 5 (put it in quotes)".to_owned(),
        ),
    ] {
        assert_eq!(message(text), format!("document 1 (line 1): {expected}"));
    }
    for kind in [
        "NetworkPolicy",
        "StagedKubernetesNetworkPolicy",
        "StagedNetworkPolicy",
    ] {
        let message = message(&format!("kind: {kind}"));
        assert!(
            message.ends_with(&format!(
                "found {kind}, which is not enforced by this release"
            )),
            "{message}"
        );
    }
}

#[test]
fn syntax_errors_say_where_and_what() {
    for (text, expected) in [
        (
            "\n---\nkind: [\n",
            "document 1, line 3, column 7: unclosed bracket '['",
        ),
        (
            "a: *b",
            "document 1, line 1, column 4: alias references unknown anchor",
        ),
        (
            "a: 1\na: 2",
            "document 1, line 2, column 1: duplicate mapping key \"a\"",
        ),
        (
            "order: .inf",
            "document 1, line 1, column 8: expected a finite number, found .inf",
        ),
        (
            "{\"a\": 1,}",
            "document 1, line 1, column 9: trailing comma",
        ),
        (
            "a:\n  b:\n\tc: 1",
            "document 1, line 3, column 2: tabs disallowed within this context (block indentation)",
        ),
    ] {
        let message = message(text);
        assert_eq!(message, expected);
    }
    let deep = message(&format!("{}a", "- ".repeat(100)));
    assert!(
        deep.ends_with("larger or deeper than any resource (Depth { depth: 65 })"),
        "{deep}"
    );
}

#[test]
fn keys_that_stand_twice_are_refused() {
    let twice = ENDPOINT.replace("  node: node1\n", "  node: node1\n  node: node2\n");
    let yaml = message(&twice);
    assert!(
        yaml.starts_with("document 1, line 10, column 3: "),
        "{yaml}"
    );
    assert!(yaml.contains("duplicate mapping key"), "{yaml}");
    let json = message("{\"kind\": \"HostEndpoint\", \"kind\": \"HostEndpoint\"}");
    assert!(
        json.contains("\"kind\" stands twice in one object"),
        "{json}"
    );
}

#[test]
fn hostile_texts_give_errors() {
    const MANY: usize = 1 << 20;
    let deep_json = format!("{{\"a\":{}", "[".repeat(MANY));
    let deep_closed = format!(
        "{{\"metadata\":{{\"managedFields\":{}{}}}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let deep_block: String = (0..2000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    for text in [
        "[".repeat(MANY),
        "{".repeat(MANY),
        "- ".repeat(MANY),
        "? ".repeat(MANY),
        "&a ".repeat(1000),
        "\"".to_owned(),
        "a: *nothing".to_owned(),
        "a: !!binary x".to_owned(),
        "a: !mine x".to_owned(),
        "order: .nan".to_owned(),
        "order: 1e999".to_owned(),
        "\u{0}".to_owned(),
        "\t- a".to_owned(),
        "a".repeat(MANY),
        deep_json,
        deep_closed,
        deep_block,
    ] {
        let documents = parse_documents(&text);
        assert_eq!(documents.len(), 1, "{:.20}", text);
        let Err(error) = &documents[0].result else {
            panic!("{text:.20} is accepted");
        };
        assert!(error.to_string().len() < 500, "{error}");
    }
    // Keys and names end up in messages, but not whole.
    let long = "k".repeat(MANY);
    for text in [
        format!("kind: {long}"),
        policy_with(&format!("{long}: 1")),
        ENDPOINT.replace("host-endpoint: ingress", &format!("{long}: 5")),
        ENDPOINT
            .replace("node1-eth0", &long)
            .replace("node: node1", "node: 5"),
    ] {
        let message = message(&text);
        assert!(message.len() < 1000, "{message:.1000}");
    }
    assert_eq!(parse_documents(&"{}\n".repeat(100_000)).len(), 100_000);
    // Many documents, and a long list of rules, are only many.
    assert_eq!(parse_documents(&"---\na\n".repeat(10_000)).len(), 10_000);
    let rules = vec!["{action: Allow}"; 20_000].join(",");
    assert_eq!(
        policy(&policy_with(&format!("ingress: [{rules}]")))
            .ingress
            .len(),
        20_000
    );
}
