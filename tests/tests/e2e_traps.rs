//! Ten cases that are easily got wrong.

use anyhow::{Context as _, Result};
use hostfw_tests::{
    cluster::examples,
    echo::Services,
    expectations::Expectation::{Closed, Only, Open},
    policed::on_node1,
    probe::{
        Action::{Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, forward, policy, pre_dnat, resource},
    topology::{
        FAILSAFE_PORT, Family,
        Host::{Client, Node1, Pod1},
        TCP_PORT, UDP_PORT,
        kube_proxy::{CLOSED_NODE_PORT, NODE_PORT},
    },
};

/// A port of node1 itself.
const LOCAL_PORT: u16 = 31853;

const DENY_ALL: &str = "ingress: [{action: Deny}]";

/// The whole of the tutorial up to step 3, with endpoints of this spec.
fn tutorial(more: &str) -> Result<Vec<String>> {
    let mut resources = vec![endpoint(Node1, more)];
    for file in ["1-policies.yaml", "3-nodeport.yaml"] {
        let path = examples().join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        resources.push(format!("---\n{text}"));
    }
    Ok(resources)
}

#[test]
fn trap_1_a_selector_stands_for_the_addresses_that_are_known() -> Result<()> {
    on_node1(|_, policed| {
        let pinhole = [
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Tcp(To(Node1), CLOSED_NODE_PORT), Closed),
        ];
        // Calico takes no addresses from interfaces; hostfw does.
        policed.enforce("the tutorial without expectedIPs", &tutorial("")?)?;
        policed.expect(&pinhole)?;
        let addresses = "expectedIPs: [10.240.0.11, 'fd00:10:240::11']";
        policed.enforce("the tutorial with expectedIPs", &tutorial(addresses)?)?;
        policed.expect(&pinhole)?;
        let others = "expectedIPs: [10.240.0.99, 'fd00:10:240::99']";
        policed.enforce("the tutorial with other expectedIPs", &tutorial(others)?)?;
        policed.expect(&[(Client, Tcp(To(Node1), NODE_PORT), Closed)])
    })
}

#[test]
fn traps_2_3_and_10_pre_dnat_deny_and_what_it_leaves_alone() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce("trap 3: an endpoint alone", &[endpoint(Node1, "")])?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        policed.enforce(
            "before trap 10: everything is allowed",
            &[
                endpoint(Node1, ""),
                policy("all", "ingress: [{action: Allow}]"),
            ],
        )?;
        let mut held = policed.hold(&[
            (Client, Tcp(To(Node1), TCP_PORT)),
            (Client, Udp(To(Node1), UDP_PORT)),
            (Client, Tcp(To(Pod1), TCP_PORT)),
            (Client, Tcp(To(Node1), NODE_PORT)),
        ])?;
        policed.enforce(
            "traps 2 and 10: pre-DNAT Deny of all",
            &[endpoint(Node1, ""), pre_dnat("none", DENY_ALL)],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.expect_held(&mut held, Open);
        Ok(())
    })
}

#[test]
fn traps_4_and_5_what_an_allow_decides_for_later_stages() -> Result<()> {
    on_node1(|topology, policed| {
        let _services =
            Services::start(topology.namespace(Node1), Node1.name(), &[LOCAL_PORT], &[])?;
        policed.enforce(
            "trap 4: pre-DNAT Allow, normal Deny",
            &[
                endpoint(Node1, ""),
                pre_dnat(
                    "allow",
                    "ingress: [{action: Allow, protocol: TCP, destination: {ports: [31853]}}]",
                ),
                policy("none", DENY_ALL),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), LOCAL_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "trap 5: forward policy for the way out alone",
            &[
                endpoint(Node1, ""),
                forward(
                    "out",
                    "egress: [{action: Allow, protocol: UDP, destination: {ports: [9]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            // The way to the other node's backend is a way out.
            (Client, Tcp(To(Node1), NODE_PORT), Only(Pod1)),
        ])
    })
}

#[test]
fn traps_6_and_7_what_a_rule_can_match() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce(
            "trap 6: Allow from all that is known",
            &[
                endpoint(Node1, ""),
                policy(
                    "known",
                    "ingress: [{action: Allow, source: {selector: all()}}]",
                ),
            ],
        )?;
        policed.expect(&[(Client, Tcp(To(Node1), TCP_PORT), Closed)])?;
        policed.enforce(
            "trap 6: and somebody makes the client known",
            &[
                endpoint(Node1, ""),
                policy(
                    "known",
                    "ingress: [{action: Allow, source: {selector: all()}}]",
                ),
                resource(
                    "GlobalNetworkSet",
                    "clients",
                    "nets: [203.0.113.0/24, '2001:db8:113::10']",
                ),
            ],
        )?;
        policed.expect(&[(Client, Tcp(To(Node1), TCP_PORT), Open)])?;
        policed.enforce(
            "trap 7: pre-DNAT Deny of what is outside of an IPv4 network",
            &[
                endpoint(Node1, ""),
                pre_dnat(
                    "outside",
                    "ingress: [{action: Deny, source: {notNets: [10.0.0.0/8]}}]",
                ),
                policy("all", "ingress: [{action: Allow}]"),
            ],
        )?;
        let action = Tcp(To(Node1), TCP_PORT);
        policed.expect_in(&[Family::V4], &[(Client, action, Closed)])?;
        policed.expect_in(&[Family::V6], &[(Client, action, Open)])
    })
}

#[test]
fn traps_8_and_9_which_policy_comes_first() -> Result<()> {
    on_node1(|_, policed| {
        let tied = |allowing: &str, denying: &str| {
            [
                endpoint(Node1, ""),
                pre_dnat(allowing, "order: 10, ingress: [{action: Allow}]"),
                pre_dnat(denying, "order: 10, ingress: [{action: Deny}]"),
            ]
        };
        policed.enforce("trap 8: a-b denies ahead of a", &tied("a", "a-b"))?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        policed.enforce("trap 8: a-b allows ahead of a", &tied("a-b", "a"))?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        let staged = |kind: &str| {
            [
                endpoint(Node1, ""),
                resource("Tier", "t1", "order: 1, defaultAction: Deny"),
                resource(
                    kind,
                    "tried",
                    "tier: t1, selector: has(host-endpoint), ingress: [{action: Deny, protocol: UDP}]",
                ),
                policy("all", "ingress: [{action: Allow}]"),
            ]
        };
        policed.enforce(
            "trap 9: a tier with a staged policy alone",
            &staged("StagedGlobalNetworkPolicy"),
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Udp(To(Node1), UDP_PORT), Open),
        ])?;
        policed.enforce(
            "trap 9: the same policy enforced",
            &staged("GlobalNetworkPolicy"),
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Udp(To(Node1), UDP_PORT), Closed),
        ])
    })
}
