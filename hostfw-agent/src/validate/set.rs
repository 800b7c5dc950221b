//! `GlobalNetworkSet` and `NetworkSet`.

use std::ops::Range;

use ipnet::IpNet;

use super::{Findings, metadata::is_dns_label, net, selector::NAMESPACE_LABEL};
use crate::{
    model::NetworkSet,
    resource::{Metadata, NetworkSetSpec, quote},
};

pub(super) fn global(
    metadata: &Metadata,
    spec: &NetworkSetSpec,
    findings: &mut Findings,
) -> NetworkSet {
    convert(metadata, None, spec, findings)
}

pub(super) fn namespaced(
    metadata: &Metadata,
    spec: &NetworkSetSpec,
    findings: &mut Findings,
) -> NetworkSet {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    if !is_dns_label(namespace) {
        findings.invalid(
            "metadata.namespace",
            "the namespace of the set (lower-case letters, digits and '-', at most 63 characters)",
            if namespace.is_empty() {
                "nothing".to_owned()
            } else {
                quote(namespace)
            },
        );
    }
    convert(metadata, Some(namespace.to_owned()), spec, findings)
}

fn convert(
    metadata: &Metadata,
    namespace: Option<String>,
    spec: &NetworkSetSpec,
    findings: &mut Findings,
) -> NetworkSet {
    if metadata.labels.contains_key(NAMESPACE_LABEL) {
        findings.invalid(
            "metadata.labels",
            format!("no label {NAMESPACE_LABEL}, which says the namespace of what lives in one"),
            "it",
        );
    }
    NetworkSet {
        namespace,
        name: metadata.name.clone(),
        labels: metadata.labels.clone(),
        nets: spec
            .nets
            .iter()
            .enumerate()
            .filter_map(|(index, text)| {
                net::net_or_address(|| format!("spec.nets[{index}]"), text, findings)
            })
            .collect(),
    }
}

/// The set with these networks in place of those of some positions; `None` if
/// one of them is not valid.
pub(super) fn with_nets(
    set: &NetworkSet,
    replaced: Range<usize>,
    texts: &[String],
) -> Option<NetworkSet> {
    let mut findings = Findings::default();
    let nets: Vec<IpNet> = texts
        .iter()
        .filter_map(|text| net::net_or_address(String::new, text, &mut findings))
        .collect();
    findings.into_result(()).ok()?;
    let before = set.nets.get(..replaced.start)?;
    let behind = set.nets.get(replaced.end..)?;
    Some(NetworkSet {
        // At once: a vector of them would be copied once more.
        nets: before.iter().chain(&nets).chain(behind).copied().collect(),
        ..set.clone()
    })
}
