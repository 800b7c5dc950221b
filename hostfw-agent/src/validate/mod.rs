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

/// A valid object. A copy shares it.
#[derive(Clone, Debug)]
pub enum Object {
    /// A `HostEndpoint`.
    HostEndpoint(Arc<model::HostEndpoint>),
    /// A `HostEndpointTemplate`.
    HostEndpointTemplate(Arc<model::HostEndpointTemplate>),
    /// A `GlobalNetworkSet` or a `NetworkSet`.
    NetworkSet(Arc<model::NetworkSet>),
    /// A `Node`.
    Node(Arc<model::Node>),
    /// A `NodeAddresses`.
    NodeAddresses(Arc<model::NodeAddresses>),
    /// A `GlobalNetworkPolicy` or a `StagedGlobalNetworkPolicy`.
    Policy(Arc<model::Policy>),
    /// A `Profile`.
    Profile(Arc<model::Profile>),
    /// A `FelixConfiguration`.
    Settings(Arc<model::FelixSettings>),
    /// An `EndpointSlice`.
    Slice(Arc<model::EndpointSlice>),
    /// A `Tier`.
    Tier(Arc<model::Tier>),
    /// A `WorkloadEndpoint`.
    Workload(Arc<model::WorkloadEndpoint>),
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        /// What is shared is not looked at.
        fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
            Arc::ptr_eq(one, other) || **one == **other
        }
        match (self, other) {
            (Self::HostEndpoint(one), Self::HostEndpoint(other)) => same(one, other),
            (Self::HostEndpointTemplate(one), Self::HostEndpointTemplate(other)) => {
                same(one, other)
            }
            (Self::NetworkSet(one), Self::NetworkSet(other)) => same(one, other),
            (Self::Node(one), Self::Node(other)) => same(one, other),
            (Self::NodeAddresses(one), Self::NodeAddresses(other)) => same(one, other),
            (Self::Policy(one), Self::Policy(other)) => same(one, other),
            (Self::Profile(one), Self::Profile(other)) => same(one, other),
            (Self::Settings(one), Self::Settings(other)) => same(one, other),
            (Self::Slice(one), Self::Slice(other)) => same(one, other),
            (Self::Tier(one), Self::Tier(other)) => same(one, other),
            (Self::Workload(one), Self::Workload(other)) => same(one, other),
            (_, _) => false,
        }
    }
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
        Resource::FelixConfiguration(object) => {
            Object::Settings(felix::convert(object, findings).into())
        }
        Resource::GlobalNetworkPolicy(object) => {
            Object::Policy(policy::enforced(object, findings).into())
        }
        Resource::GlobalNetworkSet(object) => {
            Object::NetworkSet(set::global(&object.metadata, &object.spec, findings).into())
        }
        Resource::HostEndpoint(object) => {
            Object::HostEndpoint(endpoint::convert(object, findings).into())
        }
        Resource::HostEndpointTemplate(object) => {
            Object::HostEndpointTemplate(template::convert(object, findings).into())
        }
        Resource::NetworkSet(object) => {
            Object::NetworkSet(set::namespaced(&object.metadata, &object.spec, findings).into())
        }
        Resource::Node(object) => Object::Node(template::node(object).into()),
        Resource::NodeAddresses(object) => {
            Object::NodeAddresses(addresses::convert(object, findings).into())
        }
        Resource::Profile(object) => Object::Profile(profile::convert(object, findings).into()),
        Resource::StagedGlobalNetworkPolicy(object) => {
            Object::Policy(policy::staged(object, findings).into())
        }
        Resource::Tier(object) => Object::Tier(tier::convert(object, findings).into()),
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
        set::with_nets(set, replaced, by).map(|set| Object::NetworkSet(set.into()))
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
            Object::HostEndpointTemplate(template) => model.templates.push((*template).clone()),
            Object::NetworkSet(set) => model.sets.push(set),
            Object::Node(node) => model.nodes.push((*node).clone()),
            Object::NodeAddresses(addresses) => model.addresses.push(addresses),
            Object::Policy(policy) => model.policies.push(policy),
            Object::Profile(profile) => model.profiles.push(profile),
            Object::Settings(settings) => model.settings.push((*settings).clone()),
            Object::Slice(slice) => model.slices.push(slice),
            Object::Tier(tier) => model.tiers.push((*tier).clone()),
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
