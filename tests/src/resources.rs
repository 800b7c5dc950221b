//! Resources of tests, as the YAML that an administrator would write.

use crate::topology::Host;

/// The label that the endpoints of [`endpoint`] carry, as a selector.
pub const LABELLED: &str = "has(host-endpoint)";

/// A document of this kind and name, with what stands between the braces of
/// its `spec`.
#[must_use]
pub fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: projectcalico.org/v3
kind: {kind}
metadata:
  name: {name}
spec: {{{spec}}}
"
    )
}

/// A host endpoint for eth0 of the node, with the label of [`LABELLED`] and
/// `more` fields of its spec.
#[must_use]
pub fn endpoint(node: Host, more: &str) -> String {
    host_endpoint(&format!("{node}-eth0"), node, "eth0", more)
}

/// A host endpoint with the label of [`LABELLED`] for an interface of the
/// node, or `'*'`, and `more` fields of its spec.
#[must_use]
pub fn host_endpoint(name: &str, node: Host, interface: &str, more: &str) -> String {
    format!(
        "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata:
  name: {name}
  labels: {{host-endpoint: ingress}}
spec: {{node: {node}, interfaceName: '{interface}', {more}}}
"
    )
}

/// A policy for all endpoints with the label of [`LABELLED`].
#[must_use]
pub fn policy(name: &str, spec: &str) -> String {
    let spec = format!("selector: {LABELLED}, {spec}");
    resource("GlobalNetworkPolicy", name, &spec)
}

/// As [`policy`], for the untracked stage.
#[must_use]
pub fn untracked(name: &str, spec: &str) -> String {
    policy(
        name,
        &format!("doNotTrack: true, applyOnForward: true, {spec}"),
    )
}

/// As [`policy`], for the pre-DNAT stage.
#[must_use]
pub fn pre_dnat(name: &str, spec: &str) -> String {
    policy(
        name,
        &format!("preDNAT: true, applyOnForward: true, {spec}"),
    )
}

/// As [`policy`], for the forward stage; it is normal policy too.
#[must_use]
pub fn forward(name: &str, spec: &str) -> String {
    policy(name, &format!("applyOnForward: true, {spec}"))
}
