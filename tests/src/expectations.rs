//! What every probe should find after every step of the tutorial, written
//! down from the tutorial by hand; nothing here is computed from policies.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    probe::{Action, Outcome, Probe, Target},
    topology::{
        FAILSAFE_PORT, Family, Host, TCP_PORT, UDP_PORT,
        kube_proxy::{CLOSED_NODE_PORT, NODE_PORT},
    },
};

/// A step of the tutorial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing is configured.
    Nothing,
    /// The policies, but no endpoint that they could apply to.
    Policies,
    /// The endpoints.
    Endpoints,
    /// The IPv6 networks of the cluster, which the tutorial's policy lacks.
    Ipv6,
    /// The pinhole for the NodePort.
    NodePort,
    /// The pinhole only on the endpoints with the special label: node2's.
    SpecialLabel,
    /// Normal, forward and untracked policy instead of one Deny before DNAT.
    AllStages,
}

impl Step {
    /// All steps, in the order of the table's columns.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Policies,
        Self::Endpoints,
        Self::Ipv6,
        Self::NodePort,
        Self::SpecialLabel,
        Self::AllStages,
    ];

    /// Its number in the tutorial.
    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::Nothing => "0",
            Self::Policies => "1",
            Self::Endpoints => "2",
            Self::Ipv6 => "2b",
            Self::NodePort => "3",
            Self::SpecialLabel => "4",
            Self::AllStages => "5",
        }
    }

    /// What it does, in a few words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing configured",
            Self::Policies => "policies, no endpoints",
            Self::Endpoints => "host endpoints",
            Self::Ipv6 => "IPv6 networks of the cluster",
            Self::NodePort => "pinhole for NodePort 31852",
            Self::SpecialLabel => "pinhole only with the special label (node2)",
            Self::AllStages => "normal, forward and untracked policy",
        }
    }

    /// The file in examples/protect-hosts that it applies.
    #[must_use]
    pub const fn file(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Policies => Some("1-policies.yaml"),
            Self::Endpoints => Some("2-endpoints.yaml"),
            Self::Ipv6 => Some("2b-ipv6.yaml"),
            Self::NodePort => Some("3-nodeport.yaml"),
            Self::SpecialLabel => Some("4-special-label.yaml"),
            Self::AllStages => Some("5-all-stages.yaml"),
        }
    }

    /// The policy that it deletes.
    #[must_use]
    pub const fn deletes(self) -> Option<&'static str> {
        match self {
            Self::AllStages => Some("drop-other-ingress"),
            Self::Nothing
            | Self::Policies
            | Self::Endpoints
            | Self::Ipv6
            | Self::NodePort
            | Self::SpecialLabel => None,
        }
    }

    const fn column(self) -> usize {
        self as usize
    }
}

/// What a probe should find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It works.
    Open,
    /// It gets no answer at all; a refusal would not do.
    Closed,
    /// It is refused: nobody listens, and the refusal comes back.
    Refused,
    /// Of the service's backends only this one answers: the way to the other
    /// is closed.
    Only(Host),
}

impl Expectation {
    /// Whether this is what was found.
    #[must_use]
    pub fn agrees(self, outcome: &Outcome) -> bool {
        match self {
            Self::Open => *outcome == Outcome::Open,
            Self::Closed => *outcome == Outcome::Closed,
            Self::Refused => *outcome == Outcome::Refused,
            Self::Only(host) => *outcome == Outcome::Only([host.name().to_owned()].into()),
        }
    }

    /// Whether it would be this with the answers that are missing.
    pub(crate) fn lacks_an_answer(self, outcome: &Outcome) -> bool {
        match self {
            Self::Open => matches!(outcome, Outcome::Closed | Outcome::Only(_)),
            Self::Refused | Self::Only(_) => *outcome == Outcome::Closed,
            Self::Closed => false,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.pad("open"),
            Self::Closed => f.pad("closed"),
            Self::Refused => f.pad("refused"),
            Self::Only(host) => f.pad(&format!("only {host}")),
        }
    }
}

impl Serialize for Expectation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A probe with what it should find, and why.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The probe.
    pub probe: Probe,
    /// By step.
    by_step: [Expectation; 7],
    /// Why so.
    pub reason: &'static str,
}

impl Expected {
    /// What it should find after the step.
    #[must_use]
    pub const fn after(&self, step: Step) -> Expectation {
        self.by_step[step.column()]
    }
}

#[derive(Clone, Copy)]
enum In {
    Both,
    V4,
    V6,
}

struct Row(In, Host, Action, &'static str, &'static str);

const fn host_tcp(host: Host, port: u16) -> Action {
    Action::Tcp(Target::Host(host), port)
}

const fn host_udp(host: Host, port: u16) -> Action {
    Action::Udp(Target::Host(host), port)
}

const fn ping(host: Host) -> Action {
    Action::Ping(Target::Host(host))
}

const SERVICE_TCP: Action = Action::Tcp(Target::ClusterIp, TCP_PORT);

use Host::{Client, Node1, Node2, Pod1, Pod2};
use In::{Both, V4, V6};

/// New connections. By step: `o` open, `x` closed, `1` or `2` only the
/// backend in pod1 or pod2 answers.
#[rustfmt::skip]
const NEW: &[Row] = &[
    //                                                        0 1 2 2b3 4 5
    // From outside: everything is closed from step 2 on, but for the pinhole and the fail-safes,
    // until step 5 opens some at later stages.
    Row(Both, Client, host_tcp(Node1, NODE_PORT),            "o o x x o x x", "step 3 opens it, step 4 leaves it to node2"),
    Row(Both, Client, host_tcp(Node2, NODE_PORT),            "o o x x o o o", "step 3 opens it, node2 has step 4's label"),
    Row(Both, Client, host_udp(Node1, NODE_PORT),            "o o x x x x o", "the pinhole is for TCP; step 5 lets UDP through to pods"),
    Row(Both, Client, host_udp(Node2, NODE_PORT),            "o o x x x x o", "the pinhole is for TCP; step 5 lets UDP through to pods"),
    Row(Both, Client, host_tcp(Node1, CLOSED_NODE_PORT),     "o o x x x x x", "nothing opens it"),
    Row(Both, Client, host_tcp(Node2, CLOSED_NODE_PORT),     "o o x x x x x", "nothing opens it"),
    Row(Both, Client, host_udp(Node2, CLOSED_NODE_PORT),     "o o x x x x o", "nothing opens it; step 5 judges what is behind DNAT"),
    Row(Both, Client, host_tcp(Node1, TCP_PORT),             "o o x x x x o", "a service of the host, from outside; step 5 opens it"),
    Row(Both, Client, host_tcp(Node2, TCP_PORT),             "o o x x x x o", "a service of the host, from outside; step 5 opens it"),
    Row(Both, Client, host_udp(Node1, UDP_PORT),             "o o x x x x o", "a service of the host, from outside; step 5 opens it, untracked"),
    Row(Both, Client, Action::BigUdp(Target::Host(Node1)),   "o o x x x x o", "no fragment slips past; step 5 lets them in, untracked"),
    Row(Both, Client, host_tcp(Node1, FAILSAFE_PORT),        "o o o o o o o", "fail-safe port"),
    Row(Both, Client, host_tcp(Node2, FAILSAFE_PORT),        "o o o o o o o", "fail-safe port"),
    Row(Both, Client, ping(Node1),                           "o o x x x x x", "ICMP is denied with the rest"),
    Row(Both, Client, ping(Node2),                           "o o x x x x x", "ICMP is denied with the rest"),
    Row(Both, Client, host_tcp(Pod1, TCP_PORT),              "o o x x x x x", "routed to a pod: pre-DNAT policy holds there too"),
    Row(Both, Client, host_tcp(Pod2, TCP_PORT),              "o o x x x x x", "routed to a pod: pre-DNAT policy holds there too"),
    Row(Both, Client, host_udp(Pod1, UDP_PORT),              "o o x x x x o", "routed to a pod: pre-DNAT policy holds there too; step 5 opens it"),
    Row(Both, Client, ping(Pod1),                            "o o x x x x x", "routed to a pod: pre-DNAT policy holds there too"),
    Row(Both, Client, host_tcp(Pod1, FAILSAFE_PORT),         "o o o o o o x", "before DNAT a fail-safe holds for any destination; forward policy knows none"),

    // From the other node: IPv4 is allowed as cluster-internal, IPv6 only after step 2b.
    Row(V4,   Node2,  host_tcp(Node1, NODE_PORT),            "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_tcp(Node1, NODE_PORT),            "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  host_udp(Node1, NODE_PORT),            "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_udp(Node1, NODE_PORT),            "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  host_tcp(Node1, CLOSED_NODE_PORT),     "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_tcp(Node1, CLOSED_NODE_PORT),     "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  host_tcp(Node1, TCP_PORT),             "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_tcp(Node1, TCP_PORT),             "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  host_udp(Node1, UDP_PORT),             "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_udp(Node1, UDP_PORT),             "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  Action::BigUdp(Target::Host(Node1)),   "o o o o o o o", "fragments follow their first, both ways"),
    Row(V6,   Node2,  Action::BigUdp(Target::Host(Node1)),   "o o x o o o o", "fragments follow their first, both ways"),
    Row(Both, Node2,  host_tcp(Node1, FAILSAFE_PORT),        "o o o o o o o", "fail-safe port"),
    Row(V4,   Node2,  host_tcp(Pod1, TCP_PORT),              "o o o o o o o", "cluster-internal"),
    Row(V6,   Node2,  host_tcp(Pod1, TCP_PORT),              "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Node2,  ping(Node1),                           "o o o o o o x", "cluster-internal; step 5 denies it ahead of all else"),
    Row(V6,   Node2,  ping(Node1),                           "o o x o o o x", "the tutorial allows IPv4 networks only; 2b mends it; step 5 denies it"),
    Row(V4,   Node2,  ping(Pod1),                            "o o o o o o x", "cluster-internal; step 5 denies it ahead of all else"),
    Row(V6,   Node2,  ping(Pod1),                            "o o x o o o x", "the tutorial allows IPv4 networks only; 2b mends it; step 5 denies it"),

    // From a pod on the other node: the same.
    Row(V4,   Pod2,   host_tcp(Node1, NODE_PORT),            "o o o o o o o", "cluster-internal"),
    Row(V6,   Pod2,   host_tcp(Node1, NODE_PORT),            "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Pod2,   host_tcp(Node1, TCP_PORT),             "o o o o o o o", "cluster-internal"),
    Row(V6,   Pod2,   host_tcp(Node1, TCP_PORT),             "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Pod2,   host_tcp(Pod1, TCP_PORT),              "o o o o o o o", "cluster-internal"),
    Row(V6,   Pod2,   host_tcp(Pod1, TCP_PORT),              "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Pod2,   host_udp(Pod1, UDP_PORT),              "o o o o o o o", "cluster-internal"),
    Row(V6,   Pod2,   host_udp(Pod1, UDP_PORT),              "o o x o o o o", "the tutorial allows IPv4 networks only; 2b mends it"),
    Row(V4,   Pod2,   ping(Pod1),                            "o o o o o o x", "cluster-internal; step 5 denies it ahead of all else"),
    Row(V6,   Pod2,   ping(Pod1),                            "o o x o o o x", "the tutorial allows IPv4 networks only; 2b mends it; step 5 denies it"),

    // Services used from within: one backend is on the own node, the other behind the other node's eth0.
    Row(V4,   Node1,  host_tcp(Node1, NODE_PORT),            "o o o o o o o", "cluster-internal, to the other node for pod2"),
    Row(V6,   Node1,  host_tcp(Node1, NODE_PORT),            "o o 1 o o o o", "in step 2 node2 lets no IPv6 in from node1"),
    Row(V4,   Pod2,   host_tcp(Node2, NODE_PORT),            "o o o o o o o", "cluster-internal, to the other node for pod1"),
    Row(V6,   Pod2,   host_tcp(Node2, NODE_PORT),            "o o 2 o o o o", "in step 2 node1 lets no IPv6 in from node2"),
    Row(V4,   Node2,  SERVICE_TCP,                           "o o o o o o o", "cluster-internal, to the other node for pod1"),
    Row(V6,   Node2,  SERVICE_TCP,                           "o o 2 o o o o", "in step 2 node1 lets no IPv6 in from node2"),
    Row(V4,   Pod2,   SERVICE_TCP,                           "o o o o o o o", "cluster-internal, to the other node for pod1"),
    Row(V6,   Pod2,   SERVICE_TCP,                           "o o 2 o o o o", "in step 2 node1 lets no IPv6 in from pod2"),

    // Inside of a node: eth0 is not on the way.
    Row(Both, Pod2,   host_tcp(Node2, TCP_PORT),             "o o o o o o o", "a pod and its own host"),
    Row(Both, Node1,  host_tcp(Pod1, TCP_PORT),              "o o o o o o o", "a host and its own pod"),

    // To the outside: allowed by policy for hosts, not concerned for pods.
    Row(Both, Node1,  host_tcp(Client, TCP_PORT),            "o o o o o o o", "host egress is allowed, in both IP versions"),
    Row(Both, Node1,  host_udp(Client, UDP_PORT),            "o o o o o o o", "host egress is allowed, in both IP versions"),
    Row(Both, Node1,  Action::BigUdp(Target::Host(Client)),  "o o o o o o o", "fragments of host egress and of its answers"),
    Row(Both, Node1,  ping(Client),                          "o o o o o o o", "host egress is allowed, in both IP versions"),
    Row(Both, Node2,  host_tcp(Client, TCP_PORT),            "o o o o o o o", "host egress is allowed, in both IP versions"),
    Row(Both, Pod1,   host_tcp(Client, TCP_PORT),            "o o o o o o o", "forwarded traffic is not egress policy's; answers are let in"),
    Row(Both, Pod1,   host_udp(Client, UDP_PORT),            "o o o o o o o", "forwarded traffic is not egress policy's; answers are let in"),
    Row(Both, Pod1,   ping(Client),                          "o o o o o o o", "forwarded traffic is not egress policy's; answers are let in"),
    Row(Both, Pod2,   host_tcp(Client, TCP_PORT),            "o o o o o o o", "forwarded traffic is not egress policy's; answers are let in"),
];

/// Connections opened before step 0. Policies decide on new ones only.
#[rustfmt::skip]
const HELD: &[Row] = &[
    //                                                        0 1 2 2b3 4 5
    Row(Both, Client, host_tcp(Node1, NODE_PORT),            "o o o o o o o", "established through DNAT and masquerade"),
    Row(Both, Client, host_tcp(Node2, NODE_PORT),            "o o o o o o o", "established through DNAT and masquerade"),
    Row(Both, Client, host_tcp(Node1, TCP_PORT),             "o o o o o o o", "established with the host"),
    Row(Both, Client, host_udp(Node1, UDP_PORT),             "o o o o o o o", "established with the host"),
    Row(Both, Client, host_tcp(Pod1, TCP_PORT),              "o o o o o o o", "established, routed to a pod"),
    Row(Both, Node2,  host_tcp(Node1, TCP_PORT),             "o o o o o o o", "established between the nodes"),
    Row(Both, Pod1,   host_tcp(Client, TCP_PORT),            "o o o o o o o", "established by a pod, masqueraded"),
    Row(Both, Pod1,   host_udp(Client, UDP_PORT),            "o o o o o o o", "established by a pod, masqueraded"),
    Row(Both, Node1,  host_tcp(Client, TCP_PORT),            "o o o o o o o", "established by the host"),
];

/// What probes of new connections should find.
#[must_use]
pub fn new_connections() -> Vec<Expected> {
    expand(NEW)
}

/// What connections that were opened before step 0 should find.
#[must_use]
pub fn held_connections() -> Vec<Expected> {
    expand(HELD)
}

fn expand(rows: &[Row]) -> Vec<Expected> {
    let mut expected = Vec::new();
    for Row(families, from, action, steps, reason) in rows {
        let families: &[Family] = match families {
            In::Both => &Family::ALL,
            In::V4 => &[Family::V4],
            In::V6 => &[Family::V6],
        };
        for family in families {
            expected.push(Expected {
                probe: Probe {
                    family: *family,
                    from: *from,
                    action: *action,
                },
                by_step: read(steps),
                reason,
            });
        }
    }
    expected
}

/// # Panics
///
/// If the table above is not well-formed, which a test rules out.
fn read(steps: &str) -> [Expectation; 7] {
    let read: Vec<_> = steps
        .split(' ')
        .map(|mark| match mark {
            "o" => Expectation::Open,
            "x" => Expectation::Closed,
            "1" => Expectation::Only(Pod1),
            "2" => Expectation::Only(Pod2),
            _ => panic!("{mark:?} in {steps:?}"),
        })
        .collect();
    read.try_into().expect("seven steps")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_tables_are_well_formed_and_name_no_probe_twice() {
        for table in [new_connections(), held_connections()] {
            let names: BTreeSet<_> = table.iter().map(|one| one.probe.to_string()).collect();
            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn everything_is_open_before_there_is_an_endpoint() {
        for one in new_connections() {
            for step in [Step::Nothing, Step::Policies] {
                assert_eq!(one.after(step), Expectation::Open, "{}", one.probe);
            }
        }
    }

    #[test]
    fn a_refusal_is_not_taken_for_closed() {
        assert!(!Expectation::Closed.agrees(&Outcome::Refused));
        assert!(Expectation::Closed.agrees(&Outcome::Closed));
        let only_pod1 = Outcome::Only(["pod1".to_owned()].into());
        assert!(Expectation::Only(Pod1).agrees(&only_pod1));
        assert!(!Expectation::Only(Pod2).agrees(&only_pod1));
    }
}
