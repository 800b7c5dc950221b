//! What the semantics say, case by case.

mod facts;
mod matching;
mod order;
mod template;
mod told;
mod traps;

use std::net::IpAddr;

use hostfw_common::{stage::Stage, verdict::Direction};

use super::Reference;
use crate::{
    model::Interface,
    question::{Answer, Outcome, Path, Question, State, Why},
    resource::{Resource, parse_documents},
};

const NODE: &str = "10.240.0.11";
const NODE6: &str = "fd00::11";
const OUTSIDE: &str = "192.0.2.99";
const POD: &str = "10.48.0.7";

/// An endpoint of `eth0` on `node1` with the label that the policies here
/// select by.
const ENDPOINT: &str = "
kind: HostEndpoint
metadata: {name: node1-eth0, labels: {host-endpoint: ingress}}
spec: {node: node1, interfaceName: eth0}
";

/// A policy with the selector of the tutorial.
fn policy(name: &str, spec: &str) -> String {
    object(
        "GlobalNetworkPolicy",
        name,
        &format!("selector: has(host-endpoint)\n{spec}"),
    )
}

/// A pre-DNAT policy.
fn pre_dnat(name: &str, spec: &str) -> String {
    policy(
        name,
        &format!("preDNAT: true\napplyOnForward: true\n{spec}"),
    )
}

/// An object whose spec is given as lines of YAML.
fn object(kind: &str, name: &str, spec: &str) -> String {
    let lines: Vec<String> = spec.lines().map(|line| format!("  {line}")).collect();
    format!(
        "kind: {kind}\nmetadata: {{name: '{name}'}}\nspec:\n{}\n",
        lines.join("\n")
    )
}

fn resources(objects: &[&str]) -> Vec<Resource> {
    objects
        .iter()
        .flat_map(|object| {
            let object = object.trim_start();
            let version = if object.starts_with("kind: Node\n") {
                "v1"
            } else if object.starts_with("kind: HostEndpointTemplate")
                || object.starts_with("kind: NodeAddresses")
            {
                "hostfw.io/v1alpha1"
            } else {
                "projectcalico.org/v3"
            };
            parse_documents(&format!("apiVersion: {version}\n{object}"))
        })
        .flat_map(|document| document.result.unwrap())
        .collect()
}

fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        link_header: true,
        loopback: name == "lo",
        up: true,
        master: None,
    }
}

fn interfaces() -> Vec<Interface> {
    vec![
        interface(1, "lo", &["127.0.0.1"]),
        interface(2, "eth0", &[NODE, NODE6]),
        interface(3, "eth1", &["10.250.0.11"]),
        interface(4, "cali7", &[]),
    ]
}

/// What `node1` makes of the objects.
fn node(objects: &[&str]) -> Reference {
    let reference = Reference::new(&resources(objects), "node1", &interfaces());
    assert_eq!(reference.left_out(), []);
    reference
}

/// A packet on `eth0`, in the way that the test goes on to change.
fn packet(
    direction: Direction,
    path: Path,
    source: &str,
    destination: &str,
    port: u16,
) -> Question {
    Question {
        interface: "eth0".to_owned(),
        direction,
        path,
        protocol: 6,
        source: source.parse().unwrap(),
        source_port: 40_000,
        destination: destination.parse().unwrap(),
        destination_port: port,
        icmp: None,
        translated: None,
        state: State::New,
    }
}

/// From outside to a local process.
fn inbound(port: u16) -> Question {
    packet(Direction::Ingress, Path::Local, OUTSIDE, NODE, port)
}

/// From outside to a pod, routed.
fn routed(port: u16) -> Question {
    packet(Direction::Ingress, Path::Forward, OUTSIDE, POD, port)
}

/// From a local process.
fn outbound(port: u16) -> Question {
    packet(Direction::Egress, Path::Local, NODE, OUTSIDE, port)
}

/// From a pod to the outside.
fn routed_out(port: u16) -> Question {
    packet(Direction::Egress, Path::Forward, POD, OUTSIDE, port)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Verdict and what decided, in a line: `deny preDNAT default/p[0] rule`.
fn told(answer: &Answer) -> String {
    let verdict = if answer.allowed { "allow" } else { "deny" };
    let stage = answer.stage.map_or("-", Stage::name);
    let tier = answer.tier.as_deref().unwrap_or("-");
    let policy = answer.policy.as_deref().unwrap_or("-");
    let rule = answer.rule.map_or("-".to_owned(), |rule| rule.to_string());
    let why = serde_json::to_value(answer.reason).unwrap();
    format!(
        "{verdict} {stage} {tier}/{policy}[{rule}] {}",
        why.as_str().unwrap()
    )
}

/// What each stage made of it: `untracked=no-match preDNAT=deny normal=skipped`.
fn stages(answer: &Answer) -> String {
    let stages: Vec<String> = answer
        .stages
        .iter()
        .map(|stage| {
            let outcome = match stage.outcome {
                Outcome::Allow => "allow",
                Outcome::Deny => "deny",
                Outcome::NoMatch => "no-match",
                Outcome::Skipped => "skipped",
            };
            format!("{}={outcome}", stage.stage.name())
        })
        .collect();
    stages.join(" ")
}

#[track_caller]
fn judged(reference: &Reference, question: &Question, expected: &str) {
    assert_eq!(told(&reference.judge(question)), expected, "{question:?}");
}

#[track_caller]
fn judged_by(reference: &Reference, question: &Question, allowed: bool, why: Why) {
    let answer = reference.judge(question);
    assert_eq!(
        (answer.allowed, answer.reason),
        (allowed, why),
        "{question:?}"
    );
}
