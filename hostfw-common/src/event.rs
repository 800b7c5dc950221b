//! What the programs report one by one.

use crate::{boundary, conntrack::Address, endpoint::EndpointId, policy::RuleEntry};

/// Record of the ring buffer [`EVENTS`](crate::names::EVENTS): a rule with
/// action Log matched a packet, or a rule of a staged policy, which would have
/// decided about it. Or the packet was dropped; or would have been, but nothing is
/// enforced ([`FLAG_OBSERVE`](crate::endpoint::FLAG_OBSERVE)). Of packets that are
/// dropped not all are told of ([`ReasonCounter`](crate::counter::ReasonCounter)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC` (coarse).
    pub time: u64,
    /// The generation whose numbers `endpoint` and `rule` use.
    pub generation: u64,
    /// Interface index.
    pub interface: u32,
    /// The endpoint that governs the interface.
    pub endpoint: EndpointId,
    /// The rule, with its action: Log, or one of the `Staged*`. If the packet
    /// was dropped, or would have been, what did it: a rule with Deny or the
    /// default of a tier, or all zeros where `reason` is no rule's.
    pub rule: RuleEntry,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, or 0; network byte order.
    pub source_port: [u8; 2],
    /// Destination port, or ICMP type and code, or 0; network byte order.
    pub destination_port: [u8; 2],
    /// Protocol number (IANA).
    pub protocol: u8,
    /// [`Family`](crate::endpoint::Family) as a number.
    pub family: u8,
    /// [`Direction`](crate::verdict::Direction) as a number.
    pub direction: u8,
    /// [`List`](crate::stage::List) that holds the rule, as a number. Where the
    /// packet did not come as far as any list, one of its direction.
    pub list: u8,
    /// The [`Reason`](crate::verdict::Reason) to drop the packet, as a number, if
    /// there was one; else [`NO_REASON`].
    pub reason: u8,
    /// What comes of a reason to drop a packet, as the number of an
    /// [`Outcome`](crate::counter::Outcome).
    pub outcome: u8,
    /// Zero.
    pub _pad: [u8; 2],
}

/// Stands for no reason in [`Event::reason`].
pub const NO_REASON: u8 = u8::MAX;

boundary!(Event = 80);
