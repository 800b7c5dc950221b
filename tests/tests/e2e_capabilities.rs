//! The agent with no more rights than deploy/kustomize/overlays/capabilities
//! gives it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    expectations::Step,
    scenario::Probing,
    topology::{Host, Topology},
};
use serde_json::Value;

const NODES: [Host; 2] = [Host::Node1, Host::Node2];

/// As `setpriv` writes them.
const CAPABILITIES: &str = "+bpf,+net_admin,+perfmon";

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF: bits 12, 38 and 39 of
/// include/uapi/linux/capability.h.
const BITS: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// What the kernel lets the agent do, if all is well.
const CONDITIONS: [&str; 3] = ["Programmed", "ForwardEnforced", "NormalIngressEnforced"];

/// The conditions of a node that the kernel has a say in and that do not hold.
fn shortfalls(cluster: &Cluster<'_>, node: Host) -> Result<Vec<String>> {
    let status = cluster.status(node)?;
    let endpoints = status["endpoints"].as_array().context("no endpoints")?;
    assert!(!endpoints.is_empty(), "{status:#}");
    let conditions = endpoints
        .iter()
        .filter_map(|endpoint| endpoint["conditions"].as_array())
        .flatten()
        .filter(|condition| {
            let kind = condition["type"].as_str();
            kind.is_some_and(|kind| CONDITIONS.contains(&kind))
        });
    let (hold, broken): (Vec<_>, Vec<_>) =
        conditions.partition(|condition| condition["status"] == true);
    assert_eq!(
        hold.len() + broken.len(),
        endpoints.len() * CONDITIONS.len()
    );
    Ok(broken.into_iter().map(Value::to_string).collect())
}

#[test]
fn three_capabilities_are_enough_to_begin_change_and_take_over() -> Result<()> {
    let Some(mut binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let none: Vec<String> = Vec::new();
    let folder = tempfile::tempdir()?;
    let wrapper = folder.path().join("hostfw-agent");
    fs::write(
        &wrapper,
        format!(
            "#!/bin/sh\nexec setpriv --no-new-privs --bounding-set=-all,{CAPABILITIES} '{}' \"$@\"\n",
            binaries.agent.display()
        ),
    )?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    binaries.agent = wrapper;

    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    cluster.start_agents()?;
    cluster.apply_until(Step::NodePort)?;
    cluster.settle()?;
    assert_eq!(probing.differences(Step::NodePort)?, none, "at first");
    for node in NODES {
        assert_eq!(shortfalls(&cluster, node)?, none, "{node}, at first");
    }
    assert_eq!(effective("hostfw-agent")?, [BITS; 2]);

    cluster.kill_agents()?;
    assert_eq!(probing.differences(Step::NodePort)?, none, "killed");
    cluster.start_agents()?;
    cluster.settle()?;
    assert_eq!(probing.differences(Step::NodePort)?, none, "taken over");
    cluster.apply_example("4-special-label.yaml")?;
    cluster.settle()?;
    assert_eq!(probing.differences(Step::SpecialLabel)?, none, "changed");
    for node in NODES {
        assert_eq!(shortfalls(&cluster, node)?, none, "{node}, taken over");
        let status = cluster.status(node)?;
        let maps = status["maps"].as_array().map_or(0, Vec::len);
        assert!(maps > 0, "{node}: the sizes of maps are not known");
        let log = fs::read_to_string(cluster::log(node))?;
        assert!(!log.contains("without BTF"), "{node}: {log}");
    }
    assert_eq!(cluster.take_notes(), none, "agents died");
    cluster.stop_agents()?;
    cluster.detach()
}

/// The effective capabilities of all processes of this name.
fn effective(name: &str) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Of those that are gone by now nothing is to be told.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        let field = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.map(str::trim)
        };
        if field("Name:") == Some(name) {
            let bits = field("CapEff:").context("a process without capabilities")?;
            found.push(u64::from_str_radix(bits, 16)?);
        }
    }
    Ok(found)
}
