//! What the agent says of what it enforces, and of what it does not.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    expectations::Expectation::Open,
    policed::Policed,
    probe::{Action::Tcp, Target::Host as To},
    resources::{endpoint, host_endpoint, policy, resource, untracked},
    topology::{
        Host::{Client, Node1},
        TCP_PORT, Topology,
    },
};
use serde_json::{Value, json};

/// Events are written as they come, behind the packets.
const PATIENCE: Duration = Duration::from_secs(40);

/// The entry of an interface.
fn of<'a>(status: &'a Value, interface: &str) -> Result<&'a Value> {
    status["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|endpoint| endpoint["interface"] == interface)
        .with_context(|| format!("no {interface} in {status:#}"))
}

/// Whether the condition holds, and its reason; null if it is not told.
fn condition(endpoint: &Value, kind: &str) -> Value {
    endpoint["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .map_or(Value::Null, |condition| {
            json!([condition["status"], condition["reason"]])
        })
}

/// What is enforced behind routing, as an endpoint of Node1 for eth0 says.
fn behind_routing(cluster: &Cluster<'_>) -> Result<[Value; 2]> {
    let status = cluster.status(Node1)?;
    let eth0 = of(&status, "eth0")?;
    Ok(["ForwardEnforced", "NormalIngressEnforced"].map(|kind| condition(eth0, kind)))
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
fn policies_are_told_by_stage_and_what_has_no_effect_is_named() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    policed.enforce(
        "an endpoint for all interfaces",
        &[
            host_endpoint("all", Node1, "*", "profiles: [nobody]"),
            resource("Tier", "first", "order: 5, defaultAction: Pass"),
            policy(
                "first.look",
                "tier: first, ingress: [{action: Log}, {action: Pass}]",
            ),
            policy(
                "let-in",
                "ingress: [{action: Allow}], egress: [{action: Allow}]",
            ),
            policy("lost.soul", "tier: lost, ingress: []"),
            untracked("u", "ingress: []"),
            resource(
                "StagedGlobalNetworkPolicy",
                "would",
                "order: 1, selector: has(host-endpoint), ingress: [{action: Deny}]",
            ),
        ],
    )?;
    let status = policed.cluster().status(Node1)?;
    let eth0 = of(&status, "eth0")?;
    let policies: Vec<String> = eth0["policies"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let word = |key: &str| one[key].as_str().unwrap_or("-");
            let [stage, direction, tier, name] = ["stage", "direction", "tier", "name"].map(word);
            format!("{stage} {direction} {tier} {name}")
        })
        .collect();
    assert_eq!(
        policies,
        [
            "normal ingress first first.look",
            "normal ingress default would",
            "normal ingress default let-in",
            "normal ingress lost lost.soul",
            "normal ingress - nobody",
            "normal egress default let-in",
            "normal egress - nobody",
        ]
    );
    for (kind, expected) in [
        ("Programmed", json!([true, "Enforced"])),
        ("ForwardEnforced", json!([true, "Enforced"])),
        ("NormalIngressEnforced", json!([true, "Enforced"])),
        ("AddressesKnown", json!([true, "Known"])),
        ("ProfilesKnown", json!([false, "NoSuchProfile"])),
        ("TiersKnown", json!([false, "NoSuchTier"])),
        ("UntrackedEnforced", json!([false, "Wildcard"])),
        ("EstablishedFlowsKept", Value::Null),
    ] {
        assert_eq!(condition(eth0, kind), expected, "{kind}: {eth0:#}");
    }
    let workloads: Vec<&Value> = status["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|endpoint| endpoint["workload"] == true)
        .collect();
    ensure!(!workloads.is_empty(), "{status:#}");
    for workload in workloads {
        assert_eq!(workload["policies"], json!([]), "{workload:#}");
        assert_eq!(condition(workload, "NormalIngressEnforced"), Value::Null);
        for direction in ["ingress", "egress"] {
            assert_ne!(workload[direction]["hook"], "xdp", "{workload:#}");
        }
    }

    // What rules report names the same.
    policed.expect(&[(Client, Tcp(To(Node1), TCP_PORT), Open)])?;
    for (policy, more) in [
        ("first.look", "tier=\"first\""),
        ("would", "would=\"deny\""),
    ] {
        wait_for_log(&[&format!("policy=\"{policy}\""), more, "stage=\"normal\""])?;
    }
    policed.finish()
}

#[test]
fn ipvs_is_told_as_soon_as_its_interface_is_there() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    policed.enforce("an endpoint alone", &[endpoint(Node1, "")])?;
    let enforced = json!([true, "Enforced"]);
    assert_eq!(
        behind_routing(policed.cluster())?,
        [enforced.clone(), enforced]
    );
    // A stand-in for the dummy interface of kube-proxy, with a service's
    // address.
    topology
        .namespace(Node1)
        .ip("link add kube-ipvs0 type veth peer name ipvs-peer\n\
         address add 10.96.7.7/32 dev kube-ipvs0")?;
    policed.enforce(
        "an endpoint and IPVS",
        &[endpoint(Node1, ""), policy("any", "ingress: []")],
    )?;
    // The agent may be told of the address after the policy.
    let degraded = json!([false, "DegradedByIpvs"]);
    let both = [degraded.clone(), degraded];
    let begin = Instant::now();
    while behind_routing(policed.cluster())? != both && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(behind_routing(policed.cluster())?, both);
    policed.finish()
}

#[test]
fn without_netfilter_programs_every_endpoint_says_so() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut cluster = Cluster::new(&topology, &binaries, &["--netfilter", "off"])?;
    fs::write(cluster::store().join("endpoint.yaml"), endpoint(Node1, ""))?;
    cluster.start_agents()?;
    cluster.settle()?;
    let missing = json!([false, "NoNetfilter"]);
    assert_eq!(behind_routing(&cluster)?, [missing.clone(), missing]);
    let text = cluster.ctl(&["status"], "")?.stdout;
    assert!(
        text.contains("node1-eth0 (eth0): NormalIngressEnforced is false (NoNetfilter)"),
        "{text}"
    );
    cluster.stop_agents()?;
    cluster.detach()
}
