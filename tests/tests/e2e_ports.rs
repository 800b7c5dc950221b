//! Interfaces that are ports of others, and protocols whose ports the kernel
//! does not track.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Result;
use hostfw_tests::{
    echo::Services,
    expectations::Expectation::{Closed, Open},
    netns::Namespace,
    packet::Packet,
    policed::on_node1,
    probe::{Action::Tcp, PATIENCE, Target::Host as To},
    raw,
    resources::{endpoint, forward, host_endpoint, policy},
    topology::{
        FAILSAFE_PORT, Family,
        Host::{self, Client, Node1, Node2},
        TCP_PORT, Topology,
    },
};

/// How long to wait for what should be answered.
const SLOWEST: Duration = Duration::from_secs(30);

/// Makes eth0 of node1 a port of a bridge that takes its addresses.
fn bridge(topology: &Topology) -> Result<()> {
    let mut lines = "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0
        link set br0 up
        link set eth0 master br0
        address flush dev eth0
        "
    .to_owned();
    for (family, router, bits) in [
        (Family::V4, "10.240.0.1", "16"),
        (Family::V6, "fd00:10:240::1", "64 nodad"),
    ] {
        let address = Node1.address(family);
        lines += &format!(
            "address add {address}/{bits} dev br0
             route replace default via {router} dev br0
             "
        );
    }
    topology.namespace(Node1).ip(&lines)
}

#[test]
fn what_comes_in_through_a_bridges_port_is_answered() -> Result<()> {
    on_node1(|topology, policed| {
        bridge(topology)?;
        policed.enforce("an endpoint for the port alone", &[endpoint(Node1, "")])?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])
    })
}

/// Whether the services of a guest answer this host in both IP versions, within
/// this time.
fn reaches(
    topology: &Topology,
    from: Host,
    guest: [IpAddr; 2],
    patience: Duration,
) -> Result<[bool; 2]> {
    let answers = |address| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, TCP_PORT), patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"hello\n")?;
        stream.read_exact(&mut [0; 5])
    };
    let answered = topology
        .namespace(from)
        .run(|| guest.map(|address| answers(address).is_ok()))?;
    Ok(answered)
}

#[test]
fn frames_that_a_bridge_shows_to_netfilter_meet_its_forward_policy() -> Result<()> {
    on_node1(|topology, policed| {
        let node = topology.namespace(Node1);
        let shown = [
            ("bridge/bridge-nf-call-iptables", "1"),
            ("bridge/bridge-nf-call-ip6tables", "1"),
        ];
        if let Err(error) = node.sysctl(&shown) {
            println!("skipped: no bridge netfilter in this kernel: {error:#}");
            return Ok(());
        }
        bridge(topology)?;
        let guest = Namespace::create("guest")?;
        node.ip("link add guest type veth peer name eth0 netns guest
             link set guest master br0 up
             ")?;
        guest.ip("link set eth0 up
             address add 10.240.0.99/16 dev eth0
             address add fd00:10:240::99/64 dev eth0 nodad
             ")?;
        let _services = Services::start(&guest, "guest", &[TCP_PORT], &[])?;
        let addresses = ["10.240.0.99".parse()?, "fd00:10:240::99".parse()?];
        let governed = host_endpoint("node1-br0", Node1, "br0", "");
        for (situation, rules, expected) in [
            ("an endpoint for the bridge alone", None, true),
            ("forward Deny", Some("ingress: [{action: Deny}]"), false),
            // The answers go the same way in: they must be known.
            (
                "forward Allow of the guest's port",
                Some("ingress: [{action: Allow, protocol: TCP, destination: {ports: [8080]}}]"),
                true,
            ),
        ] {
            let mut resources = vec![governed.clone()];
            resources.extend(rules.map(|rules| forward("bridged", rules)));
            policed.enforce(situation, &resources)?;
            let patience = if expected { SLOWEST } else { PATIENCE };
            let found = reaches(topology, Node2, addresses, patience)?;
            assert_eq!(found, [expected; 2], "{situation}");
        }
        Ok(())
    })
}

#[test]
fn an_answer_is_known_also_if_the_kernel_does_not_track_its_ports() -> Result<()> {
    const DCCP: u8 = 33;
    on_node1(|_, policed| {
        policed.enforce(
            "normal Allow of a protocol, in",
            &[
                endpoint(Node1, ""),
                policy("in", "ingress: [{action: Allow, protocol: 33}]"),
            ],
        )?;
        let message = |name, from, to, ports: [u8; 4]| {
            raw::both(name, from, to, |here, there| {
                let payload = [&ports[..], &[0; 12]].concat();
                Packet::raw(here, there, DCCP, payload)
            })
            .map(|message| (message, Open))
        };
        policed.expect_arrival(&message("request", Client, Node1, [40, 0, 50, 0]))?;
        policed.expect_arrival(&message("answer", Node1, Client, [50, 0, 40, 0]))
    })
}
