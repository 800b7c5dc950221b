//! The tutorial, step by step: what becomes of the first packet of a flow.

mod fixture;

use std::net::IpAddr;

use fixture::{STEPS, example, interfaces, read};
use hostfw_agent::{
    compile::{compile, evaluate::answer, image::Image},
    question::{Path, Question, State, Why},
    select::select,
};
use hostfw_common::verdict::Direction;

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

/// Whether a packet passes, and why.
type Verdict = (bool, Why);
const ALLOWED: Verdict = (true, Why::Rule);
const DENIED: Verdict = (false, Why::Rule);
const FAILSAFE: Verdict = (true, Why::Failsafe);

/// What becomes of the first packet of a flow.
fn judge(
    image: &Image,
    (direction, path): (Direction, Path),
    (source, destination): (&str, &str),
    (protocol, port): (u8, u16),
) -> Verdict {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let question = Question {
        interface: "eth0".to_owned(),
        direction,
        path,
        protocol,
        source: address(source),
        source_port: 40000,
        destination: address(destination),
        destination_port: port,
        icmp: None,
        translated: None,
        state: State::New,
    };
    let answer = answer(image, ETH0, &question);
    (answer.allowed, answer.reason)
}

/// TCP to a process of the node.
fn inbound(image: &Image, source: &str, destination: &str, port: u16) -> Verdict {
    let way = (Direction::Ingress, Path::Local);
    judge(image, way, (source, destination), (TCP, port))
}

/// TCP that the node routes.
fn routed(image: &Image, source: &str, destination: &str, port: u16) -> Verdict {
    let way = (Direction::Ingress, Path::Forward);
    judge(image, way, (source, destination), (TCP, port))
}

fn outbound(image: &Image, source: &str, destination: &str, protocol: u8, port: u16) -> Verdict {
    let way = (Direction::Egress, Path::Local);
    judge(image, way, (source, destination), (protocol, port))
}

#[test]
fn policies_without_endpoints_do_nothing() {
    let image = after(1, "node1");
    assert_eq!(
        inbound(&image, OUTSIDE, NODE1, 31852),
        (true, Why::NoEndpoint)
    );
    assert_eq!(
        outbound(&image, NODE1, OUTSIDE, TCP, 443),
        (true, Why::NoEndpoint)
    );
}

#[test]
fn endpoints_close_the_node_to_the_outside() {
    let image = after(2, "node1");
    for port in [31852, 31853, 80] {
        assert_eq!(inbound(&image, OUTSIDE, NODE1, port), DENIED);
        assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, port), DENIED);
        assert_eq!(inbound(&image, NODE2, NODE1, port), ALLOWED);
        assert_eq!(inbound(&image, POD, NODE1, port), ALLOWED);
    }
    // Pre-DNAT policy judges what is only routed through, too.
    assert_eq!(routed(&image, OUTSIDE, POD, 80), DENIED);
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 22), FAILSAFE);
    assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, 22), FAILSAFE);
    assert_eq!(outbound(&image, NODE1, OUTSIDE, TCP, 443), ALLOWED);
    assert_eq!(outbound(&image, NODE1_V6, OUTSIDE_V6, UDP, 123), ALLOWED);
    assert_eq!(outbound(&image, NODE1, OUTSIDE, UDP, 53), FAILSAFE);
}

#[test]
fn in_cluster_ipv6_is_closed_until_its_networks_are_allowed() {
    let image = after(2, "node1");
    assert_eq!(inbound(&image, NODE2_V6, NODE1_V6, 80), DENIED);
    let image = after(3, "node1");
    assert_eq!(inbound(&image, NODE2_V6, NODE1_V6, 80), ALLOWED);
    assert_eq!(inbound(&image, "fd00:192:168:5::1", NODE1_V6, 80), ALLOWED);
    assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, 80), DENIED);
}

#[test]
fn pinhole_opens_one_nodeport_at_the_nodes_own_addresses() {
    let image = after(4, "node1");
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31852), ALLOWED);
    assert_eq!(inbound(&image, OUTSIDE_V6, NODE1_V6, 31852), ALLOWED);
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31853), DENIED);
    assert_eq!(routed(&image, OUTSIDE, POD, 31852), DENIED);
    let way = (Direction::Ingress, Path::Local);
    let udp = judge(&image, way, (OUTSIDE, NODE1), (UDP, 31852));
    assert_eq!(udp, DENIED);
}

#[test]
fn special_label_opens_the_nodeport_through_its_node_only() {
    let image = after(5, "node1");
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 31852), DENIED);
    let image = after(5, "node2");
    assert_eq!(inbound(&image, OUTSIDE, NODE2, 31852), ALLOWED);
    assert_eq!(inbound(&image, OUTSIDE, NODE2, 31853), DENIED);
}

#[test]
fn endpoints_alone_close_the_host_but_for_fail_safes() {
    let model = read(&[example("2-endpoints")]).expect("the tutorial's files");
    let selection = select(&model, "node1", &interfaces("node1"));
    let image = compile(&selection).expect("a small selection");
    assert_eq!(
        outbound(&image, NODE1, OUTSIDE, TCP, 443),
        (false, Why::EndpointDefault)
    );
    assert_eq!(outbound(&image, NODE1, OUTSIDE, UDP, 67), FAILSAFE);
    assert_eq!(inbound(&image, OUTSIDE, NODE1, 22), FAILSAFE);
    assert_eq!(
        inbound(&image, OUTSIDE, NODE1, 80),
        (false, Why::EndpointDefault)
    );
    assert_eq!(routed(&image, OUTSIDE, POD, 80), (true, Why::NoMatch));
}
