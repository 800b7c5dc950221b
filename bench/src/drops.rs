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

/// Frames of the first system call, which only gives an idea.
const FIRST_FRAMES: u32 = 1 << 12;
/// Frames of any.
const MOST_FRAMES: f64 = 1e8;

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
    let send = |frames: u32| -> Result<f64> {
        let before = wire.received()?;
        let elapsed = wire.sender.run(|| -> Result<Duration> {
            let begin = Instant::now();
            bpf::live_run(generator.as_fd(), &packet, wire.there, frames).context("sending")?;
            Ok(begin.elapsed())
        })??;
        let received = wire.received()? - before;
        ensure!(
            received > 0,
            "of {frames} packets none came to the interface"
        );
        Ok(received as f64 / elapsed.as_secs_f64())
    };
    // A call costs milliseconds before its first frame, so the one that counts
    // has to be long; how long a frame takes is known only after a short one.
    let mut rate = send(FIRST_FRAMES)?;
    for share in [0.1, 1.0] {
        let frames = (rate * seconds * share).clamp(f64::from(FIRST_FRAMES), MOST_FRAMES);
        rate = send(frames as u32)?;
    }
    Ok(rate)
}
