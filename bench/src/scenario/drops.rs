//! e, f, g: packets of a flood that are dropped in a second, from the wire on:
//! who sends, the interfaces and the hook included, all on one CPU.

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{RuleSet, Set, Shape, cidrs};

use super::{Effort, MANY_NETS, SEED};
use crate::{
    contender::{
        Contender::{self, Bare, Hostfw, Ipset, IptablesLegacy, IptablesNft, NftLinear, NftSets},
        Place::{Early, Input},
        Policy, Standing,
        hostfw::Hook,
    },
    record::{Bound, Measure, Record, median},
};

const BY_RULES: &str = "drops by rules";
const BY_NETS: &str = "drops with a set of networks";

/// Above this, who looks at rule after rule takes too long.
const MOST_LINEAR: usize = 1_000;

const NATIVE: Contender = Hostfw(Hook::XdpNative);

const RULES: [Contender; 12] = [
    NATIVE,
    Bare,
    Hostfw(Hook::XdpGeneric),
    Hostfw(Hook::Tcx),
    NftSets(Early),
    NftSets(Input),
    NftLinear(Early),
    NftLinear(Input),
    IptablesNft(Early),
    IptablesNft(Input),
    IptablesLegacy(Early),
    IptablesLegacy(Input),
];

const NETS: [Contender; 5] = [
    NATIVE,
    NftSets(Early),
    NftSets(Input),
    Ipset(Early),
    Ipset(Input),
];

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let sizes = effort.sizes();
    for size in &sizes {
        let policy = Policy::new(RuleSet::new(Shape::Cluster, *size, SEED))?;
        let contenders = RULES
            .iter()
            .filter(|contender| *size <= MOST_LINEAR || !contender.is_linear());
        in_turn(effort, record, BY_RULES, *size, &policy, contenders)?;
    }
    let nets = Set::V4(cidrs::v4(MANY_NETS, SEED));
    let policy = Policy::new(RuleSet::new(Shape::Cluster, 10, SEED).with_set(nets))?;
    in_turn(effort, record, BY_NETS, MANY_NETS, &policy, NETS.iter())?;
    results(record, &sizes);
    Ok(())
}

/// Sets all up, and then measures one after the other, round by round.
fn in_turn<'a>(
    effort: &Effort,
    record: &mut Record,
    scenario: &str,
    size: usize,
    policy: &Policy,
    contenders: impl Iterator<Item = &'a Contender>,
) -> Result<()> {
    let mut standing = Vec::new();
    for (number, contender) in contenders.enumerate() {
        let begin = std::time::Instant::now();
        let up = Standing::up(*contender, policy, &format!("d{number}"))
            .with_context(|| format!("{scenario}, {size}: {}", contender.name()))?;
        eprintln!(
            "  {size}: {} is up after {:.1} s",
            contender.name(),
            begin.elapsed().as_secs_f64()
        );
        standing.push(up);
    }
    for round in 0..effort.rounds {
        for up in &standing {
            let rate = up
                .rate(effort.seconds)
                .with_context(|| up.contender.name())?;
            record.add(
                scenario,
                (up.contender.name(), size),
                "packets/s",
                round,
                rate,
            );
        }
    }
    Ok(())
}

fn results(record: &mut Record, sizes: &[usize]) {
    for size in sizes {
        against(record, "e", BY_RULES, *size, Bare, Some(0.55));
        for hook in [Hook::XdpGeneric, Hook::Tcx] {
            let ratios = record.ratios(BY_RULES, (hook.name(), *size), (Bare.name(), *size));
            record.measure(Measure {
                id: "e",
                name: format!("{size} rules: {} against {}", hook.name(), Bare.name()),
                unit: "×",
                bound: None,
                samples: ratios,
                note: String::new(),
            });
        }
    }
    let most = sizes[sizes.len() - 1];
    for place in [Early, Input] {
        against(record, "f", BY_RULES, most, NftSets(place), Some(3.0));
        against(record, "f", BY_NETS, MANY_NETS, NftSets(place), Some(3.0));
    }
    for place in [Early, Input] {
        for contender in [NftLinear(place), IptablesNft(place), IptablesLegacy(place)] {
            against(record, "g", BY_RULES, MOST_LINEAR, contender, Some(20.0));
        }
    }
    for place in [Early, Input] {
        against(record, "g2", BY_NETS, MANY_NETS, Ipset(place), Some(5.0));
    }
    record.plot(
        "drops",
        "Packets of a flood dropped in a second",
        "rules",
        &[BY_RULES],
    );
}

fn against(
    record: &mut Record,
    id: &'static str,
    scenario: &str,
    size: usize,
    other: Contender,
    bound: Option<f64>,
) {
    let (one, other) = ((NATIVE.name(), size), (other.name(), size));
    let ratios = record.ratios(scenario, one, other);
    let million = |of| median(&record.of(scenario, of)).unwrap_or(f64::NAN) / 1e6;
    let note = format!(
        "{:.3} against {:.3} million/s",
        million(one),
        million(other)
    );
    let what = if scenario == BY_NETS {
        "networks"
    } else {
        "rules"
    };
    record.measure(Measure {
        id,
        name: format!("{size} {what}: {} against {}", one.0, other.0),
        unit: "×",
        bound: bound.map(Bound::AtLeast),
        samples: ratios,
        note,
    });
}
