//! Tries the topology by itself, with no agent: everything must be open.
//! With an argument, that is a line of nft for node1, and what it changes is
//! what is printed.

use std::{env, process::Command};

use anyhow::Result;
use hostfw_tests::{
    netns, sandbox, scenario,
    topology::{Host, Topology},
};

fn main() -> Result<()> {
    if !sandbox::inside() {
        let mut again = Command::new(env::current_exe()?);
        again.args(env::args_os().skip(1));
        std::process::exit(sandbox::enter(&again)?.code().unwrap_or(1));
    }
    let topology = Topology::up()?;
    if let Some(rules) = env::args().nth(1) {
        let mut nft = topology.namespace(Host::Node1).command("nft");
        netns::run(nft.args(["-f", "-"]), Some(&rules))?;
    }
    let report = scenario::play(&topology, None, None, &mut |line| eprintln!("{line}"))?;
    println!("{report}");
    drop(topology);
    std::process::exit(i32::from(!report.agrees()));
}
