//! What governs an interface.

use crate::{boundary, counter::CounterBlock, failsafe::ListedPorts, policy::ListId, stage::List};

/// Number of an endpoint within a generation; the agent knows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct EndpointId {
    /// The number.
    pub number: u32,
}

/// The address family of a packet. The numbers index the lists of an
/// [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

impl Family {
    /// Both families, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// The interface has no link-layer header: packets begin with the IP header.
pub const FLAG_NO_LINK_HEADER: u32 = 1 << 0;
/// Record flows, judge nothing yet. Set in the generation that precedes the
/// first enforcement on an interface.
pub const FLAG_LEARNING: u32 = 1 << 1;
/// Drop packets that conntrack calls invalid before DNAT. Set when some
/// pre-DNAT policy applies and the check is not disabled.
pub const FLAG_DROP_INVALID_PRE_DNAT: u32 = 1 << 2;
/// Drop packets that conntrack calls invalid at the forward and normal stages.
pub const FLAG_DROP_INVALID: u32 = 1 << 3;
/// The interface is a workload's: the normal stage lets its packets be.
pub const FLAG_WORKLOAD: u32 = 1 << 4;
/// The netfilter programs judge what comes in through the interface, so they
/// record its flows, not the program that sees the wire.
pub const FLAG_NETFILTER: u32 = 1 << 5;
/// Judge, count and report, and let everything pass. All endpoints of a
/// generation have it, or none.
pub const FLAG_OBSERVE: u32 = 1 << 6;

/// Value of [`ENDPOINTS`](crate::names::ENDPOINTS), whose key is the interface
/// index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Endpoint {
    /// The endpoint's number in this generation.
    pub id: EndpointId,
    /// Bits `FLAG_*`.
    pub flags: u32,
    /// What the fail-safes and tunnels of the generation list. The same for
    /// all endpoints; here, where a packet's look-up leads anyway.
    pub listed: ListedPorts,
    /// The lists of rules by [`List`], then [`Family`].
    pub lists: [[ListId; 2]; List::COUNT],
    /// Where the entries of these lists are counted, likewise.
    pub counters: [[CounterBlock; 2]; List::COUNT],
}

boundary!(EndpointId = 4, Endpoint = 184);
