//! From resources to the model: the only constructor of a valid model.

use std::fmt;

use crate::{
    model::{self, Model},
    resource::Resource,
};

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

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// `spec.ingress[0].protocol`.
    pub field: String,
    /// What could stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// It is right, only hostfw does not enforce it: its name.
    pub not_enforced: Option<String>,
}

impl std::error::Error for ValidationError {}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        if let Some(name) = &self.not_enforced {
            write!(f, "{name} is not enforced by this release: ")?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

/// Checks an object.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn validate(resource: &Resource) -> Result<Object, Vec<ValidationError>> {
    let _ = resource;
    Err(Vec::new())
}

/// Puts valid objects together. Each list is sorted by name.
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
