//! Every way to attach gives the same verdicts.

use anyhow::{Context as _, Result};
use hostfw_tests::{
    cluster::{Binaries, Cluster},
    expectations::Step,
    scenario::Probing,
    topology::{Host, Topology},
};
use serde_json::json;

/// Enforces the tutorial up to step 3 with these flags. `ingress` is what the
/// status must say of the hook and its mode, `egress` of the hook.
fn enforce(flags: [&str; 2], ingress: [Option<&str>; 2], egress: &str) -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let arguments = ["--ingress", flags[0], "--tc", flags[1]];
    let mut cluster = Cluster::new(&topology, &binaries, &arguments)?;
    cluster.start_agents()?;
    cluster.apply_until(Step::NodePort)?;
    cluster.settle()?;
    for node in [Host::Node1, Host::Node2] {
        let status = cluster.status(node)?;
        let endpoint = status["endpoints"].get(0).context("an endpoint")?;
        let [hook, mode] = ingress;
        assert_eq!(endpoint["interface"], json!("eth0"), "{status:#}");
        assert_eq!(endpoint["ingress"]["hook"], json!(hook), "{status:#}");
        assert_eq!(endpoint["ingress"]["mode"], json!(mode), "{status:#}");
        assert_eq!(endpoint["egress"]["hook"], json!(egress), "{status:#}");
    }
    let none: Vec<String> = Vec::new();
    assert_eq!(probing.differences(Step::NodePort)?, none, "{arguments:?}");
    assert_eq!(cluster.take_notes(), none, "agents died");
    Ok(())
}

#[test]
fn native_xdp_and_tcx() -> Result<()> {
    enforce(["xdp-native", "tcx"], [Some("xdp"), Some("native")], "tcx")
}

#[test]
fn generic_xdp_and_tcx() -> Result<()> {
    enforce(
        ["xdp-generic", "tcx"],
        [Some("xdp"), Some("generic")],
        "tcx",
    )
}

#[test]
fn native_xdp_and_clsact() -> Result<()> {
    enforce(
        ["xdp-native", "clsact"],
        [Some("xdp"), Some("native")],
        "clsact",
    )
}

#[test]
fn tcx_both_ways() -> Result<()> {
    enforce(["tc", "tcx"], [Some("tcx"), None], "tcx")
}

#[test]
fn clsact_both_ways() -> Result<()> {
    enforce(["tc", "clsact"], [Some("clsact"), None], "clsact")
}
