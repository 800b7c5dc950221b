//! Bad files in the store: they are told of, and what is enforced stays.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::Result;
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    expectations::Step,
    scenario::Probing,
    topology::{Host, Topology},
};

const POLICY: &str = "globalnetworkpolicy.drop-other-ingress.yaml";
const NODES: [Host; 2] = [Host::Node1, Host::Node2];

struct Enforced<'a> {
    cluster: Cluster<'a>,
    probing: Probing<'a>,
}

impl<'a> Enforced<'a> {
    fn start(topology: &'a Topology, binaries: &Binaries) -> Result<Self> {
        let probing = Probing::start(topology)?;
        let mut cluster = Cluster::new(topology, binaries, &[])?;
        cluster.start_agents()?;
        cluster.apply_until(Step::NodePort)?;
        cluster.settle()?;
        Ok(Self { cluster, probing })
    }

    /// Both agents must have read the store, tell of each of the files, and
    /// enforce as before.
    fn told_and_unchanged(&mut self, files: &[&str]) -> Result<()> {
        for node in NODES {
            let said = self.cluster.wait_for(node)?;
            assert_eq!(said.status.code(), Some(1), "{}", said.stderr);
            for file in files {
                assert!(said.stderr.contains(file), "{file}: {}", said.stderr);
            }
        }
        let none: Vec<String> = Vec::new();
        assert_eq!(self.probing.differences(Step::NodePort)?, none, "{files:?}");
        assert_eq!(self.cluster.take_notes(), none, "agents died");
        Ok(())
    }
}

fn read(file: &Path) -> Result<String> {
    Ok(fs::read_to_string(file)?)
}

#[test]
fn files_that_are_no_resources_change_nothing() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut enforced = Enforced::start(&topology, &binaries)?;
    let store = cluster::store();
    let policy = read(&store.join(POLICY))?;
    let half_written = &policy[..policy.len() / 2];
    fs::write(store.join("half.yaml"), half_written)?;
    let invalid = policy
        .replace("drop-other-ingress", "new")
        .replace("Deny", "Refuse");
    fs::write(store.join("invalid.yaml"), invalid)?;
    // Root may read every file, but not what does not exist.
    symlink("/nowhere", store.join("unreadable.yaml"))?;
    enforced.told_and_unchanged(&["half.yaml", "invalid.yaml", "unreadable.yaml"])?;

    for file in ["half.yaml", "invalid.yaml", "unreadable.yaml"] {
        fs::remove_file(store.join(file))?;
    }
    enforced.cluster.settle()
}

#[test]
fn a_policy_whose_file_is_spoilt_stays_in_force_even_over_a_restart() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut enforced = Enforced::start(&topology, &binaries)?;
    let file = cluster::store().join(POLICY);
    let policy = read(&file)?;

    // Half of a policy that denies everything else: without it all is open.
    fs::write(&file, &policy[..policy.len() / 2])?;
    enforced.told_and_unchanged(&[POLICY])?;

    fs::write(&file, policy.replace("Deny", "Refuse"))?;
    enforced.told_and_unchanged(&[POLICY])?;

    enforced.cluster.kill_agents()?;
    enforced.cluster.start_agents()?;
    enforced.told_and_unchanged(&[POLICY])?;

    fs::remove_file(&file)?;
    symlink("/nowhere", &file)?;
    enforced.told_and_unchanged(&[POLICY])?;

    fs::remove_file(&file)?;
    fs::write(&file, policy)?;
    enforced.cluster.settle()
}

#[test]
fn of_two_files_with_the_same_object_neither_replaces_what_is_in_force() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut enforced = Enforced::start(&topology, &binaries)?;
    let store = cluster::store();
    let opening = read(&store.join(POLICY))?.replace("Deny", "Allow");
    // Sorted before and after the other.
    for second in ["a.yaml", "z.yaml"] {
        fs::write(store.join(second), &opening)?;
        enforced.told_and_unchanged(&[POLICY, second])?;
        fs::remove_file(store.join(second))?;
        enforced.cluster.settle()?;
    }
    Ok(())
}

#[test]
fn files_dropped_in_by_hand_work_as_applied_ones() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    cluster.start_agents()?;
    for step in [Step::Policies, Step::Endpoints, Step::Ipv6, Step::NodePort] {
        if let Some(file) = step.file() {
            fs::copy(cluster::examples().join(file), cluster::store().join(file))?;
        }
    }
    cluster.settle()?;
    let none: Vec<String> = Vec::new();
    assert_eq!(probing.differences(Step::NodePort)?, none);
    Ok(())
}
