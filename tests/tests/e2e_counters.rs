//! What rules have counted of real packets, as `hostfwctl get --counters` shows it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_tests::{
    cluster::Cluster,
    policed::{Policed, on_node1},
    resources::{endpoint, policy, pre_dnat, resource, untracked},
    topology::{
        Family,
        Host::{Client, Node1},
        Topology,
    },
};
use serde_json::Value;

/// Packets are judged behind the call that sends them.
const PATIENCE: Duration = Duration::from_secs(40);
/// Ports that nobody else sends to.
const UNTRACKED: u16 = 7003;
const LET_BY: u16 = 7004;
const PRE_DNAT: u16 = 7005;
const NORMAL: u16 = 7006;
/// Bytes of a datagram, and of the headers in front of it where a frame is seen.
const PAYLOAD: usize = 100;
const HEADERS: [(Family, u64); 2] = [(Family::V4, 14 + 20 + 8), (Family::V6, 14 + 40 + 8)];

/// Sends datagrams from the client to a port of Node1.
fn send(topology: &Topology, port: u16, family: Family, count: u32) -> Result<()> {
    topology.namespace(Client).run(|| -> Result<()> {
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        for _ in 0..count {
            socket.send_to(&[7; PAYLOAD], (Node1.address(family), port))?;
        }
        Ok(())
    })?
}

/// Packets and bytes by kind, policy, rule, stage and action, of an endpoint.
type Counts = BTreeMap<String, (u64, u64)>;

fn counts(cluster: &Cluster<'_>) -> Result<Counts> {
    let mut counts = Counts::new();
    for kind in ["gnp", "sgnp", "tier"] {
        let told = cluster.ctl(&["get", kind, "--counters", "-o", "json"], "")?;
        let told: Value = serde_json::from_str(&told.stdout)?;
        assert_eq!(told["notCounted"], 0, "{told:#}");
        for rule in told["rules"].as_array().context("no rules")? {
            assert_eq!(rule["endpoint"], "node1-eth0", "{rule:#}");
            let word = |key: &str| rule[key].as_str().unwrap_or("-");
            let [name, path, stage, action] = ["name", "rule", "stage", "action"].map(word);
            let number = |key: &str| rule[key].as_u64().context("no number");
            counts.insert(
                format!("{name} {path} {stage} {action}"),
                (number("packets")?, number("bytes")?),
            );
        }
    }
    Ok(counts)
}

/// Waits until these rules have counted so many packets.
fn wait_for(cluster: &Cluster<'_>, expected: &[(&str, u64)]) -> Result<Counts> {
    let begin = Instant::now();
    loop {
        let counts = counts(cluster)?;
        let told = |rule: &str| counts.get(rule).map(|count| count.0);
        if expected
            .iter()
            .all(|&(rule, packets)| told(rule) == Some(packets))
        {
            return Ok(counts);
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "expected {expected:#?}, found {counts:#?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// A rule about UDP to a port.
fn to(action: &str, port: u16) -> String {
    format!("{{action: {action}, protocol: UDP, destination: {{ports: [{port}]}}}}")
}

/// A tier of untracked policy whose rules pass to the next, and denials at each
/// stage for what comes in. `ahead` stands in front of the rules before DNAT.
fn rules(ahead: &str) -> Vec<String> {
    vec![
        endpoint(Node1, ""),
        resource("Tier", "first", "order: 5, defaultAction: Pass"),
        untracked(
            "first.on",
            &format!("tier: first, ingress: [{}]", to("Pass", UNTRACKED)),
        ),
        untracked(
            "raw",
            &format!(
                "order: 1, ingress: [{}, {}]",
                to("Deny", UNTRACKED),
                to("Allow", LET_BY)
            ),
        ),
        pre_dnat(
            "wire",
            &format!(
                "order: 2, ingress: [{ahead}{}, {}]",
                to("Log", PRE_DNAT),
                to("Deny", PRE_DNAT)
            ),
        ),
        resource(
            "StagedGlobalNetworkPolicy",
            "would",
            &format!(
                "order: 3, selector: has(host-endpoint), ingress: [{}]",
                to("Deny", NORMAL)
            ),
        ),
        policy(
            "host",
            &format!(
                "order: 4, ingress: [{}, {{action: Allow}}], egress: [{{action: Allow}}]",
                to("Deny", NORMAL)
            ),
        ),
    ]
}

#[test]
fn rules_count_what_they_meet_and_go_on_when_others_change() -> Result<()> {
    on_node1(|topology, policed| {
        policed.enforce("rules that count", &rules(""))?;
        let mut sent: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
        // Packets so far, and bytes at the wire.
        let mut flood = |port: u16| -> Result<(u64, u64)> {
            let sum = sent.entry(port).or_default();
            for (number, (family, headers)) in (1_u32..).zip(HEADERS) {
                let count = 10 * number + u32::from(port % 10);
                send(topology, port, family, count)?;
                sum.0 += u64::from(count);
                sum.1 += u64::from(count) * (headers + PAYLOAD as u64);
            }
            Ok(*sum)
        };
        let (untracked, untracked_bytes) = flood(UNTRACKED)?;
        let (let_by, let_by_bytes) = flood(LET_BY)?;
        let (wire, wire_bytes) = flood(PRE_DNAT)?;
        let (host, host_bytes) = flood(NORMAL)?;
        let expected = [
            ("first.on ingress[0] untracked pass", untracked),
            ("raw ingress[0] untracked deny", untracked),
            // Asked for a second time behind routing.
            ("raw ingress[1] untracked allow", let_by),
            ("wire ingress[0] preDNAT log", wire),
            ("wire ingress[1] preDNAT deny", wire),
            ("would ingress[0] normal would-deny", host),
            ("host ingress[0] normal deny", host),
        ];
        let found = wait_for(policed.cluster(), &expected)?;
        for (rule, bytes) in [
            ("raw ingress[0] untracked deny", untracked_bytes),
            ("raw ingress[1] untracked allow", let_by_bytes),
            ("wire ingress[1] preDNAT deny", wire_bytes),
            // Behind the wire there is no link-layer header.
            ("host ingress[0] normal deny", host_bytes - 14 * host),
        ] {
            assert_eq!(found[rule].1, bytes, "{rule}");
        }
        shown(policed, untracked)?;

        // A policy beside them, then a rule ahead of one of them.
        let mut more = rules("");
        more.push(policy("else", "order: 9, egress: [{action: Deny}]"));
        policed.enforce("and a policy beside", &more)?;
        wait_for(policed.cluster(), &expected)?;
        let ahead = to("Deny", 7009);
        policed.enforce("and a rule ahead", &rules(&format!("{ahead}, ")))?;
        let (again, _) = flood(PRE_DNAT)?;
        let moved = [
            ("first.on ingress[0] untracked pass", untracked),
            ("wire ingress[0] preDNAT deny", 0),
            ("wire ingress[1] preDNAT log", again),
            ("wire ingress[2] preDNAT deny", again),
            ("host ingress[0] normal deny", host),
        ];
        assert_eq!(again, 2 * wire);
        wait_for(policed.cluster(), &moved)?;

        // What says something else begins anew.
        let changed = rules("").concat().replace(
            &to("Log", PRE_DNAT),
            "{action: Log, protocol: UDP, destination: {ports: [7005, 7010]}}",
        );
        policed.enforce("another rule", &[changed])?;
        let (last, _) = flood(PRE_DNAT)?;
        let expected = [
            ("wire ingress[0] preDNAT log", wire),
            ("wire ingress[1] preDNAT deny", last),
            ("would ingress[0] normal would-deny", host),
        ];
        wait_for(policed.cluster(), &expected)?;

        // And so does everything with the next agent.
        policed.cluster_mut().stop_agents()?;
        policed.cluster_mut().start_agents()?;
        policed.enforce("by another agent", &rules(""))?;
        wait_for(policed.cluster(), &[("wire ingress[1] preDNAT deny", 0)])?;
        send(topology, PRE_DNAT, Family::V4, 5)?;
        wait_for(policed.cluster(), &[("wire ingress[1] preDNAT deny", 5)])?;
        Ok(())
    })
}

/// Tables, of one policy, and what there is nothing of.
fn shown(policed: &Policed<'_>, packets: u64) -> Result<()> {
    let ctl = |arguments: &[&str]| policed.cluster().try_ctl(arguments, "");
    let table = ctl(&["get", "gnp", "first.on", "--counters"])?.stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let packets = packets.to_string();
    assert_eq!(rows.len(), 2, "{table}");
    assert_eq!(rows[0][..2], ["NAME", "STAGE"], "{table}");
    let expected = [
        "first.on",
        "untracked",
        "ingress",
        "ingress[0]",
        "pass",
        &packets,
    ];
    assert_eq!(rows[1][..6], expected, "{table}");
    let missing = ctl(&["get", "gnp", "nobody", "--counters"])?;
    assert!(!missing.status.success(), "{}", missing.stdout);
    let refused = ctl(&["get", "hep", "--counters"])?;
    assert!(
        refused.stderr.contains("kind with rules"),
        "{}",
        refused.stderr
    );
    Ok(())
}
