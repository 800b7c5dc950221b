//! `GlobalNetworkPolicy`.

use super::{
    Findings,
    metadata::{is_dns_label, is_subdomain},
    rule,
};
use crate::{
    model::{Order, Policy, Rule, Stage},
    resource::{self, GlobalNetworkPolicySpec, PolicyType, quote},
    selector::Selector,
};

/// Longest list of rules (Calico: api/pkg/apis/projectcalico/v3).
const MOST_RULES: usize = 1024;

/// Longest selector of a policy, in characters (as above).
const LONGEST_SELECTOR: usize = 1024;

pub(super) fn convert(object: &resource::GlobalNetworkPolicy, findings: &mut Findings) -> Policy {
    let spec = &object.spec;
    check_name(&object.metadata.name, findings);
    check_unenforced(spec, findings);
    for (index, hint) in spec.performance_hints.iter().enumerate() {
        if hint != "AssumeNeededOnEveryNode" {
            findings.invalid(
                format!("spec.performanceHints[{index}]"),
                "AssumeNeededOnEveryNode",
                quote(hint),
            );
        }
    }
    let ingress = rules("spec.ingress", &spec.ingress, findings);
    let egress = rules("spec.egress", &spec.egress, findings);
    let types = types(spec, findings);
    let stage = stage(spec, &types, findings);
    Policy {
        name: object.metadata.name.clone(),
        staged: None,
        tier: "default".to_owned(),
        apply_on_forward: stage == Stage::PreDnat,
        order: spec.order.map_or(Order::LAST, |order| {
            Order::new(order).unwrap_or_else(|| {
                findings.invalid("spec.order", "a number", order.to_string());
                Order::LAST
            })
        }),
        selector: policy_selector(spec.selector.as_deref().unwrap_or_default(), findings),
        stage,
        ingress: types.contains(&PolicyType::Ingress).then_some(ingress),
        egress: types.contains(&PolicyType::Egress).then_some(egress),
    }
}

fn check_name(name: &str, findings: &mut Findings) {
    // A name that is no subdomain has its own finding.
    if is_subdomain(name) && (name.split('.').count() > 2 || !name.split('.').all(is_dns_label)) {
        findings.invalid(
            "metadata.name",
            "at most two parts joined by a dot, each of at most 63 characters",
            quote(name),
        );
    }
}

fn check_unenforced(spec: &GlobalNetworkPolicySpec, findings: &mut Findings) {
    if let Some(tier) = &spec.tier
        && !matches!(tier.as_str(), "" | "default")
    {
        findings.not_enforced("spec.tier", "another tier", "default", quote(tier));
    }
    for (field, name, selector) in [
        (
            "spec.namespaceSelector",
            "namespaceSelector",
            &spec.namespace_selector,
        ),
        (
            "spec.serviceAccountSelector",
            "serviceAccountSelector",
            &spec.service_account_selector,
        ),
    ] {
        if let Some(selector) = selector
            && !selector.is_empty()
        {
            findings.not_enforced(field, name, "nothing", quote(selector));
        }
    }
}

fn rules(field: &str, rules: &[resource::Rule], findings: &mut Findings) -> Vec<Rule> {
    if !findings.within_limit(field, rules.len(), MOST_RULES, "rules") {
        return Vec::new();
    }
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| rule::convert(&format!("{field}[{index}]"), rule, findings))
        .collect()
}

/// The directions that a policy is about: as given, or told by its rules.
fn types(spec: &GlobalNetworkPolicySpec, findings: &mut Findings) -> Vec<PolicyType> {
    let mut types = Vec::new();
    for (index, &kind) in spec.types.iter().enumerate() {
        if types.contains(&kind) {
            findings.invalid(
                format!("spec.types[{index}]"),
                "each type once",
                format!("{} again", kind.name()),
            );
            // A long list of repeats says nothing new.
            break;
        }
        types.push(kind);
    }
    if types.is_empty() {
        types = match (spec.ingress.is_empty(), spec.egress.is_empty()) {
            (_, true) => vec![PolicyType::Ingress],
            (true, false) => vec![PolicyType::Egress],
            (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        };
    }
    types
}

fn stage(spec: &GlobalNetworkPolicySpec, types: &[PolicyType], findings: &mut Findings) -> Stage {
    let pre_dnat = spec.pre_dnat == Some(true);
    let do_not_track = spec.do_not_track == Some(true);
    let apply_on_forward = spec.apply_on_forward == Some(true);
    if do_not_track {
        findings.not_enforced("spec.doNotTrack", "doNotTrack", "false or nothing", "true");
    }
    if pre_dnat && do_not_track {
        findings.invalid(
            "spec.preDNAT",
            "preDNAT or doNotTrack, not both",
            "both true",
        );
    }
    for (set, name) in [(pre_dnat, "preDNAT"), (do_not_track, "doNotTrack")] {
        if set && !apply_on_forward {
            findings.invalid(
                "spec.applyOnForward",
                format!("true, for {name} is true"),
                spec.apply_on_forward
                    .map_or("nothing".to_owned(), |value| value.to_string()),
            );
        }
    }
    if pre_dnat {
        if !spec.egress.is_empty() {
            findings.invalid(
                "spec.egress",
                "no egress rules, for preDNAT is true",
                format!("a list of {}", spec.egress.len()),
            );
        } else if types.contains(&PolicyType::Egress) {
            findings.invalid("spec.types", "Ingress alone, for preDNAT is true", "Egress");
        }
        return Stage::PreDnat;
    }
    if do_not_track {
        // Said already, and the rest depends on it.
        return Stage::Normal;
    }
    if apply_on_forward {
        findings.not_enforced(
            "spec.applyOnForward",
            "applyOnForward without preDNAT",
            "false or nothing",
            "true",
        );
    }
    if types.contains(&PolicyType::Ingress) {
        findings.not_enforced(
            "spec.types",
            "ingress policy other than preDNAT",
            "Egress alone, or preDNAT and applyOnForward true",
            match (spec.types.is_empty(), spec.ingress.is_empty()) {
                (false, _) => "Ingress",
                (true, false) => "Ingress, inferred from the ingress rules",
                (true, true) => "Ingress, inferred from there being no egress rules",
            },
        );
    }
    Stage::Normal
}

fn policy_selector(text: &str, findings: &mut Findings) -> Selector {
    let length = text.chars().count();
    if length > LONGEST_SELECTOR {
        findings.invalid(
            "spec.selector",
            format!("at most {LONGEST_SELECTOR} characters"),
            length.to_string(),
        );
        return Selector::all();
    }
    selector("spec.selector", text, findings).unwrap_or_else(Selector::all)
}

/// Checks a selector that must not speak of `global()`.
pub(super) fn selector(field: &str, text: &str, findings: &mut Findings) -> Option<Selector> {
    match Selector::parse(text) {
        Ok(selector) if selector.uses_global() => {
            findings.invalid(
                field,
                "a selector without global(), which is for namespaces alone",
                quote(text),
            );
            None
        }
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
