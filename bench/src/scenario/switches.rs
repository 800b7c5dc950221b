//! l: packets judged by a mixture of two generations, or not judged, while
//! generations are switched. The flood is that of the kernel tests, which also
//! show that it finds a switcher out that is broken on purpose.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    Effort,
    flood::{Switcher, flood},
};
use crate::{
    bpf,
    record::{Bound, Measure, Record},
    wire::Wire,
};

const SWITCHES: u64 = 1_000;
const PACKETS: u64 = 10_000_000;
/// Of the switcher that is broken: each of them waits for some twenty grace
/// periods, and most of the packets meanwhile meet a mixture.
const BROKEN: u64 = 10;
/// How often to say how far it is.
const TELL: Duration = Duration::from_secs(10);

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    // A namespace of its own; the flood's packets cross its loopback interface.
    let wire = Wire::up("switches")?;
    let (switches, packets) = match effort.quick {
        true => (SWITCHES / 10, PACKETS / 10),
        false => (SWITCHES, PACKETS),
    };
    // Who switches and who floods, on all CPUs.
    bpf::pin_to_cpu(None)?;
    let result = wire.host.run(|| {
        let pins = Path::new("/sys/fs/bpf/switches");
        let mut told = Instant::now();
        let whole = flood(pins, Switcher::Whole, switches, packets, |done, sent| {
            if told.elapsed() > TELL {
                told = Instant::now();
                eprintln!("  {done} of {switches} switches, {sent} of {packets} packets");
            }
        });
        let broken = flood(pins, Switcher::OneByOne, BROKEN, 0, |_, _| ());
        (whole, broken)
    });
    bpf::pin_to_cpu(Some(0))?;
    let (whole, broken) = result?;
    let note = format!(
        "{} packets in {} switches; maps switched one by one: {} of {} packets judged by a mixture",
        whole.sent, whole.switches, broken.mixture, broken.sent
    );
    for (name, value) in [
        (
            "packets judged by a mixture of two generations",
            whole.mixture,
        ),
        ("packets not judged", whole.not_judged()),
    ] {
        record.measure(Measure {
            id: "l",
            name: name.to_owned(),
            unit: "",
            bound: Some(Bound::AtMost(0.0)),
            samples: vec![value as f64],
            note: note.clone(),
        });
    }
    // Otherwise the zeros above say nothing.
    ensure!(
        broken.mixture > 0,
        "a broken switcher was not found out: {note}"
    );
    Ok(())
}
