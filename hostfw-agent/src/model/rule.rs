use ipnet::IpNet;

use crate::selector::Selector;

pub use hostfw_common::policy::Action as RuleAction;

/// A rule: it matches a packet that meets all criteria.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What to do with a packet that matches.
    pub action: RuleAction,
    /// Only packets of this version.
    pub ip_version: Option<IpVersion>,
    /// Only packets of this protocol.
    pub protocol: Option<Protocol>,
    /// Only packets of another protocol.
    pub not_protocol: Option<Protocol>,
    /// Only ICMP messages of this type and code.
    pub icmp: Option<IcmpMatch>,
    /// Only ICMP messages of another type or code.
    pub not_icmp: Option<IcmpMatch>,
    /// Criteria for source address and port.
    pub source: Entity,
    /// Criteria for destination address and port.
    pub destination: Entity,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A protocol, by its IANA number.
///
/// Kept apart from a bare number because a protocol given by the names ICMP or
/// ICMPv6 also says the IP version (semantics section 3), which a number does
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol {
    /// IANA number, 1 to 255.
    pub number: u8,
    /// The version that the protocol was named for: `ICMP` and `ICMPv6` given
    /// by name.
    pub implied_version: Option<IpVersion>,
}

/// ICMP type, and code if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpMatch {
    /// Message type.
    pub kind: u8,
    /// Message code; `None` means any.
    pub code: Option<u8>,
}

/// Inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// Lowest port, at least 1.
    pub first: u16,
    /// Highest port, at least `first`.
    pub last: u16,
}

/// Criteria for one side of a packet. Empty lists mean no criterion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entity {
    /// The address is in one of these.
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    pub not_nets: Vec<IpNet>,
    /// The port is in one of these.
    pub ports: Vec<PortRange>,
    /// The port is in none of these.
    pub not_ports: Vec<PortRange>,
    /// The address belongs to an object that the selector matches. With
    /// `not_selector`, to one object that the one matches and the other does
    /// not.
    pub selector: Option<Selector>,
    /// Without `selector`: the address belongs to no object that this matches.
    pub not_selector: Option<Selector>,
}
