//! Forward policy: what is routed through a node, after DNAT and before
//! masquerading.

use anyhow::Result;
use hostfw_tests::{
    expectations::Expectation::{Closed, Only, Open, Refused},
    policed::on_node1,
    probe::Action::{BigUdp, Ping, Tcp, Udp},
    probe::Target::Host as To,
    resources::{endpoint, forward, policy, pre_dnat, resource},
    topology::{
        FAILSAFE_PORT,
        Host::{Client, Node1, Node2, Pod1, Pod2},
        TCP_PORT, UDP_PORT,
        kube_proxy::NODE_PORT,
    },
};

/// Nobody listens there.
const CLOSED_PORT: u16 = 9;

#[test]
fn what_no_forward_policy_governs_is_forwarded() -> Result<()> {
    on_node1(|_, policed| {
        let ways = [
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Client, BigUdp(To(Pod1)), Open),
            (Client, Ping(To(Pod1)), Open),
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Udp(To(Node1), NODE_PORT), Open),
            (Client, Udp(To(Pod1), CLOSED_PORT), Refused),
            (Node2, Tcp(To(Pod1), TCP_PORT), Open),
            (Pod2, Tcp(To(Pod1), TCP_PORT), Open),
            (Pod1, Tcp(To(Pod2), TCP_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Pod1, BigUdp(To(Client)), Open),
            (Pod1, Ping(To(Client)), Open),
            (Pod1, Udp(To(Client), CLOSED_PORT), Refused),
        ];
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        policed.expect(&ways)?;
        policed.expect(&[(Client, Tcp(To(Node1), TCP_PORT), Closed)])?;
        let normal = policy(
            "none",
            "ingress: [{action: Deny}], egress: [{action: Deny}]",
        );
        policed.enforce("normal Deny both ways", &[endpoint(Node1, ""), normal])?;
        policed.expect(&ways)
    })
}

#[test]
fn on_the_way_in_it_sees_the_destination_behind_dnat() -> Result<()> {
    on_node1(|_, policed| {
        let allow = |rule: &str| forward("allow", &format!("ingress: [{{action: Allow, {rule}}}]"));
        policed.enforce(
            "Allow of the pods' port",
            &[
                // Forwarded packets are not profiles' business.
                endpoint(Node1, "profiles: [projectcalico-default-allow]"),
                allow("protocol: TCP, destination: {ports: [8080]}"),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Client, Udp(To(Node1), NODE_PORT), Closed),
            (Client, Udp(To(Pod1), UDP_PORT), Closed),
            (Client, BigUdp(To(Pod1)), Closed),
            (Client, Ping(To(Pod1)), Closed),
            // No fail-safes here; they are for the host itself.
            (Client, Tcp(To(Pod1), FAILSAFE_PORT), Closed),
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            // It is normal policy as well.
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Udp(To(Node1), UDP_PORT), Closed),
            // The other way is not governed.
            (Pod1, Tcp(To(Client), FAILSAFE_PORT), Open),
            (Pod1, Udp(To(Client), UDP_PORT), Open),
            (Pod1, Ping(To(Client)), Open),
        ])?;
        policed.enforce(
            "Allow of the port before DNAT, which nothing has behind it",
            &[
                endpoint(Node1, ""),
                allow("protocol: TCP, destination: {ports: [31852]}"),
            ],
        )?;
        policed.expect(&[(Client, Tcp(To(Node1), NODE_PORT), Closed)])?;
        policed.enforce(
        "Allow of UDP to one pod",
        &[
            endpoint(Node1, ""),
            forward(
                "allow",
                "ingress: [{action: Allow, protocol: UDP, destination: {nets: [192.168.1.2/32]}}, \
                 {action: Allow, protocol: UDP, destination: {nets: ['fd00:192:168:1::2/128']}}]",
            ),
        ],
    )?;
        policed.expect(&[
            (Client, Udp(To(Node1), NODE_PORT), Only(Pod1)),
            (Client, BigUdp(To(Pod1)), Open),
            (Client, Udp(To(Pod1), CLOSED_PORT), Refused),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn on_the_way_out_it_sees_the_source_before_masquerading() -> Result<()> {
    on_node1(|_, policed| {
        let egress = |rules: &str| {
            [
                endpoint(Node1, ""),
                forward("out", &format!("egress: [{rules}]")),
            ]
        };
        policed.enforce(
            "Allow of one port",
            &egress("{action: Allow, protocol: TCP, destination: {ports: [8080]}}"),
        )?;
        policed.expect(&[
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Pod1, Tcp(To(Client), FAILSAFE_PORT), Closed),
            (Pod1, Udp(To(Client), UDP_PORT), Closed),
            (Pod1, BigUdp(To(Client)), Closed),
            (Pod1, Ping(To(Client)), Closed),
            (Pod1, Tcp(To(Pod2), TCP_PORT), Open),
            (Pod1, Udp(To(Pod2), UDP_PORT), Closed),
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            (Node1, Udp(To(Client), UDP_PORT), Closed),
        ])?;
        policed.enforce(
            "Deny from the pod's address",
            &egress(
                "{action: Deny, source: {nets: [192.168.1.2/32]}}, \
             {action: Deny, source: {nets: ['fd00:192:168:1::2/128']}}, {action: Allow}",
            ),
        )?;
        policed.expect(&[
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            (Pod1, Ping(To(Client)), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        policed.enforce(
            "Deny from the address that masquerading gives",
            &egress(
                "{action: Deny, source: {nets: [10.240.0.11/32]}}, \
             {action: Deny, source: {nets: ['fd00:10:240::11/128']}}, {action: Allow}",
            ),
        )?;
        policed.expect(&[
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
            (Pod1, Udp(To(Client), UDP_PORT), Open),
            (Pod1, BigUdp(To(Client)), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn its_allow_on_the_way_in_does_not_skip_the_way_out() -> Result<()> {
    on_node1(|_, policed| {
        let resources = |egress: &str| {
            [
                endpoint(Node1, ""),
                forward("in", "ingress: [{action: Allow}]"),
                forward("out", egress),
            ]
        };
        // The way to the backend on the other node leaves through eth0 again.
        policed.enforce("Allow in, Deny out", &resources("egress: [{action: Deny}]"))?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Only(Pod1)),
            (Client, Udp(To(Node1), NODE_PORT), Only(Pod1)),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "Allow in, Allow out",
            &resources("egress: [{action: Allow}]"),
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), NODE_PORT), Open),
            (Client, Udp(To(Node1), NODE_PORT), Open),
            (Pod1, Tcp(To(Client), TCP_PORT), Open),
        ])
    })
}

#[test]
fn what_is_established_stays_when_it_begins_to_deny() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        let mut held = policed.hold(&[
            (Client, Tcp(To(Pod1), TCP_PORT)),
            (Client, Tcp(To(Node1), NODE_PORT)),
            (Client, Udp(To(Node1), NODE_PORT)),
            (Pod1, Tcp(To(Client), TCP_PORT)),
            (Pod1, Udp(To(Client), UDP_PORT)),
            (Node2, Tcp(To(Pod1), TCP_PORT)),
        ])?;
        policed.enforce(
            "Deny both ways",
            &[
                endpoint(Node1, ""),
                forward(
                    "none",
                    "ingress: [{action: Deny}], egress: [{action: Deny}]",
                ),
            ],
        )?;
        policed.expect_held(&mut held, Open);
        policed.expect(&[
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Client, Tcp(To(Node1), NODE_PORT), Closed),
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            (Node2, Tcp(To(Pod1), TCP_PORT), Closed),
            (Node1, Tcp(To(Pod1), TCP_PORT), Open),
        ])
    })
}

#[test]
fn a_refusal_by_somebody_elses_rule_gets_out() -> Result<()> {
    on_node1(|topology, policed| {
        // A RST from the pod's address, and an ICMP error from the node's: both
        // leave as if the host itself had sent them. kube-proxy rejects so what is
        // for a service without backends, NodePorts in the input hook.
        topology.namespace(Node1).nft(
            "table inet refusing { chain forward {
           type filter hook forward priority 10
           tcp dport 10 reject with tcp reset
           udp dport 10 reject
         }
         chain input {
           type filter hook input priority 10
           tcp dport 10 reject with tcp reset
         }
         }",
        )?;
        let refused = [
            (Client, Tcp(To(Pod1), 10), Refused),
            (Client, Udp(To(Pod1), 10), Refused),
        ];
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        policed.expect(&refused)?;
        let resources = [
            endpoint(Node1, ""),
            pre_dnat(
                "allow",
                "ingress: [{action: Allow, destination: {ports: [10]}, protocol: TCP}]",
            ),
            forward("none", "ingress: [{action: Deny}]"),
        ];
        policed.enforce("pre-DNAT Allow of TCP", &resources)?;
        policed.expect(&[
            (Client, Tcp(To(Pod1), 10), Refused),
            (Client, Tcp(To(Node1), 10), Refused),
            (Client, Udp(To(Pod1), 10), Closed),
        ])
    })
}

#[test]
fn pass_and_the_defaults_of_tiers_hold_here_too() -> Result<()> {
    on_node1(|_, policed| {
        let first = |default: &str| {
            let tier = format!("order: 1, defaultAction: {default}");
            vec![
                endpoint(Node1, ""),
                resource("Tier", "first", &tier),
                forward(
                    "pass",
                    "tier: first, ingress: [{action: Pass, protocol: UDP}]",
                ),
            ]
        };
        let mut resources = first("Deny");
        resources.push(forward("all", "ingress: [{action: Allow}]"));
        policed.enforce("a tier that denies what it does not pass", &resources)?;
        policed.expect(&[
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])?;
        let mut resources = first("Pass");
        policed.enforce(
            "a tier that passes everything, and none behind it",
            &resources,
        )?;
        policed.expect(&[
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
        ])?;
        resources.push(forward("udp", "ingress: [{action: Allow, protocol: UDP}]"));
        policed.enforce(
            "a tier that passes everything to one that denies",
            &resources,
        )?;
        policed.expect(&[
            (Client, Udp(To(Pod1), UDP_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn fragments_follow_the_first_one_where_the_kernel_tracks_nothing() -> Result<()> {
    on_node1(|topology, policed| {
        let node = topology.namespace(Node1);
        // Without anything that asks for it, the kernel neither tracks flows
        // nor puts fragments together.
        node.nft("flush ruleset\n")?;
        policed.enforce(
            "Allow of one port both ways",
            &[
                endpoint(Node1, ""),
                forward(
                    "big",
                    "ingress: [{action: Allow, protocol: UDP, destination: {ports: [8081]}}], \
                     egress: [{action: Allow, protocol: UDP, destination: {ports: [8081]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, BigUdp(To(Pod1)), Open),
            (Pod1, BigUdp(To(Client)), Open),
            (Client, Udp(To(Pod1), CLOSED_PORT), Closed),
        ])?;
        policed.enforce(
            "Deny of that port both ways",
            &[
                endpoint(Node1, ""),
                forward(
                    "big",
                    "ingress: [{action: Deny, protocol: UDP, destination: {ports: [8081]}}, \
                     {action: Allow}], \
                     egress: [{action: Deny, protocol: UDP, destination: {ports: [8081]}}, \
                     {action: Allow}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, BigUdp(To(Pod1)), Closed),
            (Pod1, BigUdp(To(Client)), Closed),
            (Client, Udp(To(Pod1), CLOSED_PORT), Refused),
        ])?;
        let tracked =
            node.run(|| std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count"))?;
        // No such file: no conntrack in this kernel at all.
        let tracked = tracked.unwrap_or_default();
        assert!(
            matches!(tracked.trim(), "" | "0"),
            "flows tracked: {tracked}"
        );
        Ok(())
    })
}
