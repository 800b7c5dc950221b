use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nets;

/// `spec` of a `GlobalNetworkSet` or a `NetworkSet`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSetSpec {
    /// CIDRs or addresses.
    #[serde(default, skip_serializing_if = "Nets::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub nets: Nets,
}
