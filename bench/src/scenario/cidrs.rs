//! c, d: what a packet costs with a large set of networks, and without.

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{Rng, RuleSet, Set, Shape, cidrs};

use super::{Effort, MANY_NETS, SEED, cost};
use crate::{
    contender::{
        drawn, drawn_v6,
        hostfw::{Plane, image, with_netfilter},
    },
    drive::{Driver, Source, TABLE, Then},
    record::{Bound, Record, median},
    template::Template,
    wire::Wire,
};

const RULES: usize = 10;

const FLOOD: &str = "flood, 10 rules and a set";
const DRAWN: &str = "sources of the set, 10 rules and a set";
const V4: &str = "IPv4";
const V6: &str = "IPv6";

struct Loaded {
    family: &'static str,
    nets: usize,
    plane: Plane,
}

struct Drivers {
    flood: Driver,
    drawn: Driver,
}

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let wire = Wire::up("cidrs")?;
    wire.host.run(|| inside(effort, record))?
}

fn inside(effort: &Effort, record: &mut Record) -> Result<()> {
    let sizes: &[usize] = match effort.quick {
        true => &[MANY_NETS],
        false => &[10, 1_000, 10_000, MANY_NETS],
    };
    let mut all = Vec::new();
    let base = with_netfilter(image(&RuleSet::new(Shape::Cluster, RULES, SEED))?);
    for family in [V4, V6] {
        let name = format!("cidrs-{family}-0");
        all.push(Loaded {
            family,
            // No set; a plot has no place for 0.
            nets: 1,
            plane: Plane::load(&name, &base, |_| {})?,
        });
    }
    let mut v4 = None;
    let mut v6 = None;
    for nets in sizes {
        for family in [V4, V6] {
            let set = match family {
                V4 => Set::V4(cidrs::v4(*nets, SEED)),
                _ => Set::V6(cidrs::v6(*nets, SEED)),
            };
            let mut rng = Rng::new(SEED);
            let (flood, of_set) = match &set {
                Set::V4(_) => (Source::Flood, Source::Table(drawn(&set, TABLE, &mut rng))),
                Set::V6(nets) => (
                    Source::FloodV6,
                    Source::TableV6(drawn_v6(nets, TABLE, &mut rng)),
                ),
            };
            let driver = |source| Driver::new(source, Then::Xdp, Template::NEW);
            let drivers = Drivers {
                flood: driver(&flood)?,
                drawn: driver(&of_set)?,
            };
            let rules = RuleSet::new(Shape::Cluster, RULES, SEED).with_set(set);
            let image = with_netfilter(image(&rules)?);
            let plane = Plane::load(&format!("cidrs-{family}-{nets}"), &image, |_| {})?;
            let check = || -> Result<()> {
                cost::ask(&plane, &drivers.flood, |_| false).context("flood")?;
                cost::ask(&plane, &drivers.drawn, |_| true).context("sources of the set")
            };
            check().with_context(|| format!("{family}, {nets} networks"))?;
            all.push(Loaded {
                family,
                nets: *nets,
                plane,
            });
            match family {
                V4 => v4 = Some(drivers),
                _ => v6 = Some(drivers),
            }
        }
    }
    // All are asked about the sources of the largest set.
    let v4 = v4.context("no set")?;
    let v6 = v6.context("no set")?;
    for round in 0..effort.rounds {
        for loaded in &all {
            let drivers = if loaded.family == V4 { &v4 } else { &v6 };
            for (scenario, driver) in [(FLOOD, &drivers.flood), (DRAWN, &drivers.drawn)] {
                let cost = cost::cost_of(&loaded.plane, driver, effort.runs)?;
                let of = (loaded.family, loaded.nets);
                record.add(scenario, of, "ns", round, cost);
            }
        }
    }
    for (id, family, flood, drawn) in [("c", V4, 1.5, 3.0), ("d", V6, 3.0, 8.0)] {
        for (scenario, bound) in [(FLOOD, flood), (DRAWN, drawn)] {
            let ratios = record.ratios(scenario, (family, MANY_NETS), (family, 1));
            let value = |nets| median(&record.of(scenario, (family, nets))).unwrap_or(f64::NAN);
            let note = format!("{:.0} ns against {:.0} ns", value(MANY_NETS), value(1));
            let name = format!("{family}, {scenario} of {MANY_NETS} networks against none");
            record.ratio(id, name, Bound::AtMost(bound), ratios, note);
        }
    }
    record.plot(
        "cidrs",
        "Cost of a packet with a set of networks (1: no set)",
        "networks in the set",
        &[FLOOD, DRAWN],
    );
    Ok(())
}
