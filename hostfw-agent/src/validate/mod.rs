//! From resources to the model: the only constructor of a valid model.
//!
//! Nothing is accepted and then ignored. What is wrong is refused, and so is
//! what is right but not enforced by this release, by name. All that is to be
//! said about an object is said at once.

mod endpoint;
mod error;
mod felix;
mod felix_fields;
mod metadata;
mod net;
mod policy;
mod protocol;
mod rule;

#[cfg(test)]
mod tests;

use crate::{
    model::{self, Model},
    resource::Resource,
};

use error::Findings;
pub use error::ValidationError;

/// A valid object.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A `HostEndpoint`.
    HostEndpoint(model::HostEndpoint),
    /// A `GlobalNetworkPolicy`.
    Policy(model::Policy),
    /// A `FelixConfiguration`.
    Settings(model::FelixSettings),
}

/// Checks an object.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn validate(resource: &Resource) -> Result<Object, Vec<ValidationError>> {
    let mut findings = Findings::default();
    metadata::check(resource.metadata(), &mut findings);
    let object = match resource {
        Resource::HostEndpoint(object) => {
            Object::HostEndpoint(endpoint::convert(object, &mut findings))
        }
        Resource::GlobalNetworkPolicy(object) => {
            Object::Policy(policy::convert(object, &mut findings))
        }
        Resource::FelixConfiguration(object) => {
            Object::Settings(felix::convert(object, &mut findings))
        }
        Resource::GlobalNetworkSet(_)
        | Resource::NetworkSet(_)
        | Resource::Profile(_)
        | Resource::StagedGlobalNetworkPolicy(_)
        | Resource::Tier(_) => {
            findings.not_enforced("kind", "the kind", "another kind", resource.kind().name());
            return Err(findings.into_result(()).expect_err("one was just added"));
        }
    };
    findings.into_result(object)
}

/// Puts valid objects together. Each list is sorted by name; settings for
/// every node come before those of one.
#[must_use]
pub fn assemble(objects: impl IntoIterator<Item = Object>) -> Model {
    let mut model = Model::default();
    for object in objects {
        match object {
            Object::HostEndpoint(endpoint) => model.endpoints.push(endpoint),
            Object::Policy(policy) => model.policies.push(policy),
            Object::Settings(settings) => model.settings.push(settings),
        }
    }
    model.endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    model.policies.sort_by(|a, b| a.name.cmp(&b.name));
    model.settings.sort_by(|a, b| a.node.cmp(&b.node));
    model
}
