//! A VXLAN tunnel between the nodes, through which pods reach one another.

use anyhow::{Context as _, Result};

use super::{Family, Host, Topology, address};

/// Its interface on either node.
pub const INTERFACE: &str = "vxlan.calico";

/// What fits into its outer packets, with room to spare.
const MTU: u32 = 1400;

impl Topology {
    /// Takes the way between pods of different nodes through a VXLAN tunnel
    /// whose outer packets are of this IP version.
    ///
    /// # Errors
    ///
    /// If the kernel has no VXLAN.
    pub fn tunnel(&self, outer: Family) -> Result<()> {
        for (node, other) in [(Host::Node1, Host::Node2), (Host::Node2, Host::Node1)] {
            let (local, remote) = (node.address(outer), other.address(outer));
            // No learning and no flooding, as Calico has it: addresses are
            // configured.
            let mut lines = format!(
                "link add {INTERFACE} address {mac} type vxlan id 4096 local {local} \
                 dev eth0 dstport 4789 nolearning\n\
                 link set {INTERFACE} mtu {MTU} up\n",
                mac = hardware_address(node),
            );
            for family in Family::ALL {
                let gateway = gateway(other, family);
                let bits = if family == Family::V4 { 32 } else { 128 };
                lines += &format!(
                    "address add {own}/{bits} dev {INTERFACE}{nodad}\n\
                     neighbour add {gateway} lladdr {mac} dev {INTERFACE} nud permanent\n\
                     route replace {gateway}/{bits} dev {INTERFACE}\n\
                     route replace {pods} via {gateway} dev {INTERFACE} onlink\n",
                    own = self::gateway(node, family),
                    nodad = if family == Family::V6 { " nodad" } else { "" },
                    mac = hardware_address(other),
                    pods = address::pods_of(other, family),
                );
            }
            self.namespace(node)
                .ip(&lines)
                .with_context(|| format!("tunnel of {node}"))?;
            // Pods must know how much fits into the tunnel.
            let pod = if node == Host::Node1 {
                Host::Pod1
            } else {
                Host::Pod2
            };
            self.namespace(node)
                .ip(&format!("link set cali{pod} mtu {MTU}\n"))?;
            self.namespace(pod)
                .ip(&format!("link set eth0 mtu {MTU}\n"))?;
            self.namespace(node).bridge(&format!(
                "fdb append {mac} dev {INTERFACE} dst {remote}\n",
                mac = hardware_address(other),
            ))?;
        }
        Ok(())
    }
}

/// Address of the tunnel's interface, out of the node's pods'.
fn gateway(node: Host, family: Family) -> String {
    match (node, family) {
        (Host::Node1, Family::V4) => "192.168.1.1".to_owned(),
        (_, Family::V4) => "192.168.2.1".to_owned(),
        (Host::Node1, Family::V6) => "fd00:192:168:1::1".to_owned(),
        (_, Family::V6) => "fd00:192:168:2::1".to_owned(),
    }
}

fn hardware_address(node: Host) -> &'static str {
    if node == Host::Node1 {
        "66:00:00:00:00:01"
    } else {
        "66:00:00:00:00:02"
    }
}
