//! Tunnels between nodes, and what only looks like them.
//!
//! VXLAN for real. Kernels may lack IPIP and WireGuard, so their outer packets
//! are made by hand: what they carry is no business of policy.

use anyhow::Result;
use hostfw_tests::{
    cluster::Binaries,
    expectations::Expectation::{self, Closed, Open},
    packet::Packet,
    policed::{Policed, on_node1},
    probe::{
        Action::{BigUdp, Ping, Tcp, Udp},
        Target::Host as To,
    },
    raw::{self, Message},
    resources::{endpoint, forward, pre_dnat, resource, untracked},
    topology::{
        Family,
        Host::{self, Client, Node1, Node2, Pod1, Pod2},
        TCP_PORT, Topology, UDP_PORT,
    },
};

const VXLAN_PORT: u16 = 4789;
const GENEVE_PORT: u16 = 6081;
const WIREGUARD_PORT: u16 = 51820;
const WIREGUARD_PORT_V6: u16 = 51821;

/// IANA number of IPv4 within IP.
const IPIP: u8 = 4;

/// Endpoints that deny everything, before DNAT and both ways behind it, and
/// tell the nodes' addresses.
fn denied() -> Vec<String> {
    vec![
        with_addresses(Node1),
        with_addresses(Node2),
        pre_dnat("none", "ingress: [{action: Deny}]"),
    ]
}

fn with_addresses(node: Host) -> String {
    let addresses = Family::ALL.map(|family| format!("'{}'", node.address(family)));
    endpoint(node, &format!("expectedIPs: [{}]", addresses.join(", ")))
}

fn vxlan(outer: Family) -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    topology.tunnel(outer)?;
    let mut policed = Policed::start_both(&topology, &binaries)?;
    let through = |expectation| {
        [
            (Pod1, Tcp(To(Pod2), TCP_PORT), expectation),
            (Pod2, Tcp(To(Pod1), TCP_PORT), expectation),
            (Pod1, BigUdp(To(Pod2)), expectation),
            (Pod2, Ping(To(Pod1)), expectation),
            (Node1, Udp(To(Pod2), UDP_PORT), expectation),
        ]
    };
    policed.enforce("everything is denied", &denied())?;
    policed.expect(&through(Open))?;
    policed.expect(&[
        (Node2, Tcp(To(Node1), TCP_PORT), Closed),
        (Node1, Tcp(To(Node2), TCP_PORT), Closed),
        (Client, Tcp(To(Node1), TCP_PORT), Closed),
    ])?;
    let forged = raw::udp(Client, Node1, VXLAN_PORT, VXLAN_PORT);
    policed.expect_arrival(&forged.map(|message| (message, Closed)))?;

    let mut resources = denied();
    resources[1] = endpoint(Node2, "");
    policed.enforce(
        "everything is denied, node2's address is unknown",
        &resources,
    )?;
    policed.expect(&through(Closed))?;

    let other_port = resource("FelixConfiguration", "default", "vxlanPort: 4790");
    policed.enforce(
        "everything is denied, VXLAN has another port",
        &[&denied()[..], &[other_port]].concat(),
    )?;
    policed.expect(&through(Closed))?;

    let deny = "ingress: [{action: Deny, protocol: UDP, destination: {ports: [4789]}}]";
    policed.enforce(
        "untracked policy denies the tunnel",
        &[&denied()[..], &[untracked("no-vxlan", deny)]].concat(),
    )?;
    policed.expect(&through(Closed))?;
    policed.finish()
}

#[test]
fn real_vxlan_over_ipv4_passes_between_known_nodes() -> Result<()> {
    vxlan(Family::V4)
}

#[test]
fn real_vxlan_over_ipv6_passes_between_known_nodes() -> Result<()> {
    vxlan(Family::V6)
}

#[test]
fn ipip_and_wireguard_made_by_hand_pass_between_known_nodes() -> Result<()> {
    on_node1(|_, policed| {
        let resources = [
            with_addresses(Node1),
            // Known, but with no agent: what it sends and gets is node1's to judge.
            with_addresses(Node2),
            pre_dnat("none", "ingress: [{action: Deny}]"),
        ];
        policed.enforce("everything is denied", &resources)?;
        let mut expected = Vec::new();
        for (from, to, known) in [
            (Node2, Node1, Open),
            (Node1, Node2, Open),
            (Client, Node1, Closed),
            (Node1, Client, Closed),
        ] {
            expected.extend(outer_packets(from, to, known));
        }
        policed.expect_arrival(&expected)?;
        let disabled = resource(
            "FelixConfiguration",
            "default",
            "wireguardListeningPort: 51000, wireguardListeningPortV6: 51000",
        );
        policed.enforce(
            "everything is denied, WireGuard has another port",
            &[&resources[..], &[disabled]].concat(),
        )?;
        let [v4, _] = raw::udp(Node2, Node1, WIREGUARD_PORT, WIREGUARD_PORT);
        let [_, v6] = raw::udp(Node2, Node1, WIREGUARD_PORT_V6, WIREGUARD_PORT_V6);
        policed.expect_arrival(&[(v4, Closed), (v6, Closed)])
    })
}

#[test]
fn forwarded_tunnels_made_by_hand_lead_around_pre_dnat_policy_and_no_other() -> Result<()> {
    on_node1(|_, policed| {
        // Their ends are known, and node1 is neither of them.
        let known = [
            with_addresses(Node1),
            with_addresses(Client),
            with_addresses(Pod1),
        ];
        let denied = pre_dnat("none", "ingress: [{action: Deny}]");
        let resources = [&known[..], std::slice::from_ref(&denied)].concat();
        policed.enforce("pre-DNAT Deny of all", &resources)?;
        policed.expect_arrival(&outer_packets(Client, Pod1, Open))?;
        policed.expect_arrival(&outer_packets(Node2, Pod1, Closed))?;
        let forward = forward("none-through", "ingress: [{action: Deny}]");
        let resources = [&known[..], &[denied, forward]].concat();
        policed.enforce("and forward Deny of all", &resources)?;
        policed.expect_arrival(&outer_packets(Client, Pod1, Closed))
    })
}

/// What tunnels would send; Geneve, which nothing configures, is none.
fn outer_packets(from: Host, to: Host, known: Expectation) -> Vec<(Message, Expectation)> {
    let [ipip, _] = raw::both("IPIP by hand", from, to, |here, there| {
        let inner = Packet::udp(([192, 168, 1, 2], 1).into(), ([192, 168, 2, 2], 2).into());
        Packet::raw(here, there, IPIP, inner.without_link_header().build())
    });
    let [wireguard, other_v6] = raw::udp(from, to, WIREGUARD_PORT, WIREGUARD_PORT);
    let [other_v4, wireguard_v6] = raw::udp(from, to, WIREGUARD_PORT_V6, WIREGUARD_PORT_V6);
    let geneve = raw::udp(from, to, GENEVE_PORT, GENEVE_PORT);
    let mut expected = vec![
        (ipip, known),
        (wireguard, known),
        (wireguard_v6, known),
        (other_v4, Closed),
        (other_v6, Closed),
    ];
    expected.extend(geneve.map(|message| (message, Closed)));
    expected
}
