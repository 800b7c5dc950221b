//! The tutorial, step by step: what becomes of the first packet of a flow.

mod fixture;

use std::net::IpAddr;

use fixture::{STEPS, example, interfaces, read};
use hostfw_agent::{
    compile::{
        compile,
        evaluate::{Addresses, Packet, evaluate},
        image::Image,
    },
    select::select,
};
use hostfw_common::verdict::{Direction, Reason};

const ETH0: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;

const NODE1: &str = "10.240.0.11";
const NODE1_V6: &str = "fd00:10:240::11";
const NODE2: &str = "10.240.0.12";
const NODE2_V6: &str = "fd00:10:240::12";
const POD: &str = "192.168.1.7";
const OUTSIDE: &str = "203.0.113.9";
const OUTSIDE_V6: &str = "2001:db8::9";

/// The image of a node after the first `steps` files.
fn after(steps: usize, node: &str) -> Image {
    let files: Vec<_> = STEPS[..steps].iter().map(|step| example(step)).collect();
    let model = read(&files).expect("the tutorial's files");
    compile(&select(&model, node, &interfaces(node))).expect("a small selection")
}

fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Packet {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let addresses = match (address(source), address(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 {
            source: source.octets(),
            destination: destination.octets(),
        },
        (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses::V6 {
            source: source.octets(),
            destination: destination.octets(),
        },
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("two families: {source}, {destination}")
        }
    };
    Packet {
        addresses,
        protocol,
        source_port: 40000,
        destination_port: port,
    }
}

fn inbound(image: &Image, source: &str, destination: &str, port: u16) -> Reason {
    let packet = packet(source, destination, TCP, port);
    evaluate(image, ETH0, Direction::Ingress, &packet).reason
}

fn outbound(image: &Image, source: &str, destination: &str, protocol: u8, port: u16) -> Reason {
    let packet = packet(source, destination, protocol, port);
    evaluate(image, ETH0, Direction::Egress, &packet).reason
}

#[test]
fn policies_without_endpoints_do_nothing() {
    let image = after(1, "node1");
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31852), Reason::NoEndpoint);
    assert_eq!(
        outbound(&image, NODE1, OUTSIDE, TCP, 443),
        Reason::NoEndpoint
    );
}

#[test]
fn endpoints_close_the_node_to_the_outside() {
    let image = after(2, "node1");
    for port in [31852, 31853, 80] {
        assert_eq!(inbound(&image, OUTSIDE, NODE1, port), Reason::RuleDeny);
        assert_eq!(
            inbound(&image, OUTSIDE_V6, NODE1_V6, port),
            Reason::RuleDeny
        );
        assert_eq!(inbound(&image, NODE2, NODE1, port), Reason::RuleAllow);
        assert_eq!(inbound(&image, POD, NODE1, port), Reason::RuleAllow);
    }
    // Pre-DNAT policy judges what is only routed through, too.
    assert_eq!(inbound(&image, OUTSIDE, POD, 80), Reason::RuleDeny);
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 22), Reason::Failsafe);
    assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, 22), Reason::Failsafe);
    assert_eq!(
        outbound(&image, NODE1, OUTSIDE, TCP, 443),
        Reason::RuleAllow
    );
    assert_eq!(
        outbound(&image, NODE1_V6, OUTSIDE_V6, UDP, 123),
        Reason::RuleAllow
    );
    assert_eq!(outbound(&image, NODE1, OUTSIDE, UDP, 53), Reason::Failsafe);
}

#[test]
fn in_cluster_ipv6_is_closed_until_its_networks_are_allowed() {
    let image = after(2, "node1");
    assert_eq!(inbound(&image, NODE2_V6, NODE1_V6, 80), Reason::RuleDeny);
    let image = after(3, "node1");
    assert_eq!(inbound(&image, NODE2_V6, NODE1_V6, 80), Reason::RuleAllow);
    assert_eq!(
        inbound(&image, "fd00:192:168:5::1", NODE1_V6, 80),
        Reason::RuleAllow
    );
    assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, 80), Reason::RuleDeny);
}

#[test]
fn pinhole_opens_one_nodeport_at_the_nodes_own_addresses() {
    let image = after(4, "node1");
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31852), Reason::RuleAllow);
    assert_eq!(
        inbound(&image, OUTSIDE_V6, NODE1_V6, 31852),
        Reason::RuleAllow
    );
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31853), Reason::RuleDeny);
    assert_eq!(inbound(&image, OUTSIDE, POD, 31852), Reason::RuleDeny);
    let udp = packet(OUTSIDE, NODE1, UDP, 31852);
    assert_eq!(
        evaluate(&image, ETH0, Direction::Ingress, &udp).reason,
        Reason::RuleDeny
    );
}

#[test]
fn special_label_opens_the_nodeport_through_its_node_only() {
    let image = after(5, "node1");
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31852), Reason::RuleDeny);
    let image = after(5, "node2");
    assert_eq!(inbound(&image, OUTSIDE, NODE2, 31852), Reason::RuleAllow);
    assert_eq!(inbound(&image, OUTSIDE, NODE2, 31853), Reason::RuleDeny);
}

#[test]
fn endpoints_alone_deny_egress_but_for_fail_safes() {
    let model = read(&[example("2-endpoints")]).expect("the tutorial's files");
    let selection = select(&model, "node1", &interfaces("node1"));
    let image = compile(&selection).expect("a small selection");
    assert_eq!(
        outbound(&image, NODE1, OUTSIDE, TCP, 443),
        Reason::EndpointDefault
    );
    assert_eq!(outbound(&image, NODE1, OUTSIDE, UDP, 67), Reason::Failsafe);
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 80), Reason::NoMatch);
}
