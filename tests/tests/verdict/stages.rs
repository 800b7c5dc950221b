//! What the stages are to each other, and what they leave behind.

use std::fmt::Write as _;

use hostfw_common::{
    endpoint::{FLAG_LEARNING, FLAG_NETFILTER},
    policy::Action,
    stage::List,
    verdict::Reason::{
        EndpointDefault, Established, Failsafe, Forwarded, Learning, NoMatch, RuleAllow, RuleDeny,
        TierDefault, Tunnel, UntrackedAllow, UntrackedDeny,
    },
};
use hostfw_tests::packet::{
    Packet,
    flags::{ACK, SYN},
};

use super::{
    lab::{Hook, lab, socket},
    policy::{ENDPOINT, pre_dnat},
};

const CLIENT: &str = "203.0.113.10:40000";
const SERVER: &str = "10.240.0.11:8080";

/// An untracked policy with these rules, in YAML flow style.
pub(super) fn untracked(ingress: &str, egress: &str) -> String {
    format!(
        "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: untracked}}
spec: {{doNotTrack: true, applyOnForward: true, selector: all(), types: [Ingress, Egress],
  ingress: [{ingress}], egress: [{egress}]}}
---
"
    )
}

fn tcp(from: &str, to: &str, flags: u8) -> Packet {
    Packet::tcp(socket(from), socket(to), flags)
}

#[test]
fn untracked_allow_leaves_no_flow() {
    let Some(mut lab) = lab("untracked") else {
        return;
    };
    let port = "{action: Allow, protocol: TCP, destination: {ports: [8080]}}";
    let deny = pre_dnat("deny", 1, "{action: Deny}");
    lab.enforce(&[ENDPOINT, &untracked(port, ""), &deny].concat());
    for hook in Hook::INGRESS {
        assert_eq!(lab.judge(hook, &tcp(CLIENT, SERVER, SYN)), UntrackedAllow);
        assert_eq!(lab.flow_counts(), (0, 0), "{hook:?}");
    }
    // So an answer is none, unless a rule lets it out.
    let answer = tcp(SERVER, CLIENT, SYN | ACK);
    assert_eq!(lab.judge(Hook::TcOut, &answer), EndpointDefault);
    let from_port = "{action: Allow, protocol: TCP, source: {ports: [8080]}}";
    lab.enforce(&[ENDPOINT, &untracked(port, from_port), &deny].concat());
    assert_eq!(lab.judge(Hook::TcOut, &answer), UntrackedAllow);
    assert_eq!(lab.flow_counts(), (0, 0));
    // No part of the stage is forwarded packets' on their way out.
    assert_eq!(lab.judge(Hook::TcForward, &answer), Forwarded);
}

#[test]
fn untracked_deny_cuts_established_flows() {
    let Some(mut lab) = lab("untracked deny") else {
        return;
    };
    lab.enforce(ENDPOINT);
    assert_eq!(lab.judge(Hook::Xdp, &tcp(CLIENT, SERVER, SYN)), NoMatch);
    let answer = tcp(SERVER, CLIENT, SYN | ACK);
    assert_eq!(lab.judge(Hook::TcOut, &answer), Established);
    let deny = "{action: Deny, protocol: TCP, destination: {ports: [8080]}}";
    lab.enforce(&[ENDPOINT, &untracked(deny, "")].concat());
    assert_eq!(
        lab.judge(Hook::Xdp, &tcp(CLIENT, SERVER, ACK)),
        UntrackedDeny
    );
    assert_eq!(lab.judge(Hook::TcOut, &answer), Established);
}

#[test]
fn failsafes_lead_around_untracked_policy_with_their_answers() {
    let Some(mut lab) = lab("untracked failsafes") else {
        return;
    };
    lab.enforce(&[ENDPOINT, &untracked("{action: Deny}", "{action: Deny}")].concat());
    // Ports: 22 is inbound alone, 53 outbound alone (UDP).
    let udp = |from, to| Packet::udp(socket(from), socket(to));
    for (hook, packet, expected) in [
        (
            Hook::Xdp,
            tcp(CLIENT, "10.240.0.11:22", SYN),
            [NoMatch, Failsafe],
        ),
        (
            Hook::Xdp,
            udp("203.0.113.53:53", "10.240.0.11:40000"),
            [NoMatch, Failsafe],
        ),
        (
            Hook::Xdp,
            udp(CLIENT, "10.240.0.11:53"),
            [UntrackedDeny, UntrackedDeny],
        ),
        (
            Hook::Xdp,
            tcp("203.0.113.10:22", SERVER, ACK),
            [UntrackedDeny, UntrackedDeny],
        ),
        (
            Hook::TcOut,
            udp("10.240.0.11:40000", "203.0.113.53:53"),
            [Failsafe, Failsafe],
        ),
        (
            Hook::TcOut,
            tcp("10.240.0.11:22", "198.51.100.7:40000", ACK),
            [EndpointDefault, EndpointDefault],
        ),
        (
            Hook::TcOut,
            tcp("10.240.0.11:40000", "198.51.100.7:22", SYN),
            [UntrackedDeny, UntrackedDeny],
        ),
    ] {
        lab.forget();
        let found = lab.judge(hook, &packet);
        assert!(expected.contains(&found), "{found:?} of {packet:?}");
    }
}

#[test]
fn tunnels_between_nodes_pass_and_leave_no_flow() {
    let Some(mut lab) = lab("tunnels") else {
        return;
    };
    let endpoints = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1-eth0}
spec: {interfaceName: eth0, node: node1, expectedIPs: [10.240.0.11, 'fd00:10:240::11']}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node2-eth0}
spec: {interfaceName: eth0, node: node2, expectedIPs: [10.240.0.12, 'fd00:10:240::12']}
---
";
    let deny = pre_dnat("deny", 1, "{action: Deny}");
    lab.enforce(&[endpoints, &deny].concat());
    let udp = |from, to| Packet::udp(socket(from), socket(to));
    for (hook, packet, expected) in [
        (
            Hook::Xdp,
            udp("10.240.0.12:40000", "10.240.0.11:4789"),
            Tunnel,
        ),
        (
            Hook::Xdp,
            udp("[fd00:10:240::12]:40000", "[fd00:10:240::11]:4789"),
            Tunnel,
        ),
        (
            Hook::TcOut,
            udp("10.240.0.11:40000", "10.240.0.12:4789"),
            Tunnel,
        ),
        // Another port, another sender, another protocol.
        (
            Hook::Xdp,
            udp("10.240.0.12:40000", "10.240.0.11:4790"),
            RuleDeny,
        ),
        (
            Hook::Xdp,
            udp("10.240.0.13:40000", "10.240.0.11:4789"),
            RuleDeny,
        ),
        (
            Hook::Xdp,
            udp("10.240.0.12:4789", "10.240.0.11:40000"),
            RuleDeny,
        ),
        (
            Hook::Xdp,
            tcp("10.240.0.12:40000", "10.240.0.11:4789", SYN),
            RuleDeny,
        ),
    ] {
        assert_eq!(lab.judge(hook, &packet), expected, "{packet:?}");
        assert_eq!(lab.flow_counts(), (0, 0));
    }
    // Geneve is one if it has a port.
    let geneve = udp("10.240.0.12:40000", "10.240.0.11:6081");
    let geneve_v6 = udp("[fd00:10:240::12]:40000", "[fd00:10:240::11]:6081");
    assert_eq!(lab.judge(Hook::Xdp, &geneve), RuleDeny);
    let felix = "
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {genevePort: 6081}
---
";
    lab.enforce(&[endpoints, felix, &deny].concat());
    for packet in [geneve, geneve_v6] {
        assert_eq!(lab.judge(Hook::Xdp, &packet), Tunnel);
    }
    // Untracked policy comes first.
    lab.enforce(&[endpoints, &untracked("{action: Deny}", ""), &deny].concat());
    let tunnel = udp("10.240.0.12:40000", "10.240.0.11:4789");
    assert_eq!(lab.judge(Hook::Xdp, &tunnel), UntrackedDeny);
}

#[test]
fn what_netfilter_judges_is_recorded_there() {
    let Some(mut lab) = lab("netfilter") else {
        return;
    };
    let model = super::lab::model(ENDPOINT);
    let selection = hostfw_agent::select::select(&model, "node1", &[super::lab::eth0()]);
    let mut image = hostfw_agent::compile::compile(&selection).unwrap();
    let mut flag = |image: &mut hostfw_agent::compile::image::Image, flags| {
        for endpoint in image.endpoints.values_mut() {
            endpoint.flags |= flags;
        }
        lab.switch(image);
    };
    flag(&mut image, FLAG_NETFILTER);
    let (syn, answer) = (tcp(CLIENT, SERVER, SYN), tcp(SERVER, CLIENT, SYN | ACK));
    flag(&mut image, FLAG_NETFILTER);
    for hook in Hook::INGRESS {
        assert_eq!(lab.judge(hook, &syn), NoMatch);
        assert_eq!(lab.flow_counts(), (0, 0), "{hook:?}");
    }
    // The normal stage may have dropped it: then this is no answer.
    assert_eq!(lab.judge(Hook::TcOut, &answer), EndpointDefault);
    // What is forwarded out has passed the forward stage.
    assert_eq!(lab.judge(Hook::TcForward, &answer), Forwarded);
    assert_eq!(lab.flow_counts(), (1, 0));
    // And the other side's answers are still seen first here.
    assert_eq!(lab.judge(Hook::Xdp, &tcp(CLIENT, SERVER, ACK)), Established);
    assert_eq!(lab.flow_counts(), (0, 1));
    lab.forget();
    for endpoint in image.endpoints.values_mut() {
        endpoint.flags |= FLAG_LEARNING;
    }
    lab.switch(&image);
    assert_eq!(lab.judge(Hook::Xdp, &syn), Learning);
    assert_eq!(lab.flow_counts(), (1, 0), "what is learnt is recorded");
}

#[test]
fn staged_policy_tells_what_it_would_do_and_does_not() {
    let Some(mut lab) = lab("staged") else {
        return;
    };
    let staged = pre_dnat("staged", 1, "{action: Log}, {action: Deny}").replace(
        "kind: GlobalNetworkPolicy",
        "kind: StagedGlobalNetworkPolicy",
    );
    let enforced = pre_dnat("enforced", 2, "{action: Log}, {action: Allow}");
    lab.enforce(&[ENDPOINT, &staged, &enforced].concat());
    lab.events();
    assert_eq!(lab.judge(Hook::Xdp, &tcp(CLIENT, SERVER, SYN)), RuleAllow);
    let told: Vec<_> = lab
        .events()
        .iter()
        .map(|event| {
            let action = Action::from_number(event.rule.action).unwrap();
            (event.list, event.rule.index, action)
        })
        .collect();
    let list = List::PreDnat as u8;
    assert_eq!(
        told,
        [
            (list, 0, Action::Log),
            (list, 1, Action::StagedDeny),
            (list, 0, Action::Log),
        ]
    );
}

#[test]
fn pass_skips_the_rest_of_its_tier_however_long() {
    let Some(mut lab) = lab("pass") else {
        return;
    };
    for between in [0, 1, 61, 62, 63, 64, 126, 127, 128, 700] {
        let mut rules =
            "{action: Pass, protocol: TCP, destination: {ports: [8080]}}, {action: Log}".to_owned();
        for _ in 0..between {
            rules.push_str(", {action: Deny, protocol: UDP}");
        }
        let mut yaml = ENDPOINT.to_owned();
        write!(
            yaml,
            "
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {{name: first}}
spec: {{order: 1}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: first.pass}}
spec: {{tier: first, selector: all(), types: [Egress], egress: [{rules}]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: allow}}
spec: {{selector: all(), types: [Egress], egress: [{{action: Allow, protocol: TCP}}]}}
---
"
        )
        .unwrap();
        lab.enforce(&yaml);
        lab.events();
        lab.forget();
        let passed = tcp("10.240.0.11:40000", "203.0.113.10:8080", SYN);
        assert_eq!(lab.judge(Hook::TcOut, &passed), RuleAllow, "{between}");
        assert!(lab.events().is_empty(), "{between}: skipped and yet told");
        let stays = tcp("10.240.0.11:40000", "203.0.113.10:8081", SYN);
        assert_eq!(lab.judge(Hook::TcOut, &stays), TierDefault, "{between}");
        assert_eq!(lab.events().len(), 1, "{between}");
    }
}
