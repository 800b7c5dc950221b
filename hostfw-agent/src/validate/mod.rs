//! From resources to the model: the only constructor of a valid model.
//!
//! What is wrong is refused, and all that is to be said about an object is said
//! at once. What is right but not enforced is accepted, and
//! [`lint::unenforced`](crate::lint::unenforced) tells it.

mod addresses;
mod endpoint;
mod error;
mod felix;
mod felix_fields;
mod http;
mod metadata;
mod net;
mod policy;
mod profile;
mod protocol;
mod rule;
mod selector;
mod service;
mod set;
mod template;
mod tier;
mod workload;

#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use crate::{
    model::{self, Model},
    resource::{GlobalNetworkPolicySpec, Resource},
    selector::Selector,
};

use error::Findings;
pub use error::ValidationError;

/// A valid object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A `HostEndpoint`.
    HostEndpoint(model::HostEndpoint),
    /// A `HostEndpointTemplate`.
    HostEndpointTemplate(model::HostEndpointTemplate),
    /// A `GlobalNetworkSet` or a `NetworkSet`.
    NetworkSet(model::NetworkSet),
    /// A `Node`.
    Node(model::Node),
    /// A `NodeAddresses`.
    NodeAddresses(Arc<model::NodeAddresses>),
    /// A `GlobalNetworkPolicy` or a `StagedGlobalNetworkPolicy`.
    Policy(model::Policy),
    /// A `Profile`.
    Profile(model::Profile),
    /// A `FelixConfiguration`.
    Settings(model::FelixSettings),
    /// An `EndpointSlice`.
    Slice(Arc<model::EndpointSlice>),
    /// A `Tier`.
    Tier(model::Tier),
    /// A `WorkloadEndpoint`.
    Workload(Arc<model::WorkloadEndpoint>),
}

/// Checks an object.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn validate(resource: &Resource) -> Result<Object, Vec<ValidationError>> {
    let mut errors = Findings::default();
    let findings = &mut errors;
    metadata::check(resource.kind(), resource.metadata(), findings);
    let object = match resource {
        Resource::EndpointSlice(object) => Object::Slice(workload::slice(object, findings).into()),
        Resource::FelixConfiguration(object) => Object::Settings(felix::convert(object, findings)),
        Resource::GlobalNetworkPolicy(object) => Object::Policy(policy::enforced(object, findings)),
        Resource::GlobalNetworkSet(object) => {
            Object::NetworkSet(set::global(&object.metadata, &object.spec, findings))
        }
        Resource::HostEndpoint(object) => Object::HostEndpoint(endpoint::convert(object, findings)),
        Resource::HostEndpointTemplate(object) => {
            Object::HostEndpointTemplate(template::convert(object, findings))
        }
        Resource::NetworkSet(object) => {
            Object::NetworkSet(set::namespaced(&object.metadata, &object.spec, findings))
        }
        Resource::Node(object) => Object::Node(template::node(object)),
        Resource::NodeAddresses(object) => {
            Object::NodeAddresses(addresses::convert(object, findings).into())
        }
        Resource::Profile(object) => Object::Profile(profile::convert(object, findings)),
        Resource::StagedGlobalNetworkPolicy(object) => {
            Object::Policy(policy::staged(object, findings))
        }
        Resource::Tier(object) => Object::Tier(tier::convert(object, findings)),
        Resource::WorkloadEndpoint(object) => {
            Object::Workload(workload::endpoint(object, findings).into())
        }
    };
    errors.into_result(object)
}

/// What [`validate`] gives for a valid set once the networks of some positions
/// are replaced by others. `None` if one of those is not valid, or if this is no
/// set.
#[must_use]
pub fn with_nets(valid: &Object, replaced: Range<usize>, by: &[String]) -> Option<Object> {
    if let Object::NetworkSet(set) = valid {
        set::with_nets(set, replaced, by).map(Object::NetworkSet)
    } else {
        None
    }
}

/// Which endpoints a policy applies to; `None` if that is not valid.
#[must_use]
pub fn effective_selector(spec: &GlobalNetworkPolicySpec) -> Option<Selector> {
    let mut findings = Findings::default();
    let selector = selector::of_policy(spec, &mut findings);
    findings.into_result(selector).ok()
}

/// Puts valid objects together, in the order that [`Model`] promises.
#[must_use]
pub fn assemble(objects: impl IntoIterator<Item = Object>) -> Model {
    let mut model = Model::default();
    for object in objects {
        match object {
            Object::HostEndpoint(endpoint) => model.endpoints.push(endpoint),
            Object::HostEndpointTemplate(template) => model.templates.push(template),
            Object::NetworkSet(set) => model.sets.push(set),
            Object::Node(node) => model.nodes.push(node),
            Object::NodeAddresses(addresses) => model.addresses.push(addresses),
            Object::Policy(policy) => model.policies.push(policy),
            Object::Profile(profile) => model.profiles.push(profile),
            Object::Settings(settings) => model.settings.push(settings),
            Object::Slice(slice) => model.slices.push(slice),
            Object::Tier(tier) => model.tiers.push(tier),
            Object::Workload(workload) => model.workloads.push(workload),
        }
    }
    model.endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    model
        .templates
        .sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    model.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    model.addresses.sort_by(|a, b| a.node.cmp(&b.node));
    model
        .policies
        .sort_by(|a, b| (a.staged.is_some(), &a.name).cmp(&(b.staged.is_some(), &b.name)));
    model.tiers.sort_by(|a, b| a.name.cmp(&b.name));
    model
        .sets
        .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    model.profiles.sort_by(|a, b| a.name.cmp(&b.name));
    model.settings.sort_by(|a, b| a.node.cmp(&b.node));
    model
        .workloads
        .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    model
        .slices
        .sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    model
}
