use super::*;

const TUTORIAL: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: allow-nodeport
spec:
  preDNAT: true
  applyOnForward: true
  order: 10
  ingress:
    - action: Allow
      protocol: TCP
      destination:
        selector: has(host-endpoint)
        ports: [31852, \"1000:2000\", 22:53, http]
    - action: Deny
      protocol: 6
      source:
        nets: [10.240.0.0/16, 192.168.0.0/16]
  selector: has(host-endpoint)
";

const ENDPOINT: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: node1-eth0
  labels:
    host-endpoint: ingress
spec:
  interfaceName: eth0
  node: node1
";

#[track_caller]
fn one(text: &str) -> Resource {
    let documents = parse_documents(text);
    assert_eq!(documents.len(), 1, "{documents:#?}");
    let result = documents.into_iter().next().expect("just counted").result;
    let mut resources = result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(resources.len(), 1);
    resources.remove(0)
}

#[track_caller]
fn policy(text: &str) -> GlobalNetworkPolicySpec {
    match one(text) {
        Resource::GlobalNetworkPolicy(policy) => policy.spec,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn message(text: &str) -> String {
    let documents = parse_documents(text);
    assert_eq!(documents.len(), 1, "{documents:#?}");
    match &documents[0].result {
        Ok(resources) => panic!("taken for {resources:?}"),
        Err(error) => error.to_string(),
    }
}

/// A policy whose spec is this one line of flow style.
fn policy_with(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\n\
         metadata: {{name: p}}\nspec: {{{spec}}}\n"
    )
}

#[test]
fn scalars_are_read_as_kubernetes_tools_read_them() {
    let spec = policy(TUTORIAL);
    assert_eq!(spec.order, Some(10.0));
    assert_eq!(spec.pre_dnat, Some(true));
    assert_eq!(spec.selector.as_deref(), Some("has(host-endpoint)"));
    let text = |text: &str| NumberOrText::Text(text.to_owned());
    assert_eq!(
        spec.ingress[0].destination.ports,
        [
            NumberOrText::Number(31852),
            text("1000:2000"),
            // Sexagesimal to YAML 1.1, but not to Kubernetes.
            text("22:53"),
            text("http"),
        ]
    );
    assert_eq!(spec.ingress[0].protocol, Some(text("TCP")));
    assert_eq!(spec.ingress[1].protocol, Some(NumberOrText::Number(6)));
    assert_eq!(
        spec.ingress[1].source.nets,
        ["10.240.0.0/16", "192.168.0.0/16"]
    );
    assert_eq!(policy(&policy_with("preDNAT: yes")).pre_dnat, Some(true));
    assert_eq!(policy(&policy_with("order: 1.5")).order, Some(1.5));
    assert_eq!(policy(&policy_with("order: -1e3")).order, Some(-1000.0));
    // Octal, as in YAML 1.1.
    let spec = policy(&policy_with(
        "egress: [{action: Allow, destination: {ports: [010, 0x10]}}]",
    ));
    assert_eq!(
        spec.egress[0].destination.ports,
        [NumberOrText::Number(8), NumberOrText::Number(16)]
    );
}

#[test]
fn null_means_absent() {
    let spec = policy(&policy_with(
        "order: null, ingress: , preDNAT: ~, egress: [{action: Allow, source: , icmp: null}]",
    ));
    assert_eq!(spec.order, None);
    assert_eq!(spec.ingress, []);
    assert_eq!(spec.egress[0].icmp, None);
    assert!(spec.egress[0].source.is_empty());
    assert!(message(&policy_with("nonsense: null")).contains("unknown field \"nonsense\""));
}

#[test]
fn what_is_written_is_read_again() {
    let felix = "\
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata:
  name: default
  generation: 3
  resourceVersion: '7'
  uid: abc
  creationTimestamp: '2026-01-01T00:00:00Z'
  annotations: {note: 'yes'}
  finalizers: [a]
  ownerReferences: [{kind: X}]
  managedFields: [{manager: Y}]
spec:
  failsafeInboundHostPorts: []
  failsafeOutboundHostPorts:
    - {protocol: UDP, port: 53, net: 10.0.0.0/8}
  bpfLogLevel: Info
";
    let full = policy_with(
        "tier: default, namespaceSelector: all(), serviceAccountSelector: all(), \
         types: [Ingress, Egress], doNotTrack: false, performanceHints: [X], \
         ingress: [{action: Pass, ipVersion: 4, notProtocol: UDP, icmp: {type: 8, code: 0}, \
         notICMP: {type: 3}, http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}, \
         metadata: {annotations: {a: b}}, source: {notNets: [a], notPorts: [1], \
         notSelector: b, namespaceSelector: c, serviceAccounts: {names: [d], selector: e}, \
         services: {name: f, namespace: g}}}]",
    );
    let endpoint = "{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h}, \
                    spec: {node: node1, interfaceName: '*', expectedIPs: [10.0.0.1], profiles: [p], \
                    ports: [{name: q, protocol: TCP, port: 1}]}}";
    for text in [TUTORIAL, ENDPOINT, felix, &full, endpoint] {
        let resource = one(text);
        let value = resource.to_value();
        assert_eq!(Resource::from_value(&value).as_ref(), Ok(&resource));
        assert_eq!(one(&value.to_string()), resource);
        // As written, and nothing made up.
        let Value::Object(original) = syntax::read(text).remove(0).value.unwrap_or_default() else {
            panic!("no object");
        };
        let Value::Object(written) = value else {
            panic!("no object");
        };
        let mut original = original;
        if let Some(order) = original["spec"].get_mut("order") {
            *order = serde_json::json!(order.as_f64());
        }
        assert_eq!(original, written);
    }
}

#[test]
fn an_emptied_list_of_fail_safes_is_not_an_absent_one() {
    let felix = |spec: &str| {
        let text = format!(
            "{{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, \
             metadata: {{name: default}}, spec: {{{spec}}}}}"
        );
        match one(&text) {
            Resource::FelixConfiguration(felix) => felix.spec.failsafe_inbound_host_ports,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(felix("failsafeInboundHostPorts: []"), Some(Vec::new()));
    assert_eq!(felix(""), None);
    assert_eq!(felix("failsafeInboundHostPorts: null"), None);
}

#[test]
fn documents_are_separate() {
    let text = format!(
        "# a comment\n---\n{ENDPOINT}---\nkind: [\n--- # and another\n{TUTORIAL}...\n\
         # only a comment\n---\n---\n{{\"kind\": \"HostEndpoint\"}}\n"
    );
    let documents = parse_documents(&text);
    let summary: Vec<_> = documents
        .iter()
        .map(|document| (document.index, document.line, document.result.is_ok()))
        .collect();
    assert_eq!(
        summary,
        [(1, 3, true), (2, 13, false), (3, 15, true), (4, 38, false)]
    );
    let Err(error) = &documents[1].result else {
        panic!("accepted");
    };
    assert!(
        matches!(error.problem, Problem::Syntax { line: 13 | 14, column, .. } if column > 0),
        "{error:?}"
    );
    assert!(
        error.to_string().starts_with("document 2, line 1"),
        "{error}"
    );
}

#[test]
fn texts_without_documents() {
    for text in [
        "",
        "\n\n",
        "# x\n",
        "---\n",
        "---\n# x\n---\n...\n",
        "%YAML 1.2\n---\n",
        "\u{feff}",
    ] {
        assert_eq!(parse_documents(text), [], "{text:?}");
    }
    assert!(message("null").contains("expected an object, found null"));
    assert!(message("[]").contains("expected an object, found a list"));
    assert!(message("a").contains("expected an object, found \"a\""));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_accepted() {
    let text = format!("\u{feff}{}", ENDPOINT.replace('\n', "\r\n"));
    assert_eq!(one(&text), one(ENDPOINT));
}

#[test]
fn json_is_read() {
    let json = one(ENDPOINT).to_value();
    assert_eq!(one(&format!("{json:#}")), one(ENDPOINT));
    // What YAML would not take: tabs, escaped slashes, surrogate pairs.
    let odd = json
        .to_string()
        .replace("projectcalico.org/v3", "projectcalico.org\\/v3")
        .replace("node1\"", "\\ud83d\\ude00\"")
        .replace('{', "{\n\t");
    match one(&odd) {
        Resource::HostEndpoint(endpoint) => {
            assert_eq!(endpoint.spec.node.as_deref(), Some("\u{1F600}"));
        }
        other => panic!("{other:?}"),
    }
    let several = format!("{json}\n{json}\n\n{{\"a\"");
    let documents = parse_documents(&several);
    let summary: Vec<_> = documents
        .iter()
        .map(|document| (document.index, document.line, document.result.is_ok()))
        .collect();
    assert_eq!(summary, [(1, 1, true), (2, 2, true), (3, 4, false)]);
    assert_eq!(
        documents[2].result.as_ref().map_err(ToString::to_string),
        Err("document 3, line 4, column 4: EOF while parsing an object".to_owned())
    );
}

#[test]
fn lists_are_expanded() {
    let list = |head: &str, items: &[&str]| {
        let mut text = format!("{head}\nitems:\n");
        for item in items {
            for (index, line) in item.lines().enumerate() {
                text += if index == 0 { "- " } else { "  " };
                text += line;
                text.push('\n');
            }
        }
        text
    };
    let both = list("apiVersion: v1\nkind: List", &[ENDPOINT, TUTORIAL]);
    let documents = parse_documents(&both);
    let names: Vec<String> = documents[0]
        .result
        .as_ref()
        .expect("a good list")
        .iter()
        .map(|resource| resource.object_ref().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "HostEndpoint(node1-eth0)",
            "GlobalNetworkPolicy(allow-nodeport)"
        ]
    );
    let head = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicyList\n\
                metadata: {resourceVersion: '1'}";
    assert_eq!(one(&list(head, &[TUTORIAL])), one(TUTORIAL));
    assert_eq!(
        message(&list(head, &[TUTORIAL, ENDPOINT])),
        "document 1 (line 1): HostEndpoint(node1-eth0): items[1].kind: expected \
         GlobalNetworkPolicy, found HostEndpoint"
    );
    let bad = TUTORIAL.replace("action: Deny", "action: deny");
    assert_eq!(
        message(&list("apiVersion: v1\nkind: List", &[ENDPOINT, &bad])),
        "document 1 (line 1): GlobalNetworkPolicy(allow-nodeport): \
         items[1].spec.ingress[1].action: expected one of Allow, Deny, Log, Pass, found \"deny\""
    );
    assert_eq!(
        message("apiVersion: v2\nkind: List\nitems: []"),
        "document 1 (line 1): apiVersion: expected v1, found \"v2\""
    );
    assert_eq!(
        message("apiVersion: projectcalico.org/v3\nkind: TierList\nitems: []"),
        "document 1 (line 1): kind: expected HostEndpoint, GlobalNetworkPolicy or \
         FelixConfiguration, found TierList, which is not enforced by this release"
    );
    assert_eq!(
        message("apiVersion: v1\nkind: List\nitems: []\nitem: 1"),
        "document 1 (line 1): item: expected one of the fields apiVersion, kind, metadata, \
         items, found the unknown field \"item\""
    );
}

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
fn kind_version_and_name_are_checked() {
    const KINDS: &str = "expected HostEndpoint, GlobalNetworkPolicy or FelixConfiguration, found";
    for (text, expected) in [
        ("{}", format!("kind: {KINDS} nothing")),
        ("{kind: 1}", format!("kind: {KINDS} \"1\"")),
        ("{kind: Pod}", format!("kind: {KINDS} \"Pod\"")),
        (
            "{kind: StagedGlobalNetworkPolicy}",
            format!(
                "kind: {KINDS} StagedGlobalNetworkPolicy, which is not enforced by this release"
            ),
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
        "GlobalNetworkSet",
        "NetworkSet",
        "Tier",
        "Profile",
        "NetworkPolicy",
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
fn anchors_are_followed_within_bounds() {
    let text = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  ingress:
  - action: Allow
    source: &inside
      nets: [10.0.0.0/8]
  egress:
  - action: Allow
    destination: *inside
";
    let spec = policy(text);
    assert_eq!(spec.egress[0].destination, spec.ingress[0].source);

    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in ('b'..='m').zip('a'..) {
        let aliases = vec![format!("*{of}"); 9].join(",");
        bomb += &format!("{name}: &{name} [{aliases}]\n");
    }
    let message = message(&bomb);
    assert!(message.starts_with("document 1, line "), "{message}");
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
