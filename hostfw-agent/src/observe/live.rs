//! What a node enforces and which flows it knows, for whoever wants to judge a
//! packet as the node does.

use std::net::IpAddr;

use hostfw_common::verdict::Direction;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Interface;

/// What a node enforces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforced {
    /// Name of the node.
    pub node: String,
    /// The dataplane's generation in force.
    pub generation: u64,
    /// Nothing is dropped, whatever policy says: the agent runs with
    /// `--observe-only`.
    #[serde(default)]
    pub observe_only: bool,
    /// The node's interfaces, sorted by index.
    pub interfaces: Vec<Interface>,
    /// The resources in force, as they are written; sorted by kind and name.
    pub resources: Vec<Value>,
}

/// Most flows that are told: an answer of some 50 MB.
pub const MOST_FLOWS: usize = 200_000;

/// The flows that a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flows {
    /// Confirmed ones first; at most [`MOST_FLOWS`].
    pub flows: Vec<FlowStatus>,
    /// How many more there are.
    #[serde(default)]
    pub left_out: usize,
}

/// A flow that was allowed, by its tuple on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowStatus {
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Address of the other side.
    pub remote: IpAddr,
    /// Port of the other side; for ICMP see
    /// [`FlowKey`](hostfw_common::conntrack::FlowKey).
    pub remote_port: u16,
    /// Address of the node's side.
    pub local: IpAddr,
    /// Port of the node's side.
    pub local_port: u16,
    /// Whether the other side has sent the first packet.
    pub opened_by_remote: bool,
    /// Whether both sides have sent: then its packets pass without policy.
    pub confirmed: bool,
    /// Index of the interface that leads to the other side, by the routing
    /// table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    /// Who is on the node's side, if the kernel's conntrack table tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Inside>,
}

/// Who is on the node's side of a flow, behind NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inside {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 without ports.
    pub port: u16,
    /// Whether it is the node itself; else the flow is forwarded.
    pub here: bool,
}

/// A flow's protocol, and address and port of the other side and of the node's
/// side.
pub type FlowTuple = (u8, (IpAddr, u16), (IpAddr, u16));

impl FlowStatus {
    /// The flow's tuple on the wire.
    #[must_use]
    pub const fn tuple(&self) -> FlowTuple {
        (
            self.protocol,
            (self.remote, self.remote_port),
            (self.local, self.local_port),
        )
    }
}

/// The tuple of the flow that a packet going this way is one of.
#[must_use]
pub const fn tuple_of(
    direction: Direction,
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
) -> FlowTuple {
    match direction {
        Direction::Ingress => (protocol, source, destination),
        Direction::Egress => (protocol, destination, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_the_flows_tuple_and_others_do_not() {
        let flow = FlowStatus {
            protocol: 6,
            remote: "192.0.2.1".parse().unwrap(),
            remote_port: 40_000,
            local: "10.0.0.1".parse().unwrap(),
            local_port: 443,
            opened_by_remote: true,
            confirmed: true,
            interface: None,
            inside: None,
        };
        let remote = (flow.remote, flow.remote_port);
        let local = (flow.local, flow.local_port);
        let is = |direction, protocol, source, destination| {
            tuple_of(direction, protocol, source, destination) == flow.tuple()
        };
        assert!(is(Direction::Ingress, 6, remote, local));
        assert!(is(Direction::Egress, 6, local, remote));
        assert!(!is(Direction::Egress, 6, remote, local));
        assert!(!is(Direction::Ingress, 17, remote, local));
        assert!(!is(Direction::Ingress, 6, (flow.remote, 1), local));
    }
}
