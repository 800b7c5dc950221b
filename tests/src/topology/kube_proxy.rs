//! Service rules as kube-proxy writes them in iptables mode, with the
//! masquerading of pods that a network plugin adds.
//!
//! Written through `iptables-nft`, which is what kube-proxy and Debian choose
//! where both variants work: newer kernels may be built without the legacy
//! tables (CONFIG_NETFILTER_XTABLES_LEGACY). Legacy is the fallback.
//!
//! One thing differs: no `--random-fully`. Masquerading then keeps the source
//! port, and as no two probes share one, none can fall into the flow of
//! another by chance.

use anyhow::Result;

use super::{
    Family, Host, TCP_PORT, UDP_PORT,
    address::{cluster_ip, nodes, pods},
};
use crate::netns::{self, Namespace};

/// The NodePort that the tutorial opens.
pub const NODE_PORT: u16 = 31852;

/// A NodePort that nobody opens.
pub const CLOSED_NODE_PORT: u16 = 31900;

struct Service {
    /// Part of its chains' names.
    name: &'static str,
    protocol: &'static str,
    node_port: u16,
    /// Port of its cluster address (if it has one) and of the pods.
    port: u16,
    cluster_ip: bool,
}

const SERVICES: [Service; 4] = [
    Service {
        name: "WEB-TCP",
        protocol: "tcp",
        node_port: NODE_PORT,
        port: TCP_PORT,
        cluster_ip: true,
    },
    Service {
        name: "WEB-UDP",
        protocol: "udp",
        node_port: NODE_PORT,
        port: UDP_PORT,
        cluster_ip: true,
    },
    Service {
        name: "HIDDEN-TCP",
        protocol: "tcp",
        node_port: CLOSED_NODE_PORT,
        port: TCP_PORT,
        cluster_ip: false,
    },
    Service {
        name: "HIDDEN-UDP",
        protocol: "udp",
        node_port: CLOSED_NODE_PORT,
        port: UDP_PORT,
        cluster_ip: false,
    },
];

/// Writes the rules of a node. A backend is chosen at random, as in a
/// cluster: one is on this node, the other is not.
///
/// # Errors
///
/// What `iptables-restore` says.
pub fn install(node: &Namespace, family: Family) -> Result<()> {
    restore(node, family, &[], &rules(family))
}

/// Takes the DNAT of [`NODE_PORT`] away.
///
/// # Errors
///
/// What `iptables-restore` says.
pub fn remove_dnat(node: &Namespace, family: Family) -> Result<()> {
    // Naming a chain empties it.
    let mut rules = "*nat\n".to_owned();
    for service in SERVICES.iter().filter(|one| one.node_port == NODE_PORT) {
        rules += &format!(":KUBE-EXT-{} - [0:0]\n", service.name);
    }
    restore(node, family, &["--noflush"], &(rules + "COMMIT\n"))
}

/// Takes the rules away that drop forwarded packets of no known flow.
///
/// # Errors
///
/// What `iptables-restore` says.
pub fn forward_invalid(node: &Namespace, family: Family) -> Result<()> {
    let rules = "*filter\n:KUBE-FORWARD - [0:0]\nCOMMIT\n";
    restore(node, family, &["--noflush"], rules)
}

fn restore(node: &Namespace, family: Family, arguments: &[&str], rules: &str) -> Result<()> {
    let [nft, legacy] = match family {
        Family::V4 => ["iptables-nft-restore", "iptables-legacy-restore"],
        Family::V6 => ["ip6tables-nft-restore", "ip6tables-legacy-restore"],
    };
    let attempt = |program| netns::run(node.command(program).args(arguments), Some(rules));
    attempt(nft)
        .or_else(|error| attempt(legacy).map_err(|_| error))
        .map(drop)
}

fn rules(family: Family) -> String {
    let (pods, nodes) = (pods(family), nodes(family));
    let mut chains = String::new();
    let mut rules = format!(
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A POSTROUTING -s {pods} -j POD-MASQ
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A POD-MASQ -d {pods} -j RETURN
-A POD-MASQ -d {nodes} -j RETURN
-A POD-MASQ -j MASQUERADE
"
    );
    for service in &SERVICES {
        let Service {
            name,
            protocol,
            node_port,
            port,
            cluster_ip: has_cluster_ip,
        } = service;
        chains += &format!(":KUBE-EXT-{name} - [0:0]\n:KUBE-SVC-{name} - [0:0]\n");
        if *has_cluster_ip {
            let address = cluster_ip(family);
            rules += &format!(
                "-A KUBE-SERVICES -d {address} -p {protocol} --dport {port} -j KUBE-SVC-{name}
-A KUBE-SVC-{name} ! -s {pods} -d {address} -p {protocol} --dport {port} -j KUBE-MARK-MASQ
"
            );
        }
        rules += &format!(
            "-A KUBE-NODEPORTS -p {protocol} --dport {node_port} -j KUBE-EXT-{name}
-A KUBE-EXT-{name} -j KUBE-MARK-MASQ
-A KUBE-EXT-{name} -j KUBE-SVC-{name}
-A KUBE-SVC-{name} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{name}-1
-A KUBE-SVC-{name} -j KUBE-SEP-{name}-2
"
        );
        for (number, pod) in [(1, Host::Pod1), (2, Host::Pod2)] {
            let address = pod.address(family);
            let target = match family {
                Family::V4 => format!("{address}:{port}"),
                Family::V6 => format!("[{address}]:{port}"),
            };
            chains += &format!(":KUBE-SEP-{name}-{number} - [0:0]\n");
            rules += &format!(
                "-A KUBE-SEP-{name}-{number} -s {address} -j KUBE-MARK-MASQ
-A KUBE-SEP-{name}-{number} -p {protocol} -j DNAT --to-destination {target}
"
            );
        }
    }
    // kube-proxy keeps this one last.
    rules += "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n";
    format!(
        "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:POD-MASQ - [0:0]
{chains}{rules}COMMIT
"
    )
}
