//! What a generation holds: the exact contents of its maps, and the names that
//! go with the numbers in them. Plain data; [`maps`](crate::maps) writes it.

use std::{collections::BTreeMap, sync::Arc};

use hostfw_common::{
    endpoint::{Endpoint, EndpointId},
    failsafe::{FailsafeV4, FailsafeV6},
    policy::{ListId, PolicyId, PolicyTable, RuleEntry, TableId},
    prefix::{PrefixV4, PrefixV6, Service},
};

pub use super::lines::{CHUNK_LINES, Lines};
use crate::model::ObjectRef;

/// A longest-prefix-match trie, table by table.
pub type Trie<K> = BTreeMap<TableId, Arc<[Class<K>]>>;

/// One prefix of a trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class<K> {
    /// The prefix; zero behind its length.
    pub key: K,
    /// Its length in bits, the table number included.
    pub length: u32,
    /// The class of what has it as its longest prefix: a line of
    /// [`Image::rows`].
    pub class: u32,
}

/// The contents of all per-generation maps.
///
/// What is large is shared between copies, and between one compilation and the
/// next where it is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// By interface index.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// By [`ListId`]. No two are the same.
    pub lists: Arc<Vec<PolicyTable>>,
    /// By [`Dimension::table`](hostfw_common::index::Dimension::table); each
    /// table sorted by prefix.
    pub prefixes_v4: Trie<PrefixV4>,
    /// Like `prefixes_v4`.
    pub prefixes_v6: Trie<PrefixV6>,
    /// Like `prefixes_v4`.
    pub services: Trie<Service>,
    /// By number. What no list leads to may hold anything.
    pub index: Lines,
    /// Like `index`.
    pub rows: Lines,
    /// By index.
    pub rules: Arc<Vec<RuleEntry>>,
    /// Prefix length and key, to the position in the list of fail-safes.
    pub failsafes_v4: BTreeMap<(u32, FailsafeV4), u32>,
    /// Like `failsafes_v4`.
    pub failsafes_v6: BTreeMap<(u32, FailsafeV6), u32>,
    /// The names behind the numbers.
    pub names: Arc<Names>,
}

impl Image {
    /// The list of this number.
    #[must_use]
    pub fn list(&self, id: ListId) -> Option<&PolicyTable> {
        self.lists.get(id.number as usize)
    }

    /// The rules of a list, in order; `None` if not all are there.
    #[must_use]
    pub fn rules_of(&self, list: &PolicyTable) -> Option<&[RuleEntry]> {
        let first = list.first_rule as usize;
        self.rules.get(first..)?.get(..usize::from(list.rule_count))
    }
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
