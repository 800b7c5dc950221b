//! a, b: what judging one packet costs, without anything around it
//! (BPF_PROG_TEST_RUN), beside a program that does nothing with the same
//! packets.

use anyhow::{Context as _, Result, ensure};
use hostfw_bench::shapes::{RuleSet, Shape};
use hostfw_common::names::PROGRAM_XDP;
use hostfw_tests::bpf::{ATTACH_XDP, F_XDP_HAS_FRAGS, PROG_TYPE_XDP, load_constant};

use super::{Effort, SEED};
use crate::{
    bpf::{XDP_DROP, XDP_PASS},
    contender::hostfw::{Plane, image, with_netfilter},
    drive::{Driver, Source, TABLE, Then},
    record::{Bound, Record},
    template::Template,
    wire::{INDEX_HERE, Wire},
};

/// The program that does nothing.
pub(super) const EMPTY: &str = "empty program";

/// Packets that a program is asked about one by one.
const ASKED: u32 = 500;

/// Rule sets of one shape and size, loaded with the verdict cache and without.
struct Loaded {
    shape: Shape,
    size: usize,
    cached: Plane,
    uncached: Plane,
    flood: Driver,
    random: Driver,
}

const fn flood_of(shape: Shape) -> &'static str {
    match shape {
        Shape::Cluster => "flood, cluster",
        Shape::Acl => "flood, acl",
        Shape::Half => "flood, half",
    }
}

const fn random_of(shape: Shape) -> &'static str {
    match shape {
        Shape::Cluster => "random, cluster",
        Shape::Acl => "random, acl",
        Shape::Half => "random, half",
    }
}

const WITH: &str = "hostfw";
const WITHOUT: &str = "hostfw, no verdict cache";

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let wire = Wire::up("cost")?;
    wire.host.run(|| inside(effort, record))?
}

fn inside(effort: &Effort, record: &mut Record) -> Result<()> {
    let sizes = match effort.quick {
        true => vec![10, effort.rules()],
        false => effort.sizes(),
    };
    let mut all = Vec::new();
    for shape in Shape::ALL {
        for size in &sizes {
            all.push(load(shape, *size).with_context(|| format!("{} {size}", shape.name()))?);
        }
    }
    let empty = load_constant(PROG_TYPE_XDP, F_XDP_HAS_FRAGS, ATTACH_XDP, XDP_PASS as i32)
        .context("the empty program")?;
    for round in 0..effort.rounds {
        for loaded in &all {
            let Loaded { shape, size, .. } = loaded;
            for (scenario, driver) in [
                (flood_of(*shape), &loaded.flood),
                (random_of(*shape), &loaded.random),
            ] {
                let (_, cost) = driver.run(&empty, INDEX_HERE, effort.runs)?;
                record.add(scenario, (EMPTY, *size), "ns", round, cost.into());
                for (name, plane) in [(WITH, &loaded.cached), (WITHOUT, &loaded.uncached)] {
                    let cost = cost_of(plane, driver, effort.runs)?;
                    record.add(scenario, (name, *size), "ns", round, cost);
                }
            }
        }
    }
    results(record, effort.rules());
    Ok(())
}

fn results(record: &mut Record, most: usize) {
    let (many, few) = ((WITHOUT, most), (WITHOUT, 10));
    for shape in Shape::ALL {
        let scenario = flood_of(shape);
        let note = beside(record, scenario, WITH, most);
        let ratios = record.ratios(scenario, (WITH, most), (WITH, 10));
        let name = format!("{scenario}: {most} rules against 10");
        if shape == Shape::Cluster {
            record.ratio("a", name, Bound::AtMost(2.0), ratios, note);
        } else {
            record.measure(crate::record::Measure {
                id: "a",
                name,
                unit: "×",
                bound: None,
                samples: ratios,
                note,
            });
        }
    }
    for (shape, bound) in [(Shape::Cluster, 4.0), (Shape::Half, 4.0), (Shape::Acl, 6.0)] {
        let scenario = random_of(shape);
        let note = beside(record, scenario, WITHOUT, most);
        let ratios = record.ratios(scenario, many, few);
        let name = format!("{scenario}, no verdict cache: {most} rules against 10");
        record.ratio("b", name, Bound::AtMost(bound), ratios, note);
        let note = beside(record, scenario, WITH, most);
        record.measure(crate::record::Measure {
            id: "b",
            name: format!("{scenario}, with the cache: {most} rules against 10"),
            unit: "×",
            bound: None,
            samples: record.ratios(scenario, (WITH, most), (WITH, 10)),
            note,
        });
    }
    let floods = Shape::ALL.map(flood_of);
    record.plot(
        "cost-flood",
        "Cost of a packet of a flood",
        "rules",
        &floods,
    );
    let randoms = Shape::ALL.map(random_of);
    record.plot("cost-random", "Cost of a random packet", "rules", &randoms);
}

/// The medians behind a ratio.
fn beside(record: &Record, scenario: &str, name: &str, most: usize) -> String {
    let median = |of| {
        crate::record::median(&record.of(scenario, of))
            .map_or_else(String::new, |value| format!("{value:.0} ns"))
    };
    format!(
        "{} against {}; harness {}",
        median((name, most)),
        median((name, 10)),
        median((EMPTY, most))
    )
}

fn load(shape: Shape, size: usize) -> Result<Loaded> {
    let set = RuleSet::new(shape, size, SEED);
    let image = with_netfilter(image(&set)?);
    let name = |what: &str| format!("cost-{}-{size}-{what}", shape.name());
    let packets = set.random(TABLE, SEED);
    let loaded = Loaded {
        shape,
        size,
        cached: Plane::load(&name("cached"), &image, |_| {})?,
        uncached: Plane::load(&name("uncached"), &image, |options| {
            crate::contender::hostfw::no_verdict_cache(options);
        })?,
        flood: Driver::new(&Source::Flood, Then::Xdp, Template::NEW)?,
        random: Driver::new(&Source::Table(packets.clone()), Then::Xdp, Template::NEW)?,
    };
    for plane in [&loaded.cached, &loaded.uncached] {
        ask(plane, &loaded.flood, |_| false).context("flood")?;
        ask(plane, &loaded.random, |number| {
            let rule = set.judge(&packets[number as usize]);
            set.rules[rule].allow
        })
        .context("random")?;
    }
    Ok(loaded)
}

/// Tries packets one by one: whether the program passes what it is to pass.
pub(super) fn ask(plane: &Plane, driver: &Driver, passes: impl Fn(u32) -> bool) -> Result<()> {
    let program = plane
        .dataplane()?
        .program(PROGRAM_XDP)
        .context(PROGRAM_XDP)?
        .fd()?;
    driver.rewind(0)?;
    for number in 0..ASKED {
        let (action, _) = driver.run(program, INDEX_HERE, 1)?;
        let expected = if passes(number) { XDP_PASS } else { XDP_DROP };
        ensure!(
            action == expected,
            "packet {number}: expected action {expected}, found {action}"
        );
    }
    Ok(())
}

/// Nanoseconds for a packet, when caches are as warm as they get.
pub(super) fn cost_of(plane: &Plane, driver: &Driver, runs: u32) -> Result<f64> {
    let program = plane
        .dataplane()?
        .program(PROGRAM_XDP)
        .context(PROGRAM_XDP)?
        .fd()?;
    driver.run(program, INDEX_HERE, TABLE as u32)?;
    let (_, nanoseconds) = driver.run(program, INDEX_HERE, runs)?;
    Ok(nanoseconds.into())
}
