//! `NodeAddresses`.

use std::{collections::HashSet, net::IpAddr};

use super::{
    Findings,
    endpoint::is_interface_name,
    metadata::{self, is_subdomain},
    net,
};
use crate::{
    model::{EndpointAddresses, MOST_ADDRESSES, MOST_ENDPOINTS, NodeAddresses, is_of_one_node},
    resource::{self, quote},
};

pub(super) fn convert(object: &resource::NodeAddresses, findings: &mut Findings) -> NodeAddresses {
    let node = object.metadata.name.clone();
    let told = &object.spec.endpoints;
    let count: usize = told.iter().map(|endpoint| endpoint.addresses.len()).sum();
    findings.within_limit("spec.endpoints", told.len(), MOST_ENDPOINTS, "endpoints");
    findings.within_limit("spec.endpoints", count, MOST_ADDRESSES, "addresses");
    if told.len() > MOST_ENDPOINTS || count > MOST_ADDRESSES {
        let endpoints = Vec::new();
        return NodeAddresses { node, endpoints };
    }
    let mut names = HashSet::new();
    let mut endpoints: Vec<EndpointAddresses> = told
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            if !names.insert(&endpoint.name) {
                findings.invalid(
                    format!("spec.endpoints[{index}].name"),
                    "a name that no other one has",
                    quote(&endpoint.name),
                );
            }
            one(&format!("spec.endpoints[{index}]"), endpoint, findings)
        })
        .collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    NodeAddresses { node, endpoints }
}

fn one(
    field: &str,
    endpoint: &resource::ToldEndpoint,
    findings: &mut Findings,
) -> EndpointAddresses {
    let name = &endpoint.name;
    let made = name.split_once('/');
    let valid = match made {
        Some((template, interface)) => is_subdomain(template) && is_interface_name(interface),
        None => is_subdomain(name),
    };
    if !valid {
        findings.invalid(
            format!("{field}.name"),
            "the name of a HostEndpoint, or TEMPLATE/INTERFACE",
            quote(name),
        );
    }
    if made.is_none() && !endpoint.labels.is_empty() {
        findings.invalid(
            format!("{field}.labels"),
            "nothing, for a HostEndpoint has labels of its own",
            "labels",
        );
    }
    metadata::labels(&format!("{field}.labels"), &endpoint.labels, findings);
    let list = format!("{field}.addresses");
    let given = net::addresses(&list, &endpoint.addresses, findings);
    let mut addresses: Vec<IpAddr> = given.iter().map(IpAddr::to_canonical).collect();
    for address in &addresses {
        if !is_of_one_node(address) || address.is_unspecified() || address.is_multicast() {
            findings.invalid(
                list.clone(),
                "addresses by which other nodes can know this one, none of loopback, link-local, \
                 multicast or unspecified",
                address.to_string(),
            );
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    EndpointAddresses {
        name: name.clone(),
        labels: endpoint.labels.clone(),
        addresses,
    }
}
