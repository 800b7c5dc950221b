//! `FelixConfiguration`.

use regex_lite::RegexBuilder;

use super::{
    Findings,
    endpoint::is_interface_name,
    felix_fields::is_felix_field,
    metadata::{is_subdomain, plain},
    net, protocol,
};
use crate::{
    model::{Failsafe, FelixSettings, InterfaceNames},
    resource::{self, ProtoPort, quote},
};

/// Longest list of fail-safes: well below what the dataplane holds of each
/// family (`hostfw_common::limits::MAX_FAILSAFES`), all lists together.
const MOST_FAILSAFES: usize = 1024;

/// Largest regular expression of interfaces' names, in bytes of its compiled form: some thousand
/// characters.
pub(super) const LARGEST_REGEX: usize = 1 << 18;

pub(super) fn convert(
    object: &resource::FelixConfiguration,
    findings: &mut Findings,
) -> FelixSettings {
    let name = object.metadata.name.as_str();
    let node = name.strip_prefix("node.");
    if name != "default" && !node.is_some_and(is_subdomain) {
        findings.invalid(
            "metadata.name",
            "default or node.<name of a node>",
            quote(name),
        );
    }
    let spec = &object.spec;
    for field in spec.others.keys() {
        // What hostfw has no use for is told by `lint::unenforced`.
        if !is_felix_field(field) {
            findings.invalid(
                format!("spec.{}", plain(field)),
                "one of the fields of FelixConfiguration, as failsafeInboundHostPorts, \
                 failsafeOutboundHostPorts, interfacePrefix, interfaceExclude, \
                 disableConntrackInvalidCheck, logPrefix, vxlanPort, genevePort, \
                 wireguardListeningPort or wireguardListeningPortV6",
                format!("the unknown field {}", quote(field)),
            );
        }
    }
    let mut failsafes = |field: &str, list: &Option<Vec<ProtoPort>>| {
        list.as_ref().map(|list| failsafes(field, list, findings))
    };
    FelixSettings {
        node: node.map(str::to_owned),
        failsafe_inbound: failsafes(
            "spec.failsafeInboundHostPorts",
            &spec.failsafe_inbound_host_ports,
        ),
        failsafe_outbound: failsafes(
            "spec.failsafeOutboundHostPorts",
            &spec.failsafe_outbound_host_ports,
        ),
        disable_invalid_check: spec.disable_conntrack_invalid_check,
        workload_prefixes: prefixes(&spec.interface_prefix, findings),
        excluded_interfaces: names(&spec.interface_exclude, findings),
        vxlan_port: port("spec.vxlanPort", spec.vxlan_port, findings),
        geneve_port: port("spec.genevePort", spec.geneve_port, findings),
        wireguard_port: port(
            "spec.wireguardListeningPort",
            spec.wireguard_listening_port,
            findings,
        ),
        wireguard_port_v6: port(
            "spec.wireguardListeningPortV6",
            spec.wireguard_listening_port_v6,
            findings,
        ),
        log_prefix: spec.log_prefix.clone(),
    }
}

fn failsafes(field: &str, list: &[ProtoPort], findings: &mut Findings) -> Vec<Failsafe> {
    if !findings.within_limit(field, list.len(), MOST_FAILSAFES, "ports") {
        return Vec::new();
    }
    list.iter()
        .enumerate()
        .filter_map(|(index, entry)| failsafe(&format!("{field}[{index}]"), entry, findings))
        .collect()
}

fn failsafe(field: &str, entry: &ProtoPort, findings: &mut Findings) -> Option<Failsafe> {
    let protocol = match entry.protocol.as_str() {
        "TCP" => Some(protocol::TCP),
        "UDP" => Some(protocol::UDP),
        "SCTP" => Some(protocol::SCTP),
        other => {
            findings.invalid(
                format!("{field}.protocol"),
                "TCP, UDP or SCTP",
                quote(other),
            );
            None
        }
    };
    let port = protocol::port(&format!("{field}.port"), entry.port, findings);
    let net = match &entry.net {
        Some(text) if !text.is_empty() => {
            Some(net::net(|| format!("{field}.net"), text, findings)?)
        }
        Some(_) | None => None,
    };
    Some(Failsafe {
        protocol: protocol?,
        port: port?,
        net,
    })
}

fn port(field: &str, value: Option<i64>, findings: &mut Findings) -> Option<u16> {
    protocol::port(field, value?, findings)
}

/// Checks beginnings of names of interfaces, or patterns in which `*` stands
/// for any characters and `?` for one, separated by commas.
fn prefixes(text: &Option<String>, findings: &mut Findings) -> Option<Vec<String>> {
    let is_prefix = |name: &str| is_interface_name(&name.replace(['*', '?'], "x"));
    let mut prefixes = Vec::new();
    for prefix in text.as_ref()?.split(',') {
        if is_prefix(prefix) {
            prefixes.push(prefix.to_owned());
        } else {
            findings.invalid(
                "spec.interfacePrefix",
                "beginnings of names, or patterns with * and ?, separated by commas (letters, \
                 digits, '_', '.' and '-', at most 15 characters each)",
                quote(prefix),
            );
        }
    }
    Some(prefixes)
}

/// Checks names of interfaces, and regular expressions between slashes,
/// separated by commas.
fn names(text: &Option<String>, findings: &mut Findings) -> Option<Vec<InterfaceNames>> {
    let field = "spec.interfaceExclude";
    let mut names = Vec::new();
    for name in text.as_ref()?.split(',') {
        let regex = name
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'));
        if let Some(regex) = regex {
            match RegexBuilder::new(regex).size_limit(LARGEST_REGEX).build() {
                Ok(regex) if !regex.as_str().is_empty() => names.push(InterfaceNames::Like(regex)),
                Ok(_) | Err(_) => {
                    findings.invalid(field, "a regular expression between slashes", quote(name))
                }
            }
        } else if is_interface_name(name) {
            names.push(InterfaceNames::Exact(name.to_owned()));
        } else {
            findings.invalid(
                field,
                "names (letters, digits, '_', '.' and '-', at most 15 characters each) or \
                 regular expressions between slashes, separated by commas",
                quote(name),
            );
        }
    }
    Some(names)
}
