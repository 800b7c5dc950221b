use std::net::IpAddr;

use super::*;
use crate::model::{InterfaceMatch, NamedPort};

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
    let full = endpoint(&hep(
        "node: n1, interfaceName: e, profiles: [b, a.x], ports: [{name: http, protocol: TCP, port: \
         80}, {name: dns-2, protocol: 17, port: 53}]",
    ));
    assert_eq!(full.profiles, ["b", "a.x"]);
    let port = |name: &str, protocol, port| NamedPort {
        name: name.to_owned(),
        protocol,
        port,
    };
    assert_eq!(full.ports, [port("http", 6, 80), port("dns-2", 17, 53)]);
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
            "node: n1, interfaceName: eth0, profiles: [a, B]",
            "spec.profiles[1]: expected the name of a profile, found \"B\"",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: ICMP, port: 1}]",
            "spec.ports[0].protocol: expected TCP, UDP or SCTP, found \"ICMP\"",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: tcp, port: 1}]",
            "spec.ports[0].protocol: expected TCP, UDP or SCTP, found \"tcp\"",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: 136, port: 1}]",
            "spec.ports[0].protocol: expected TCP, UDP or SCTP, found 136",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: TCP, port: 0}]",
            "spec.ports[0].port: expected a port from 1 to 65535, found 0",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: a, protocol: TCP, port: 65536}]",
            "spec.ports[0].port: expected a port from 1 to 65535, found 65536",
        ),
        (
            "node: n1, interfaceName: eth0, ports: [{name: '80', protocol: TCP, port: 80}]",
            "spec.ports[0].name: expected the name of a port (letters, digits and '-' between \
             them, at least one letter, at most 15 characters), found \"80\"",
        ),
    ] {
        refused(&hep(spec), &[expected]);
    }
}
