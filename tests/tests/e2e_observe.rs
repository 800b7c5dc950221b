//! `--observe-only`: what policy denies passes, and is counted and reported at
//! every hook that would have dropped it.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    expectations::Expectation::{Closed, Open},
    policed::Policed,
    probe::{
        Action::{BigUdp, Ping, Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, forward, pre_dnat, resource},
    topology::{
        Host::{Client, Node1, Node2, Pod1},
        TCP_PORT, Topology, UDP_PORT,
        kube_proxy::NODE_PORT,
    },
};
use serde_json::Value;

/// Events are written as they come, behind the packets.
const PATIENCE: Duration = Duration::from_secs(40);

/// The pods' addresses.
const PODS: [&str; 2] = ["192.168.0.0/16", "fd00:192:168::/48"];

/// Denied where they come in from the wire: UDP. By forward policy: what is for
/// pods, and what they send. By normal policy's default: all else.
fn denials() -> Vec<String> {
    vec![
        endpoint(Node1, ""),
        pre_dnat(
            "no-udp",
            "order: 1, ingress: [{action: Deny, protocol: UDP}]",
        ),
        forward(
            "no-pods",
            &format!(
                "order: 2, ingress: [{}], egress: [{}]",
                PODS.map(|pods| format!("{{action: Deny, destination: {{nets: ['{pods}']}}}}"))
                    .join(", "),
                PODS.map(|pods| format!("{{action: Deny, source: {{nets: ['{pods}']}}}}"))
                    .join(", "),
            ),
        ),
        resource(
            "StagedGlobalNetworkPolicy",
            "would-close",
            "order: 3, selector: has(host-endpoint), ingress: [{action: Deny, protocol: TCP}]",
        ),
    ]
}

/// Checkpoint, reason and verdict of what was counted on Node1.
fn counted(cluster: &Cluster<'_>) -> Result<BTreeSet<[String; 3]>> {
    let status = cluster.status(Node1)?;
    Ok(entries(&status["counters"])
        .map(|one| {
            let word = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
            ["checkpoint", "reason", "verdict"].map(word)
        })
        .collect())
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Waits until a line of the log of Node1's agent has all of these.
fn wait_for_log(parts: &[&str]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let log = fs::read_to_string(cluster::log(Node1))?;
        if log
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
        {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "no line with {parts:?} in:\n{log}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_denied_passes_and_is_told_until_policy_is_enforced() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start_as(&topology, &binaries, &["--observe-only"])?;
    let denied = [
        (Client, Udp(To(Node1), UDP_PORT)),
        (Client, BigUdp(To(Node1))),
        (Client, Tcp(To(Node1), TCP_PORT)),
        (Client, Ping(To(Node1))),
        (Client, Tcp(To(Node1), NODE_PORT)),
        (Client, Tcp(To(Pod1), TCP_PORT)),
        (Client, Ping(To(Pod1))),
        (Pod1, Tcp(To(Client), TCP_PORT)),
        (Node1, Tcp(To(Node2), TCP_PORT)),
    ];
    let [open, closed] = [Open, Closed].map(|expected| denied.map(|(a, b)| (a, b, expected)));

    policed.enforce("observed", &denials())?;
    policed.expect(&open)?;
    let counted_so_far = counted(policed.cluster())?;
    for (checkpoint, reason) in [
        ("wire-in", "rule-deny"),
        ("forward", "rule-deny"),
        ("local-in", "tier-default"),
        ("wire-out", "tier-default"),
    ] {
        let wanted = [checkpoint, reason, "would-drop"].map(str::to_owned);
        assert!(counted_so_far.contains(&wanted), "{counted_so_far:#?}");
    }
    assert!(
        counted_so_far
            .iter()
            .all(|[_, _, verdict]| verdict != "drop"),
        "{counted_so_far:#?}"
    );
    let status = policed.cluster().status(Node1)?;
    let staged = entries(&status["staged"])
        .find(|one| one["policy"] == "would-close" && one["would"] == "deny")
        .and_then(|one| one["packets"].as_u64());
    assert!(staged > Some(0), "{status:#}");
    let conditions = &status["endpoints"][0]["conditions"];
    assert!(
        entries(conditions).any(|one| one["type"] == "DenialsEnforced"
            && one["status"] == false
            && one["reason"] == "ObserveOnly"),
        "{status:#}"
    );
    for policy in ["no-udp", "no-pods"] {
        wait_for_log(&["would have been denied", policy])?;
    }

    // Enforced by the next agent, what was open goes on, and nothing else.
    let mut held = policed.hold(&denied.map(|(from, action)| (from, action))[2..3])?;
    restart(&mut policed, &[])?;
    policed.enforce("enforced", &denials())?;
    policed.expect(&closed)?;
    policed.expect_held(&mut held, Open);
    let enforced = counted(policed.cluster())?;
    assert!(
        enforced.iter().any(|[_, _, verdict]| verdict == "drop"),
        "{enforced:#?}"
    );

    // And back.
    restart(&mut policed, &["--observe-only"])?;
    policed.enforce("observed again", &denials())?;
    policed.expect(&open)?;
    policed.expect_held(&mut held, Open);
    policed.finish()
}

/// Ends the agent, and starts one with these arguments.
fn restart(policed: &mut Policed<'_>, arguments: &[&str]) -> Result<()> {
    let cluster = policed.cluster_mut();
    cluster.stop_agents()?;
    cluster.set_arguments(arguments);
    cluster.start_agents()
}
