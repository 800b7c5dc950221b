//! What is reported of real packets, as `hostfwctl flows` shows it.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_tests::{
    cluster::{Binaries, Cluster},
    expectations::Expectation::{Closed, Open},
    policed::{Policed, on_node1},
    probe::{
        Action::{Ping, Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, forward, policy, pre_dnat, resource, untracked},
    topology::{
        Family,
        Host::{Client, Node1, Node2, Pod1},
        TCP_PORT, Topology, UDP_PORT,
    },
};
use serde_json::{Value, json};

/// Events are read as they come, behind the packets.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a report of Node1's agent has all of these.
fn wait_for(cluster: &Cluster<'_>, wanted: &Value) -> Result<Value> {
    let begin = Instant::now();
    loop {
        let told = cluster.ctl(&["flows", "-o", "json"], "")?.stdout;
        let reports: Result<Vec<Value>, _> = told.lines().map(serde_json::from_str).collect();
        let reports = reports?;
        let found = reports.into_iter().find(|report| {
            let wanted = wanted.as_object().into_iter().flatten();
            wanted.into_iter().all(|(key, value)| report[key] == *value)
        });
        if let Some(found) = found {
            return Ok(found);
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "no report with {wanted} in:\n{told}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn packets_that_rules_report_are_shown_with_what_reported_them() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    policed.enforce(
        "rules that report",
        &[
            endpoint(Node1, ""),
            pre_dnat(
                "no-udp",
                "order: 1, ingress: [{action: Log, protocol: UDP}, {action: Deny, protocol: UDP}]",
            ),
            resource(
                "StagedGlobalNetworkPolicy",
                "would-close",
                "order: 2, selector: has(host-endpoint), ingress: [{action: Deny}]",
            ),
            policy("let-in", "order: 3, ingress: [{action: Allow}]"),
        ],
    )?;
    policed.expect(&[
        (Client, Tcp(To(Node1), TCP_PORT), Open),
        (Client, Udp(To(Node1), UDP_PORT), Closed),
        (Client, Ping(To(Node1)), Open),
    ])?;
    let logged = wait_for(
        policed.cluster(),
        &json!({
            "verdict": "logged", "policy": "no-udp", "rule": "ingress[0]", "stage": "preDNAT",
            "tier": "default", "kind": "GlobalNetworkPolicy", "interface": "eth0",
            "endpoint": "node1-eth0", "direction": "ingress", "protocol": 17,
            "destinationPort": UDP_PORT,
        }),
    )?;
    assert!(logged["sourcePort"].is_u64(), "{logged:#}");
    wait_for(
        policed.cluster(),
        &json!({
            "verdict": "would-deny", "policy": "would-close", "stage": "normal",
            "protocol": 6, "destinationPort": TCP_PORT,
        }),
    )?;
    let ping = wait_for(
        policed.cluster(),
        &json!({"verdict": "would-deny", "policy": "would-close", "protocol": 1}),
    )?;
    assert_eq!(ping["icmp"], json!([8, 0]), "{ping:#}");
    assert_eq!(ping["sourcePort"], Value::Null, "{ping:#}");
    let text = policed.cluster().ctl(&["flows"], "")?.stdout;
    assert!(
        text.contains("logged eth0 node1-eth0 ingress UDP"),
        "{text}"
    );
    policed.finish()
}

#[test]
fn packets_that_are_denied_are_shown_with_what_denied_them() -> Result<()> {
    on_node1(|_, policed| {
        policed.enforce(
            "denials at every stage",
            &[
                endpoint(Node1, ""),
                resource("Tier", "late", "order: 2000000"),
                untracked(
                    "raw",
                    "order: 1, ingress: [{action: Deny, protocol: TCP, destination: {ports: [7001]}}]",
                ),
                pre_dnat(
                    "no-udp",
                    "order: 2, ingress: [{action: Allow, protocol: ICMP, icmp: {type: 13}}, \
                     {action: Deny, protocol: UDP}]",
                ),
                forward(
                    "no-pods",
                    "order: 3, \
                     ingress: [{action: Deny, destination: {nets: ['192.168.0.0/16']}}, \
                     {action: Deny, destination: {nets: ['fd00:192:168::/48']}}], \
                     egress: [{action: Deny, source: {nets: ['192.168.0.0/16']}}, \
                     {action: Deny, source: {nets: ['fd00:192:168::/48']}}]",
                ),
                policy(
                    "host",
                    "order: 4, ingress: [{action: Deny, protocol: TCP}, {action: Pass}], \
                     egress: [{action: Pass}]",
                ),
                resource(
                    "GlobalNetworkPolicy",
                    "late.nothing",
                    "tier: late, selector: has(host-endpoint), types: [Ingress, Egress]",
                ),
            ],
        )?;
        policed.expect(&[
            (Client, Tcp(To(Node1), 7001), Closed),
            (Client, Tcp(To(Node1), TCP_PORT), Closed),
            (Client, Udp(To(Node1), UDP_PORT), Closed),
            (Client, Tcp(To(Pod1), TCP_PORT), Closed),
            (Pod1, Tcp(To(Client), TCP_PORT), Closed),
            (Client, Ping(To(Node1)), Closed),
            (Node1, Tcp(To(Node2), TCP_PORT), Closed),
        ])?;
        let denied = |direction: &str, stage: &str, protocol: u8, what: Value| {
            let mut wanted = json!({
                "verdict": "denied", "interface": "eth0", "endpoint": "node1-eth0",
                "direction": direction, "stage": stage, "protocol": protocol,
            });
            for (key, value) in what.as_object().into_iter().flatten() {
                wanted[key] = value.clone();
            }
            wanted
        };
        let cluster = policed.cluster();
        let rule = |policy: &str, rule: &str, port: u16| {
            json!({
                "reason": "rule-deny", "tier": "default", "kind": "GlobalNetworkPolicy",
                "policy": policy, "rule": rule, "destinationPort": port,
            })
        };
        let raw = wait_for(
            cluster,
            &denied(
                "ingress",
                "untracked",
                6,
                json!({
                    "reason": "untracked-deny", "tier": "default", "policy": "raw",
                    "rule": "ingress[0]", "destinationPort": 7001,
                }),
            ),
        )?;
        assert!(raw["sourcePort"].is_u64(), "{raw:#}");
        let udp = rule("no-udp", "ingress[1]", UDP_PORT);
        wait_for(cluster, &denied("ingress", "preDNAT", 17, udp))?;
        let pod = rule("no-pods", "ingress[0]", TCP_PORT);
        wait_for(cluster, &denied("ingress", "forward", 6, pod))?;
        let pod = rule("no-pods", "egress[0]", TCP_PORT);
        wait_for(cluster, &denied("egress", "forward", 6, pod))?;
        let host = rule("host", "ingress[0]", TCP_PORT);
        wait_for(cluster, &denied("ingress", "normal", 6, host))?;
        // The default of a tier is no rule of a policy.
        let default = json!({"reason": "tier-default", "tier": "late", "icmp": [8, 0]});
        let ping = wait_for(cluster, &denied("ingress", "normal", 1, default))?;
        for key in ["policy", "rule", "kind", "destinationPort"] {
            assert_eq!(ping[key], Value::Null, "{ping:#}");
        }
        let default = json!({"reason": "tier-default", "tier": "late"});
        wait_for(cluster, &denied("egress", "normal", 6, default))?;
        let text = cluster.ctl(&["flows"], "")?.stdout;
        assert!(
            text.contains("denied eth0 node1-eth0 ingress UDP"),
            "{text}"
        );
        assert!(
            text.contains("preDNAT default/no-udp ingress[1] rule-deny"),
            "{text}"
        );
        Ok(())
    })
}

/// Ports that nobody else sends to.
const FLOODED: u16 = 7001;
const OTHERS: std::ops::Range<u16> = 7002..7010;

#[test]
fn a_flood_is_not_shown_whole_and_hides_nothing_else() -> Result<()> {
    on_node1(|topology, policed| {
        policed.enforce(
            "UDP denied",
            &[
                endpoint(Node1, ""),
                pre_dnat(
                    "no-udp",
                    "order: 1, ingress: [{action: Deny, protocol: UDP}]",
                ),
            ],
        )?;
        let send = |port: u16, count: u32| -> Result<()> {
            topology.namespace(Client).run(|| -> Result<()> {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                for _ in 0..count {
                    socket.send_to(&[7], (Node1.address(Family::V4), port))?;
                }
                Ok(())
            })?
        };
        let cluster = policed.cluster();
        let begin = Instant::now();
        let mut sent = 0;
        loop {
            send(FLOODED, 5000)?;
            for port in OTHERS {
                send(port, 1)?;
            }
            sent += 5000;
            let told = cluster.ctl(&["flows", "-o", "json"], "")?;
            if let Some(line) = told
                .stderr
                .lines()
                .find(|line| line.contains("denials not shown"))
            {
                let hidden = line.split(' ').next().context("no number")?;
                let hidden: u64 = hidden.parse().context("no number")?;
                let shown = told.stdout.lines().count() as u64;
                ensure!(
                    hidden + shown <= sent + 100,
                    "{hidden} and {shown} of {sent}"
                );
                ensure!(shown < sent, "{shown} of {sent}");
                break;
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "all of {sent} shown:\n{}",
                told.stderr
            );
        }
        // Few of them share a place with the flood.
        let begin = Instant::now();
        loop {
            let told = cluster.ctl(&["flows", "-o", "json"], "")?.stdout;
            let shown = OTHERS.filter(|port| told.contains(&format!("\"destinationPort\":{port}")));
            if shown.count() >= OTHERS.len() / 2 {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "hidden by the flood:\n{told}");
            thread::sleep(Duration::from_millis(100));
        }
    })
}
