//! What is valid, and yet probably not meant, or not enforced.

mod families;
mod loopback;
mod references;
mod unenforced;
mod untracked;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use crate::{
    model::{FelixSettings, Kind, Model, ObjectRef},
    resource::{GlobalNetworkPolicySpec, PolicyType, Resource},
    selector::Selector,
    validate,
};

use view::Labelled;

pub use unenforced::{Known, Unenforced, unenforced, unenforced_together};

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
    let workloads = model.workloads.iter();
    let ports: HashSet<&str> = workloads
        .flat_map(|workload| workload.ports.iter().map(|port| &*port.name))
        .collect();
    lint_with(model, |name| ports.contains(name))
}

/// As [`lint`], by who knows already whether a workload calls a port by a name: there
/// may be very many.
#[must_use]
pub fn lint_with(model: &Model, is_port_of_workload: impl Fn(&str) -> bool) -> Vec<Warning> {
    let endpoints = Labelled::all(model);
    let mut warnings = families::closed_by_omission(model, &endpoints);
    warnings.extend(references::to_nothing(model, is_port_of_workload));
    warnings.extend(loopback::cut_off(model, &endpoints));
    warnings.extend(untracked::without_replies(model, &endpoints));
    warnings.extend(model.settings.iter().flat_map(emptied_failsafes));
    within_reason(warnings)
}

/// Warnings about one object that are told one by one: nobody reads more, and
/// an object can give thousands.
const MOST_TOLD: usize = 10;

/// The first warnings about each object, and how many more there are.
fn within_reason(mut warnings: Vec<Warning>) -> Vec<Warning> {
    let mut counts: BTreeMap<ObjectRef, usize> = BTreeMap::new();
    warnings.retain(|warning| {
        let count = counts.entry(warning.about.clone()).or_default();
        *count += 1;
        *count <= MOST_TOLD
    });
    let many = counts
        .into_iter()
        .filter(|(_, count)| *count > MOST_TOLD)
        .map(|(about, count)| Warning {
            about,
            message: format!("there are {} more warnings", count - MOST_TOLD),
        });
    warnings.extend(many);
    warnings
}

/// Whether nothing is ever said of objects of the kind.
#[must_use]
pub const fn silent(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::EndpointSlice | Kind::NodeAddresses | Kind::WorkloadEndpoint
    )
}

/// Looks over one object as it was written: for what its valid form no longer
/// shows.
#[must_use]
pub fn lint_resource(resource: &Resource) -> Vec<Warning> {
    let messages = match resource {
        Resource::GlobalNetworkPolicy(policy) => of_policy(&policy.spec),
        Resource::StagedGlobalNetworkPolicy(policy) => of_policy(&policy.spec.policy()),
        Resource::EndpointSlice(_)
        | Resource::FelixConfiguration(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::HostEndpointTemplate(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::NodeAddresses(_)
        | Resource::Profile(_)
        | Resource::Tier(_)
        | Resource::WorkloadEndpoint(_) => Vec::new(),
    };
    messages
        .into_iter()
        .map(|message| Warning {
            about: resource.object_ref(),
            message,
        })
        .collect()
}

fn of_policy(spec: &GlobalNetworkPolicySpec) -> Vec<String> {
    let mut messages = rules_outside_types(spec);
    messages.extend(no_endpoint(spec));
    messages
}

/// A policy for what lives in a namespace or runs under a service account,
/// which the endpoints of hosts do not.
fn no_endpoint(spec: &GlobalNetworkPolicySpec) -> Option<String> {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let field = if given(&spec.namespace_selector) {
        "namespaceSelector"
    } else if given(&spec.service_account_selector) {
        "serviceAccountSelector"
    } else {
        return None;
    };
    let means_hosts = |selector: Option<String>| {
        let spec = GlobalNetworkPolicySpec {
            selector,
            ..spec.clone()
        };
        validate::effective_selector(&spec)
            .is_none_or(|selector| selector.matches(&BTreeMap::new()))
    };
    if !means_hosts(None) {
        return Some(format!(
            "spec.{field} asks for labels that host endpoints do not have: the policy applies to \
             none of them"
        ));
    }
    let all = spec
        .selector
        .as_deref()
        .map(Selector::parse)?
        .ok()?
        .is_all();
    (all && given(&spec.selector) && !means_hosts(spec.selector.clone())).then(|| {
        format!(
            "spec.selector: beside {field}, all() means what lives in a namespace: the policy \
             applies to no host endpoint. Leave it out to mean all"
        )
    })
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
