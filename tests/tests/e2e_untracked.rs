//! Untracked policy: before connection tracking, and with none.

use anyhow::Result;
use hostfw_tests::{
    echo::Services,
    expectations::Expectation::{Closed, Only, Open},
    policed::on_node1,
    probe::Action::{Ping, Tcp, Udp},
    probe::Target::Host as To,
    resources::{endpoint, forward, policy, pre_dnat, resource, untracked},
    topology::{
        FAILSAFE_PORT,
        Host::{Client, Node1, Pod1},
        TCP_PORT, UDP_PORT,
        kube_proxy::NODE_PORT,
    },
};

/// A TCP port of the default outbound fail-safes.
const OUTBOUND_FAILSAFE_PORT: u16 = 2379;

fn allow_everything() -> String {
    policy(
        "allow",
        "order: 1000, ingress: [{action: Allow}], egress: [{action: Allow}]",
    )
}

#[test]
fn an_untracked_allow_needs_rules_for_the_replies() -> Result<()> {
    on_node1(|_, policed| {
        let requests = "ingress: [{action: Allow, protocol: UDP, destination: {ports: [8081]}}]";
        policed.enforce(
            "requests are allowed without tracking, replies by nothing",
            &[endpoint(Node1, ""), untracked("requests", requests)],
        )?;
        // Had the request left state behind, the reply would be established.
        policed.expect(&[
            (Client, Udp(To(Node1), UDP_PORT), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        let replies = "egress: [{action: Allow, protocol: UDP, source: {ports: [8081]}}]";
        policed.enforce(
            "replies are allowed without tracking too",
            &[
                endpoint(Node1, ""),
                untracked("requests", requests),
                untracked("replies", replies),
            ],
        )?;
        policed.expect(&[
            (Client, Udp(To(Node1), UDP_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "replies are allowed by normal policy",
            &[
                endpoint(Node1, ""),
                untracked("requests", requests),
                policy("replies", replies),
            ],
        )?;
        policed.expect(&[(Client, Udp(To(Node1), UDP_PORT), Open)])
    })
}

#[test]
fn an_untracked_allow_skips_every_later_stage_of_its_way_in() -> Result<()> {
    on_node1(|_, policed| {
        let both_ways = "ingress: [{action: Allow}], egress: [{action: Allow}]";
        let mut resources = vec![
            endpoint(Node1, ""),
            untracked("all", both_ways),
            pre_dnat("none-before-dnat", "ingress: [{action: Deny}]"),
            forward("none-through-or-to", "ingress: [{action: Deny}]"),
        ];
        policed.enforce("untracked Allow, all else Deny on the way in", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Udp(To(Node1), UDP_PORT), Open),
            (Client, Ping(To(Node1)), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
        ])?;
        // What goes out forwarded is not untracked policy's, and what came in
        // untracked has left no state that would let the answer out.
        resources.push(forward("none-out", "egress: [{action: Deny}]"));
        policed.enforce("and Deny on the way out, forwarded", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Tcp(To(Node1), NODE_PORT), Closed),
        ])
    })
}

#[test]
fn an_untracked_deny_stops_what_is_established() -> Result<()> {
    on_node1(|_, policed| {
        let before = [endpoint(Node1, ""), allow_everything()];
        policed.enforce("everything is allowed", &before)?;
        let mut local = policed.hold(&[
            (Client, Tcp(To(Node1), TCP_PORT)),
            (Client, Udp(To(Node1), UDP_PORT)),
        ])?;
        let mut forwarded = policed.hold(&[
            (Client, Tcp(To(Pod1), TCP_PORT)),
            (Pod1, Udp(To(Client), UDP_PORT)),
        ])?;
        policed.enforce(
            "untracked Deny on the way out",
            &[&before[..], &[untracked("out", "egress: [{action: Deny}]")]].concat(),
        )?;
        policed.expect_held(&mut local, Closed);
        policed.expect_held(&mut forwarded, Open);
        policed.expect(&[
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "untracked Deny on the way in",
            &[&before[..], &[untracked("in", "ingress: [{action: Deny}]")]].concat(),
        )?;
        policed.expect_held(&mut forwarded, Closed);
        policed.expect(&[
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn failsafes_of_both_lists_lead_around_untracked_policy_both_ways() -> Result<()> {
    on_node1(|topology, policed| {
        let _services = Services::start(
            topology.namespace(Client),
            Client.name(),
            &[OUTBOUND_FAILSAFE_PORT],
            &[],
        )?;
        let denied = [
            endpoint(Node1, ""),
            untracked(
                "none",
                "ingress: [{action: Deny}], egress: [{action: Deny}]",
            ),
        ];
        // Each needs its request and its reply let around: by destination port of
        // the one list, and by source port of the same list the other way.
        policed.enforce("untracked Deny both ways", &denied)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Node1, Tcp(To(Client), OUTBOUND_FAILSAFE_PORT), Open),
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])?;
        let none = resource(
            "FelixConfiguration",
            "default",
            "failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []",
        );
        policed.enforce("no fail-safes", &[&denied[..], &[none]].concat())?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Closed),
            (Node1, Tcp(To(Client), OUTBOUND_FAILSAFE_PORT), Closed),
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Closed),
        ])
    })
}

#[test]
fn the_end_of_the_untracked_stage_denies_nothing() -> Result<()> {
    on_node1(|_, policed| {
        let other = "ingress: [{action: Allow, protocol: UDP, destination: {ports: [9]}}], \
                 egress: [{action: Allow, protocol: UDP, destination: {ports: [9]}}]";
        policed.enforce(
            "untracked policy that matches nothing here",
            &[
                endpoint(Node1, ""),
                untracked("other", other),
                allow_everything(),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Node1, Udp(To(Client), UDP_PORT), Open),
        ])?;
        policed.enforce(
            "the same before a pre-DNAT Deny",
            &[
                endpoint(Node1, ""),
                untracked("other", other),
                pre_dnat("none", "ingress: [{action: Deny}]"),
                allow_everything(),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Node1, Udp(To(Client), UDP_PORT), Open),
        ])
    })
}

#[test]
fn untracked_policy_sees_what_comes_in_before_dnat() -> Result<()> {
    on_node1(|_, policed| {
        let to_port = |port| {
            format!("ingress: [{{action: Deny, protocol: TCP, destination: {{ports: [{port}]}}}}]")
        };
        policed.enforce(
            "untracked Deny of the port behind DNAT",
            &[
                endpoint(Node1, ""),
                untracked("pods-port", &to_port(TCP_PORT)),
            ],
        )?;
        // The answer of the backend behind the other node comes from that port,
        // and goes to none that is denied.
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "untracked Deny of the port before DNAT",
            &[
                endpoint(Node1, ""),
                untracked("node-port", &to_port(NODE_PORT)),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        // Of a service's answers, those of a backend on the other node come in
        // through eth0.
        policed.enforce(
            "untracked Deny of the answers from the port behind DNAT",
            &[
                endpoint(Node1, ""),
                untracked(
                    "answers",
                    "ingress: [{action: Deny, protocol: TCP, source: {ports: [8080]}}]",
                ),
            ],
        )?;
        policed.expect(&[(Client, Tcp(To(Node1), NODE_PORT), Only(Pod1))])
    })
}
