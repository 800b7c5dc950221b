//! `GlobalNetworkPolicy` and `StagedGlobalNetworkPolicy`.

use hostfw_common::verdict::Direction;

use super::{
    Findings,
    metadata::{is_dns_label, is_subdomain},
    rule, selector,
};
use crate::{
    model::{Order, Policy, Stage, StagedAction, Tier},
    resource::{self, GlobalNetworkPolicySpec, PolicyType, quote},
};

pub(super) fn enforced(object: &resource::GlobalNetworkPolicy, findings: &mut Findings) -> Policy {
    convert(&object.metadata.name, &object.spec, None, findings)
}

pub(super) fn staged(
    object: &resource::StagedGlobalNetworkPolicy,
    findings: &mut Findings,
) -> Policy {
    let spec = object.spec.policy();
    let action = match object.spec.staged_action.as_deref().unwrap_or_default() {
        "" | "Set" => StagedAction::Set,
        "Delete" => {
            check_empty(&spec, findings);
            StagedAction::Delete
        }
        "Learn" => StagedAction::Learn,
        "Ignore" => StagedAction::Ignore,
        other => {
            findings.invalid(
                "spec.stagedAction",
                "Set, Delete, Learn or Ignore",
                quote(other),
            );
            StagedAction::Set
        }
    };
    convert(&object.metadata.name, &spec, Some(action), findings)
}

/// What takes a policy away says nothing but which.
fn check_empty(spec: &GlobalNetworkPolicySpec, findings: &mut Findings) {
    let text = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        (!text.is_empty()).then(|| quote(text))
    };
    let list = |length: usize, one: &str, more: &str| match length {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {more}")),
    };
    let switch = |on: Option<bool>| (on == Some(true)).then(|| "true".to_owned());
    for (field, given) in [
        ("order", spec.order.map(|order| order.to_string())),
        ("selector", text(&spec.selector)),
        ("namespaceSelector", text(&spec.namespace_selector)),
        (
            "serviceAccountSelector",
            text(&spec.service_account_selector),
        ),
        ("types", list(spec.types.len(), "type", "types")),
        ("ingress", list(spec.ingress.len(), "rule", "rules")),
        ("egress", list(spec.egress.len(), "rule", "rules")),
        ("preDNAT", switch(spec.pre_dnat)),
        ("doNotTrack", switch(spec.do_not_track)),
        ("applyOnForward", switch(spec.apply_on_forward)),
        (
            "performanceHints",
            list(spec.performance_hints.len(), "hint", "hints"),
        ),
    ] {
        if let Some(found) = given {
            findings.invalid(
                format!("spec.{field}"),
                "nothing but tier, for stagedAction is Delete",
                found,
            );
        }
    }
}

fn convert(
    name: &str,
    spec: &GlobalNetworkPolicySpec,
    staged: Option<StagedAction>,
    findings: &mut Findings,
) -> Policy {
    check_name(name, findings);
    let tier = match spec.tier.as_deref() {
        None | Some("") => Tier::DEFAULT,
        Some(tier) => tier,
    };
    if !is_dns_label(tier) {
        findings.invalid(
            "spec.tier",
            "the name of a tier (lower-case letters, digits and '-', at most 63 characters)",
            quote(tier),
        );
    }
    for (index, hint) in spec.performance_hints.iter().enumerate() {
        if hint != "AssumeNeededOnEveryNode" {
            findings.invalid(
                format!("spec.performanceHints[{index}]"),
                "AssumeNeededOnEveryNode",
                quote(hint),
            );
        }
    }
    let ingress = rule::list(Direction::Ingress, &spec.ingress, findings);
    let egress = rule::list(Direction::Egress, &spec.egress, findings);
    let types = types(spec, findings);
    let stage = stage(spec, &types, findings);
    Policy {
        name: name.to_owned(),
        staged,
        tier: tier.to_owned(),
        order: order(spec.order, findings),
        selector: selector::of_policy(spec, findings),
        stage,
        apply_on_forward: stage != Stage::Normal || spec.apply_on_forward == Some(true),
        ingress: types.contains(&PolicyType::Ingress).then(|| ingress.into()),
        egress: types.contains(&PolicyType::Egress).then(|| egress.into()),
    }
}

/// Checks `order`, of a policy or a tier.
pub(super) fn order(order: Option<f64>, findings: &mut Findings) -> Order {
    let Some(order) = order else {
        return Order::LAST;
    };
    Order::new(order).unwrap_or_else(|| {
        findings.invalid("spec.order", "a number", order.to_string());
        Order::LAST
    })
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
        Stage::PreDnat
    } else if do_not_track {
        Stage::Untracked
    } else {
        Stage::Normal
    }
}
