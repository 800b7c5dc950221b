use ipnet::IpNet;

use crate::selector::Selector;

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// The packet passes the stage.
    Allow,
    /// The packet is dropped.
    Deny,
    /// An event is reported, and the next rule is looked at.
    Log,
    /// The rest of the tier is skipped.
    Pass,
}

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
    /// The port is in one of these, or has one of the names of
    /// `named_ports`. Both empty means no criterion.
    pub ports: Vec<PortRange>,
    /// Address, protocol and port are those of an endpoint's port of one of
    /// these names, of endpoints that the selectors of this side match.
    pub named_ports: Vec<String>,
    /// The port is in none of these.
    pub not_ports: Vec<PortRange>,
    /// Address, protocol and port are those of no endpoint's port of one of
    /// these names.
    pub not_named_ports: Vec<String>,
    /// The address belongs to the service: with the port of the service on the
    /// destination's side, with any on the source's.
    pub service: Option<ServiceName>,
    /// The address belongs to an object that the selector matches:
    /// `selector`, `namespaceSelector` and `serviceAccounts` together. With
    /// `not_selector`, to one object that the one matches and the other does
    /// not.
    pub selector: Option<Selector>,
    /// Without `selector`: the address belongs to no object that this matches.
    pub not_selector: Option<Selector>,
}

/// Names a Kubernetes Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
