//! Names, labels and annotations, by the rules of Kubernetes
//! (k8s.io/apimachinery/pkg/util/validation).

use std::collections::BTreeMap;

use super::Findings;
use crate::{
    model::Kind,
    resource::{Metadata, quote},
};

const LONGEST_SUBDOMAIN: usize = 253;
const LONGEST_LABEL: usize = 63;

pub(super) fn check(kind: Kind, metadata: &Metadata, findings: &mut Findings) {
    if !is_subdomain(&metadata.name) {
        findings.invalid(
            "metadata.name",
            "a DNS subdomain (lower-case letters, digits, '-' and '.', \
             at most 253 characters)",
            quote(&metadata.name),
        );
    }
    if let Some(namespace) = &metadata.namespace
        && !namespace.is_empty()
        && !kind.is_namespaced()
    {
        findings.invalid(
            "metadata.namespace",
            "nothing, for this kind is cluster-scoped",
            quote(namespace),
        );
    }
    if let Some(name) = &metadata.generate_name
        && !name.is_empty()
    {
        findings.invalid(
            "metadata.generateName",
            "nothing, for names are not made up here",
            quote(name),
        );
    }
    labels("metadata.labels", &metadata.labels, findings);
    annotations("metadata.annotations", &metadata.annotations, findings);
}

/// Checks labels.
pub(super) fn labels(field: &str, labels: &BTreeMap<String, String>, findings: &mut Findings) {
    for (key, value) in labels {
        if !is_qualified_name(key) {
            findings.invalid(field, QUALIFIED_NAME, quote(key));
        }
        if !is_label_value(value) {
            findings.invalid(
                format!("{field}.{}", plain(key)),
                "a label value (letters, digits, '-', '_' and '.', a letter or digit at \
                 either end, at most 63 characters)",
                quote(value),
            );
        }
    }
}

/// Checks annotations.
pub(super) fn annotations(
    field: &str,
    annotations: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    for key in annotations.keys() {
        // Kubernetes checks annotation keys in lower case.
        if !is_qualified_name(&key.to_ascii_lowercase()) {
            findings.invalid(field, QUALIFIED_NAME, quote(key));
        }
    }
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > MOST_ANNOTATIONS {
        findings.invalid(
            field,
            format!("at most {MOST_ANNOTATIONS} bytes in all"),
            size.to_string(),
        );
    }
}

/// Most bytes of all annotations of an object, as Kubernetes has it.
const MOST_ANNOTATIONS: usize = 256 * 1024;

pub(super) const QUALIFIED_NAME: &str = "keys like name or example.org/name (letters, digits, '-', '_' and \
                              '.', a letter or digit at either end, at most 63 characters)";

/// A key in a field path: as it is, if it can be.
pub(super) fn plain(key: &str) -> String {
    if is_qualified_name(key) {
        key.to_owned()
    } else {
        quote(key)
    }
}

/// RFC 1123: labels joined by dots.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.len() <= LONGEST_SUBDOMAIN
        && name.split('.').all(|label| {
            has_ends(label, |c| c != b'-')
                && label
                    .bytes()
                    .all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        })
}

/// RFC 1123: one part of a [subdomain](is_subdomain).
pub(super) fn is_dns_label(name: &str) -> bool {
    name.len() <= LONGEST_LABEL && !name.contains('.') && is_subdomain(name)
}

pub(super) fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name_part(name),
        None => is_name_part(key),
    }
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_name_part(value)
}

fn is_name_part(name: &str) -> bool {
    name.len() <= LONGEST_LABEL
        && has_ends(name, |c| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

/// Whether the first and the last byte are there and fit.
fn has_ends(text: &str, fits: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|&c| fits(c)) && bytes.last().is_some_and(|&c| fits(c))
}
