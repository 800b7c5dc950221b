//! Metrics and probes of a running agent.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_agent::observe::metrics::families::{FAMILIES, Type};
use hostfw_tests::{
    cluster::Binaries,
    expectations::Expectation::{Closed, Open},
    policed::Policed,
    probe::{
        Action::{Tcp, Udp},
        Target::Host as To,
    },
    resources::{endpoint, policy, pre_dnat, resource},
    topology::{
        Host::{Client, Node1},
        TCP_PORT, Topology, UDP_PORT,
    },
};

/// Flows are counted beside the answer to the first scrape.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status and body of the answer to a GET on Node1 itself.
fn get(topology: &Topology, path: &str) -> Result<(u16, String)> {
    let answer = topology
        .namespace(Node1)
        .run(|| -> Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", 9739))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: node1\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?
        .with_context(|| format!("GET {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context(answer.clone())?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// The value of the series whose line begins so.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn every_metric_of_a_running_agent_is_fed_and_probes_are_answered() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    policed.enforce(
        "UDP denied",
        &[
            endpoint(Node1, ""),
            pre_dnat(
                "no-udp",
                "order: 1, ingress: [{action: Deny, protocol: UDP}]",
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
    ])?;

    assert_eq!(get(&topology, "/livez")?, (200, "ok\n".to_owned()));
    assert_eq!(get(&topology, "/readyz")?, (200, "ok\n".to_owned()));
    assert_eq!(get(&topology, "/")?.0, 404);

    let begin = Instant::now();
    let text = loop {
        let (status, text) = get(&topology, "/metrics")?;
        assert_eq!(status, 200, "{text}");
        if text.contains("hostfw_flows{") {
            break text;
        }
        ensure!(begin.elapsed() < PATIENCE, "no flows counted in:\n{text}");
        thread::sleep(Duration::from_millis(50));
    };
    for family in FAMILIES {
        // A folder has no kinds.
        if family.name == "hostfw_source_kind_followed" {
            continue;
        }
        let name = match family.kind {
            Type::Histogram => format!("{}_count ", family.name),
            Type::Counter | Type::Gauge if family.labels.is_empty() => format!("{} ", family.name),
            Type::Counter | Type::Gauge => format!("{}{{", family.name),
        };
        ensure!(value(&text, &name).is_some(), "no {name} in:\n{text}");
    }
    for (series, least) in [
        ("hostfw_ready ", 1.0),
        ("hostfw_generation_enforced ", 2.0),
        ("hostfw_switch_duration_seconds_count ", 2.0),
        (
            "hostfw_packets_total{checkpoint=\"wire-in\",reason=\"rule-deny\",verdict=\"drop\"} ",
            1.0,
        ),
        (
            "hostfw_staged_packets_total{policy=\"would-close\",stage=\"normal\",tier=\"default\",\
             would=\"deny\"} ",
            1.0,
        ),
        ("hostfw_flows{table=\"confirmed\"} ", 1.0),
        ("hostfw_flows_capacity{table=\"confirmed\"} ", 1024.0),
        ("hostfw_map_bytes{map=\"CONFIRMED\"} ", 1.0),
        ("hostfw_map_entries{map=\"ENDPOINTS\"} ", 1.0),
        (
            "hostfw_objects{kind=\"GlobalNetworkPolicy\",state=\"enforced\"} ",
            2.0,
        ),
    ] {
        let found = value(&text, series);
        ensure!(
            found >= Some(least),
            "{series}: expected {least} or more, found {found:?} in:\n{text}"
        );
    }
    for hook in ["wire-in", "wire-out", "local-in", "forward"] {
        let series = format!(
            "hostfw_endpoint_enforced{{endpoint=\"node1-eth0\",hook=\"{hook}\",\
             interface=\"eth0\"}} "
        );
        assert_eq!(value(&text, &series), Some(1.0), "{series} in:\n{text}");
    }
    policed.finish()
}
