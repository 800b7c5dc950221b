//! What is measured.

pub(crate) mod apply;
pub(crate) mod cidrs;
pub(crate) mod cost;
pub(crate) mod drops;
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests use more of it, and panic at whatever goes wrong"
)]
#[path = "../../../tests/tests/kernel/flood.rs"]
mod flood;
pub(crate) mod flows;
pub(crate) mod rest;
pub(crate) mod switches;
pub(crate) mod traffic;

use std::path::PathBuf;

use hostfw_bench::shapes::SIZES;

use crate::record::{Measure, Record};

/// How long and how often to measure.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    /// No rule set is larger.
    pub(crate) most: usize,
    pub(crate) rounds: usize,
    /// Packets of one test run.
    pub(crate) runs: u32,
    /// Seconds of one measurement of a rate.
    pub(crate) seconds: f64,
    /// The agent, for the scenarios that are of it.
    pub(crate) agent: Option<PathBuf>,
}

impl Effort {
    /// Numbers of rules to step through.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        let sizes = SIZES.into_iter().filter(|size| *size <= self.most);
        sizes.filter(|size| !self.quick || *size != 100).collect()
    }

    /// The largest of them.
    pub(crate) fn rules(&self) -> usize {
        self.sizes().last().copied().unwrap_or(SIZES[0])
    }
}

/// Seed of all rule sets: any other would do.
pub(crate) const SEED: u64 = 20_260_801;

/// Networks of a large set.
pub(crate) const MANY_NETS: usize = 100_000;

/// Says why there is no figure.
fn not_available(record: &mut Record, id: &'static str, why: &str) {
    record.measure(Measure {
        id,
        name: "not available".to_owned(),
        unit: "",
        bound: None,
        samples: Vec::new(),
        note: why.to_owned(),
    });
}
