//! Interfaces that are ports of others, and protocols whose ports the kernel
//! does not track.

use anyhow::Result;
use hostfw_tests::{
    expectations::Expectation::{Closed, Open},
    packet::Packet,
    policed::on_node1,
    probe::{Action::Tcp, Target::Host as To},
    raw,
    resources::{endpoint, policy},
    topology::{
        FAILSAFE_PORT, Family,
        Host::{Client, Node1},
        TCP_PORT, Topology,
    },
};

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
