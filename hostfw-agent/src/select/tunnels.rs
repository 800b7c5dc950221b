//! Tunnels between nodes.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Tunnels, settings::Settings};

const IPIP: u8 = 4;
const UDP: u8 = 17;

/// The tunnels that Calico can build, whether it does or not: VXLAN and
/// `WireGuard` over both versions, IPIP over IPv4. And Geneve, if it has a port.
pub(super) fn tunnels(settings: &Settings, nodes: BTreeSet<IpAddr>) -> Tunnels {
    let mut protocols = [
        vec![
            (IPIP, 0),
            (UDP, settings.vxlan_port),
            (UDP, settings.wireguard_port),
        ],
        vec![
            (UDP, settings.vxlan_port),
            (UDP, settings.wireguard_port_v6),
        ],
    ];
    for list in &mut protocols {
        list.extend(settings.geneve_port.map(|port| (UDP, port)));
    }
    Tunnels {
        protocols,
        nodes: nodes.into_iter().collect(),
    }
}
