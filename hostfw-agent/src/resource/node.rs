use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of a `Node`: of all that Kubernetes has there, hostfw has use for
/// nothing. The labels are in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {}
