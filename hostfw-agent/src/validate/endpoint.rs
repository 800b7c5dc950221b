//! `HostEndpoint`.

use super::{Findings, net};
use crate::{
    model::{HostEndpoint, InterfaceMatch},
    resource::{self, quote},
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
    if !spec.profiles.is_empty() {
        findings.not_enforced(
            "spec.profiles",
            "profile policy",
            "an empty list",
            format!("a list of {}", spec.profiles.len()),
        );
    }
    if !spec.ports.is_empty() {
        findings.not_enforced(
            "spec.ports",
            "named-port matching",
            "an empty list",
            format!("a list of {}", spec.ports.len()),
        );
    }
    HostEndpoint {
        profiles: Vec::new(),
        ports: Vec::new(),
        name: object.metadata.name.clone(),
        labels: object.metadata.labels.clone(),
        node: node.unwrap_or_default().to_owned(),
        interface: match interface {
            None => InterfaceMatch::ExpectedIps,
            Some("*") => InterfaceMatch::Wildcard,
            Some(name) => InterfaceMatch::Name(name.to_owned()),
        },
        expected_ips: net::addresses("spec.expectedIPs", &spec.expected_ips, findings),
    }
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
