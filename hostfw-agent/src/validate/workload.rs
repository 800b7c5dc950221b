//! `WorkloadEndpoint` and `EndpointSlice`.

use std::net::IpAddr;

use super::{
    Findings,
    endpoint::{check_profiles, named_ports},
    metadata::{is_dns_label, is_subdomain},
    net, protocol,
    selector::{NAMESPACE_LABEL, SERVICE_ACCOUNT_LABEL},
};
use crate::{
    model::{EndpointSlice, ServiceName, WorkloadEndpoint},
    resource::{self, Metadata, NumberOrText, SlicePort, quote},
};

/// Label of an `EndpointSlice`: the service whose addresses it holds
/// (k8s.io/api/discovery/v1).
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

pub(super) fn endpoint(
    object: &resource::WorkloadEndpoint,
    findings: &mut Findings,
) -> WorkloadEndpoint {
    let (metadata, spec) = (&object.metadata, &object.spec);
    let namespace = namespace(metadata, findings);
    check_profiles(&spec.profiles, findings);
    // Whoever may write labels decides neither of these.
    let mut labels = metadata.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace.clone());
    labels.remove(SERVICE_ACCOUNT_LABEL);
    if let Some(account) = spec
        .service_account_name
        .as_ref()
        .filter(|it| !it.is_empty())
    {
        if !is_subdomain(account) {
            findings.invalid(
                "spec.serviceAccountName",
                "the name of a service account",
                quote(account),
            );
        }
        labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), account.clone());
    }
    let texts = spec.ip_networks.iter().enumerate();
    let nets = texts.filter_map(|(index, text)| {
        let field = || format!("spec.ipNetworks[{index}]");
        let net = net::net_or_address(field, text, findings)?;
        if net.prefix_len() != net.max_prefix_len() {
            findings.invalid(field(), "a single address", quote(text));
        }
        Some(net)
    });
    WorkloadEndpoint {
        nets: nets.collect(),
        namespace,
        name: metadata.name.clone(),
        labels: labels.into(),
        profiles: spec.profiles.as_slice().into(),
        ports: named_ports(&spec.ports, findings).into(),
    }
}

pub(super) fn slice(object: &resource::EndpointSlice, findings: &mut Findings) -> EndpointSlice {
    let (metadata, spec) = (&object.metadata, &object.spec);
    let namespace = namespace(metadata, findings);
    let kind = spec.address_type.as_deref().unwrap_or_default();
    let mut addresses = Vec::new();
    if !matches!(kind, "IPv4" | "IPv6" | "FQDN") {
        findings.invalid("addressType", "IPv4, IPv6 or FQDN", quote(kind));
    }
    // Names stand for no address here.
    if kind != "FQDN" {
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let field = format!("endpoints[{index}].addresses");
            addresses.extend(net::addresses(&field, &endpoint.addresses, findings));
        }
    }
    let service = metadata.labels.get(SERVICE_LABEL);
    let ports = spec.ports.iter().enumerate();
    EndpointSlice {
        service: service
            .filter(|name| !name.is_empty())
            .map(|name| ServiceName {
                namespace: namespace.clone(),
                name: name.clone(),
            }),
        namespace,
        name: metadata.name.clone(),
        addresses: addresses.iter().map(IpAddr::to_canonical).collect(),
        ports: ports
            .filter_map(|(index, port)| self::port(&format!("ports[{index}]"), port, findings))
            .collect(),
    }
}

/// A port without a number says nothing that a rule could use.
fn port(field: &str, port: &SlicePort, findings: &mut Findings) -> Option<(u8, u16)> {
    let text = port.protocol.as_deref().filter(|text| !text.is_empty());
    let written = NumberOrText::Text(text.unwrap_or("TCP").to_owned());
    let number = protocol::number(&written).filter(|&number| protocol::has_ports(number));
    if number.is_none() {
        findings.invalid(
            format!("{field}.protocol"),
            "TCP, UDP or SCTP",
            protocol::show(&written),
        );
    }
    let value = protocol::port(&format!("{field}.port"), port.port?, findings);
    Some((number?, value?))
}

fn namespace(metadata: &Metadata, findings: &mut Findings) -> String {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    if !is_dns_label(namespace) {
        findings.invalid(
            "metadata.namespace",
            "the namespace of the object (lower-case letters, digits and '-', at most 63 \
             characters)",
            if namespace.is_empty() {
                "nothing".to_owned()
            } else {
                quote(namespace)
            },
        );
    }
    namespace.to_owned()
}
