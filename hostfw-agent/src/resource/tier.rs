use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of a `Tier`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TierSpec {
    /// Lower first; absent means last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// `Deny` or `Pass`; absent means Deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
}
