//! Packets that belong to no possible flow, made by hand.

use anyhow::Result;
use hostfw_tests::{
    expectations::Expectation::{self, Closed, Open},
    packet::{
        Packet,
        flags::{ACK, FIN, PSH, SYN, URG},
    },
    policed::on_node1,
    raw::{self, Message},
    resources::{endpoint, host_endpoint, policy, pre_dnat, resource},
    topology::{
        FAILSAFE_PORT, Family,
        Host::{self, Client, Node1, Pod1},
        TCP_PORT, kube_proxy,
    },
};

/// Combinations of flags that no TCP sends.
const IMPOSSIBLE: [u8; 4] = [0, SYN | FIN, FIN, FIN | PSH | URG];

/// Every packet from a port of its own, so that none is of another's flow.
struct Ports(u16);

impl Ports {
    fn segment(&mut self, from: Host, to: Host, port: u16, flags: u8) -> [Message; 2] {
        self.0 += 1;
        raw::tcp(from, to, self.0, port, flags)
    }

    /// Impossible segments to the port, and a possible one.
    fn segments(
        &mut self,
        from: Host,
        to: Host,
        port: u16,
        expected: Expectation,
    ) -> Vec<(Message, Expectation)> {
        let mut messages = Vec::new();
        for flags in IMPOSSIBLE {
            let segment = self.segment(from, to, port, flags);
            messages.extend(segment.map(|message| (message, expected)));
        }
        for flags in [SYN, ACK] {
            let segment = self.segment(from, to, port, flags);
            messages.extend(segment.map(|message| (message, Open)));
        }
        messages
    }
}

/// An ICMP error about a packet that was never sent.
fn unmatched_error(from: Host, to: Host) -> [Message; 2] {
    raw::both("ICMP error about nothing", from, to, |here, there| {
        let (kind, code) = if here.is_ipv4() { (3, 1) } else { (1, 0) };
        let quoted = Packet::udp((there, 40_001).into(), (here, 40_002).into());
        Packet::icmp_error(here, there, kind, code, &quoted)
    })
}

fn allow_all() -> String {
    policy(
        "allow",
        "ingress: [{action: Allow}], egress: [{action: Allow}]",
    )
}

fn unchecked() -> String {
    resource(
        "FelixConfiguration",
        "default",
        "disableConntrackInvalidCheck: true",
    )
}

#[test]
fn they_are_dropped_before_failsafes_and_rules_of_normal_policy() -> Result<()> {
    on_node1(|_, policed| {
        let mut ports = Ports(40_000);
        policed.enforce("everything is allowed", &[endpoint(Node1, ""), allow_all()])?;
        policed.expect_arrival(&ports.segments(Client, Node1, TCP_PORT, Closed))?;
        policed.expect_arrival(&ports.segments(Client, Node1, FAILSAFE_PORT, Closed))?;
        policed.expect_arrival(&unmatched_error(Client, Node1).map(|message| (message, Closed)))?;
        policed.enforce(
            "everything is allowed, and the check is off",
            &[endpoint(Node1, ""), allow_all(), unchecked()],
        )?;
        policed.expect_arrival(&ports.segments(Client, Node1, TCP_PORT, Open))?;
        policed.expect_arrival(&unmatched_error(Client, Node1).map(|message| (message, Open)))
    })
}

#[test]
fn they_are_not_forwarded_even_where_no_policy_governs() -> Result<()> {
    on_node1(|topology, policed| {
        for family in Family::ALL {
            kube_proxy::forward_invalid(topology.namespace(Node1), family)?;
        }
        let mut ports = Ports(41_000);
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        policed.expect_arrival(&ports.segments(Client, Pod1, TCP_PORT, Closed))?;
        policed.expect_arrival(&ports.segments(Pod1, Client, TCP_PORT, Closed))?;
        policed.enforce("the check is off", &[endpoint(Node1, ""), unchecked()])?;
        policed.expect_arrival(&ports.segments(Client, Pod1, TCP_PORT, Open))?;
        policed.expect_arrival(&ports.segments(Pod1, Client, TCP_PORT, Open))
    })
}

/// On a workload's interface normal policy does not judge what is for the
/// host itself: so only pre-DNAT policy can drop it.
#[test]
fn before_dnat_they_are_dropped_only_if_there_is_policy_before_dnat() -> Result<()> {
    on_node1(|_, policed| {
        let mut ports = Ports(42_000);
        let all = host_endpoint("node1-all", Node1, "*", "");
        policed.enforce("an endpoint for all interfaces", std::slice::from_ref(&all))?;
        policed.expect_arrival(&ports.segments(Pod1, Node1, TCP_PORT, Open))?;
        let other = pre_dnat(
            "other",
            "ingress: [{action: Deny, protocol: UDP, destination: {ports: [9]}}]",
        );
        policed.enforce("and pre-DNAT policy for something else", &[all, other])?;
        policed.expect_arrival(&ports.segments(Pod1, Node1, TCP_PORT, Closed))
    })
}
