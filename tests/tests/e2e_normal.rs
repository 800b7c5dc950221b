//! Normal policy: what the host's own processes get and send, after DNAT.

use anyhow::Result;
use hostfw_tests::{
    echo::Services,
    expectations::Expectation::{Closed, Only, Open, Refused},
    netns,
    policed::on_node1,
    probe::{
        Action::{BigUdp, Ping, Tcp, Udp},
        Target::{ClusterIp, Host as To},
    },
    raw,
    resources::{endpoint, policy, pre_dnat, resource},
    topology::{
        FAILSAFE_PORT, Family,
        Host::{Client, Node1, Pod1},
        TCP_PORT, UDP_PORT,
        address::{cluster_ip, pods},
    },
};

/// Fail-safe ports by default: TCP out; UDP in and out.
const OUTBOUND_PORT: u16 = 2379;
const DHCP_CLIENT_PORT: u16 = 68;
const DHCP_SERVER_PORT: u16 = 67;

/// A fail-safe of neither list.
const DHCPV6_CLIENT_PORT: u16 = 546;

/// Nobody listens there.
const CLOSED_PORT: u16 = 9;

#[test]
fn an_endpoint_alone_denies_local_traffic_but_for_failsafes() -> Result<()> {
    on_node1(|topology, policed| {
        let both = [DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DHCPV6_CLIENT_PORT];
        let mut services = Vec::new();
        for host in [Client, Node1] {
            let namespace = topology.namespace(host);
            services.push(Services::start(
                namespace,
                host.name(),
                &[OUTBOUND_PORT],
                &both,
            )?);
        }
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        // ARP and neighbour discovery start anew, and must not need a rule.
        for namespace in [topology.namespace(Node1), topology.router()] {
            let mut flush = namespace.command("ip");
            netns::run(flush.args(["neighbour", "flush", "all"]), None)?;
        }
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Udp(To(Node1), UDP_PORT), Closed),
            (Client, BigUdp(To(Node1)), Closed),
            (Client, Ping(To(Node1)), Closed),
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Udp(To(Node1), DHCP_CLIENT_PORT), Open),
            (Client, Udp(To(Node1), DHCPV6_CLIENT_PORT), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
            (Node1, Udp(To(Client), UDP_PORT), Closed),
            (Node1, Ping(To(Client)), Closed),
            (Node1, Tcp(To(Client), FAILSAFE_PORT), Closed),
            (Node1, Tcp(To(Client), OUTBOUND_PORT), Open),
            (Node1, Udp(To(Client), DHCP_SERVER_PORT), Open),
            // A host and its own pods are none of policy's business.
            (Node1, Tcp(To(Pod1), TCP_PORT), Open),
            (Pod1, Tcp(To(Node1), TCP_PORT), Open),
        ])
    })
}

#[test]
fn on_the_way_in_it_sees_the_destination_behind_dnat() -> Result<()> {
    on_node1(|topology, policed| {
        topology.namespace(Node1).nft(
            "table inet redirecting { chain prerouting {
           type nat hook prerouting priority dstnat
           meta l4proto { tcp, udp } th dport 31901 redirect to :8080
         }
         }",
        )?;
        let _services = Services::start(topology.namespace(Node1), Node1.name(), &[], &[TCP_PORT])?;
        let allow = |port| {
            let rule = format!(
                "ingress: [{{action: Allow, protocol: TCP, destination: {{ports: [{port}]}}}}]"
            );
            policy("allow", &rule)
        };
        policed.enforce(
            "Allow of the port behind DNAT",
            &[endpoint(Node1, ""), allow(8080)],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), 31901), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Udp(To(Node1), 31901), Closed),
        ])?;
        policed.enforce(
            "Allow of the port before DNAT",
            &[endpoint(Node1, ""), allow(31901)],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), 31901), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])?;
        policed.enforce(
            "pre-DNAT Allow of the port before DNAT",
            &[
                endpoint(Node1, ""),
                pre_dnat(
                    "allow",
                    "ingress: [{action: Allow, protocol: TCP, destination: {ports: [31901]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), 31901), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn on_the_way_out_it_sees_the_destination_behind_dnat() -> Result<()> {
    on_node1(|_, policed| {
        let allow = |nets: [String; 2]| {
            let rules = nets.map(|net| {
            format!(
                "{{action: Allow, protocol: TCP, destination: {{nets: ['{net}'], ports: [8080]}}}}"
            )
        });
            let rules = format!("egress: [{}]", rules.join(", "));
            [endpoint(Node1, ""), policy("allow", &rules)]
        };
        let to_pods = Family::ALL.map(|family| pods(family).to_owned());
        policed.enforce("Allow to the pods", &allow(to_pods))?;
        policed.expect(&[
            (Node1, Tcp(ClusterIp, TCP_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])?;
        let to_service = Family::ALL.map(|family| {
            let length = if family == Family::V4 { 32 } else { 128 };
            format!("{}/{length}", cluster_ip(family))
        });
        policed.enforce("Allow to the service's address", &allow(to_service))?;
        // The way to its own pod does not lead through eth0.
        policed.expect(&[(Node1, Tcp(ClusterIp, TCP_PORT), Only(Pod1))])
    })
}

#[test]
fn profiles_come_behind_all_tiers() -> Result<()> {
    on_node1(|_, policed| {
        let profile = |name: &str| {
            let rules = "ingress: [{action: Deny, protocol: UDP}, {action: Allow}], \
                     egress: [{action: Allow, protocol: TCP}]";
            resource("Profile", name, rules)
        };
        let governed = endpoint(Node1, "profiles: [mine, projectcalico-default-allow]");
        policed.enforce("a profile", &[governed.clone(), profile("mine")])?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Open),
            (Client, Ping(To(Node1)), Open),
            (Client, Udp(To(Node1), UDP_PORT), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            // From the second profile.
            (Node1, Udp(To(Client), UDP_PORT), Open),
        ])?;
        let ingress = "ingress: [{action: Allow, protocol: UDP}]";
        policed.enforce(
            "a profile, and policy for the way in",
            &[governed.clone(), profile("mine"), policy("in", ingress)],
        )?;
        policed.expect(&[
            (Client, Udp(To(Node1), UDP_PORT), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Node1, Tcp(To(Client), TCP_PORT), Open),
            (Node1, Udp(To(Client), UDP_PORT), Open),
        ])?;
        policed.enforce("a profile that does not exist", &[governed])?;
        policed.expect(&[
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Tcp(To(Node1), FAILSAFE_PORT), Open),
            (Client, Tcp(To(Pod1), TCP_PORT), Open),
            (Node1, Tcp(To(Client), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn refusals_follow_the_flow_that_they_are_about() -> Result<()> {
    on_node1(|_, policed| {
        let ports = "destination: {ports: [9]}";
        let one_way = |direction: &str| {
            let rules = format!(
                "{direction}: [{{action: Allow, protocol: UDP, {ports}}}, {{action: Allow, protocol: TCP, {ports}}}]"
            );
            [endpoint(Node1, ""), policy("allow", &rules)]
        };
        let closed = |from, to| {
            [
                (from, Udp(To(to), CLOSED_PORT)),
                (from, Tcp(To(to), CLOSED_PORT)),
            ]
        };
        policed.enforce("Allow of closed ports in", &one_way("ingress"))?;
        policed.expect(&closed(Client, Node1).map(|(from, action)| (from, action, Refused)))?;
        policed.expect(&closed(Node1, Client).map(|(from, action)| (from, action, Closed)))?;
        policed.enforce("Allow of closed ports out", &one_way("egress"))?;
        policed.expect(&closed(Node1, Client).map(|(from, action)| (from, action, Refused)))?;
        policed.expect(&closed(Client, Node1).map(|(from, action)| (from, action, Closed)))
    })
}

#[test]
fn fragments_of_what_is_allowed_come_through_whole() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce(
            "Allow of UDP ports",
            &[
                endpoint(Node1, ""),
                policy(
                    "udp",
                    "ingress: [{action: Allow, protocol: UDP, destination: {ports: [8081]}}], \
                 egress: [{action: Allow, protocol: UDP, destination: {ports: [8081]}}]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, BigUdp(To(Node1)), Open),
            (Node1, BigUdp(To(Client)), Open),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
        ])
    })
}

#[test]
fn what_it_denies_opens_no_way_back() -> Result<()> {
    on_node1(|_, policed| {
        // A denied request of an outside port must not make the host's own packet
        // to that port an answer. No service there: two would echo for ever.
        policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
        let from_outside = raw::udp(Client, Node1, CLOSED_PORT, CLOSED_PORT);
        let from_inside = raw::udp(Node1, Client, CLOSED_PORT, CLOSED_PORT);
        policed.expect_arrival(&from_outside.map(|message| (message, Closed)))?;
        policed.expect_arrival(&from_inside.map(|message| (message, Closed)))
    })
}
