//! What governs an interface.

use crate::{boundary, policy::PolicyTable};

/// Number of an endpoint within a generation; the agent knows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct EndpointId {
    /// The number.
    pub number: u32,
}

/// The address family of a packet. The numbers index the tables of an
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
/// Drop packets that conntrack calls invalid on their way in. Set when some
/// pre-DNAT policy applies and the check is not disabled.
pub const FLAG_DROP_INVALID_INGRESS: u32 = 1 << 2;
/// Drop packets of the host that conntrack calls invalid on their way out.
pub const FLAG_DROP_INVALID_EGRESS: u32 = 1 << 3;

/// Value of [`ENDPOINTS`](crate::names::ENDPOINTS), whose key is the interface
/// index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Endpoint {
    /// The endpoint's number in this generation.
    pub id: EndpointId,
    /// Bits `FLAG_*`.
    pub flags: u32,
    /// Pre-DNAT ingress policy, by [`Family`].
    pub pre_dnat: [PolicyTable; 2],
    /// Normal egress policy of the host's own traffic, by [`Family`].
    pub egress: [PolicyTable; 2],
}

boundary!(EndpointId = 4, Endpoint = 72);
