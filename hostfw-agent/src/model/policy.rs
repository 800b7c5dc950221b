use super::{Order, Rule};
use crate::selector::Selector;

/// A `GlobalNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `metadata.name`.
    pub name: String,
    /// Lower first.
    pub order: Order,
    /// Which endpoints the policy applies to.
    pub selector: Selector,
    /// Where on a packet's way the policy is looked at.
    pub stage: Stage,
    /// Ingress rules, if the policy's types include Ingress.
    pub ingress: Option<Vec<Rule>>,
    /// Egress rules, if the policy's types include Egress.
    pub egress: Option<Vec<Rule>>,
}

/// Where on a packet's way a policy is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before DNAT, on everything that comes in (`preDNAT`).
    PreDnat,
    /// On traffic of local processes.
    Normal,
}
