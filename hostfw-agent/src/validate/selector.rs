//! Selectors, and how several of them make one (Calico:
//! libcalico-go/lib/backend/syncersv1/updateprocessors).

use super::{Findings, metadata::is_subdomain};
use crate::{
    resource::{EntityRule, GlobalNetworkPolicySpec, ServiceAccountMatch, quote},
    selector::Selector,
};

/// Label of what lives in a namespace: its name.
pub(super) const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// Label of what runs under a service account: its name.
pub(super) const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";

/// What the keys of a namespace's labels begin with, on what lives in it.
pub(super) const NAMESPACE_PREFIX: &str = "pcns.";

/// What the keys of a service account's labels begin with, on what runs under
/// it.
pub(super) const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// Longest selector of a policy or a template, in characters (Calico:
/// api/pkg/apis/projectcalico/v3).
const LONGEST: usize = 1024;

/// Which endpoints a policy applies to.
///
/// Once a policy has a `namespaceSelector`, `all()` means what lives in a
/// namespace, in its `selector`, too; likewise with a
/// `serviceAccountSelector`.
pub(super) fn of_policy(spec: &GlobalNetworkPolicySpec, findings: &mut Findings) -> Selector {
    let mut read = |field: &str, text: &Option<String>| alone(field, text, findings);
    let mut effective = read("spec.selector", &spec.selector);
    for (field, text, prefix, label) in [
        (
            "spec.namespaceSelector",
            &spec.namespace_selector,
            NAMESPACE_PREFIX,
            NAMESPACE_LABEL,
        ),
        (
            "spec.serviceAccountSelector",
            &spec.service_account_selector,
            SERVICE_ACCOUNT_PREFIX,
            SERVICE_ACCOUNT_LABEL,
        ),
    ] {
        if let Some(selector) = read(field, text) {
            let all = effective.into_iter().chain([selector.prefixed(prefix)]);
            effective = Some(Selector::every(all).with_all_as(label));
        }
    }
    effective.unwrap_or_else(Selector::all)
}

/// Checks a selector that is no part of a rule.
pub(super) fn alone(
    field: &str,
    text: &Option<String>,
    findings: &mut Findings,
) -> Option<Selector> {
    let text = given(text)?;
    let length = text.chars().count();
    if length > LONGEST {
        findings.invalid(
            field,
            format!("at most {LONGEST} characters"),
            length.to_string(),
        );
        return None;
    }
    without_global(field, text, findings)
}

/// Which objects a side of a rule means: `selector`, `namespaceSelector` and
/// `serviceAccounts` together, and `notSelector`.
pub(super) fn of_entity(
    path: &str,
    entity: &EntityRule,
    findings: &mut Findings,
) -> (Option<Selector>, Option<Selector>) {
    let at = |field: &str| format!("{path}.{field}");
    let mut parts = Vec::new();
    if let Some(text) = given(&entity.namespace_selector) {
        parts.extend(of_namespaces(&at("namespaceSelector"), text, findings));
    }
    if let Some(accounts) = &entity.service_accounts {
        of_accounts(&at("serviceAccounts"), accounts, &mut parts, findings);
    }
    if let Some(text) = given(&entity.selector) {
        parts.extend(without_global(&at("selector"), text, findings));
    }
    let not = given(&entity.not_selector).and_then(|text| read(&at("notSelector"), text, findings));
    ((!parts.is_empty()).then(|| Selector::every(parts)), not)
}

/// An empty text is an absent one.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// A selector of namespaces: `all()` means what lives in one, `global()` what
/// does not.
fn of_namespaces(field: &str, text: &str, findings: &mut Findings) -> Option<Selector> {
    let alone = || {
        text.chars()
            .filter(|c| !matches!(c, ' ' | '\t'))
            .eq("global()".chars())
    };
    if text.contains("global(") && !alone() {
        findings.invalid(
            field,
            "global() alone, or a selector without it",
            quote(text),
        );
        return None;
    }
    read(field, text, findings).map(|selector| {
        selector
            .prefixed(NAMESPACE_PREFIX)
            .with_all_as(NAMESPACE_LABEL)
            .with_global_as_without(NAMESPACE_LABEL)
    })
}

fn of_accounts(
    field: &str,
    accounts: &ServiceAccountMatch,
    parts: &mut Vec<Selector>,
    findings: &mut Findings,
) {
    for (index, name) in accounts.names.iter().enumerate() {
        if !is_subdomain(name) {
            findings.invalid(
                format!("{field}.names[{index}]"),
                "the name of a service account",
                quote(name),
            );
        }
    }
    if !accounts.names.is_empty() {
        let names = accounts.names.iter().cloned();
        parts.push(Selector::one_of(SERVICE_ACCOUNT_LABEL, names));
    }
    if let Some(text) = given(&accounts.selector) {
        parts.extend(
            read(&format!("{field}.selector"), text, findings)
                .map(|selector| selector.prefixed(SERVICE_ACCOUNT_PREFIX)),
        );
    }
}

/// Checks a selector that must not speak of `global()`.
fn without_global(field: &str, text: &str, findings: &mut Findings) -> Option<Selector> {
    let selector = read(field, text, findings)?;
    // Calico looks at the text, too, so that it does not matter where it
    // stands.
    if text.contains("global(") {
        findings.invalid(
            field,
            "a selector without global(), which is for the namespaces of a rule alone",
            quote(text),
        );
        return None;
    }
    Some(selector)
}

fn read(field: &str, text: &str, findings: &mut Findings) -> Option<Selector> {
    match Selector::parse(text) {
        Ok(selector) => Some(selector),
        Err(error) => {
            findings.invalid(
                field,
                format!("{} at character {}", error.expected, error.position),
                format!("{} in {}", error.found, quote(text)),
            );
            None
        }
    }
}
