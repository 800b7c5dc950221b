use super::*;

fn told(spec: &str) -> Resource {
    resource("NodeAddresses", "node2", spec)
}

#[test]
fn addresses_are_read_and_sorted() {
    let value = valid(&told(
        "endpoints: [{name: z, addresses: ['fd00::2', 10.0.0.2, '::ffff:10.0.0.2']}, {name: \
         edge/eth0, labels: {zone: a}}]",
    ));
    let Object::NodeAddresses(told) = value else {
        panic!("another kind: {value:?}");
    };
    assert_eq!(told.node, "node2");
    let [edge, z] = &told.endpoints[..] else {
        panic!("{:?}", told.endpoints);
    };
    assert_eq!(edge.template_and_interface(), Some(("edge", "eth0")));
    assert_eq!(
        (edge.labels["zone"].as_str(), edge.addresses.len()),
        ("a", 0)
    );
    let addresses: Vec<String> = z.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.2", "fd00::2"]);
}

#[test]
fn what_no_agent_writes_is_refused() {
    for (one, expected) in [
        ("name: Not a name", "the name of a HostEndpoint"),
        ("name: a/b/c", "the name of a HostEndpoint"),
        ("name: a/a-name-of-sixteen", "the name of a HostEndpoint"),
        ("name: ''", "the name of a HostEndpoint"),
        ("name: a, labels: {zone: a}", "has labels of its own"),
        ("name: a/b, labels: {zone: 'a b'}", "a label value"),
        (
            "name: a, addresses: [10.0.0.0/8]",
            "without a prefix length",
        ),
        ("name: a, addresses: [127.0.0.1]", "none of loopback"),
        ("name: a, addresses: ['::1']", "none of loopback"),
        ("name: a, addresses: ['fe80::1']", "none of loopback"),
        ("name: a, addresses: [169.254.1.1]", "none of loopback"),
        ("name: a, addresses: [0.0.0.0]", "none of loopback"),
        ("name: a, addresses: ['ff02::1']", "none of loopback"),
    ] {
        let errors = validate(&told(&format!("endpoints: [{{{one}}}]"))).expect_err(one);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(
            errors.iter().any(|it| it.contains(expected)),
            "{one}: {errors:?}"
        );
    }
    let errors = validate(&told("endpoints: [{name: a}, {name: a}]")).expect_err("twice");
    assert!(
        errors[0].to_string().contains("no other one has"),
        "{}",
        errors[0]
    );
    let many = vec!["10.0.0.1"; 100_000].join(", ");
    let errors = validate(&told(&format!(
        "endpoints: [{{name: a, addresses: [{many}]}}]"
    )));
    let errors = errors.expect_err("many");
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().contains("at most 4096 addresses"),
        "{}",
        errors[0]
    );
}
