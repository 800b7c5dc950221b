//! What rules report of real packets, as `hostfwctl flows` shows it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hostfw_tests::{
    cluster::{Binaries, Cluster},
    expectations::Expectation::{Closed, Open},
    policed::Policed,
    probe::{
        Action::{Ping, Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, policy, pre_dnat, resource},
    topology::{
        Host::{Client, Node1},
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
