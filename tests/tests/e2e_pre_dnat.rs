//! Pre-DNAT policy: what comes in, as it is on the wire.

use anyhow::Result;
use hostfw_tests::{
    echo::Services,
    expectations::Expectation::{Closed, Only, Open},
    policed::on_node1,
    probe::Action::{Ping, Tcp, Udp},
    probe::Target::Host as To,
    resources::{endpoint, forward, policy, pre_dnat, resource},
    topology::{
        FAILSAFE_PORT,
        Host::{Client, Node1, Pod1},
        TCP_PORT, UDP_PORT,
        kube_proxy::{CLOSED_NODE_PORT, NODE_PORT},
    },
};

/// A port of node1 itself, which no service takes.
const LOCAL_PORT: u16 = 31853;

const ALLOW_NODE_PORT: &str =
    "ingress: [{action: Allow, protocol: TCP, destination: {ports: [31852, 31853]}}]";
const DENY_ALL: &str = "ingress: [{action: Deny}]";

#[test]
fn it_sees_the_destination_before_dnat() -> Result<()> {
    on_node1(|_, policed| {
        let deny = |port| {
            let spec = format!(
                "ingress: [{{action: Deny, protocol: TCP, destination: {{ports: [{port}]}}}}]"
            );
            [endpoint(Node1, ""), pre_dnat("deny", &spec)]
        };
        policed.enforce("Deny of the port behind DNAT", &deny(TCP_PORT))?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        policed.enforce("Deny of the port before DNAT", &deny(NODE_PORT))?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Udp(To(Node1), NODE_PORT), Open),
        ])
    })
}

#[test]
fn its_allow_is_final_for_the_way_in_but_not_for_the_way_out() -> Result<()> {
    on_node1(|topology, policed| {
        let _services = Services::start(
            topology.namespace(Node1),
            Node1.name(),
            &[LOCAL_PORT],
            &[LOCAL_PORT],
        )?;
        let mut resources = vec![
            endpoint(Node1, ""),
            pre_dnat("node-port", ALLOW_NODE_PORT),
            forward("none-through-or-to", DENY_ALL),
        ];
        policed.enforce("pre-DNAT Allow, then Deny of all", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Tcp(To(Node1), LOCAL_PORT), Open),
            (Client, Udp(To(Node1), NODE_PORT), Closed),
            (Client, Udp(To(Node1), LOCAL_PORT), Closed),
            (Client, Tcp(To(Node1), CLOSED_NODE_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        // The way to the backend on the other node leaves through eth0 again.
        resources.push(forward("none-out", "egress: [{action: Deny}]"));
        policed.enforce("and Deny of what leaves, forwarded", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Only(Pod1)),
            (Client, Tcp(To(Node1), LOCAL_PORT), Open),
        ])
    })
}

#[test]
fn its_allow_ends_with_the_policy() -> Result<()> {
    on_node1(|_, policed| {
        let denied = [endpoint(Node1, ""), forward("none", DENY_ALL)];
        policed.enforce(
            "pre-DNAT Allow, then Deny of all",
            &[&denied[..], &[pre_dnat("node-port", ALLOW_NODE_PORT)]].concat(),
        )?;
        policed.expect(&[(Client, Tcp(To(Node1), NODE_PORT), Open)])?;
        let mut held = policed.hold(&[(Client, Tcp(To(Node1), NODE_PORT))])?;
        policed.enforce("Deny of all", &denied)?;
        policed.expect(&[(Client, Tcp(To(Node1), NODE_PORT), Closed)])?;
        policed.expect_held(&mut held, Open);
        Ok(())
    })
}

#[test]
fn what_it_does_not_decide_goes_on_to_the_next_stage() -> Result<()> {
    on_node1(|_, policed| {
        let base = [
            endpoint(Node1, ""),
            resource("Tier", "first", "order: 1, defaultAction: Deny"),
            pre_dnat("node-port", &format!("tier: first, {ALLOW_NODE_PORT}")),
        ];
        policed.enforce("a pre-DNAT Allow of something else", &base)?;
        policed.expect(&[
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Ping(To(Pod1)), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        let allow = policy("allow", "ingress: [{action: Allow}]");
        policed.enforce("and a normal Allow", &[&base[..], &[allow]].concat())?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Udp(To(Node1), UDP_PORT), Open),
        ])
    })
}

#[test]
fn failsafes_lead_around_it_for_any_destination_and_not_around_forward_policy() -> Result<()> {
    on_node1(|_, policed| {
        let mut resources = vec![endpoint(Node1, ""), pre_dnat("none-before-dnat", DENY_ALL)];
        policed.enforce("pre-DNAT Deny of all", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        resources.push(forward("none", DENY_ALL));
        policed.enforce("and Deny of all behind DNAT", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Closed),
        ])?;
        resources.push(resource(
            "FelixConfiguration",
            "default",
            "failsafeInboundHostPorts: [{protocol: TCP, port: 22, net: 192.0.2.0/24}]",
        ));
        resources.remove(2);
        policed.enforce("fail-safes for somebody else", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Closed),
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Closed),
        ])
    })
}

#[test]
fn profiles_have_no_say_in_it() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce(
            "pre-DNAT Deny of one port, and a profile that allows all",
            &[
                endpoint(Node1, "profiles: [open]"),
                resource("Profile", "open", "ingress: [{action: Allow}]"),
                pre_dnat(
                    "deny",
                    "ingress: [{action: Deny, protocol: TCP, destination: {ports: [8080]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Udp(To(Node1), UDP_PORT), Open),
        ])
    })
}
