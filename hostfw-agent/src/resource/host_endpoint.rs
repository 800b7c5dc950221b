use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NumberOrText;

/// `spec` of a `HostEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostEndpointSpec {
    /// Name of the node; required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Name of the interface, or `*`.
    #[serde(
        default,
        rename = "interfaceName",
        skip_serializing_if = "Option::is_none"
    )]
    pub interface: Option<String>,
    /// Addresses of the interface.
    #[serde(default, rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<String>,
    /// Names of profiles, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Ports that rules may call by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointPort {
    /// What rules call it.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: NumberOrText,
    /// Its number.
    pub port: i64,
}
