use super::*;

#[test]
fn names_and_labels() {
    const DNS: &str = "metadata.name: expected a DNS subdomain (lower-case letters, digits, '-' \
                       and '.', at most 253 characters), found";
    for name in ["Node1", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b"] {
        refused(
            &with_metadata(
                "HostEndpoint",
                &format!("name: '{name}'"),
                "node: n1, interfaceName: e",
            ),
            &[&format!("{DNS} {name:?}")],
        );
    }
    let long = vec!["a"; 127].join(".");
    assert!(
        validate(&resource(
            "HostEndpoint",
            &long,
            "node: n1, interfaceName: e"
        ))
        .is_ok()
    );
    let errors = validate(&resource(
        "HostEndpoint",
        &format!("{long}.a"),
        "node: n1, interfaceName: e",
    ))
    .expect_err("255 characters");
    assert_eq!(errors[0].field, "metadata.name");

    const E: &str = "egress: [{action: Allow}]";
    assert!(validate(&resource("GlobalNetworkPolicy", "a.b", E)).is_ok());
    for name in ["a.b.c".to_owned(), "a".repeat(64)] {
        refused(
            &resource("GlobalNetworkPolicy", &name, E),
            &[&format!(
                "metadata.name: expected at most two parts joined by a dot, each of at most 63 \
                 characters, found {name:?}"
            )],
        );
    }
    refused(
        &with_metadata(
            "HostEndpoint",
            "name: h, namespace: default, generateName: x-",
            "node: n1, interfaceName: e",
        ),
        &[
            "metadata.namespace: expected nothing, for this kind is cluster-scoped, found \"default\"",
            "metadata.generateName: expected nothing, for names are not made up here, found \"x-\"",
        ],
    );
    assert!(
        validate(&with_metadata(
            "HostEndpoint",
            "name: h, namespace: '', labels: {a.b/c_D: '', x: A.b_c-1}, annotations: \
             {Example.org/x: 'any text'}",
            "node: n1, interfaceName: e"
        ))
        .is_ok()
    );
    for key in [
        "a b",
        "",
        "/a",
        "a/",
        "a/b/c",
        "A.b/c",
        "-a",
        &"a".repeat(64),
    ] {
        let errors = validate(&with_metadata(
            "HostEndpoint",
            &format!("name: h, labels: {{'{key}': x}}"),
            "node: n1, interfaceName: e",
        ))
        .expect_err(key);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.labels");
        assert!(
            errors[0]
                .expected
                .starts_with("keys like name or example.org/name")
        );
    }
    for value in ["a b", "-", "a-", &"a".repeat(64)] {
        let errors = validate(&with_metadata(
            "HostEndpoint",
            &format!("name: h, labels: {{k: '{value}'}}"),
            "node: n1, interfaceName: e",
        ))
        .expect_err(value);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.labels.k");
        assert!(errors[0].expected.starts_with("a label value"));
    }
    let errors = validate(&with_metadata(
        "HostEndpoint",
        "name: h, annotations: {'a b': x}",
        "node: n1, interfaceName: e",
    ))
    .expect_err("an annotation key with a space");
    assert_eq!(errors[0].field, "metadata.annotations");
    refused(
        &with_metadata(
            "HostEndpoint",
            &format!("name: h, annotations: {{a: {}}}", "x".repeat(256 * 1024)),
            "node: n1, interfaceName: e",
        ),
        &["metadata.annotations: expected at most 262144 bytes in all, found 262145"],
    );
}
