//! What a generation holds: the exact contents of its maps, and the names that
//! go with the numbers in them. Plain data; [`maps`](crate::maps) writes it.

use std::collections::BTreeMap;

use hostfw_common::{
    endpoint::{Endpoint, EndpointId},
    failsafe::{FailsafeV4, FailsafeV6},
    policy::{PolicyId, Row, RuleEntry},
    prefix::{PrefixV4, PrefixV6, Service},
};

use crate::model::ObjectRef;

/// The contents of all per-generation maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// By interface index.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Prefix length (table number included) and key, to the index of a row.
    pub prefixes_v4: BTreeMap<(u32, PrefixV4), u32>,
    /// Like `prefixes_v4`.
    pub prefixes_v6: BTreeMap<(u32, PrefixV6), u32>,
    /// Like `prefixes_v4`.
    pub services: BTreeMap<(u32, Service), u32>,
    /// By index; no two are the same.
    pub rows: Vec<Row>,
    /// By index.
    pub rules: Vec<RuleEntry>,
    /// Prefix length and key, to the position in the list of fail-safes.
    pub failsafes_v4: BTreeMap<(u32, FailsafeV4), u32>,
    /// Like `failsafes_v4`.
    pub failsafes_v6: BTreeMap<(u32, FailsafeV6), u32>,
    /// The names behind the numbers.
    pub names: Names,
}

/// The objects behind the numbers of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Indexed by [`EndpointId`].
    pub endpoints: Vec<ObjectRef>,
    /// Indexed by [`PolicyId`].
    pub policies: Vec<NamedPolicy>,
    /// Indexed by the number of a tier: that of a
    /// [`TierDeny`](hostfw_common::policy::Action::TierDeny) entry.
    pub tiers: Vec<String>,
}

/// A policy or a profile that has rules in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPolicy {
    /// Which one.
    pub object: ObjectRef,
    /// The number of its tier; `None` for a profile.
    pub tier: Option<u32>,
    /// A profile that an endpoint lists and that is not there: its only entry
    /// stands for no rule.
    pub missing: bool,
}

impl Names {
    /// The endpoint of this number.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&ObjectRef> {
        self.endpoints.get(id.number as usize)
    }

    /// The policy or profile of this number.
    #[must_use]
    pub fn policy(&self, id: PolicyId) -> Option<&ObjectRef> {
        self.named(id).map(|policy| &policy.object)
    }

    /// The policy or profile of this number, with all that is known of it.
    #[must_use]
    pub fn named(&self, id: PolicyId) -> Option<&NamedPolicy> {
        self.policies.get(id.number as usize)
    }

    /// The tier of this number.
    #[must_use]
    pub fn tier(&self, number: u32) -> Option<&str> {
        self.tiers.get(number as usize).map(String::as_str)
    }

    /// The tier that holds the policy of this number; `None` for a profile.
    #[must_use]
    pub fn tier_of(&self, id: PolicyId) -> Option<&str> {
        self.tier(self.named(id)?.tier?)
    }
}
