//! The stages of enforcement, and the lists of rules that go with them.

use crate::verdict::Direction;

/// A stage that a packet passes on its way. The numbers are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Ahead of connection tracking (`doNotTrack`).
    Untracked = 0,
    /// Before DNAT, on everything that comes in (`preDNAT`).
    PreDnat = 1,
    /// After routing, on what is not for this host (`applyOnForward`).
    Forward = 2,
    /// On traffic of local processes.
    Normal = 3,
}

impl Stage {
    /// All stages, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Untracked, Self::PreDnat, Self::Forward, Self::Normal];

    /// The name that answers, logs and documentation use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untracked => "untracked",
            Self::PreDnat => "preDNAT",
            Self::Forward => "forward",
            Self::Normal => "normal",
        }
    }

    /// Decodes a number read from a map.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Untracked),
            1 => Some(Self::PreDnat),
            2 => Some(Self::Forward),
            3 => Some(Self::Normal),
            _ => None,
        }
    }
}

/// A list of rules of an endpoint: one for each stage and direction. The
/// numbers are ABI: they index the tables of an
/// [`Endpoint`](crate::endpoint::Endpoint).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum List {
    /// Untracked, of packets that come in.
    UntrackedIn = 0,
    /// Untracked, of packets that the host sends.
    UntrackedOut = 1,
    /// Before DNAT, of packets that come in.
    PreDnat = 2,
    /// Forwarded packets that came in through the interface.
    ForwardIn = 3,
    /// Forwarded packets that go out through the interface.
    ForwardOut = 4,
    /// Packets for local processes.
    NormalIn = 5,
    /// Packets of local processes.
    NormalOut = 6,
}

impl List {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All lists, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::UntrackedIn,
        Self::UntrackedOut,
        Self::PreDnat,
        Self::ForwardIn,
        Self::ForwardOut,
        Self::NormalIn,
        Self::NormalOut,
    ];

    /// The stage that the list belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::UntrackedIn | Self::UntrackedOut => Stage::Untracked,
            Self::PreDnat => Stage::PreDnat,
            Self::ForwardIn | Self::ForwardOut => Stage::Forward,
            Self::NormalIn | Self::NormalOut => Stage::Normal,
        }
    }

    /// Which of a policy's rules are in the list.
    #[inline(always)]
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::UntrackedIn | Self::PreDnat | Self::ForwardIn | Self::NormalIn => {
                Direction::Ingress
            }
            Self::UntrackedOut | Self::ForwardOut | Self::NormalOut => Direction::Egress,
        }
    }
}
