//! Endpoints for all interfaces: workloads' and the loopback interface too.

use anyhow::Result;
use hostfw_tests::{
    echo::Services,
    expectations::Expectation::{Closed, Open},
    policed::on_node1,
    probe::{
        Action::{BigUdp, Ping, Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, forward, host_endpoint, policy, pre_dnat, untracked},
    topology::{
        FAILSAFE_PORT,
        Host::{self, Client, Node1, Pod1, Pod2},
        TCP_PORT, UDP_PORT,
        kube_proxy::NODE_PORT,
    },
};

/// A TCP port of both default lists of fail-safes.
const FAILSAFE_BOTH_WAYS: u16 = 2379;

fn all(node: Host, more: &str) -> String {
    host_endpoint(&format!("{node}-all"), node, "*", more)
}

#[test]
fn normal_policy_leaves_workloads_to_their_own_host() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce("an endpoint alone", &[all(Node1, "")])?;
        policed.expect(&[
            (Pod1, Tcp(To(Node1), TCP_PORT), Open),
            (Pod1, Ping(To(Node1)), Open),
            (Node1, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn the_loopback_interface_needs_an_allow() -> Result<()> {
    on_node1(|topology, policed| {
        let _services = Services::start(
            topology.namespace(Node1),
            Node1.name(),
            &[FAILSAFE_BOTH_WAYS],
            &[],
        )?;
        policed.enforce("an endpoint alone", &[all(Node1, "")])?;
        policed.expect(&[
            (Node1, Tcp(To(Node1), TCP_PORT), Closed),
            (Node1, Udp(To(Node1), UDP_PORT), Closed),
            // A fail-safe in, not out.
            (Node1, Tcp(To(Node1), FAILSAFE_PORT), Closed),
            (Node1, Tcp(To(Node1), FAILSAFE_BOTH_WAYS), Open),
        ])?;
        let loopback = host_endpoint(
            "node1-lo",
            Node1,
            "lo",
            "profiles: [projectcalico-default-allow]",
        );
        policed.enforce("and an open one for lo", &[all(Node1, ""), loopback])?;
        policed.expect(&[
            (Node1, Tcp(To(Node1), TCP_PORT), Open),
            (Node1, Udp(To(Node1), UDP_PORT), Open),
            (Node1, BigUdp(To(Node1)), Open),
            (Node1, Ping(To(Node1)), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        // What the host sends to itself comes in through lo: there pre-DNAT
        // policy of `*` sees it like anything else.
        let denied = pre_dnat("none", "ingress: [{action: Deny}]");
        let open = "profiles: [projectcalico-default-allow]";
        policed.enforce(
            "an open endpoint, pre-DNAT Deny of all",
            &[all(Node1, open), denied.clone()],
        )?;
        policed.expect(&[
            (Node1, Tcp(To(Node1), TCP_PORT), Closed),
            // A fail-safe in, and the profile allows it out.
            (Node1, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
        ])?;
        policed.enforce(
            "and an Allow between the node's own addresses",
            &[
                all(Node1, open),
                denied,
                pre_dnat(
                    "own",
                    "order: 1, ingress: [\
                     {action: Allow, source: {nets: [10.240.0.11/32]}}, \
                     {action: Allow, source: {nets: ['fd00:10:240::11/128']}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Node1, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "a normal Allow of one port both ways",
            &[
                all(Node1, ""),
                policy(
                    "allow",
                    "ingress: [{action: Allow, protocol: TCP, destination: {ports: [8080]}}], \
                 egress: [{action: Allow, protocol: TCP, destination: {ports: [8080]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Node1, Tcp(To(Node1), TCP_PORT), Open),
            (Node1, Udp(To(Node1), UDP_PORT), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Open),
        ])
    })
}

#[test]
fn pre_dnat_and_forward_policy_hold_on_workloads_interfaces() -> Result<()> {
    on_node1(|_, policed| {
        let tcp_8080 = "protocol: TCP, destination: {ports: [8080]}";
        policed.enforce(
            "pre-DNAT Deny of one port",
            &[
                all(Node1, ""),
                pre_dnat("deny", &format!("ingress: [{{action: Deny, {tcp_8080}}}]")),
            ],
        )?;
        policed.expect(&[
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            (Pod1, Tcp(To(Node1), TCP_PORT), Closed),
            (Pod1, Tcp(To(Pod2), TCP_PORT), Closed),
            (Pod1, Tcp(To(Client), FAILSAFE_PORT), Open),
            (Pod1, Udp(To(Node1), UDP_PORT), Open),
            (Node1, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        policed.enforce(
            "forward Allow of one port, which either interface judges",
            &[
                all(Node1, ""),
                forward("in", &format!("ingress: [{{action: Allow, {tcp_8080}}}]")),
            ],
        )?;
        policed.expect(&[
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Pod1, Udp(To(Client), UDP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Udp(To(Pod1), UDP_PORT), Closed),
            (Pod1, Udp(To(Node1), UDP_PORT), Open),
        ])?;
        policed.enforce(
            "forward Deny of one port out, for what leaves through a workload's interface",
            &[
                all(Node1, ""),
                endpoint(Node1, "").replace("host-endpoint", "other"),
                forward(
                    "out",
                    &format!("egress: [{{action: Deny, {tcp_8080}}}, {{action: Allow}}]"),
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Node1, Tcp(To(Pod1), TCP_PORT), Open),
        ])
    })
}

#[test]
fn untracked_policy_does_not_hold_there_and_status_says_so() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce(
            "untracked Deny both ways",
            &[
                all(Node1, "profiles: [projectcalico-default-allow]"),
                untracked(
                    "none",
                    "ingress: [{action: Deny}], egress: [{action: Deny}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        let status = policed.cluster().status(Node1)?.to_string();
        anyhow::ensure!(status.contains("doNotTrack"), "{status}");
        Ok(())
    })
}
