//! What judging one packet costs, without anything around it
//! (BPF_PROG_TEST_RUN), beside a program that does nothing.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, ensure};
use hostfw_agent::attach::{Dataplane, Options};
use hostfw_common::names::PROGRAM_XDP;

use crate::{
    Effort,
    bpf::{self, XDP_DROP, XDP_PASS},
    policy,
    record::Record,
    wire::Wire,
};

const SIZES: [usize; 3] = [10, 1000, 4096];

pub(crate) fn measure(wire: &Wire, effort: &Effort, record: &mut Record) -> Result<()> {
    let empty = bpf::constant_xdp(XDP_PASS).context("the empty program")?;
    let packet = wire.packet();
    let mut planes = Vec::new();
    for size in SIZES {
        let mut plane = Dataplane::open(&Options::new(format!("/sys/fs/bpf/cost-{size}")))?;
        plane.switch(&policy::image(wire, size)?)?;
        planes.push((format!("hostfw, {size} rules"), plane));
    }
    for round in 0..effort.rounds {
        let (_, nanoseconds) = bpf::test_run(empty.as_fd(), &packet, wire.here, effort.runs)?;
        record.add(
            "cost, denied by the last rule",
            "empty program",
            "ns",
            round,
            nanoseconds.into(),
        );
        for (name, plane) in &planes {
            let program = plane.program(PROGRAM_XDP).context(PROGRAM_XDP)?.fd()?;
            let (action, nanoseconds) =
                bpf::test_run(program.as_fd(), &packet, wire.here, effort.runs)?;
            ensure!(
                action == XDP_DROP,
                "{name}: expected a drop, found {action}"
            );
            record.add(
                "cost, denied by the last rule",
                name,
                "ns",
                round,
                nanoseconds.into(),
            );
        }
    }
    Ok(())
}
