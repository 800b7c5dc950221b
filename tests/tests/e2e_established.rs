//! Policies decide on new connections; what is established goes on.

use anyhow::Result;
use hostfw_tests::{
    cluster::{Binaries, Cluster},
    expectations::{Expectation, Step},
    insist::Insistence,
    probe::{Action, Held, Outcome, Probe, Target, try_all},
    scenario::Probing,
    topology::{FAILSAFE_PORT, Family, Host, Topology, kube_proxy::NODE_PORT},
};

#[test]
fn flows_from_before_the_first_enforcement_survive_it() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    // The store is full before an agent has ever run.
    cluster.apply_until(Step::Endpoints)?;
    cluster.start_agents()?;
    cluster.settle()?;
    let none: Vec<String> = Vec::new();
    assert_eq!(probing.differences(Step::Endpoints)?, none);
    assert_eq!(cluster.take_notes(), none, "agents died");
    Ok(())
}

#[test]
fn flows_that_a_policy_let_in_survive_its_end() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    cluster.start_agents()?;
    cluster.apply_until(Step::NodePort)?;
    cluster.settle()?;
    let from_outside = |port| {
        Family::ALL.map(|family| Probe {
            family,
            from: Host::Client,
            action: Action::Tcp(Target::Host(Host::Node1), port),
        })
    };
    let pinhole = from_outside(NODE_PORT);
    let mut held = Held::open(&topology, &[pinhole, from_outside(FAILSAFE_PORT)].concat())?;
    cluster.apply_example("4-special-label.yaml")?;
    cluster.settle()?;
    assert_eq!(
        try_all(&topology, &pinhole)?,
        [Outcome::Closed, Outcome::Closed],
        "new connections"
    );
    assert_eq!(
        Insistence::default().exchange(&mut held, &[Expectation::Open; 4]),
        vec![Outcome::Open; 4],
        "established connections"
    );
    Ok(())
}
