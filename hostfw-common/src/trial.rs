//! Test runs: what a program is told to believe, and what it tells of its way.
//!
//! Programs that are loaded for real work have none of this: it hangs on a
//! constant ([`TRIAL_MODE`](crate::names::TRIAL_MODE)) that is 0 for them, and
//! the verifier leaves out what can never run.

use crate::{boundary, conntrack::Address, policy::RuleEntry, stage::Stage};

/// Value of [`TRIAL`](crate::names::TRIAL): what a test run takes for given
/// instead of asking the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Trial {
    /// The interface that the packet came in through; 0: none.
    pub in_interface: u32,
    /// The interface that the packet goes out through; 0: none.
    pub out_interface: u32,
    /// What conntrack says of the packet: one of `TRACKED_*`.
    pub tracked: u8,
    /// 1 if the packet was translated: at the netfilter hooks, its destination
    /// on the wire was the one below.
    pub translated: u8,
    /// Destination port on the wire, network byte order.
    pub wire_destination_port: [u8; 2],
    /// Destination address on the wire.
    pub wire_destination: Address,
}

/// Conntrack is asked as ever.
pub const TRACKED_REALLY: u8 = 0;
/// Of no flow that is known.
pub const TRACKED_NEW: u8 = 1;
/// Of a flow that both sides have sent in.
pub const TRACKED_ESTABLISHED: u8 = 2;
/// Of no possible flow.
pub const TRACKED_INVALID: u8 = 3;

/// Value of [`TRACE`](crate::names::TRACE): the way of a packet past one
/// checkpoint. User space sets it to zeros before a test run.
///
/// What an earlier checkpoint has judged and a later one judges again is not told a
/// second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Trace {
    /// What each stage made of the packet, by [`Stage`]. At the forward checkpoint
    /// two interfaces may have a say: the last one's is here.
    pub steps: [Step; Stage::ALL.len()],
    /// 1 if the packet was counted, so the two below hold.
    pub counted: u8,
    /// The [`Checkpoint`](crate::counter::Checkpoint) that counted it.
    pub checkpoint: u8,
    /// The [`Reason`](crate::verdict::Reason) that it counted it for.
    pub reason: u8,
    /// Zero.
    pub _pad: u8,
}

/// What a stage made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Step {
    /// The entry that decided, if `reason` is one of a rule or a tier.
    pub rule: RuleEntry,
    /// 1 if the stage was looked at, even if only to find a fail-safe.
    pub seen: u8,
    /// The [`Reason`](crate::verdict::Reason) that the stage came to.
    pub reason: u8,
    /// The [`List`](crate::stage::List) that was looked at.
    pub list: u8,
    /// Zero.
    pub _pad: u8,
}

boundary!(Trial = 28, Trace = 68, Step = 16);
