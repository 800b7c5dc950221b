//! `Tier`.

use super::{
    Findings,
    metadata::{is_dns_label, is_subdomain},
    policy,
};
use crate::{
    model::{Tier, TierDefault},
    resource::{self, quote},
};

/// Tiers that are always there, and cannot be otherwise (Calico:
/// api/pkg/apis/projectcalico/v3/tier.go): name, order, default action.
const FIXED: [(&str, f64, TierDefault); 3] = [
    ("default", 1_000_000.0, TierDefault::Deny),
    ("kube-admin", 1_000.0, TierDefault::Pass),
    ("kube-baseline", 10_000_000.0, TierDefault::Pass),
];

pub(super) fn convert(object: &resource::Tier, findings: &mut Findings) -> Tier {
    let name = object.metadata.name.as_str();
    // A name that is no subdomain has its own finding.
    if is_subdomain(name) && !is_dns_label(name) {
        findings.invalid(
            "metadata.name",
            "a name without dots, of at most 63 characters",
            quote(name),
        );
    }
    let spec = &object.spec;
    let given = spec.default_action.as_deref().unwrap_or_default();
    let default_action = match given {
        "" | "Deny" => TierDefault::Deny,
        "Pass" => TierDefault::Pass,
        other => {
            findings.invalid("spec.defaultAction", "Deny or Pass", quote(other));
            return tier(name, spec, TierDefault::Deny, findings);
        }
    };
    if let Some((_, order, action)) = FIXED.into_iter().find(|(fixed, ..)| *fixed == name) {
        if spec.order != Some(order) {
            findings.invalid(
                "spec.order",
                format!("{order}, which is fixed for this tier"),
                spec.order
                    .map_or_else(|| "nothing".to_owned(), |order| order.to_string()),
            );
        }
        if default_action != action {
            let expected = match action {
                TierDefault::Deny => "Deny",
                TierDefault::Pass => "Pass",
            };
            findings.invalid(
                "spec.defaultAction",
                format!("{expected}, which is fixed for this tier"),
                if given.is_empty() { "nothing" } else { given },
            );
        }
    }
    tier(name, spec, default_action, findings)
}

fn tier(
    name: &str,
    spec: &resource::TierSpec,
    default_action: TierDefault,
    findings: &mut Findings,
) -> Tier {
    Tier {
        name: name.to_owned(),
        order: policy::order(spec.order, findings),
        default_action,
    }
}
