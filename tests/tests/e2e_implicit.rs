//! What passes without any policy, and what only looks like it.

use anyhow::Result;
use hostfw_tests::{
    dhcp,
    expectations::Expectation::{self, Closed, Open},
    packet::Packet,
    policed::{Policed, on_node1},
    probe::{Action::Tcp, Target::Host as To},
    raw::{self, Message},
    resources::{endpoint, resource, untracked},
    topology::{
        FAILSAFE_PORT,
        Host::{self, Client, Node1, Node2},
        TCP_PORT, Topology,
    },
};

/// Types of ICMPv6 messages (RFC 4861, RFC 2710, RFC 3810, RFC 4443).
const ECHO_REQUEST: u8 = 128;
const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 131;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT_V2: u8 = 143;

fn message(kind: u8, hop_limit: u8, from: Host, to: Host) -> Message {
    let name = format!("ICMPv6 type {kind} with hop limit {hop_limit}");
    let [_, v6] = raw::both(&name, from, to, |here, there| {
        Packet::icmp(here, there, kind, 0, 0).hop_limit(hop_limit)
    });
    v6
}

#[test]
fn neighbour_discovery_and_arp_work_where_everything_is_denied() -> Result<()> {
    on_node1(|topology, policed| {
        policed.enforce(
            "untracked Deny both ways",
            &[
                endpoint(Node1, ""),
                untracked(
                    "none",
                    "ingress: [{action: Deny}], egress: [{action: Deny}]",
                ),
            ],
        )?;
        // Whoever wants to talk to node1 must ask for its address again, and
        // node1 for theirs.
        let forget = |host, interface| {
            let lines = format!("neighbour flush dev {interface}\n");
            topology.namespace(host).ip(&lines)
        };
        forget(Node1, "eth0")?;
        forget(Node2, "eth0")?;
        topology.router().ip("neighbour flush dev br0\n")?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Node2, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        let mut expected = Vec::new();
        for (kind, hop_limit, expectation) in [
            (ROUTER_SOLICITATION, 255, Open),
            (NEIGHBOUR_SOLICITATION, 255, Open),
            (NEIGHBOUR_ADVERTISEMENT, 255, Open),
            // It may have come from afar.
            (NEIGHBOUR_SOLICITATION, 254, Closed),
            (NEIGHBOUR_ADVERTISEMENT, 64, Closed),
            (LISTENER_QUERY, 1, Open),
            (LISTENER_REPORT, 1, Open),
            (LISTENER_REPORT_V2, 1, Open),
            (REDIRECT, 255, Closed),
            (ECHO_REQUEST, 255, Closed),
        ] {
            for (from, to) in [(Node2, Node1), (Node1, Node2)] {
                expected.push((message(kind, hop_limit, from, to), expectation));
            }
        }
        policed.expect_arrival(&expected)
    })
}

#[test]
fn a_dhcp_client_made_by_hand_works_by_failsafes() -> Result<()> {
    fn exchanged(
        topology: &Topology,
        policed: &mut Policed<'_>,
        expectation: Expectation,
    ) -> Result<()> {
        let found = dhcp::exchange(topology, Node1, expectation)?;
        policed.check("DHCP request", expectation, &found.request);
        policed.check("DHCP answer", expectation, &found.answer);
        Ok(())
    }
    on_node1(|topology, policed| {
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        exchanged(topology, policed, Open)?;
        // Not so that of IPv6.
        let [_, asked] = raw::udp(Node1, Node2, 546, 547);
        let [_, answered] = raw::udp(Node2, Node1, 547, 546);
        policed.expect_arrival(&[(asked, Closed), (answered, Closed)])?;
        let none = resource(
            "FelixConfiguration",
            "default",
            "failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []",
        );
        policed.enforce("no fail-safes", &[endpoint(Node1, ""), none])?;
        exchanged(topology, policed, Closed)?;
        policed.enforce("no endpoint for node1", &[endpoint(Node2, "")])?;
        exchanged(topology, policed, Open)
    })
}
