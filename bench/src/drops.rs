//! Packets per second that are dropped, from the wire on: the cost of the
//! generator, the interface and the hook included, all on one CPU.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Effort,
    bpf::{self, XDP_TX},
    contender::Contender,
    record::Record,
    wire::Wire,
};

const SIZES: [usize; 2] = [10, 1000];

/// Frames of one system call.
const BURST: u32 = 1 << 14;

pub(crate) fn measure(wire: &Wire, effort: &Effort, record: &mut Record) -> Result<()> {
    for size in SIZES {
        let scenario = format!("drops, {size} rules");
        for round in 0..effort.rounds {
            for contender in Contender::ALL {
                let up = contender.up(wire, size).with_context(|| contender.name())?;
                let rate = rate(wire, effort.seconds).with_context(|| contender.name())?;
                drop(up);
                record.add(&scenario, contender.name(), "Mpps", round, rate / 1e6);
            }
        }
    }
    Ok(())
}

fn rate(wire: &Wire, seconds: f64) -> Result<f64> {
    let generator = bpf::constant_xdp(XDP_TX).context("the generator")?;
    let packet = wire.packet();
    let before = wire.received()?;
    let (sent, elapsed) = wire.sender.run(|| -> Result<(u64, Duration)> {
        let mut sent = 0;
        let begin = Instant::now();
        while begin.elapsed().as_secs_f64() < seconds {
            bpf::live_run(generator.as_fd(), &packet, wire.there, BURST).context("sending")?;
            sent += u64::from(BURST);
        }
        Ok((sent, begin.elapsed()))
    })??;
    let received = wire.received()? - before;
    ensure!(received > 0, "of {sent} packets none came to the interface");
    Ok(received as f64 / elapsed.as_secs_f64())
}
