//! `Tier`.

use super::{
    Findings,
    metadata::{is_dns_label, is_subdomain},
    policy,
};
use crate::{
    model::{Tier, TierDefault},
    resource::{self, TierSpec, quote},
};

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
            TierDefault::Deny
        }
    };
    let fixed = Tier::always_there()
        .into_iter()
        .find(|tier| tier.name == name);
    if let Some(fixed) = fixed {
        check_fixed(&fixed, spec, default_action, findings);
    }
    Tier {
        name: name.to_owned(),
        order: policy::order(spec.order, findings),
        default_action,
    }
}

fn check_fixed(
    fixed: &Tier,
    spec: &TierSpec,
    default_action: TierDefault,
    findings: &mut Findings,
) {
    let order = fixed.order.value();
    if spec.order != Some(order) {
        findings.invalid(
            "spec.order",
            format!("{order}, which is fixed for this tier"),
            spec.order
                .map_or_else(|| "nothing".to_owned(), |order| order.to_string()),
        );
    }
    if default_action != fixed.default_action {
        let expected = match fixed.default_action {
            TierDefault::Deny => "Deny",
            TierDefault::Pass => "Pass",
        };
        findings.invalid(
            "spec.defaultAction",
            format!("{expected}, which is fixed for this tier"),
            spec.default_action
                .clone()
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| "nothing".to_owned()),
        );
    }
}
