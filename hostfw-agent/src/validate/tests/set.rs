use super::*;

#[track_caller]
fn set(resource: &Resource) -> model::NetworkSet {
    let value = valid(resource);
    let Object::NetworkSet(set) = value else {
        panic!("another kind: {value:?}");
    };
    Arc::unwrap_or_clone(set)
}

const SPEC: &str = "nets: [10.0.0.1, 10.0.0.1/8, 'fd00::1/8', 'fd00::2', '::ffff:10.0.0.2', \
                    0.0.0.0/0]";

#[test]
fn sets_hold_addresses_and_nets() {
    let global = set(&with_metadata(
        "GlobalNetworkSet",
        "name: s, labels: {a: b}",
        SPEC,
    ));
    assert_eq!((global.namespace, global.name.as_str()), (None, "s"));
    assert_eq!(global.labels.get("a").map(String::as_str), Some("b"));
    let nets: Vec<_> = global.nets.iter().map(ToString::to_string).collect();
    assert_eq!(
        nets,
        [
            "10.0.0.1/32",
            "10.0.0.0/8",
            "fd00::/8",
            "fd00::2/128",
            "10.0.0.2/32",
            "0.0.0.0/0"
        ]
    );
    let namespaced = set(&with_metadata(
        "NetworkSet",
        "name: s, namespace: ns1",
        SPEC,
    ));
    assert_eq!(namespaced.namespace.as_deref(), Some("ns1"));
    assert_eq!(namespaced.nets, global.nets);
    assert_eq!(set(&resource("GlobalNetworkSet", "s", "")).nets, [].into());
    // More than a rule may hold.
    let many = vec!["10.0.0.1"; 10_000].join(",");
    set(&resource(
        "GlobalNetworkSet",
        "s",
        &format!("nets: [{many}]"),
    ));
}

#[test]
fn sets_that_are_refused() {
    for (net, expected) in [
        (
            "x",
            "an address or a CIDR, as 10.0.0.1, 10.0.0.0/8 or fd00::/8, found \"x\"",
        ),
        (
            "10.0.0.0/33",
            "an address or a CIDR, as 10.0.0.1, 10.0.0.0/8 or fd00::/8, found \"10.0.0.0/33\"",
        ),
        (
            "'::ffff:10.0.0.0/104'",
            "IPv4 addresses in their own notation, found \"::ffff:10.0.0.0/104\"",
        ),
    ] {
        refused(
            &resource("GlobalNetworkSet", "s", &format!("nets: [10.0.0.1, {net}]")),
            &[&format!("spec.nets[1]: expected {expected}")],
        );
    }
    for (kind, namespace) in [("GlobalNetworkSet", ""), ("NetworkSet", "namespace: ns1,")] {
        refused(
            &with_metadata(
                kind,
                &format!("name: s, {namespace} labels: {{projectcalico.org/namespace: ns1}}"),
                "",
            ),
            &[
                "metadata.labels: expected no label projectcalico.org/namespace, which says the \
               namespace of what lives in one, found it",
            ],
        );
    }
    refused(
        &with_metadata("GlobalNetworkSet", "name: s, namespace: ns1", ""),
        &["metadata.namespace: expected nothing, for this kind is cluster-scoped, found \"ns1\""],
    );
    for (namespace, found) in [
        ("", "nothing"),
        ("namespace: ''", "nothing"),
        ("namespace: A", "\"A\""),
        ("namespace: a.b", "\"a.b\""),
        ("namespace: a/b", "\"a/b\""),
    ] {
        refused(
            &with_metadata("NetworkSet", &format!("name: s, {namespace}"), ""),
            &[&format!(
                "metadata.namespace: expected the namespace of the set (lower-case letters, \
                 digits and '-', at most 63 characters), found {found}"
            )],
        );
    }
}
