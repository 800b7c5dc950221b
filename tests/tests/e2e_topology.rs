//! The topology and the table of expectations by themselves, with no agent:
//! nftables rules written by hand stand in for it. What the probes find must
//! not depend on who judges.

use std::collections::BTreeSet;

use anyhow::Result;
use hostfw_tests::{
    expectations::Step,
    sandbox,
    scenario::{Fault, Probing},
    topology::{Family, Host, Topology, kube_proxy},
};

const NODES: [Host; 2] = [Host::Node1, Host::Node2];

/// The tutorial's policies after the step, for one node, in nftables: after
/// conntrack and reassembly, before DNAT.
fn rules(node: Host, step: Step) -> String {
    // What is let through before DNAT has to be known again in step 5.
    let accept = "ct mark set 1 accept";
    let mut rules = format!(
        "table inet tutorial
delete table inet tutorial
table inet tutorial {{ chain before_dnat {{
  type filter hook prerouting priority mangle
  iifname != eth0 accept
  ct state established,related accept
  icmpv6 type 130-136 accept
  tcp dport 22 accept
  ip saddr {{ 10.240.0.0/16, 192.168.0.0/16 }} {accept}
"
    );
    if step >= Step::Ipv6 {
        let nets = "{ fd00:10:240::/64, fd00:192:168::/48 }";
        rules += &format!("  ip6 saddr {nets} {accept}\n");
    }
    if step == Step::NodePort || (step >= Step::SpecialLabel && node == Host::Node2) {
        rules += &format!("  tcp dport 31852 {accept}\n");
    }
    if step == Step::AllStages {
        return rules + "}\n" + LATER_STAGES + "}\n";
    }
    if step >= Step::Endpoints {
        rules += "  drop\n";
    }
    rules + "}\n}\n"
}

/// What step 5 has ahead of conntrack and behind DNAT.
const LATER_STAGES: &str = "
chain untracked {
  type filter hook prerouting priority raw
  iifname eth0 icmp type echo-request drop
  iifname eth0 icmpv6 type echo-request drop
}
chain normal {
  type filter hook input priority 10
  iifname != eth0 accept
  ct state established,related accept
  ct mark 1 accept
  icmpv6 type 130-136 accept
  tcp dport { 22, 8080 } accept
  udp dport 8081 accept
  drop
}
chain forwarded {
  type filter hook forward priority 10
  iifname != eth0 accept
  ct state established,related accept
  ct mark 1 accept
  udp dport 8081 accept
  drop
}
";

#[test]
fn every_step_is_as_expected_whoever_judges() -> Result<()> {
    if sandbox::or_skip() {
        return Ok(());
    }
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    for step in Step::ALL {
        for node in NODES {
            topology.namespace(node).nft(&rules(node, step))?;
        }
        let none: Vec<String> = Vec::new();
        assert_eq!(probing.differences(step)?, none, "step {}", step.number());
    }
    Ok(())
}

#[test]
fn one_drop_changes_exactly_the_probes_that_it_concerns() -> Result<()> {
    if sandbox::or_skip() {
        return Ok(());
    }
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    let rules = "table ip fault { chain in {
      type filter hook input priority 0
      iifname eth0 udp dport 8081 drop
    }
    }";
    topology.namespace(Host::Node1).nft(rules)?;
    let found: BTreeSet<_> = probing.differences(Step::Nothing)?.into_iter().collect();
    let expected = [
        "held v4 outside -> node1:8081/udp: expected open, found closed",
        "v4 node2 -> node1:8081/udp in fragments: expected open, found closed",
        "v4 node2 -> node1:8081/udp: expected open, found closed",
        "v4 outside -> node1:8081/udp in fragments: expected open, found closed",
        "v4 outside -> node1:8081/udp: expected open, found closed",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
    Ok(())
}

#[test]
fn without_dnat_exactly_the_nodeport_is_refused() -> Result<()> {
    if sandbox::or_skip() {
        return Ok(());
    }
    let topology = Topology::up()?;
    let mut probing = Probing::start(&topology)?;
    for node in NODES {
        for family in Family::ALL {
            kube_proxy::remove_dnat(topology.namespace(node), family)?;
        }
    }
    let found: BTreeSet<_> = probing.differences(Step::Nothing)?.into_iter().collect();
    let expected = Fault::NoDnat
        .changes()
        .into_iter()
        .map(|probe| format!("{probe}: expected open, found refused"))
        .collect();
    assert_eq!(found, expected);
    Ok(())
}
