//! What is valid, and yet probably not meant, or not enforced.

mod families;
mod unenforced;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::{
    model::{FelixSettings, Kind, Model, ObjectRef},
    resource::{GlobalNetworkPolicySpec, PolicyType, Resource},
};

pub use unenforced::{Unenforced, unenforced, unenforced_together};

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The object to look at.
    pub about: ObjectRef,
    /// What happens, and what to do if it is not meant.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.message)
    }
}

/// Looks over all objects together.
#[must_use]
pub fn lint(model: &Model) -> Vec<Warning> {
    let mut warnings = families::closed_by_omission(model);
    warnings.extend(model.settings.iter().flat_map(emptied_failsafes));
    warnings
}

/// Looks over one object as it was written: for what its valid form no longer
/// shows.
#[must_use]
pub fn lint_resource(resource: &Resource) -> Vec<Warning> {
    let messages = match resource {
        Resource::GlobalNetworkPolicy(policy) => rules_outside_types(&policy.spec),
        Resource::StagedGlobalNetworkPolicy(policy) => rules_outside_types(&policy.spec.policy()),
        Resource::FelixConfiguration(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::NetworkSet(_)
        | Resource::Profile(_)
        | Resource::Tier(_) => Vec::new(),
    };
    messages
        .into_iter()
        .map(|message| Warning {
            about: resource.object_ref(),
            message,
        })
        .collect()
}

fn rules_outside_types(spec: &GlobalNetworkPolicySpec) -> Vec<String> {
    [
        (PolicyType::Ingress, "spec.ingress", &spec.ingress),
        (PolicyType::Egress, "spec.egress", &spec.egress),
    ]
    .into_iter()
    .filter(|(kind, _, rules)| {
        !spec.types.is_empty() && !spec.types.contains(kind) && !rules.is_empty()
    })
    .map(|(kind, field, rules)| {
        format!(
            "{field} has {} rules that have no effect, because spec.types does not hold {}",
            rules.len(),
            kind.name()
        )
    })
    .collect()
}

fn emptied_failsafes(settings: &FelixSettings) -> Vec<Warning> {
    let name = settings
        .node
        .as_ref()
        .map_or_else(|| "default".to_owned(), |node| format!("node.{node}"));
    [
        (
            "failsafeInboundHostPorts",
            &settings.failsafe_inbound,
            "no port of the host stays reachable (SSH included)",
        ),
        (
            "failsafeOutboundHostPorts",
            &settings.failsafe_outbound,
            "the host itself reaches nothing (DNS included)",
        ),
    ]
    .into_iter()
    .filter(|(_, list, _)| list.as_ref().is_some_and(Vec::is_empty))
    .map(|(field, _, consequence)| Warning {
        about: ObjectRef {
            kind: Kind::FelixConfiguration,
            name: name.clone(),
        },
        message: format!(
            "spec.{field} is empty: {consequence} unless a policy allows it. Leave the field out \
             to have the defaults"
        ),
    })
    .collect()
}
