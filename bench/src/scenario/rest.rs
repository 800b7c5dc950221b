//! m, n: what the agent takes of memory, and of a CPU when nothing changes.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{Packet, RuleSet, Set, Shape, cidrs, flood};
use hostfw_tests::netns;

use super::{Effort, MANY_NETS, SEED};
use crate::{
    agent::Agent,
    record::{Bound, Measure, Record},
};

const MIB: f64 = 1_048_576.0;

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let Some(binary) = &effort.agent else {
        for id in ["m", "n"] {
            super::not_available(record, id, "without --agent");
        }
        return Ok(());
    };
    let rules = effort.rules();
    let nets = cidrs::v4(MANY_NETS, SEED);
    let listed = Packet {
        source: nets[0].address,
        ..flood(0)
    };
    let set = RuleSet::new(Shape::Cluster, rules, SEED).with_set(Set::V4(nets));
    let (policies, text) = (set.policies_yaml(), set.set_yaml());
    let files = [("rules.yaml", &*policies), ("set.yaml", &*text)];
    let mut agent = Agent::start(binary, "rest", &files)?;
    let program = agent.program()?;
    // Before anything is enforced, everything passes.
    agent.wait(&program, &flood(0), false, Instant::now())?;
    agent.wait(&program, &listed, true, Instant::now())?;
    // What follows the first enforcement is to be over.
    thread::sleep(Duration::from_secs(2));

    let memory = status(agent.id(), "VmRSS:")?;
    let highest = status(agent.id(), "VmHWM:")?;
    record.measure(Measure {
        id: "m",
        name: format!("memory of the agent, {rules} rules and {MANY_NETS} networks"),
        unit: "MiB",
        bound: Some(Bound::AtMost(200.0)),
        samples: vec![memory],
        note: format!("{highest:.0} MiB at most, while it started"),
    });
    for (name, bytes) in maps(agent.id())? {
        record.measure(Measure {
            id: "m",
            name: format!("map {name}"),
            unit: "MiB",
            bound: None,
            samples: vec![bytes as f64 / MIB],
            note: String::new(),
        });
    }

    let seconds = if effort.quick { 3.0 } else { 20.0 };
    let before = cpu_time(agent.id())?;
    let begin = Instant::now();
    thread::sleep(Duration::from_secs_f64(seconds));
    let used = (cpu_time(agent.id())? - before).as_secs_f64();
    record.measure(Measure {
        id: "n",
        name: "share of a core that the agent takes at rest".to_owned(),
        unit: "%",
        bound: Some(Bound::AtMost(0.1)),
        samples: vec![used / begin.elapsed().as_secs_f64() * 100.0],
        note: format!("{:.2} ms in {seconds:.0} s", used * 1e3),
    });
    Ok(())
}

/// A field of /proc/PID/status in MiB.
fn status(id: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).context("status of the agent")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {field} in the status"))?;
    Ok(kib / 1024.0)
}

/// Time on a CPU of all threads.
fn cpu_time(id: u32) -> Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task")).context("threads of the agent")? {
        let text = fs::read_to_string(thread?.path().join("schedstat")).context("schedstat")?;
        let nanoseconds = text.split(' ').next().unwrap_or_default();
        sum += nanoseconds.parse::<u64>().context("schedstat")?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Bytes of the maps that the process holds open, by name; the inner maps of
/// both generations together.
fn maps(id: u32) -> Result<BTreeMap<String, u64>> {
    let mut held = Vec::new();
    for file in fs::read_dir(format!("/proc/{id}/fdinfo")).context("files of the agent")? {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        let number = text.lines().find_map(|line| line.strip_prefix("map_id:"));
        held.extend(number.and_then(|number| number.trim().parse::<u64>().ok()));
    }
    let text = netns::run(
        std::process::Command::new("bpftool").args(["-j", "map", "show"]),
        None,
    )?;
    let all: serde_json::Value = serde_json::from_str(&text).context("output of bpftool")?;
    let mut inner = Vec::new();
    for outer in &held {
        inner.extend(slots(&all, *outer));
    }
    held.extend(inner);
    held.sort_unstable();
    held.dedup();
    let mut sizes = BTreeMap::new();
    for map in all.as_array().context("output of bpftool")? {
        let (Some(number), Some(name)) = (map["id"].as_u64(), map["name"].as_str()) else {
            continue;
        };
        if held.contains(&number) {
            let bytes = map["bytes_memlock"].as_u64().unwrap_or(0);
            *sizes.entry(name.to_owned()).or_insert(0) += bytes;
        }
    }
    Ok(sizes)
}

/// The maps in a map of maps.
fn slots(all: &serde_json::Value, outer: u64) -> Vec<u64> {
    let is_outer = all.as_array().is_some_and(|all| {
        all.iter().any(|map| {
            map["id"].as_u64() == Some(outer) && map["type"].as_str() == Some("array_of_maps")
        })
    });
    if !is_outer {
        return Vec::new();
    }
    let dump = netns::run(
        std::process::Command::new("bpftool").args(["-j", "map", "dump", "id", &outer.to_string()]),
        None,
    );
    let dump: serde_json::Value = dump
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let entries = dump.as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let bytes = entry["value"].as_array()?;
            let octet = |index: usize| -> Option<u8> {
                let text = bytes.get(index)?.as_str()?;
                u8::from_str_radix(text.trim_start_matches("0x"), 16).ok()
            };
            let id = [octet(0)?, octet(1)?, octet(2)?, octet(3)?];
            Some(u64::from(u32::from_ne_bytes(id)))
        })
        .collect()
}
