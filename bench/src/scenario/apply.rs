//! j, k: how long it takes from a change of the store until the program in the
//! kernel judges by it. The agent is the shipped one; the program that is
//! attached is asked about a packet until its answer is the new one.

use std::time::Instant;

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{NODE, Net, Packet, RuleSet, Set, Shape, cidrs, flood};

use super::{Effort, MANY_NETS, SEED};
use crate::{
    agent::Agent,
    record::{Bound, Measure, Record},
};

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let Some(binary) = &effort.agent else {
        for id in ["j", "k"] {
            super::not_available(record, id, "without --agent");
        }
        return Ok(());
    };
    let rounds = effort.rounds.max(5);
    let rules = effort.rules();

    let one = RuleSet::new(Shape::Cluster, rules, SEED);
    let other = RuleSet::new(Shape::Cluster, rules, SEED + 1);
    let told_apart =
        |packet: &Packet| packet.destination == NODE && !other.rules[other.judge(packet)].allow;
    let (rule, packet) = one
        .witnesses
        .iter()
        .enumerate()
        .find(|(rule, packet)| one.rules[*rule].allow && told_apart(packet))
        .context("both rule sets say the same")?;
    let mut changed = one.clone();
    changed.rules[rule].allow = false;
    let texts = [one.yaml(), other.yaml(), changed.yaml()];
    let mut agent = Agent::start(binary, "apply", &[("rules.yaml", &texts[0])])?;
    let program = agent.program()?;
    // Before anything is enforced, everything passes.
    agent.wait(&program, &flood(0), false, Instant::now())?;
    agent.wait(&program, packet, true, Instant::now())?;
    for (name, new, bound) in [
        (format!("all of {rules} rules replaced"), 1, true),
        (format!("one of {rules} rules changed"), 2, false),
    ] {
        let mut samples = Vec::new();
        for _ in 0..rounds {
            for (text, passes) in [(&texts[new], false), (&texts[0], true)] {
                let begin = agent.replace("rules.yaml", text)?;
                let took = agent.wait(&program, packet, passes, begin)?;
                samples.push(took.as_secs_f64() * 1e3);
            }
        }
        record.measure(Measure {
            id: "j",
            name,
            unit: "ms",
            bound: bound.then_some(Bound::AtMost(300.0)),
            samples,
            note: "one file of the store, replaced".to_owned(),
        });
    }
    drop(agent);
    one_net(binary, rounds, record)
}

fn one_net(binary: &std::path::Path, rounds: usize, record: &mut Record) -> Result<()> {
    let mut nets = cidrs::v4(MANY_NETS, SEED);
    let set =
        |nets: &[Net]| RuleSet::new(Shape::Cluster, 10, SEED).with_set(Set::V4(nets.to_vec()));
    let packet = flood(0);
    let without = set(&nets);
    // In the middle, where nothing is spared by it.
    nets.insert(MANY_NETS / 2, Net::of(packet.source, 32));
    let with = set(&nets);
    let (policies, set_of) = (without.policies_yaml(), RuleSet::set_yaml);
    let texts = [set_of(&without), set_of(&with)];
    let files = [("rules.yaml", &*policies), ("set.yaml", &*texts[0])];
    let mut agent = Agent::start(binary, "one-net", &files)?;
    let program = agent.program()?;
    let listed = Packet {
        source: nets[0].address,
        ..packet
    };
    agent.wait(&program, &packet, false, Instant::now())?;
    agent.wait(&program, &listed, true, Instant::now())?;
    let mut added = Vec::new();
    let mut removed = Vec::new();
    for _ in 0..rounds {
        for (text, passes, samples) in [
            (&texts[1], true, &mut added),
            (&texts[0], false, &mut removed),
        ] {
            let begin = agent.replace("set.yaml", text)?;
            let took = agent.wait(&program, &packet, passes, begin)?;
            samples.push(took.as_secs_f64() * 1e3);
        }
    }
    for (what, samples) in [("added to", added), ("removed from", removed)] {
        record.measure(Measure {
            id: "k",
            name: format!("one network {what} a set of {MANY_NETS}"),
            unit: "ms",
            bound: Some(Bound::AtMost(20.0)),
            samples,
            note: "one file of the store, replaced".to_owned(),
        });
    }
    Ok(())
}
