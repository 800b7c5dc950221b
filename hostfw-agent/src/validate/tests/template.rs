use super::*;

fn template(spec: &str) -> Resource {
    resource("HostEndpointTemplate", "t", spec)
}

#[track_caller]
fn converted(spec: &str) -> model::HostEndpointTemplate {
    let value = valid(&template(spec));
    let Object::HostEndpointTemplate(template) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(template)
}

#[track_caller]
fn refused(spec: &str) -> Vec<String> {
    let errors = validate(&template(spec)).expect_err(spec);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_template_makes_endpoints() {
    let template = converted(
        "order: 5, nodeSelector: \"role == 'edge'\", interfacePattern: 'eth[0-9]+', labels: {a: \
         b}, labelsFromNode: [zone, missing], profiles: [base], ports: [{name: web, protocol: \
         TCP, port: 80}]",
    );
    assert_eq!(template.order.value(), 5.0);
    let labels = |zone: &str| {
        [("role", "edge"), ("zone", zone)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    };
    assert!(template.means_node(&labels("x")));
    assert!(!template.means_node(&Default::default()));
    let name = template.endpoint_name("eth0");
    let interface = model::InterfaceMatch::Name("eth0".to_owned());
    let made = template.endpoint(name, "node1", &labels("x"), interface.clone());
    let Object::HostEndpoint(written) = valid(&with_metadata(
        "HostEndpoint",
        "name: t-eth0, labels: {a: b, zone: x}",
        "node: node1, interfaceName: eth0, profiles: [base], ports: [{name: web, protocol: TCP, \
         port: 80}]",
    )) else {
        panic!("another kind");
    };
    assert_eq!(
        made,
        model::HostEndpoint {
            name: "t/eth0".to_owned(),
            ..Arc::unwrap_or_clone(written)
        }
    );
}

#[test]
fn a_pattern_matches_whole_names() {
    for (pattern, meant, others) in [
        ("eth0", "eth0", ["eth01", "aeth0"]),
        ("eth|ens", "ens", ["ens1", "eth0"]),
        ("eth|eth0", "eth0", ["eth01", "eth00"]),
        ("^bond[0-9]$", "bond1", ["bond", "bond10"]),
        ("(?i)ETH.", "eth7", ["eth", "eth10"]),
    ] {
        let template = converted(&format!("interfacePattern: '{pattern}'"));
        assert!(template.interfaces.is_match(meant), "{pattern}");
        for other in others {
            assert!(!template.interfaces.is_match(other), "{pattern}: {other}");
        }
    }
}

#[test]
fn what_is_absent_means_every_node_and_last() {
    let template = converted("interfacePattern: eth0");
    assert_eq!(template.order, model::Order::LAST);
    assert!(template.means_node(&Default::default()));
    assert!(template.labels.is_empty() && template.profiles.is_empty());
}

#[test]
fn errors_name_the_field() {
    for (spec, expected) in [
        ("", "spec.interfacePattern: expected a regular expression"),
        (
            "interfacePattern: ''",
            "spec.interfacePattern: expected a regular expression",
        ),
        ("interfacePattern: 'eth('", "found \"eth(\": "),
        ("interfacePattern: 'a)|(b'", "found \"a)|(b\": "),
        ("interfacePattern: '(?x)a #'", "found \"(?x)a #\": "),
        (
            "interfacePattern: '(a{1000}){1000}'",
            "spec.interfacePattern: expected",
        ),
        (
            "interfacePattern: a, nodeSelector: 'has('",
            "spec.nodeSelector: expected",
        ),
        (
            "interfacePattern: a, nodeSelector: global()",
            "spec.nodeSelector: expected a selector without global()",
        ),
        (
            "interfacePattern: a, labels: {'-': b}",
            "spec.labels: expected keys like name",
        ),
        (
            "interfacePattern: a, labels: {b: '-'}",
            "spec.labels.b: expected a label value",
        ),
        (
            "interfacePattern: a, labelsFromNode: ['a b']",
            "spec.labelsFromNode[0]: expected keys like name",
        ),
        (
            "interfacePattern: a, labels: {b: c}, labelsFromNode: [a, b]",
            "spec.labelsFromNode[1]: expected a label that is not among spec.labels, found \"b\"",
        ),
        (
            "interfacePattern: a, profiles: [A]",
            "spec.profiles[0]: expected the name of a profile",
        ),
        (
            "interfacePattern: a, ports: [{name: web, protocol: ICMP, port: 1}]",
            "spec.ports[0].protocol: expected TCP, UDP or SCTP",
        ),
    ] {
        let errors = refused(spec);
        assert_eq!(errors.len(), 1, "{spec}: {errors:?}");
        assert!(errors[0].contains(expected), "{spec}: {errors:?}");
    }
}

#[test]
fn a_node_has_a_name_and_labels() {
    let node = with_metadata("Node", "name: node1, labels: {zone: a}", "");
    let Object::Node(node) = valid(&node) else {
        panic!("another kind");
    };
    assert_eq!(node.name, "node1");
    assert_eq!(node.labels["zone"], "a");
    let more =
        "{apiVersion: v1, kind: Node, metadata: {name: node1}, spec: {podCIDR: 10.0.0.0/24}}";
    let error = parse_documents(more).remove(0).result.expect_err("strict");
    assert!(error.to_string().contains("spec.podCIDR"), "{error}");
}
