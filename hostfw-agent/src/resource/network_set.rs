use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of a `GlobalNetworkSet` or a `NetworkSet`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSetSpec {
    /// CIDRs or addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<String>,
}
