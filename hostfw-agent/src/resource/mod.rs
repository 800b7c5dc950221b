//! The shapes that users write: `projectcalico.org/v3` resources and hostfw's
//! own, as they stand in YAML or JSON.
//!
//! Everything is as written: a value of these types has only known fields of
//! the right type, and nothing more is known of it. [`validate`] turns it into
//! what the agent works with.
//!
//! [`validate`]: crate::validate

mod decode;
mod document;
mod endpoint_slice;
mod error;
mod felix;
mod host_endpoint;
mod host_endpoint_template;
mod metadata;
mod nets;
mod network_set;
mod node;
mod node_addresses;
mod plain;
mod policy;
mod profile;
mod rule;
mod scalar;
mod syntax;
mod tier;
mod tree;
mod workload_endpoint;

#[cfg(test)]
mod tests;

use std::ops::Range;

use schemars::{JsonSchema as _, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::model::{Kind, ObjectRef};

pub(crate) use decode::quote;
pub use document::{Document, parse_documents};
pub use endpoint_slice::{EndpointSliceSpec, SliceEndpoint, SlicePort};
pub use error::{Problem, ResourceError};
pub use felix::{FelixConfigurationSpec, ProtoPort};
pub use host_endpoint::{EndpointPort, HostEndpointSpec};
pub use host_endpoint_template::HostEndpointTemplateSpec;
pub use metadata::Metadata;
pub use nets::Nets;
pub use network_set::NetworkSetSpec;
pub use node::NodeSpec;
pub use node_addresses::{NodeAddressesSpec, ToldEndpoint};
pub(crate) use plain::{Items, item};
pub use policy::{GlobalNetworkPolicySpec, PolicyType, StagedGlobalNetworkPolicySpec};
pub use profile::ProfileSpec;
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, IcmpFields, Rule, RuleMetadata, ServiceAccountMatch,
    ServiceMatch,
};
pub use scalar::NumberOrText;
pub use syntax::{Piece, split};
pub use tier::TierSpec;
pub use workload_endpoint::WorkloadEndpointSpec;

/// An object of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Object<S> {
    /// Name, labels, and what Kubernetes adds.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: S,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $spec:ty;)+) => {
        $(
            #[doc = concat!("A `", stringify!($kind), "`.")]
            pub type $kind = Object<$spec>;
        )+

        /// An object of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Resource {
            $($(#[$doc])* $kind($kind),)+
        }

        impl Resource {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)+
                }
            }

            /// Its metadata.
            #[must_use]
            pub const fn metadata(&self) -> &Metadata {
                match self {
                    $(Self::$kind(object) => &object.metadata,)+
                }
            }

            /// Its metadata, to be changed.
            pub const fn metadata_mut(&mut self) -> &mut Metadata {
                match self {
                    $(Self::$kind(object) => &mut object.metadata,)+
                }
            }

            fn written(&self) -> (Value, Value) {
                match self {
                    $(Self::$kind(object) => written(object),)+
                }
            }
        }

        /// JSON schema of the `spec` of a kind, without references.
        pub(crate) fn spec_schema(kind: Kind, generator: &mut SchemaGenerator) -> Schema {
            match kind {
                $(Kind::$kind => <$spec>::json_schema(generator),)+
            }
        }

        /// Reads an object of a kind.
        fn read_kind(kind: Kind, value: &Value) -> Result<Resource, decode::FieldError> {
            match kind {
                $(Kind::$kind => document::envelope::<$spec>(value).map(Resource::$kind),)+
            }
        }
    };
}

kinds! {
    /// Addresses and ports of a service.
    EndpointSlice: EndpointSliceSpec;
    /// Fail-safe ports and other settings, of all nodes or of one.
    FelixConfiguration: FelixConfigurationSpec;
    /// Rules for the endpoints that its selector matches.
    GlobalNetworkPolicy: GlobalNetworkPolicySpec;
    /// Addresses that the selectors of rules can match.
    GlobalNetworkSet: NetworkSetSpec;
    /// Makes an interface of a node something that policies apply to.
    HostEndpoint: HostEndpointSpec;
    /// Makes endpoints of the interfaces of many nodes.
    HostEndpointTemplate: HostEndpointTemplateSpec;
    /// Addresses of a namespace that the selectors of rules can match.
    NetworkSet: NetworkSetSpec;
    /// The labels of a node, for templates.
    Node: NodeSpec;
    /// Addresses of endpoints of a node, for the selectors of others.
    NodeAddresses: NodeAddressesSpec;
    /// Labels that endpoints inherit, and rules for what no tier decides.
    Profile: ProfileSpec;
    /// Rules that are evaluated and reported, not enforced.
    StagedGlobalNetworkPolicy: StagedGlobalNetworkPolicySpec;
    /// Policies that are evaluated together, and what happens behind them.
    Tier: TierSpec;
    /// Labels and addresses of a pod, which the selectors of rules can match.
    WorkloadEndpoint: WorkloadEndpointSpec;
}

impl Resource {
    /// Its kind and name.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef {
        let metadata = self.metadata();
        let namespace = metadata
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty());
        ObjectRef::new(self.kind(), namespace, &metadata.name)
    }

    /// The set with these networks in place of those of some positions; `None`
    /// if it is no set, or has no such positions.
    pub(crate) fn with_nets(&self, replaced: Range<usize>, by: Vec<String>) -> Option<Self> {
        let with = |set: &Object<NetworkSetSpec>| {
            Some(Object {
                metadata: set.metadata.clone(),
                spec: NetworkSetSpec {
                    nets: set.spec.nets.with(replaced, by)?,
                },
            })
        };
        if let Self::GlobalNetworkSet(set) = self {
            with(set).map(Self::GlobalNetworkSet)
        } else if let Self::NetworkSet(set) = self {
            with(set).map(Self::NetworkSet)
        } else {
            None
        }
    }

    /// The object as it is written, with `apiVersion` and `kind`. Fields that
    /// are absent stay absent.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let (metadata, spec) = self.written();
        let value = serde_json::json!({
            "apiVersion": self.kind().api_version(),
            "kind": self.kind().name(),
            "metadata": metadata,
            "spec": spec,
        });
        document::written_as(self.kind(), value)
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
