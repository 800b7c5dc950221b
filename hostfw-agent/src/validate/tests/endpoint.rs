use std::net::IpAddr;

use super::*;
use crate::model::InterfaceMatch;

#[test]
fn endpoints() {
    assert_eq!(
        endpoint(&hep("node: n1, interfaceName: '*'")).interface,
        InterfaceMatch::Wildcard
    );
    let by_address = endpoint(&hep(
        "node: n1, expectedIPs: [10.0.0.1, 'fd00::1', '::ffff:10.0.0.2']",
    ));
    assert_eq!(by_address.interface, InterfaceMatch::ExpectedIps);
    assert_eq!(
        by_address.expected_ips,
        ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"))
    );
    for (spec, expected) in [
        (
            "interfaceName: eth0",
            "spec.node: expected the name of a node, found nothing",
        ),
        (
            "node: '', interfaceName: eth0",
            "spec.node: expected the name of a node, found nothing",
        ),
        (
            "node: n1",
            "spec: expected interfaceName or expectedIPs, or both, found neither",
        ),
        (
            "node: n1, interfaceName: ''",
            "spec: expected interfaceName or expectedIPs, or both, found neither",
        ),
        (
            "node: n1, interfaceName: a/b",
            "spec.interfaceName: expected '*' or the name of an interface (letters, digits, '_', \
             '.' and '-', at most 15 characters), found \"a/b\"",
        ),
        (
            "node: n1, interfaceName: abcdefghijklmnop",
            "spec.interfaceName: expected '*' or the name of an interface (letters, digits, '_', \
             '.' and '-', at most 15 characters), found \"abcdefghijklmnop\"",
        ),
        (
            "node: n1, expectedIPs: [10.0.0.1, 10.0.0.0/8]",
            "spec.expectedIPs[1]: expected an IPv4 or IPv6 address, without a prefix length, \
             found \"10.0.0.0/8\"",
        ),
        (
            "node: n1, expectedIPs: [010.0.0.1]",
            "spec.expectedIPs[0]: expected an IPv4 or IPv6 address, without a prefix length, \
             found \"010.0.0.1\"",
        ),
        (
            "node: n1, interfaceName: eth0, profiles: [a, b]",
            "spec.profiles: profile policy is not enforced by this release: expected an empty list, \
             found a list of 2",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: TCP, port: 1}]",
            "spec.ports: named-port matching is not enforced by this release: expected an empty \
             list, found a list of 1",
        ),
    ] {
        refused(&hep(spec), &[expected]);
    }
}
