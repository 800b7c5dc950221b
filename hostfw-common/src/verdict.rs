//! What was decided about a packet, and by what.

/// Which way a packet crosses the governed interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the wire into the node.
    Ingress = 0,
    /// From the node to the wire.
    Egress = 1,
}

impl Direction {
    /// Both directions, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The other direction.
    #[must_use]
    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

/// The fate of a packet at one hook.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// The packet goes on, to later hooks too.
    Pass = 0,
    /// The packet is dropped.
    Drop = 1,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $verdict:ident;)+) => {
        /// What decided a packet's fate. The numbers are ABI: they index
        /// [`COUNTERS`](crate::names::COUNTERS).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The verdict that goes with the reason.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)+
                }
            }

            /// The name that logs, status and documentation use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// Decodes a number read from a map or an event.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// No endpoint governs the interface.
    NoEndpoint = 0, "no-endpoint", Pass;
    /// Not IPv4 or IPv6: ARP, LLDP, and frames of another VLAN.
    NotIp = 1, "not-ip", Pass;
    /// IPv6 neighbour discovery or multicast listener message.
    NeighbourDiscovery = 2, "neighbour-discovery", Pass;
    /// Belongs to a flow that both sides have sent in.
    Established = 3, "established", Pass;
    /// An ICMP error about a known flow.
    Related = 4, "related", Pass;
    /// A fail-safe port.
    Failsafe = 5, "failsafe", Pass;
    /// A rule with action Allow, after connection tracking.
    RuleAllow = 6, "rule-allow", Pass;
    /// A rule with action Deny, after connection tracking.
    RuleDeny = 7, "rule-deny", Drop;
    /// The stage has no rule for the packet and no default of its own.
    NoMatch = 8, "no-match", Pass;
    /// No rule allowed it, and the stage denies what no rule allows.
    EndpointDefault = 9, "endpoint-default", Drop;
    /// A combination of TCP flags that no connection has, or an ICMP error
    /// about no known flow.
    Invalid = 10, "invalid", Drop;
    /// Headers that cannot be parsed.
    Undecodable = 11, "undecodable", Drop;
    /// A later fragment of a datagram whose first fragment was allowed.
    Fragment = 12, "fragment", Pass;
    /// A later fragment of a datagram whose first fragment was not seen, or
    /// not allowed.
    OrphanFragment = 13, "orphan-fragment", Drop;
    /// Forwarded by the node: recorded, and judged elsewhere.
    Forwarded = 14, "forwarded", Pass;
    /// The endpoint is being learnt: recorded, not yet judged.
    Learning = 15, "learning", Pass;
    /// A table that the generation must hold was not there. A defect: please
    /// report it.
    BrokenTable = 16, "broken-table", Drop;
    /// An untracked rule with action Allow. No flow is recorded.
    UntrackedAllow = 17, "untracked-allow", Pass;
    /// An untracked rule with action Deny.
    UntrackedDeny = 18, "untracked-deny", Drop;
    /// No rule of a tier, whose default is to deny.
    TierDefault = 19, "tier-default", Drop;
    /// A tunnel between nodes.
    Tunnel = 20, "tunnel", Pass;
    /// The interface is a workload's: the normal stage leaves its packets
    /// alone.
    Workload = 21, "workload", Pass;
    /// A pre-DNAT rule has allowed the packet when it came in, which later
    /// hooks take for final.
    EarlierAllow = 22, "earlier-allow", Pass;
    /// Only where nothing is enforced
    /// ([`FLAG_OBSERVE`](crate::endpoint::FLAG_OBSERVE)): enforced, the packet
    /// would not have come this far. An earlier hook would have dropped it, and
    /// has counted it so, or what it answers.
    Observed = 23, "observed", Pass;
}
