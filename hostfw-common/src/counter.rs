//! Packets and bytes by checkpoint and reason.

use crate::{
    boundary,
    endpoint::EndpointId,
    limits::MAX_RULE_COUNTERS,
    policy::PolicyId,
    verdict::{Direction, Reason},
};

/// Packets and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counter {
    /// Packets decided.
    pub packets: u64,
    /// Their bytes, link-layer header included where the checkpoint sees it.
    pub bytes: u64,
}

/// Value of [`COUNTERS`](crate::names::COUNTERS), per CPU: packets that something
/// became of at a checkpoint for one reason. If they were dropped, also what says
/// which of them are shown one by one: in each second so many
/// ([`DENIALS_PER_SECOND`](crate::limits::DENIALS_PER_SECOND)), and beyond that one
/// of each kind. Here, because whoever drops a packet writes to it anyhow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ReasonCounter {
    /// All of them.
    pub decided: Counter,
    /// Packets that were dropped, and not shown.
    pub hidden: u64,
    /// When the second has begun: nanoseconds of `CLOCK_MONOTONIC`.
    pub since: u64,
    /// Kinds that were shown in this second: a bit for each.
    pub kinds: u64,
    /// The jiffy in which the clock was last read, its lower half.
    pub jiffy: u32,
    /// How many may be shown in this second, of whatever kind.
    pub left: u32,
}

/// A place where packets are judged. A packet may meet several on its way, and
/// is counted at each. The numbers are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Checkpoint {
    /// What comes in from the wire: untracked and pre-DNAT policy.
    WireIn = 0,
    /// What goes out to the wire: untracked and normal policy of what the host
    /// sends.
    WireOut = 1,
    /// What is for a local process: normal policy.
    LocalIn = 2,
    /// What is routed through the host: forward policy.
    Forward = 3,
}

impl Checkpoint {
    /// All checkpoints, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::WireIn, Self::WireOut, Self::LocalIn, Self::Forward];

    /// The checkpoint at the wire that packets of a direction cross.
    #[must_use]
    #[inline(always)]
    pub const fn wire(direction: Direction) -> Self {
        match direction {
            Direction::Ingress => Self::WireIn,
            Direction::Egress => Self::WireOut,
        }
    }

    /// The name that logs, status and documentation use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WireIn => "wire-in",
            Self::WireOut => "wire-out",
            Self::LocalIn => "local-in",
            Self::Forward => "forward",
        }
    }

    /// Decodes a number read from a map.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::WireIn),
            1 => Some(Self::WireOut),
            2 => Some(Self::LocalIn),
            3 => Some(Self::Forward),
            _ => None,
        }
    }
}

/// What became of the packets that a reason was found for. The numbers are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// What the reason says.
    Enforced = 0,
    /// They passed, although the reason is one to drop them: nothing is enforced
    /// ([`FLAG_OBSERVE`](crate::endpoint::FLAG_OBSERVE)).
    Observed = 1,
}

impl Outcome {
    /// Both outcomes, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Enforced, Self::Observed];
}

/// Slots that each checkpoint has: a power of two above the number of reasons.
pub const REASON_SLOTS: u32 = 32;
/// Slots that each outcome has.
pub const OUTCOME_SLOTS: u32 = Checkpoint::ALL.len() as u32 * REASON_SLOTS;
/// Entries of the counter map.
pub const COUNTER_SLOTS: u32 = Outcome::ALL.len() as u32 * OUTCOME_SLOTS;

const _: () = assert!(Reason::ALL.len() <= REASON_SLOTS as usize);

/// Index in [`COUNTERS`](crate::names::COUNTERS).
#[inline(always)]
#[must_use]
pub const fn slot(outcome: Outcome, checkpoint: Checkpoint, reason: Reason) -> u32 {
    outcome as u32 * OUTCOME_SLOTS + checkpoint as u32 * REASON_SLOTS + reason as u32
}

/// Key of [`STAGED`](crate::names::STAGED): a rule of a staged policy, where it
/// was met. The value is the number of packets, a u64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct StagedKey {
    /// The lower half of the number of the generation whose numbers `endpoint`
    /// and `policy` are: the programs have no room on the stack for all of it.
    pub generation: u32,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The staged policy.
    pub policy: PolicyId,
    /// Zero-based index of the rule in its direction's list of the policy.
    pub index: u16,
    /// The [`List`](crate::stage::List) that holds the rule, as a number.
    pub list: u8,
    /// The rule's [`Action`](crate::policy::Action), one of the staged ones, as a
    /// number.
    pub action: u8,
}

/// Counters of a page.
pub const PAGE_COUNTERS: u32 = 64;
/// Entries of [`RULE_COUNTERS`](crate::names::RULE_COUNTERS).
pub const COUNTER_PAGES: u32 = MAX_RULE_COUNTERS / PAGE_COUNTERS;

/// Value of [`RULE_COUNTERS`](crate::names::RULE_COUNTERS), per CPU: counter `n` is
/// number `n % PAGE_COUNTERS` of page `n / PAGE_COUNTERS`. In pages, for the agent
/// reads one with each call of the kernel. Nobody ever sets them back: what a
/// counter held before it was given to a rule is for the agent to take off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CounterPage {
    /// The counters.
    pub counters: [Counter; PAGE_COUNTERS as usize],
}

/// Where a list of rules is counted: the first of as many counters in a row as the
/// list has entries. Zero, the default: nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct CounterBlock {
    /// The number of the first counter with the highest bit set, or 0.
    pub number: u32,
}

impl CounterBlock {
    /// Stands for no counters.
    pub const NONE: Self = Self { number: 0 };
    const SET: u32 = 1 << 31;

    /// The block that begins with this counter.
    #[must_use]
    pub const fn beginning(first: u32) -> Self {
        Self {
            number: Self::SET | first,
        }
    }

    /// The counter of an entry of the list; one that there is none of, if the
    /// list is not counted.
    #[inline(always)]
    #[must_use]
    pub const fn counter(self, entry: u32) -> u32 {
        self.number.wrapping_sub(Self::SET).wrapping_add(entry)
    }
}

const _: () = assert!(MAX_RULE_COUNTERS.is_multiple_of(PAGE_COUNTERS));
const _: () = assert!(CounterBlock::NONE.counter(crate::limits::MAX_RULES) >= MAX_RULE_COUNTERS);

boundary!(
    Counter = 16,
    ReasonCounter = 48,
    StagedKey = 16,
    CounterPage = 1024,
    CounterBlock = 4,
);
