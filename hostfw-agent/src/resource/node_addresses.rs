use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of a `NodeAddresses`: what the agent of the node of the same name tells
/// the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeAddressesSpec {
    /// The endpoints of the node that have no expectedIPs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ToldEndpoint>,
}

/// An endpoint whose addresses only its own node knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldEndpoint {
    /// Name of the `HostEndpoint`, or TEMPLATE/INTERFACE of one that a template
    /// made.
    pub name: String,
    /// Of one that a template made: the labels that it has from its node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The addresses of the interfaces that it governs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}
