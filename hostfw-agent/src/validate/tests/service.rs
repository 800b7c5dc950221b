use super::*;
use crate::model::ServiceName;

fn ingress(rule: &str) -> Resource {
    gnp(&format!("ingress: [{{{rule}}}]"))
}

#[test]
fn a_service_is_the_other_side_of_a_rule() {
    let service = Some(ServiceName {
        namespace: "b".to_owned(),
        name: "a".to_owned(),
    });
    let egress = egress_rule("action: Allow, destination: {services: {name: a, namespace: b}}");
    assert_eq!(egress.destination.service, service);
    let from = policy(&ingress(
        "action: Allow, protocol: TCP, source: {services: {name: a, namespace: b}, ports: [1]}, \
         destination: {ports: [80]}",
    ));
    assert_eq!(from.ingress.expect("a rule")[0].source.service, service);
}

#[test]
fn services_that_are_refused() {
    refused(
        &ingress("action: Allow, destination: {services: {name: a, namespace: b}}"),
        &[
            "spec.ingress[0].destination.services: expected nothing, for an ingress rule has \
           services as its source alone, found a service",
        ],
    );
    refused(
        &rule("action: Allow, source: {services: {name: a, namespace: b}}"),
        &[
            "spec.egress[0].source.services: expected nothing, for an egress rule has services as \
           its destination alone, found a service",
        ],
    );
    for services in ["{}", "{name: '', namespace: ''}"] {
        refused(
            &rule(&format!(
                "action: Allow, destination: {{services: {services}}}"
            )),
            &[
                "spec.egress[0].destination.services.name: expected the name of a service, found \
               nothing",
                "spec.egress[0].destination.services.namespace: expected the namespace of the \
               service, found nothing",
            ],
        );
    }
    for (beside, field, found) in [
        ("selector: has(a)", "selector", "\"has(a)\""),
        ("notSelector: has(a)", "notSelector", "\"has(a)\""),
        ("namespaceSelector: all()", "namespaceSelector", "\"all()\""),
        (
            "serviceAccounts: {names: [a]}",
            "serviceAccounts",
            "service accounts",
        ),
        ("nets: [10.0.0.0/8]", "nets", "a list of 1"),
        ("notNets: [10.0.0.0/8]", "notNets", "a list of 1"),
        ("ports: [80, 81]", "ports", "a list of 2"),
        ("notPorts: [http]", "notPorts", "a list of 1"),
    ] {
        refused(
            &rule(&format!(
                "action: Allow, protocol: TCP, destination: {{services: {{name: a, namespace: \
                 b}}, {beside}}}"
            )),
            &[&format!(
                "spec.egress[0].destination.{field}: expected nothing, for services is given, \
                 found {found}"
            )],
        );
    }
}

#[test]
fn http_is_for_ingress_that_allows_tcp() {
    for protocol in ["", "protocol: TCP,", "protocol: 6,"] {
        valid(&ingress(&format!(
            "action: Allow, {protocol} http: {{methods: [GET, PUT], paths: [{{exact: /a}}, \
             {{prefix: /}}]}}"
        )));
    }
    for (text, expected) in [
        (
            "action: Deny, http: {}",
            "http: expected action Allow beside it, found action Deny",
        ),
        (
            "action: Log, http: {}",
            "http: expected action Allow beside it, found action Log",
        ),
        (
            "action: Allow, protocol: UDP, http: {}",
            "http: expected protocol TCP or none beside it, found protocol \"UDP\"",
        ),
        (
            "action: Allow, protocol: 17, http: {}",
            "http: expected protocol TCP or none beside it, found protocol 17",
        ),
        (
            "action: Allow, http: {methods: [GET, GET]}",
            "http.methods[1]: expected each method once, found \"GET\" again",
        ),
        (
            "action: Allow, http: {paths: [{}]}",
            "http.paths[0]: expected exact or prefix, found neither",
        ),
        (
            "action: Allow, http: {paths: [{exact: /a}, {exact: /a, prefix: /b}]}",
            "http.paths[1]: expected exact or prefix, found both",
        ),
        (
            "action: Allow, http: {paths: [{exact: a}]}",
            "http.paths[0].exact: expected a path that begins with '/' and holds no '?', '#' or \
             space, found \"a\"",
        ),
        (
            "action: Allow, http: {paths: [{prefix: '/a?b'}]}",
            "http.paths[0].prefix: expected a path that begins with '/' and holds no '?', '#' or \
             space, found \"/a?b\"",
        ),
    ] {
        refused(&ingress(text), &[&format!("spec.ingress[0].{expected}")]);
    }
    refused(
        &rule("action: Allow, http: {}"),
        &[
            "spec.egress[0].http: expected nothing, for this is an egress rule, found HTTP \
           criteria",
        ],
    );
}
