//! How an ordered list of rules becomes tables.
//!
//! A packet is classified in four dimensions: source address, destination
//! address, service (protocol with destination port or ICMP type and code) and
//! source port. Its class in each has a row of bits: a bit for each rule, rule
//! `n` being bit `n % 64` of word `n / 64`, set if the rule accepts the packet
//! in that dimension. The first bit that is set in all four rows is the first
//! rule that matches.
//!
//! Most rules ask nothing in some dimension, and most packets have nothing
//! special in some. So every dimension has a *base row*, with the bits of the
//! rules that ask nothing there or only say what does not match; the record of
//! a class ([`index`](crate::index)) says where its row differs, and which rule
//! is the first to match if all else is as in the base rows.
//!
//! The record of a list is in [`ROWS`](crate::names::ROWS) at
//! [`PolicyTable::rows`]. Behind it come the four base rows, whole, each of
//! [`PolicyTable::lines`] lines, in the order of [`Dim`].
//!
//! # Search
//!
//! Let `best` be the lowest of the list's first rule and those of the four
//! classes. If no class clears a bit of its base row, all rows hold their base
//! rows, so `best` does match. A rule that is nearer matches by bits that at
//! least two classes have beyond their base rows, for the rules that one class
//! adds are in its record. So only words that differ in two dimensions or more,
//! below that of `best` or up to it, can hold one. Otherwise the words that may
//! hold a match are those that differ in any dimension, and those where the
//! base rows have a bit in common: the list's record names them.

use crate::{
    boundary,
    index::{Dimension, LINE_BITS},
    verdict::Direction,
};

/// Number of a policy within a generation; the agent knows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PolicyId {
    /// The number.
    pub number: u32,
}

/// Number of a table: the part of a trie that belongs to one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct TableId {
    /// The number.
    pub number: u32,
}

/// A dimension by its number: its place in [`PolicyTable::dimensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Dim {
    /// Source address.
    Source = 0,
    /// Destination address.
    Destination = 1,
    /// Protocol with destination port, or with ICMP type and code.
    Service = 2,
    /// Source port.
    SourcePort = 3,
}

impl Dim {
    /// All dimensions, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Source,
        Self::Destination,
        Self::Service,
        Self::SourcePort,
    ];
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// Number of a list of rules within a generation: its place in
/// [`LISTS`](crate::names::LISTS). 0 is the list without rules and without
/// default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct ListId {
    /// The number.
    pub number: u32,
}

impl ListId {
    /// The list that says nothing.
    pub const EMPTY: Self = Self { number: 0 };
}

/// Some entry of the list reports: its action is Log, or it is of a staged
/// policy. What is found once is not to be remembered.
pub const TABLE_HAS_LOG: u16 = 1 << 0;
/// What no rule decides is denied, not passed on.
pub const TABLE_DEFAULT_DENY: u16 = 1 << 1;
/// Some rule of the list says where to go on: after it has matched, the list
/// is searched again from there ([`RuleEntry::next`]).
pub const TABLE_HAS_JUMP: u16 = 1 << 2;

/// Value of [`LISTS`](crate::names::LISTS). One list of rules: those of a
/// stage, direction and family, in the order in which they are evaluated.
/// Endpoints, stages and families for which all of this is the same share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct PolicyTable {
    /// By [`Dim`].
    pub dimensions: [Dimension; Dim::COUNT],
    /// Index in [`RULES`](crate::names::RULES) of the first rule: bit 0 of the
    /// rows.
    pub first_rule: u32,
    /// Line of the list's record in [`ROWS`](crate::names::ROWS).
    pub rows: u32,
    /// The number in the list of the first rule whose bit all base rows have,
    /// or [`NO_RULE`](crate::index::NO_RULE). The list's record has it, too.
    pub first: u32,
    /// How many rules the list has. 0: nothing needs to be looked up.
    pub rule_count: u16,
    /// Bits `TABLE_*`.
    pub flags: u16,
}

impl PolicyTable {
    /// Lines of each row of the list.
    #[inline(always)]
    #[must_use]
    pub const fn lines(&self) -> u32 {
        (self.rule_count as u32).div_ceil(LINE_BITS)
    }

    /// The first line of a base row.
    #[inline(always)]
    #[must_use]
    pub const fn base_row(&self, dimension: Dim) -> u32 {
        self.rows
            .wrapping_add(1)
            .wrapping_add(dimension as u32 * self.lines())
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
    ListId = 4,
    PolicyTable = 64,
    RuleEntry = 12,
);
