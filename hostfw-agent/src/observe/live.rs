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

/// The flows that a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flows {
    /// In no particular order.
    pub flows: Vec<FlowStatus>,
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
}

impl FlowStatus {
    /// Whether a packet with this tuple, going this way, is one of the flow's.
    #[must_use]
    pub fn holds(
        &self,
        direction: Direction,
        protocol: u8,
        (source, source_port): (IpAddr, u16),
        (destination, destination_port): (IpAddr, u16),
    ) -> bool {
        let (remote, local) = match direction {
            Direction::Ingress => ((source, source_port), (destination, destination_port)),
            Direction::Egress => ((destination, destination_port), (source, source_port)),
        };
        self.protocol == protocol
            && (self.remote, self.remote_port) == remote
            && (self.local, self.local_port) == local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_of_a_flow_and_nothing_else() {
        let flow = FlowStatus {
            protocol: 6,
            remote: "192.0.2.1".parse().unwrap(),
            remote_port: 40_000,
            local: "10.0.0.1".parse().unwrap(),
            local_port: 443,
            opened_by_remote: true,
            confirmed: true,
        };
        let remote = (flow.remote, flow.remote_port);
        let local = (flow.local, flow.local_port);
        assert!(flow.holds(Direction::Ingress, 6, remote, local));
        assert!(flow.holds(Direction::Egress, 6, local, remote));
        assert!(!flow.holds(Direction::Egress, 6, remote, local));
        assert!(!flow.holds(Direction::Ingress, 17, remote, local));
        assert!(!flow.holds(Direction::Ingress, 6, (flow.remote, 1), local));
    }
}
