//! How many packets rules have met.

use serde::{Deserialize, Serialize};

/// What the rules in force have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCounts {
    /// By endpoint, then stage and direction; the rules of each in no order.
    pub rules: Vec<RuleCount>,
    /// Rules, by endpoint, stage, direction and IP version, that are enforced and
    /// not counted, for there are no more counters.
    pub not_counted: u64,
}

/// What a rule has counted at one stage of one endpoint since the agent was started
/// or the rule came into force: the packets that policy looked at. Those of
/// established flows pass without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    /// Name of the `HostEndpoint`.
    pub endpoint: String,
    /// [`Stage::name`](hostfw_common::stage::Stage::name).
    pub stage: String,
    /// Which way the packets went: `ingress` or `egress`.
    pub direction: String,
    /// Kind of what holds the rule: `Tier` if it is the tier's default.
    pub kind: String,
    /// The policy's tier; not of a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Name of the policy, profile or tier.
    pub name: String,
    /// The rule as a path in the spec: `ingress[0]`; not of a tier's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `allow`, `deny`, `pass` or `log`; of a staged policy `would-allow`,
    /// `would-deny`, `would-pass` or `log`.
    pub action: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes, link-layer header included where the stage sees it.
    pub bytes: u64,
}

/// What a policy has counted at a stage, all endpoints together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyCount {
    /// [`Stage::name`](hostfw_common::stage::Stage::name).
    pub stage: &'static str,
    /// Empty for a profile.
    pub tier: String,
    /// Name of the policy or profile; empty for the default of the tier.
    pub policy: String,
    /// As [`RuleCount::action`].
    pub action: &'static str,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}
