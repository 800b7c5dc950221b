//! From the model to what governs each interface of one node: which endpoint
//! means the interface, which policies apply to it, in which order, and which
//! addresses their selectors stand for.
//!
//! Pure: everything that it knows comes in as arguments.

#![forbid(unsafe_code)]

mod addresses;
#[cfg(test)]
mod fixture;
mod govern;
mod policies;
mod settings;

use std::net::IpAddr;

use hostfw_common::verdict::Direction;
use ipnet::IpNet;

use self::{addresses::Addresses, govern::govern, settings::Settings};
use crate::model::{
    Failsafe, HostEndpoint, IcmpMatch, Interface, IpVersion, Model, ObjectRef, PortRange, Protocol,
    RuleAction, Stage,
};

/// Works out what `node`, which has `interfaces`, is to enforce.
///
/// `node` is compared with the `node` of endpoints and settings exactly. The
/// result does not depend on the order of `interfaces`.
#[must_use]
pub fn select(model: &Model, node: &str, interfaces: &[Interface]) -> Selection {
    let settings = Settings::of_node(&model.settings, node);
    let here: Vec<&HostEndpoint> = model.endpoints.iter().filter(|e| e.node == node).collect();
    let (pairs, inert) = govern(&here, interfaces, &settings);

    let governing: Vec<&HostEndpoint> = pairs.iter().map(|pair| pair.endpoint).collect();
    let mut addresses = Addresses::new(&model.endpoints, node, &pairs);
    let mut candidates = |stage, direction| {
        policies::candidates(
            &model.policies,
            stage,
            direction,
            &governing,
            &mut addresses,
        )
    };
    let pre_dnat = candidates(Stage::PreDnat, Direction::Ingress);
    let egress = candidates(Stage::Normal, Direction::Egress);

    Selection {
        governed: pairs
            .iter()
            .map(|pair| Governed {
                endpoint: pair.endpoint.name.clone(),
                interface: pair.interface.clone(),
                pre_dnat: policies::applying(&pre_dnat, pair.endpoint),
                egress: policies::applying(&egress, pair.endpoint),
            })
            .collect(),
        inert,
        failsafe_inbound: settings.failsafe_inbound,
        failsafe_outbound: settings.failsafe_outbound,
        disable_invalid_check: settings.disable_invalid_check,
        unknown_addresses: addresses.into_unknown(),
    }
}

/// What one node enforces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// One for each governed interface, sorted by interface index.
    pub governed: Vec<Governed>,
    /// Endpoints of this node that govern nothing, and why.
    pub inert: Vec<Inert>,
    /// Fail-safes of packets that come in.
    pub failsafe_inbound: Vec<Failsafe>,
    /// Fail-safes of packets of the host that go out.
    pub failsafe_outbound: Vec<Failsafe>,
    /// `disableConntrackInvalidCheck`.
    pub disable_invalid_check: bool,
    /// Endpoints that a rule's selector matches, whose addresses this node
    /// does not know: the rule takes their packets for a stranger's.
    pub unknown_addresses: Vec<UnknownAddresses>,
}

/// An interface and what applies to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Governed {
    /// Name of the `HostEndpoint`.
    pub endpoint: String,
    /// The interface.
    pub interface: Interface,
    /// Pre-DNAT policies with their ingress rules, in the order in which they
    /// are evaluated.
    pub pre_dnat: Vec<SelectedPolicy>,
    /// Normal policies with their egress rules, in the order in which they are
    /// evaluated.
    pub egress: Vec<SelectedPolicy>,
}

/// A policy's rules of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedPolicy {
    /// Name of the `GlobalNetworkPolicy`.
    pub name: String,
    /// All rules of the direction, in order: a rule's position is its index.
    pub rules: Vec<SelectedRule>,
}

/// A rule with its selectors replaced by addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedRule {
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
    pub source: SelectedEntity,
    /// Criteria for destination address and port.
    pub destination: SelectedEntity,
}

/// Like [`Entity`](crate::model::Entity), with addresses in place of
/// selectors. All criteria must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectedEntity {
    /// The address is in one of these; empty means no criterion.
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    pub not_nets: Vec<IpNet>,
    /// The address is in one of these. `Some` of an empty list matches no
    /// packet.
    pub members: Option<Vec<IpNet>>,
    /// The address is in none of these.
    pub not_members: Vec<IpNet>,
    /// The port is in one of these; empty means no criterion.
    pub ports: Vec<PortRange>,
    /// The port is in none of these.
    pub not_ports: Vec<PortRange>,
}

/// An endpoint of this node that governs no interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inert {
    /// Name of the `HostEndpoint`.
    pub endpoint: String,
    /// Why.
    pub reason: InertReason,
}

/// Why an endpoint governs no interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InertReason {
    /// The node has no interface of that name.
    NoSuchInterface(String),
    /// No interface holds one of the expected addresses.
    NoSuchAddress(Vec<IpAddr>),
    /// Another endpoint, whose name sorts first, governs the interface.
    Shadowed {
        /// The interface.
        interface: String,
        /// The endpoint that governs it.
        by: String,
    },
    /// `interfaceExclude` names the interface.
    Excluded(String),
    /// `interfacePrefix` makes the interface a workload's, which no endpoint
    /// governs.
    Workload(String),
    /// `*`, but no interface is left over.
    NothingLeft,
}

/// An endpoint of another node without `expectedIPs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAddresses {
    /// The endpoint.
    pub endpoint: ObjectRef,
    /// The policy whose selector matches it.
    pub policy: ObjectRef,
}

#[cfg(test)]
mod tests;
