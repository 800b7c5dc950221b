//! The shapes that users write: `projectcalico.org/v3` resources, as they
//! stand in YAML or JSON.
//!
//! Everything is as written: a value of these types has only known fields of
//! the right type, and nothing more is known of it. [`validate`] turns it into
//! what the agent works with.
//!
//! [`validate`]: crate::validate

mod decode;
mod document;
mod error;
mod felix;
mod host_endpoint;
mod metadata;
mod policy;
mod rule;
mod scalar;
mod syntax;
mod tree;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::model::{Kind, ObjectRef};

pub(crate) use decode::quote;
pub use document::{Document, parse_documents};
pub use error::{Problem, ResourceError};
pub use felix::{FelixConfigurationSpec, ProtoPort};
pub use host_endpoint::{EndpointPort, HostEndpointSpec};
pub use metadata::Metadata;
pub use policy::{GlobalNetworkPolicySpec, PolicyType};
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, IcmpFields, Rule, RuleMetadata, ServiceAccountMatch,
    ServiceMatch,
};
pub use scalar::NumberOrText;

/// The `apiVersion` of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// An object of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Object<S> {
    /// Name, labels, and what Kubernetes adds.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: S,
}

/// A `HostEndpoint`.
pub type HostEndpoint = Object<HostEndpointSpec>;
/// A `GlobalNetworkPolicy`.
pub type GlobalNetworkPolicy = Object<GlobalNetworkPolicySpec>;
/// A `FelixConfiguration`.
pub type FelixConfiguration = Object<FelixConfigurationSpec>;

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// Makes an interface of a node something that policies apply to.
    HostEndpoint(HostEndpoint),
    /// Rules for the endpoints that its selector matches.
    GlobalNetworkPolicy(GlobalNetworkPolicy),
    /// Fail-safe ports and other settings, of all nodes or of one.
    FelixConfiguration(FelixConfiguration),
}

impl Resource {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::HostEndpoint(_) => Kind::HostEndpoint,
            Self::GlobalNetworkPolicy(_) => Kind::GlobalNetworkPolicy,
            Self::FelixConfiguration(_) => Kind::FelixConfiguration,
        }
    }

    /// Its kind and name.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind(),
            name: self.metadata().name.clone(),
        }
    }

    /// Its metadata.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        match self {
            Self::HostEndpoint(object) => &object.metadata,
            Self::GlobalNetworkPolicy(object) => &object.metadata,
            Self::FelixConfiguration(object) => &object.metadata,
        }
    }

    /// Its metadata, to be changed.
    pub const fn metadata_mut(&mut self) -> &mut Metadata {
        match self {
            Self::HostEndpoint(object) => &mut object.metadata,
            Self::GlobalNetworkPolicy(object) => &mut object.metadata,
            Self::FelixConfiguration(object) => &mut object.metadata,
        }
    }

    /// The object as it is written, with `apiVersion` and `kind`. Fields that
    /// are absent stay absent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (metadata, spec) = match self {
            Self::HostEndpoint(object) => written(object),
            Self::GlobalNetworkPolicy(object) => written(object),
            Self::FelixConfiguration(object) => written(object),
        };
        serde_json::json!({
            "apiVersion": API_VERSION,
            "kind": self.kind().name(),
            "metadata": metadata,
            "spec": spec,
        })
    }

    /// Reads what [`to_value`](Self::to_value) gives.
    ///
    /// # Errors
    ///
    /// If the value is not an object of one of the kinds, strictly.
    pub fn from_value(value: &Value) -> Result<Self, ResourceError> {
        document::object(value).map_err(|failure| failure.in_document(1, 1))
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(de::Error::custom)
    }
}

fn written<S: Serialize>(object: &Object<S>) -> (Value, Value) {
    const INVARIANT: &str = "plain structs with text keys always have a JSON form";
    (
        serde_json::to_value(&object.metadata).expect(INVARIANT),
        serde_json::to_value(&object.spec).expect(INVARIANT),
    )
}
