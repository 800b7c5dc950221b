use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rule;

/// The fields that enforced and staged policies share, ahead of those that
/// only one of them has. A flattened struct would do, but an error would no
/// longer know where it happened.
macro_rules! policy_spec {
    ($(#[$doc:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            /// Name of the tier; absent means `default`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub tier: Option<String>,
            /// Lower first; absent means last.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub order: Option<f64>,
            /// Which endpoints; absent means all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub selector: Option<String>,
            /// Which endpoints, by their namespace's labels.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub namespace_selector: Option<String>,
            /// Which endpoints, by their service account's labels.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub service_account_selector: Option<String>,
            /// Which directions; empty means that the rules tell.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub types: Vec<PolicyType>,
            /// Rules for what comes in.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub ingress: Vec<Rule>,
            /// Rules for what goes out.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub egress: Vec<Rule>,
            /// Judge packets before any DNAT.
            #[serde(default, rename = "preDNAT", skip_serializing_if = "Option::is_none")]
            pub pre_dnat: Option<bool>,
            /// Judge packets without connection tracking.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub do_not_track: Option<bool>,
            /// Judge forwarded packets too.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub apply_on_forward: Option<bool>,
            /// Of no effect on verdicts.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub performance_hints: Vec<String>,
            $($more)*
        }
    };
}

policy_spec! {
    /// `spec` of a `GlobalNetworkPolicy`.
    GlobalNetworkPolicySpec {}
}

policy_spec! {
    /// `spec` of a `StagedGlobalNetworkPolicy`.
    StagedGlobalNetworkPolicySpec {
        /// `Set`, `Delete`, `Learn` or `Ignore`; absent means Set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub staged_action: Option<String>,
    }
}

impl StagedGlobalNetworkPolicySpec {
    /// The policy that would be enforced.
    #[must_use]
    pub fn policy(&self) -> GlobalNetworkPolicySpec {
        let spec = self.clone();
        GlobalNetworkPolicySpec {
            tier: spec.tier,
            order: spec.order,
            selector: spec.selector,
            namespace_selector: spec.namespace_selector,
            service_account_selector: spec.service_account_selector,
            types: spec.types,
            ingress: spec.ingress,
            egress: spec.egress,
            pre_dnat: spec.pre_dnat,
            do_not_track: spec.do_not_track,
            apply_on_forward: spec.apply_on_forward,
            performance_hints: spec.performance_hints,
        }
    }
}

/// A direction that a policy is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum PolicyType {
    /// Packets that come in.
    Ingress,
    /// Packets that go out.
    Egress,
}

impl PolicyType {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}
