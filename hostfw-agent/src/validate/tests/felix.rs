use super::*;
use regex_lite::Regex;

use crate::model::{Failsafe, InterfaceNames};

#[test]
fn settings_of_felix() {
    let all = settings(&felix(
        "failsafeInboundHostPorts: [{protocol: TCP, port: 22}, {protocol: SCTP, port: 1, net: \
         10.0.0.0/8}], failsafeOutboundHostPorts: [], interfacePrefix: 'cali,t?p*', \
         interfaceExclude: 'kube-ipvs0,/^veth/', disableConntrackInvalidCheck: true, logPrefix: \
         'fw %t', vxlanPort: 8472, genevePort: 6081, wireguardListeningPort: 1, wireguardListeningPortV6: 65535",
    ));
    assert_eq!(all.node, None);
    assert_eq!(
        all.failsafe_inbound,
        Some(vec![
            Failsafe {
                protocol: 6,
                port: 22,
                net: None
            },
            Failsafe {
                protocol: 132,
                port: 1,
                net: "10.0.0.0/8".parse().ok()
            }
        ])
    );
    assert_eq!(all.failsafe_outbound, Some(Vec::new()));
    assert_eq!(all.disable_invalid_check, Some(true));
    assert_eq!(
        all.workload_prefixes,
        Some(vec!["cali".to_owned(), "t?p*".to_owned()])
    );
    assert_eq!(
        all.excluded_interfaces,
        Some(vec![
            InterfaceNames::Exact("kube-ipvs0".to_owned()),
            InterfaceNames::Like(Regex::new("^veth").expect("an expression"))
        ])
    );
    assert_eq!(all.log_prefix.as_deref(), Some("fw %t"));
    assert_eq!(all.vxlan_port, Some(8472));
    assert_eq!(all.geneve_port, Some(6081));
    assert_eq!(all.wireguard_port, Some(1));
    assert_eq!(all.wireguard_port_v6, Some(65535));
    let none = settings(&resource("FelixConfiguration", "node.node1.example", ""));
    assert_eq!(
        none,
        model::FelixSettings {
            node: Some("node1.example".to_owned()),
            failsafe_inbound: None,
            failsafe_outbound: None,
            disable_invalid_check: None,
            workload_prefixes: None,
            excluded_interfaces: None,
            vxlan_port: None,
            geneve_port: None,
            wireguard_port: None,
            wireguard_port_v6: None,
            log_prefix: None,
        }
    );
    // As Calico writes it.
    assert_eq!(
        settings(&felix("bpfLogLevel: '', ipipMTU: null, bpfEnabled: true")),
        settings(&felix(""))
    );
    refused(
        &resource("FelixConfiguration", "global", ""),
        &["metadata.name: expected default or node.<name of a node>, found \"global\""],
    );
}

#[test]
fn settings_that_are_refused() {
    for (spec, expected) in [
        (
            "genevePort: 65536",
            "spec.genevePort: expected a port from 1 to 65535, found 65536",
        ),
        (
            "vxlanPort: 0",
            "spec.vxlanPort: expected a port from 1 to 65535, found 0",
        ),
        (
            "wireguardListeningPort: 65536",
            "spec.wireguardListeningPort: expected a port from 1 to 65535, found 65536",
        ),
        (
            "wireguardListeningPortV6: -1",
            "spec.wireguardListeningPortV6: expected a port from 1 to 65535, found -1",
        ),
        (
            "failsafeInboundHostPort: []",
            "spec.failsafeInboundHostPort: expected one of the fields of FelixConfiguration, as \
             failsafeInboundHostPorts, failsafeOutboundHostPorts, interfacePrefix, \
             interfaceExclude, disableConntrackInvalidCheck, logPrefix, vxlanPort, \
             genevePort, wireguardListeningPort or wireguardListeningPortV6, found the unknown field \
             \"failsafeInboundHostPort\"",
        ),
        (
            "failsafeInboundHostPorts: [{protocol: tcp, port: 22}]",
            "spec.failsafeInboundHostPorts[0].protocol: expected TCP, UDP or SCTP, found \"tcp\"",
        ),
        (
            "failsafeOutboundHostPorts: [{protocol: TCP, port: 0}]",
            "spec.failsafeOutboundHostPorts[0].port: expected a port from 1 to 65535, found 0",
        ),
        (
            "failsafeOutboundHostPorts: [{protocol: TCP, port: 65536}]",
            "spec.failsafeOutboundHostPorts[0].port: expected a port from 1 to 65535, found 65536",
        ),
        (
            "failsafeInboundHostPorts: [{protocol: TCP, port: 1, net: 10.0.0.1}]",
            "spec.failsafeInboundHostPorts[0].net: expected a CIDR with a prefix length, as \
             10.0.0.1/32, found \"10.0.0.1\"",
        ),
        (
            "interfaceExclude: '/(/,a'",
            "spec.interfaceExclude: expected a regular expression between slashes, found \"/(/\"",
        ),
        (
            "interfaceExclude: 'a,//'",
            "spec.interfaceExclude: expected a regular expression between slashes, found \"//\"",
        ),
        (
            "interfacePrefix: ''",
            "spec.interfacePrefix: expected beginnings of names, or patterns with * and ?, \
             separated by commas (letters, digits, '_', '.' and '-', at most 15 characters each), \
             found \"\"",
        ),
        (
            "interfacePrefix: 'cali, tap'",
            "spec.interfacePrefix: expected beginnings of names, or patterns with * and ?, \
             separated by commas (letters, digits, '_', '.' and '-', at most 15 characters each), \
             found \" tap\"",
        ),
        (
            "interfaceExclude: 'a*'",
            "spec.interfaceExclude: expected names (letters, digits, '_', '.' and '-', at most 15 \
             characters each) or regular expressions between slashes, separated by commas, found \
             \"a*\"",
        ),
    ] {
        refused(&felix(spec), &[expected]);
    }
    let many = vec!["{protocol: TCP, port: 1}"; 1025].join(",");
    refused(
        &felix(&format!("failsafeInboundHostPorts: [{many}]")),
        &["spec.failsafeInboundHostPorts: expected at most 1024 ports, found 1025"],
    );
}
