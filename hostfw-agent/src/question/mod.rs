//! What can be asked about a packet, and what is answered: the common language
//! of the three judges, and of `hostfwctl explain`.
//!
//! Nothing here decides anything.

use std::net::IpAddr;

use hostfw_common::{stage::Stage, verdict::Direction};
use serde::Serialize;

/// A packet, and where it is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Name of the interface that it crosses.
    pub interface: String,
    /// Which way it crosses it.
    pub direction: Direction,
    /// Who sends or gets it.
    pub path: Path,
    /// IANA number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Source port; 0 for protocols without ports.
    pub source_port: u16,
    /// Destination address, on the wire. For what goes out: as the hook sees
    /// it, which is after DNAT.
    pub destination: IpAddr,
    /// Destination port; 0 for protocols without ports.
    pub destination_port: u16,
    /// ICMP type and code, for ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// What DNAT makes of the destination of a packet that comes in: the
    /// forward and normal stages see this.
    pub translated: Option<(IpAddr, u16)>,
    /// What connection tracking says.
    pub state: State,
}

/// Who sends or gets a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// A process of this host.
    Local,
    /// Somebody else: the packet is routed through this host.
    Forward,
}

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// It may open a flow.
    #[default]
    New,
    /// It belongs to a flow, or is related to one.
    Established,
    /// It can belong to no flow.
    Invalid,
}

/// What becomes of a packet at the stages that were asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is let through.
    pub allowed: bool,
    /// The stage whose rule, fail-safe or default decided; `None` if none did.
    pub stage: Option<Stage>,
    /// The tier of the rule or the tier default that decided.
    pub tier: Option<String>,
    /// The policy or profile whose rule decided.
    pub policy: Option<String>,
    /// Zero-based index of the rule in its direction's list.
    pub rule: Option<u16>,
    /// What decided.
    pub reason: Why,
    /// Every stage on the packet's way, in order.
    pub stages: Vec<StageAnswer>,
}

/// What one stage made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageAnswer {
    /// The stage.
    pub stage: Stage,
    /// What it made of it.
    pub outcome: Outcome,
}

/// What one stage made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It let it through.
    Allow,
    /// It dropped it.
    Deny,
    /// It was looked at and had nothing to say: no rule matched, or a fail-safe
    /// port led around it.
    NoMatch,
    /// It was not looked at, since something before it had decided.
    Skipped,
}

/// What decided about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A rule of a policy.
    Rule,
    /// A rule of a profile.
    Profile,
    /// A fail-safe port, at the normal stage: at others it only leads around
    /// the stage.
    Failsafe,
    /// No rule of a tier, whose default is to deny.
    TierDefault,
    /// Nothing, and the normal stage denies what nothing allows.
    EndpointDefault,
    /// Nothing, and no stage on the way denies what nothing allows.
    NoMatch,
    /// It belongs to a flow that was allowed.
    Established,
    /// Connection tracking finds it impossible.
    Invalid,
    /// A tunnel between nodes.
    Tunnel,
    /// Neighbour discovery or multicast listener message.
    NeighbourDiscovery,
    /// No endpoint governs the interface.
    NoEndpoint,
    /// The interface is a workload's, and packets between a workload and its
    /// own host are left alone.
    Workload,
}
