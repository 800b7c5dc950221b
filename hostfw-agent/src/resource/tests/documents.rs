use super::*;

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
    let value = one(&odd);
    let Resource::HostEndpoint(endpoint) = value else {
        panic!("another kind: {value:?}");
    };
    assert_eq!(endpoint.spec.node.as_deref(), Some("\u{1F600}"));
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
        message("apiVersion: projectcalico.org/v3\nkind: NetworkPolicyList\nitems: []"),
        "document 1 (line 1): kind: expected HostEndpoint, HostEndpointTemplate, Node, \
         GlobalNetworkPolicy, StagedGlobalNetworkPolicy, GlobalNetworkSet, NetworkSet, Tier, \
         Profile, FelixConfiguration, WorkloadEndpoint, EndpointSlice or NodeAddresses, found \
         NetworkPolicyList, which is not enforced by this release"
    );
    assert_eq!(
        message("apiVersion: v1\nkind: List\nitems: []\nitem: 1"),
        "document 1 (line 1): item: expected one of the fields apiVersion, kind, metadata, \
         items, found the unknown field \"item\""
    );
}
