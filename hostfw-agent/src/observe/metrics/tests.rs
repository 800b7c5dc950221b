use super::*;
use crate::observe::status::{Condition, CounterStatus, HookStatus, MapStatus};

fn hook() -> HookStatus {
    HookStatus {
        hook: "tcx".to_owned(),
        mode: None,
        fallback: None,
    }
}

fn endpoint(name: &str, interface: &str, workload: bool, fails: &[&str]) -> EndpointStatus {
    let conditions = ["Programmed", "ForwardEnforced", "NormalIngressEnforced"];
    EndpointStatus {
        name: name.to_owned(),
        interface: Some(interface.to_owned()),
        ingress: Some(hook()),
        egress: Some(hook()),
        workload,
        policies: Vec::new(),
        conditions: conditions
            .map(|kind| Condition {
                kind: kind.to_owned(),
                status: !fails.contains(&kind),
                reason: String::new(),
                message: String::new(),
            })
            .to_vec(),
    }
}

fn staged(policy: &str, packets: u64) -> StagedStatus {
    StagedStatus {
        endpoint: "hep".to_owned(),
        stage: "normal".to_owned(),
        tier: Some("default".to_owned()),
        policy: policy.to_owned(),
        rule: "ingress[0]".to_owned(),
        would: "deny".to_owned(),
        packets,
    }
}

fn rendered(status: &Status, readings: &Readings) -> String {
    let metrics = Metrics::new().unwrap();
    metrics.render(status, readings).unwrap()
}

#[track_caller]
fn holds(text: &str, line: &str) {
    assert!(text.lines().any(|one| one == line), "no {line} in:\n{text}");
}

#[test]
fn enforcement_is_told_by_endpoint_and_hook() {
    let status = Status {
        endpoints: vec![
            endpoint("a", "eth0", false, &["NormalIngressEnforced"]),
            endpoint("b", "eth1", false, &[]),
            endpoint("star", "cali1", true, &[]),
            endpoint("star", "cali2", true, &["ForwardEnforced"]),
        ],
        ..Status::default()
    };
    let text = rendered(&status, &Readings::default());
    let series = |endpoint, interface, hook, value: u8| {
        holds(
            &text,
            &format!(
                "hostfw_endpoint_enforced{{endpoint=\"{endpoint}\",hook=\"{hook}\",\
                 interface=\"{interface}\"}} {value}"
            ),
        );
    };
    series("a", "eth0", "wire-in", 1);
    series("a", "eth0", "local-in", 0);
    series("b", "eth1", "local-in", 1);
    series("b", "eth1", "wire-out", 1);
    series("star", "workloads", "wire-in", 1);
    series("star", "workloads", "forward", 0);
    assert!(!text.contains("cali1"), "a series for each workload");
    holds(&text, "hostfw_endpoints{state=\"enforced\"} 2");
    holds(&text, "hostfw_endpoints{state=\"degraded\"} 2");
    holds(&text, "hostfw_endpoints{state=\"inert\"} 0");
}

#[test]
fn counts_are_those_of_the_kernel_however_often_they_are_told() {
    let status = Status {
        counters: vec![CounterStatus {
            checkpoint: "wire-in".to_owned(),
            reason: "rule-deny".to_owned(),
            verdict: "drop".to_owned(),
            packets: 3,
            bytes: 180,
        }],
        staged: vec![staged("a", 2), staged("a", 5)],
        ..Status::default()
    };
    let metrics = Metrics::new().unwrap();
    metrics.render(&status, &Readings::default()).unwrap();
    let text = metrics.render(&status, &Readings::default()).unwrap();
    let labels = "{checkpoint=\"wire-in\",reason=\"rule-deny\",verdict=\"drop\"}";
    holds(&text, &format!("hostfw_packets_total{labels} 3"));
    holds(&text, &format!("hostfw_packet_bytes_total{labels} 180"));
    holds(
        &text,
        "hostfw_staged_packets_total{policy=\"a\",stage=\"normal\",tier=\"default\",would=\"deny\"} 7",
    );
}

#[test]
fn however_many_staged_policies_there_are_the_series_are_bounded() {
    let policies = 0..MOST_POLICIES as u64 + 20;
    let status = Status {
        staged: policies.map(|n| staged(&format!("p{n:04}"), 1)).collect(),
        ..Status::default()
    };
    let text = rendered(&status, &Readings::default());
    let series = text
        .lines()
        .filter(|line| line.starts_with("hostfw_staged_packets_total{"));
    assert_eq!(series.count(), MOST_POLICIES + 1);
    holds(
        &text,
        "hostfw_staged_packets_total{policy=\"(others)\",stage=\"normal\",tier=\"\",would=\"deny\"} 20",
    );
}

#[test]
fn the_wanted_generation_is_the_next_one_until_all_is_enforced() {
    let status = Status {
        generation: 4,
        ..Status::default()
    };
    let text = rendered(&status, &Readings::default());
    holds(&text, "hostfw_generation_enforced 4");
    holds(&text, "hostfw_generation_wanted 5");
    holds(&text, "hostfw_ready 0");
    let ready = Readings {
        complete: true,
        readable: true,
        ..Readings::default()
    };
    let text = rendered(&status, &ready);
    holds(&text, "hostfw_generation_wanted 4");
    holds(&text, "hostfw_ready 1");
}

#[test]
fn what_is_gone_is_told_no_longer() {
    let metrics = Metrics::new().unwrap();
    let full = Status {
        maps: vec![MapStatus {
            name: "RULES".to_owned(),
            bytes: 4096,
        }],
        endpoints: vec![endpoint("a", "eth0", false, &[])],
        ..Status::default()
    };
    let readings = Readings {
        kinds: vec![("Tier", false)],
        ..Readings::default()
    };
    let text = metrics.render(&full, &readings).unwrap();
    holds(&text, "hostfw_map_bytes{map=\"RULES\"} 4096");
    holds(&text, "hostfw_source_kind_followed{kind=\"Tier\"} 0");
    let text = metrics
        .render(&Status::default(), &Readings::default())
        .unwrap();
    for gone in ["RULES", "eth0", "hostfw_source_kind_followed{"] {
        assert!(!text.contains(gone), "{gone} is still in:\n{text}");
    }
}

#[test]
fn flows_are_told_once_they_are_counted() {
    let text = rendered(&Status::default(), &Readings::default());
    assert!(!text.contains("hostfw_flows{"), "{text}");
    let text = rendered(
        &Status::default(),
        &Readings {
            flows: Some(FlowFill {
                alive: [2, 7],
                capacity: [16, 64],
                filter: 0.125,
            }),
            ..Readings::default()
        },
    );
    holds(&text, "hostfw_flows{table=\"half_open\"} 2");
    holds(&text, "hostfw_flows{table=\"confirmed\"} 7");
    holds(&text, "hostfw_flows_capacity{table=\"half_open\"} 16");
    holds(&text, "hostfw_flow_filter_fill_ratio 0.125");
}
