mod documents;
mod errors;

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
    let value = one(text);
    let Resource::GlobalNetworkPolicy(policy) = value else {
        panic!("another kind: {value:?}");
    };
    policy.spec
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
        let json = serde_json::to_string(&resource).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Resource>(&json).map_err(|error| error.to_string()),
            Ok(resource)
        );
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
        let value = one(&text);
        let Resource::FelixConfiguration(felix) = value else {
            panic!("another kind: {value:?}");
        };
        felix.spec.failsafe_inbound_host_ports
    };
    assert_eq!(felix("failsafeInboundHostPorts: []"), Some(Vec::new()));
    assert_eq!(felix(""), None);
    assert_eq!(felix("failsafeInboundHostPorts: null"), None);
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
