//! A client outside, a router, and a cluster of two nodes with a pod each.
//!
//! ```text
//!              203.0.113.0/24                10.240.0.0/16
//! outside .10 ---------------- .1 router .0.1 -----+------- .0.11 eth0 node1 cali1 --- pod1 192.168.1.2
//!                                                  |
//!                                                  +------- .0.12 eth0 node2 cali2 --- pod2 192.168.2.2
//! ```
//!
//! and the same in IPv6. Pods are routed, not tunnelled: between the nodes
//! directly, and from outside through the router.

pub mod address;
pub mod kube_proxy;
pub mod tunnel;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub use address::{Family, Host};

use crate::{
    echo::Services,
    netns::{self, Namespace},
};

/// TCP port of the ordinary service of every host.
pub const TCP_PORT: u16 = 8080;

/// UDP port of the ordinary service of every host.
pub const UDP_PORT: u16 = 8081;

/// A TCP port of the default inbound fail-safes, with a service on every host.
pub const FAILSAFE_PORT: u16 = 22;

/// Names are the same in every topology, so a process has one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The cluster, with its services running; taken down when dropped.
#[derive(Debug)]
pub struct Topology {
    // Fields are dropped in this order.
    services: Vec<Services>,
    hosts: Vec<(Host, Namespace)>,
    router: Namespace,
    _guard: MutexGuard<'static, ()>,
}

impl Topology {
    /// Builds it, and returns when it is ready for traffic.
    ///
    /// # Errors
    ///
    /// If a namespace, interface, route or NAT rule cannot be made.
    pub fn up() -> Result<Self> {
        // A test that failed while it had the topology has cleaned up too.
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let router = Namespace::create("router")?;
        settings(&router, true)?;
        let mut hosts = Vec::new();
        for host in Host::ALL {
            let namespace = Namespace::create(host.name())?;
            settings(&namespace, matches!(host, Host::Node1 | Host::Node2))?;
            hosts.push((host, namespace));
        }
        let mut topology = Self {
            services: Vec::new(),
            hosts,
            router,
            _guard: guard,
        };
        topology.cable_router().context("router")?;
        topology.cable_outside().context("outside")?;
        for node in [Host::Node1, Host::Node2] {
            topology
                .cable_node(node)
                .with_context(|| node.to_string())?;
            for family in Family::ALL {
                kube_proxy::install(topology.namespace(node), family)
                    .with_context(|| format!("service rules of {node}"))?;
            }
        }
        topology.wait_for_carrier()?;
        for host in Host::ALL {
            topology.services.push(Services::start(
                topology.namespace(host),
                host.name(),
                &[TCP_PORT, FAILSAFE_PORT],
                &[UDP_PORT],
            )?);
        }
        Ok(topology)
    }

    /// The host's namespace.
    #[must_use]
    pub fn namespace(&self, host: Host) -> &Namespace {
        self.hosts
            .iter()
            .find(|(found, _)| *found == host)
            .map(|(_, namespace)| namespace)
            .expect("up() makes one for every host")
    }

    /// The namespace of the router between all of them.
    #[must_use]
    pub const fn router(&self) -> &Namespace {
        &self.router
    }

    fn cable_router(&self) -> Result<()> {
        // Forwarding at once and no snooping: neighbour discovery must not
        // wait for the bridge to learn.
        self.router.ip(&format!(
            "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0
             link set br0 up
             address add 10.240.0.1/16 dev br0
             address add fd00:10:240::1/64 dev br0 nodad
             link add outside type veth peer name eth0 netns {client}
             link set outside up
             address add 203.0.113.1/24 dev outside
             address add 2001:db8:113::1/64 dev outside nodad
             ",
            client = Host::Client.name(),
        ))
    }

    fn cable_outside(&self) -> Result<()> {
        let mut lines = "link set eth0 up\n".to_owned();
        for (family, gateway, bits) in [
            (Family::V4, "203.0.113.1", 24),
            (Family::V6, "2001:db8:113::1", 64),
        ] {
            lines += &address_line(Host::Client, family, bits);
            lines += &format!("route add default via {gateway}\n");
        }
        self.namespace(Host::Client).ip(&lines)
    }

    fn cable_node(&self, node: Host) -> Result<()> {
        let (pod, other) = match node {
            Host::Node1 => (Host::Pod1, Host::Node2),
            Host::Node2 => (Host::Pod2, Host::Node1),
            Host::Client | Host::Pod1 | Host::Pod2 => bail!("{node} is not a node"),
        };
        let workload = format!("cali{}", pod.name());
        let mut of_router = format!(
            "link add {name} type veth peer name eth0 netns {name}
             link set {name} master br0 up
             ",
            name = node.name(),
        );
        // As Calico wires pods: a gateway address that exists nowhere, and a
        // MAC address that is always the same.
        let mut of_node = format!(
            "link set eth0 up
             link add {workload} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns {pod_namespace}
             link set {workload} up
             ",
            pod_namespace = pod.name(),
        );
        let mut of_pod = "link set eth0 up\n".to_owned();
        for (family, router, pod_gateway, nodes, pod_bits) in [
            (Family::V4, "10.240.0.1", "169.254.1.1", 16, 32),
            (
                Family::V6,
                "fd00:10:240::1",
                "fe80::ecee:eeff:feee:eeee",
                64,
                128,
            ),
        ] {
            let far_pods = address::pods_of(other, family);
            let near_pods = address::pods_of(node, family);
            let pod_address = pod.address(family);
            of_node += &address_line(node, family, nodes);
            of_node += &format!(
                "route add default via {router} dev eth0
                 route add {far_pods} via {} dev eth0
                 route add {pod_address}/{pod_bits} dev {workload}
                 ",
                other.address(family),
            );
            of_router += &format!("route add {near_pods} via {}\n", node.address(family));
            of_pod += &address_line(pod, family, pod_bits);
            of_pod += &format!(
                "neighbour add {pod_gateway} lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
                 route add {pod_gateway} dev eth0
                 route add default via {pod_gateway} dev eth0
                 "
            );
        }
        self.router.ip(&of_router)?;
        self.namespace(node).ip(&of_node)?;
        self.namespace(pod)
            .ip(&of_pod)
            .with_context(|| pod.to_string())
    }

    /// A bridge port forwards only after the bridge has noticed its carrier,
    /// which happens a moment after the link is set up.
    fn wait_for_carrier(&self) -> Result<()> {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            let ports = netns::run(
                self.router.command("bridge").args(["-o", "link", "show"]),
                None,
            )?;
            if ports.matches("state forwarding").count() == 2 {
                return Ok(());
            }
            if Instant::now() > give_up {
                bail!("the router's bridge does not forward: {ports}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn address_line(host: Host, family: Family, prefix_length: u8) -> String {
    let address = host.address(family);
    match family {
        Family::V4 => format!("address add {address}/{prefix_length} dev eth0\n"),
        Family::V6 => format!("address add {address}/{prefix_length} dev eth0 nodad\n"),
    }
}

/// A new namespace takes some settings from the machine: give those that
/// matter values of our own. To be called before it has interfaces.
fn settings(namespace: &Namespace, forwarding: bool) -> Result<()> {
    let forwarding = if forwarding { "1" } else { "0" };
    namespace.sysctl(&[
        ("ipv4/ip_forward", forwarding),
        ("ipv6/conf/all/forwarding", forwarding),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        // Link-local addresses are usable at once.
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        // Probes send echo requests through ping sockets.
        ("ipv4/ping_group_range", "0 2147483647"),
        // No refusal is held back: of the types in these masks, only 50 at a
        // time are sent. The empty list takes a line's end, since writing
        // nothing changes nothing.
        ("ipv4/icmp_ratemask", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv6/icmp/ratemask", "\n"),
    ])
}
