//! j, k: how long it takes from a change of the store until the program in the
//! kernel judges by it. The agent is the shipped one; the program that is
//! attached is asked about a packet until its answer is the new one.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{NODE, Net, Packet, RuleSet, Set, Shape, cidrs, flood, network_set};

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
    for objects in [100, 1] {
        one_net(binary, rounds, objects, record)?;
    }
    Ok(())
}

/// The networks as so many objects, a file each, of which one changes.
fn one_net(binary: &Path, rounds: usize, objects: usize, record: &mut Record) -> Result<()> {
    let nets = cidrs::v4(MANY_NETS, SEED);
    let packet = flood(0);
    let listed = Packet {
        source: nets[0].address,
        ..packet
    };
    let all = Set::V4(nets).texts();
    let policies = RuleSet::new(Shape::Cluster, 10, SEED)
        .with_set(Set::V4(Vec::new()))
        .policies_yaml();
    let mut files = vec![("rules.yaml".to_owned(), policies)];
    for (number, part) in all.chunks(MANY_NETS / objects).enumerate() {
        let name = format!("listed-{number}");
        let text = network_set(&name, part);
        files.push((format!("{name}.yaml"), text));
    }
    // In the middle, where nothing is spared by it.
    let (changed, without) = files[1 + objects / 2].clone();
    let middle = without.len() / 2;
    let line = without[middle..].find('\n').context("no line")? + middle + 1;
    let (before, after) = without.split_at(line);
    let net = Net::of(packet.source, 32);
    let with = format!("{before}    - {net}\n{after}");

    let borrowed: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    let mut agent = Agent::start(binary, &format!("one-net-{objects}"), &borrowed)?;
    let program = agent.program()?;
    agent.wait(&program, &packet, false, Instant::now())?;
    agent.wait(&program, &listed, true, Instant::now())?;
    let mut added = Vec::new();
    let mut removed = Vec::new();
    for _ in 0..rounds {
        for (text, passes, samples) in [(&with, true, &mut added), (&without, false, &mut removed)]
        {
            let begin = agent.replace(&changed, text)?;
            let took = agent.wait(&program, &packet, passes, begin)?;
            samples.push(took.as_secs_f64() * 1e3);
        }
    }
    for (what, samples) in [("added to", added), ("removed from", removed)] {
        record.measure(Measure {
            id: "k",
            name: format!(
                "one network {what} {MANY_NETS}, in sets of {}",
                MANY_NETS / objects
            ),
            unit: "ms",
            bound: Some(Bound::AtMost(20.0)),
            samples,
            note: "one file of the store, replaced, holds the set".to_owned(),
        });
    }
    Ok(())
}
