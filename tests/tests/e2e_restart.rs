//! Enforcement when agents come and go.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;
use hostfw_tests::{
    cluster::{self, Binaries, Cluster},
    expectations::Step,
    netns,
    policed::Policed,
    resources::{endpoint, forward},
    scenario::Probing,
    topology::{Family, Host, Topology, UDP_PORT},
};

const NODES: [Host; 2] = [Host::Node1, Host::Node2];

/// Sends a datagram from outside to the host every millisecond while
/// `meanwhile` runs, and returns how many were sent and answered.
fn knock(
    topology: &Topology,
    host: Host,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<(u32, u32)> {
    let stop = AtomicBool::new(false);
    let (counts, result) = thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            topology.namespace(Host::Client).run(|| -> Result<_> {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.set_nonblocking(true)?;
                socket.connect((host.address(Family::V4), UDP_PORT))?;
                let (mut sent, mut answered) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    sent += u32::from(socket.send(b"knock\n").is_ok());
                    answered += u32::from(socket.recv(&mut [0; 64]).is_ok());
                    thread::sleep(Duration::from_millis(1));
                }
                Ok((sent, answered))
            })?
        });
        let result = meanwhile();
        stop.store(true, Ordering::Relaxed);
        (knocking.join().expect("knocking does not panic"), result)
    });
    result?;
    counts
}

#[test]
fn enforcement_outlives_the_agents_and_the_next_take_over_without_a_gap() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let none: Vec<String> = Vec::new();
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    cluster.start_agents()?;
    cluster.apply_until(Step::NodePort)?;
    cluster.settle()?;
    assert_eq!(probing.differences(Step::NodePort)?, none, "at first");

    let (sent, answered) = knock(&topology, Host::Node1, || {
        cluster.kill_agents()?;
        assert_eq!(probing.differences(Step::NodePort)?, none, "killed");
        cluster.start_agents()?;
        cluster.settle()?;
        assert_eq!(probing.differences(Step::NodePort)?, none, "started again");
        cluster.stop_agents()?;
        assert_eq!(probing.differences(Step::NodePort)?, none, "stopped");
        cluster.start_agents()?;
        cluster.settle()
    })?;
    assert!(sent > 100, "only {sent} datagrams were sent");
    assert_eq!(answered, 0, "of {sent} datagrams that had to be dropped");

    // The new agents are in charge: they carry the next change out.
    cluster.apply_example("4-special-label.yaml")?;
    cluster.settle()?;
    assert_eq!(probing.differences(Step::SpecialLabel)?, none, "changed");
    assert_eq!(cluster.take_notes(), none, "agents died");
    Ok(())
}

/// Before DNAT everything is open here: only the later hooks deny.
#[test]
fn the_stages_behind_dnat_have_no_gap_either() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let topology = Topology::up()?;
    let mut policed = Policed::start(&topology, &binaries)?;
    let resources = [
        endpoint(Host::Node1, ""),
        forward("none", "ingress: [{action: Deny}]"),
    ];
    policed.enforce("Deny of all behind DNAT", &resources)?;
    for host in [Host::Node1, Host::Pod1] {
        let cluster = policed.cluster_mut();
        let (sent, answered) = knock(&topology, host, || {
            cluster.kill_agents()?;
            cluster.start_agents()?;
            cluster.settle()?;
            cluster.stop_agents()?;
            cluster.start_agents()?;
            cluster.settle()
        })?;
        assert!(sent > 100, "only {sent} datagrams were sent to {host}");
        assert_eq!(answered, 0, "of {sent} datagrams to {host}");
    }
    policed.finish()
}

#[test]
fn detaching_opens_everything_and_leaves_nothing() -> Result<()> {
    let Some(binaries) = Binaries::or_skip() else {
        return Ok(());
    };
    let none: Vec<String> = Vec::new();
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let mut cluster = Cluster::new(&topology, &binaries, &[])?;
    cluster.start_agents()?;
    cluster.apply_until(Step::Endpoints)?;
    cluster.settle()?;
    for node in NODES {
        assert!(
            cluster::pin_root(node).exists(),
            "{node} has pinned nothing"
        );
        assert!(programs(&topology, node)?.contains("eth0"), "{node}");
    }
    cluster.stop_agents()?;
    let (_, answered) = knock(&topology, Host::Node1, || {
        cluster.detach()?;
        assert_eq!(probing.differences(Step::Nothing)?, none);
        Ok(())
    })?;
    // So knocking would have noticed a gap above.
    assert!(answered > 100, "only {answered} datagrams were answered");
    for node in NODES {
        let root = cluster::pin_root(node);
        let left = match fs::read_dir(&root) {
            Ok(entries) => entries.count(),
            Err(_) => 0,
        };
        assert_eq!(left, 0, "pins of {node}");
        let programs = programs(&topology, node)?;
        assert!(!programs.contains("eth0"), "{node}: {programs}");
        let disciplines = netns::run(
            topology
                .namespace(node)
                .command("tc")
                .args(["qdisc", "show", "dev", "eth0"]),
            None,
        )?;
        assert!(!disciplines.contains("clsact"), "{node}: {disciplines}");
    }
    Ok(())
}

/// What is attached to the node's interfaces.
fn programs(topology: &Topology, node: Host) -> Result<String> {
    let mut bpftool = topology.namespace(node).command("bpftool");
    netns::run(bpftool.args(["net", "show"]), None)
}
