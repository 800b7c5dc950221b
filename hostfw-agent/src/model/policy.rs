use std::sync::Arc;

use super::{Kind, ObjectRef, Order, Rule};
use crate::selector::Selector;

/// A `GlobalNetworkPolicy`, or a `StagedGlobalNetworkPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `metadata.name`.
    pub name: String,
    /// Whether the policy is only evaluated and reported, and how it would
    /// take effect; `None` if it is enforced.
    pub staged: Option<StagedAction>,
    /// Name of the tier.
    pub tier: String,
    /// Lower first.
    pub order: Order,
    /// Which endpoints the policy applies to: `selector`, `namespaceSelector`
    /// and `serviceAccountSelector` together.
    pub selector: Selector,
    /// Where on a packet's way the policy is looked at.
    pub stage: Stage,
    /// A normal policy is looked at for forwarded packets too. Always set for
    /// the other stages, which see them anyway.
    pub apply_on_forward: bool,
    /// Ingress rules, if the policy's types include Ingress; copies share them.
    pub ingress: Option<Arc<[Rule]>>,
    /// Egress rules, if the policy's types include Egress; copies share them.
    pub egress: Option<Arc<[Rule]>>,
}

impl Policy {
    /// Its kind and name.
    #[must_use]
    pub fn object_ref(&self) -> ObjectRef {
        let kind = match self.staged {
            None => Kind::GlobalNetworkPolicy,
            Some(_) => Kind::StagedGlobalNetworkPolicy,
        };
        ObjectRef::new(kind, None, &self.name)
    }
}

/// Where on a packet's way a policy is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Ahead of connection tracking (`doNotTrack`).
    Untracked,
    /// Before DNAT, on everything that comes in (`preDNAT`).
    PreDnat,
    /// On traffic of local processes, and with `apply_on_forward` on forwarded
    /// packets.
    Normal,
}

/// What a staged policy would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StagedAction {
    /// Be enforced as it is.
    Set,
    /// Take the policy of the same name away.
    Delete,
    /// Be written by somebody who learns from traffic.
    Learn,
    /// Nothing.
    Ignore,
}
