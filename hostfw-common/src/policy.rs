//! How an ordered list of rules becomes tables.
//!
//! A packet is looked up in four dimensions: source address, destination
//! address, service (protocol with destination port or ICMP type and code) and
//! source port. Every dimension is a longest-prefix-match trie (see
//! [`prefix`](crate::prefix)) whose value is the number of a [`Row`]: a bit for
//! each rule, set if the rule accepts the packet in that dimension. The first
//! bit that is set in all four rows is the first rule that matches.

use crate::{boundary, limits::ROW_WORDS, verdict::Direction};

/// Number of a policy within a generation; the agent knows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PolicyId {
    /// The number.
    pub number: u32,
}

/// Number of a table: the part of a trie that belongs to one dimension of one
/// list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct TableId {
    /// The number.
    pub number: u32,
}

/// Some rule of the list has action Log: the packet is looked at a second time
/// to report them.
pub const TABLE_HAS_LOG: u16 = 1 << 0;
/// What no rule decides is denied, not passed on.
pub const TABLE_DEFAULT_DENY: u16 = 1 << 1;
/// Some rule of the list says where to go on: after it has matched, the list
/// is searched again from there ([`RuleEntry::next`]).
pub const TABLE_HAS_JUMP: u16 = 1 << 2;

/// One list of rules: those of one endpoint, stage, direction and family, in
/// the order in which they are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct PolicyTable {
    /// Key of the source dimension in the prefix trie of the family, and of
    /// the service dimension in [`SERVICES`](crate::names::SERVICES). The next
    /// number is the key of the destination and of the source port dimension.
    pub table: TableId,
    /// Index in [`RULES`](crate::names::RULES) of the first rule: bit 0 of the
    /// rows.
    pub first_rule: u32,
    /// Index in [`ROWS`](crate::names::ROWS) of a row with the bits of those
    /// rules whose action is Log: they decide nothing. Only if
    /// [`TABLE_HAS_LOG`] is set.
    pub log_row: u32,
    /// How many rules the list has. 0: nothing needs to be looked up.
    pub rule_count: u16,
    /// Bits `TABLE_*`.
    pub flags: u16,
}

impl PolicyTable {
    /// Table of the source address (prefix trie) and of the service.
    #[inline(always)]
    #[must_use]
    pub const fn source(&self) -> u32 {
        self.table.number
    }

    /// Table of the destination address (prefix trie) and of the source port
    /// (services trie).
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> u32 {
        self.table.number + 1
    }

    /// How many table numbers one list of rules takes.
    pub const TABLES: u32 = 2;
}

/// A bit for each rule of a list: rule `n` is bit `n % 64` of word `n / 64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Row {
    /// Bit `w` is set if word `w` is not 0.
    pub summary: u64,
    /// The bits.
    pub words: [u64; ROW_WORDS],
}

impl Row {
    /// A row with no bit set.
    pub const EMPTY: Self = Self {
        summary: 0,
        words: [0; ROW_WORDS],
    };

    /// Sets the bit of a rule.
    ///
    /// # Panics
    ///
    /// If `rule` is not below [`MAX_RULES`](crate::limits::MAX_RULES).
    pub fn set(&mut self, rule: usize) {
        self.words[rule / 64] |= 1 << (rule % 64);
        self.summary |= 1 << (rule / 64);
    }

    /// Whether the bit of a rule is set.
    #[must_use]
    pub fn contains(&self, rule: usize) -> bool {
        self.words
            .get(rule / 64)
            .is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }
}

/// What a rule does with a packet that it matches. The numbers are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// The packet passes the stage.
    Allow = 0,
    /// The packet is dropped.
    Deny = 1,
    /// An event is reported, and the next rule is looked at.
    Log = 2,
    /// The rest of the tier is skipped: the search goes on at
    /// [`RuleEntry::next`].
    Pass = 3,
    /// No rule of a policy, but the end of a tier: the packet is dropped.
    /// [`RuleEntry::policy`] is the number of the tier.
    TierDeny = 4,
    /// Part of a rule of a policy, which does not match after all: the search
    /// goes on at [`RuleEntry::next`]. It is as if this had not been there.
    Skip = 5,
    /// Allow, of a staged policy: an event is reported, and the search goes on
    /// at [`RuleEntry::next`], behind the policy.
    StagedAllow = 6,
    /// Deny, of a staged policy, likewise.
    StagedDeny = 7,
    /// Pass, of a staged policy, likewise.
    StagedPass = 8,
}

impl Action {
    /// Decodes a number read from a map.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Allow),
            1 => Some(Self::Deny),
            2 => Some(Self::Log),
            3 => Some(Self::Pass),
            4 => Some(Self::TierDeny),
            5 => Some(Self::Skip),
            6 => Some(Self::StagedAllow),
            7 => Some(Self::StagedDeny),
            8 => Some(Self::StagedPass),
            _ => None,
        }
    }

    /// Whether the search goes on at [`RuleEntry::next`].
    #[inline(always)]
    #[must_use]
    pub const fn jumps(self) -> bool {
        matches!(
            self,
            Self::Pass | Self::Skip | Self::StagedAllow | Self::StagedDeny | Self::StagedPass
        )
    }
}

/// Value of [`RULES`](crate::names::RULES): what the rule does, and which one
/// it is. Several entries in a row may stand for one rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct RuleEntry {
    /// The policy or profile that holds the rule.
    pub policy: PolicyId,
    /// Zero-based index of the rule in its direction's list of the policy.
    pub index: u16,
    /// [`Action`] as a number.
    pub action: u8,
    /// [`Direction`] of the list that holds the rule, as a number.
    pub direction: u8,
    /// Where the search goes on if the action [`jumps`](Action::jumps): the
    /// number of an entry in its list, or the length of the list.
    pub next: u16,
    /// Zero.
    pub _pad: u16,
}

impl RuleEntry {
    /// An entry for a rule after which the search does not go on elsewhere.
    #[must_use]
    pub const fn new(policy: PolicyId, index: u16, action: Action, direction: Direction) -> Self {
        Self {
            policy,
            index,
            action: action as u8,
            direction: direction as u8,
            next: 0,
            _pad: 0,
        }
    }
}

boundary!(
    PolicyId = 4,
    TableId = 4,
    PolicyTable = 16,
    Row = 520,
    RuleEntry = 12,
);
