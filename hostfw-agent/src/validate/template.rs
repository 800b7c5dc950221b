//! `HostEndpointTemplate`, and the `Node`s whose labels it looks at.

use regex_lite::{Regex, RegexBuilder};

use super::{
    Findings,
    endpoint::{check_profiles, named_ports},
    felix::LARGEST_REGEX,
    metadata::{self, QUALIFIED_NAME, is_qualified_name},
    policy, selector,
};
use crate::{
    model::{HostEndpointTemplate, Node},
    resource::{self, quote},
    selector::Selector,
};

/// Longest list of labels that are copied, so that an API server can afford to
/// compare them (`crd`).
const MOST_COPIED: usize = 64;

pub(super) fn convert(
    object: &resource::HostEndpointTemplate,
    findings: &mut Findings,
) -> HostEndpointTemplate {
    let spec = &object.spec;
    metadata::labels("spec.labels", &spec.labels, findings);
    let copied = &spec.labels_from_node;
    findings.within_limit("spec.labelsFromNode", copied.len(), MOST_COPIED, "keys");
    for (index, key) in copied.iter().take(MOST_COPIED).enumerate() {
        let field = || format!("spec.labelsFromNode[{index}]");
        if !is_qualified_name(key) {
            findings.invalid(field(), QUALIFIED_NAME, quote(key));
        } else if spec.labels.contains_key(key) {
            findings.invalid(field(), "a label that is not among spec.labels", quote(key));
        }
    }
    check_profiles(&spec.profiles, findings);
    HostEndpointTemplate {
        name: object.metadata.name.clone(),
        order: policy::order(spec.order, findings),
        nodes: selector::alone("spec.nodeSelector", &spec.node_selector, findings)
            .unwrap_or_else(Selector::all),
        interfaces: pattern(spec.interface_pattern.as_deref(), findings),
        labels: spec.labels.clone(),
        labels_from_node: spec.labels_from_node.clone(),
        profiles: spec.profiles.clone(),
        ports: named_ports(&spec.ports, findings),
    }
}

pub(super) fn node(object: &resource::Node) -> Node {
    Node {
        name: object.metadata.name.clone(),
        labels: object.metadata.labels.clone(),
    }
}

/// Checks a regular expression and makes it match whole names only.
fn pattern(text: Option<&str>, findings: &mut Findings) -> Regex {
    const EXPECTED: &str = "a regular expression that matches the whole name of an interface, as \
                            eth0 or eth[0-9]+";
    let read = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_REGEX).build();
    let field = "spec.interfacePattern";
    let text = text.unwrap_or_default();
    if text.is_empty() {
        findings.invalid(field, EXPECTED, "nothing");
    } else if let Err(error) = read(text) {
        findings.invalid(field, EXPECTED, format!("{}: {error}", quote(text)));
    }
    // Valid by itself, it cannot close the group that is put around it; but in
    // the manner of (?x) it could make a comment of the rest.
    read(&format!(r"\A(?:{text})\z")).unwrap_or_else(|error| {
        if read(text).is_ok() {
            findings.invalid(field, EXPECTED, format!("{}: {error}", quote(text)));
        }
        nothing()
    })
}

/// What stands in for a pattern that was refused.
fn nothing() -> Regex {
    Regex::new(r"\z.").expect("a constant, which a test compiles")
}
