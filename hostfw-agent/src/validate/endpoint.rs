//! `HostEndpoint`.

use super::{Findings, metadata::is_subdomain, net, protocol};
use crate::{
    model::{HostEndpoint, InterfaceMatch, NamedPort},
    resource::{self, EndpointPort, quote},
};

/// IFNAMSIZ of Linux without the terminating zero.
const LONGEST_INTERFACE: usize = 15;

pub(super) fn convert(object: &resource::HostEndpoint, findings: &mut Findings) -> HostEndpoint {
    let spec = &object.spec;
    let node = given(spec.node.as_deref());
    if node.is_none() {
        findings.invalid("spec.node", "the name of a node", "nothing");
    }
    let interface = given(spec.interface.as_deref());
    if let Some(name) = interface
        && name != "*"
        && !is_interface_name(name)
    {
        findings.invalid(
            "spec.interfaceName",
            "'*' or the name of an interface (letters, digits, '_', '.' and '-', at most 15 \
             characters)",
            quote(name),
        );
    }
    if interface.is_none() && spec.expected_ips.is_empty() {
        findings.invalid("spec", "interfaceName or expectedIPs, or both", "neither");
    }
    check_profiles(&spec.profiles, findings);
    HostEndpoint {
        name: object.metadata.name.clone(),
        labels: object.metadata.labels.clone(),
        node: node.unwrap_or_default().to_owned(),
        interface: match interface {
            None => InterfaceMatch::ExpectedIps,
            Some("*") => InterfaceMatch::Wildcard,
            Some(name) => InterfaceMatch::Name(name.to_owned()),
        },
        expected_ips: net::addresses("spec.expectedIPs", &spec.expected_ips, findings),
        profiles: spec.profiles.clone(),
        ports: named_ports(&spec.ports, findings),
    }
}

/// Checks `spec.profiles`, of an endpoint or a template.
pub(super) fn check_profiles(profiles: &[String], findings: &mut Findings) {
    for (index, profile) in profiles.iter().enumerate() {
        if !is_subdomain(profile) {
            findings.invalid(
                format!("spec.profiles[{index}]"),
                "the name of a profile",
                quote(profile),
            );
        }
    }
}

/// Checks `spec.ports`, of an endpoint or a template.
pub(super) fn named_ports(ports: &[EndpointPort], findings: &mut Findings) -> Vec<NamedPort> {
    ports
        .iter()
        .enumerate()
        .filter_map(|(index, port)| named_port(&format!("spec.ports[{index}]"), port, findings))
        .collect()
}

fn named_port(field: &str, port: &EndpointPort, findings: &mut Findings) -> Option<NamedPort> {
    if !protocol::is_port_name(&port.name) {
        findings.invalid(
            format!("{field}.name"),
            "the name of a port (letters, digits and '-' between them, at least one letter, at \
             most 15 characters)",
            quote(&port.name),
        );
    }
    let number = protocol::number(&port.protocol).filter(|&number| protocol::has_ports(number));
    if number.is_none() {
        findings.invalid(
            format!("{field}.protocol"),
            "TCP, UDP or SCTP",
            protocol::show(&port.protocol),
        );
    }
    let value = protocol::port(&format!("{field}.port"), port.port, findings);
    Some(NamedPort {
        name: port.name.clone(),
        protocol: number?,
        port: value?,
    })
}

/// An empty text is an absent one.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=LONGEST_INTERFACE).contains(&name.len())
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}
