//! i: what one more packet of an established flow costs, when there are many
//! flows and when there are few.

use anyhow::{Context as _, Result};
use hostfw_bench::shapes::{NODE, Packet, Protocol};
use hostfw_common::names::{PROGRAM_TC_EGRESS, PROGRAM_XDP};

use super::{Effort, cost};
use crate::{
    contender::hostfw::{Plane, image_of},
    drive::{Driver, Source, TABLE, Then},
    perf::CacheMisses,
    record::{Measure, Record, median},
    template::{ACK, SYN, Template},
    wire::{INDEX_HERE, Wire},
};

const FEW: usize = 1_000;
const MANY: usize = 500_000;
/// As many flows are opened at a time as are kept half-open without crowding.
const BATCH: usize = 1 << 14;
/// Room for flows, so that none is pushed out.
const ROOM: u32 = 1 << 20;

const SCENARIO: &str = "established flows";
const HOSTFW: &str = "hostfw";

fn policy(action: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: all}}\nspec:\n  selector: all()\n  preDNAT: true\n  applyOnForward: true\n  ingress:\n    - {{action: {action}}}\n"
    )
}

/// A packet of flow `number` to the node; all flows are different.
fn packet(number: usize) -> Packet {
    Packet {
        source: u32::from_be_bytes([100, 64, 0, 0]) + (number / 100) as u32,
        destination: NODE,
        protocol: Protocol::Tcp,
        source_port: 20_000 + (number % 100) as u16,
        destination_port: 443,
    }
}

const fn answer(packet: Packet) -> Packet {
    Packet {
        source: packet.destination,
        destination: packet.source,
        protocol: packet.protocol,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
    }
}

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    let wire = Wire::up("flows")?;
    wire.host.run(|| inside(effort, record))?
}

fn inside(effort: &Effort, record: &mut Record) -> Result<()> {
    let mut all = Vec::new();
    for count in [FEW, MANY] {
        all.push((
            count,
            established(count).with_context(|| format!("{count} flows"))?,
        ));
    }
    let mut misses = CacheMisses::open();
    let mut missed = Vec::new();
    for round in 0..effort.rounds {
        for (count, (plane, driver)) in &all {
            let before = misses.read();
            let cost = cost::cost_of(plane, driver, effort.runs)?;
            record.add(SCENARIO, (HOSTFW, *count), "ns", round, cost);
            if let (Some(before), Some(after), MANY) = (before, misses.read(), *count) {
                missed.push((after - before) as f64 / f64::from(effort.runs + TABLE as u32));
            }
        }
    }
    let value = |count| median(&record.of(SCENARIO, (HOSTFW, count))).unwrap_or(f64::NAN);
    let note = format!("{:.0} ns against {:.0} ns", value(MANY), value(FEW));
    record.measure(Measure {
        id: "i",
        name: format!("a packet of one of {MANY} flows against one of {FEW}"),
        unit: "×",
        bound: None,
        samples: record.ratios(SCENARIO, (HOSTFW, MANY), (HOSTFW, FEW)),
        note,
    });
    match misses.unavailable() {
        Some(why) => super::not_available(record, "i", &format!("cache misses: {why}")),
        None => record.measure(Measure {
            id: "i",
            name: format!("cache misses of a packet of one of {MANY} flows"),
            unit: "",
            bound: None,
            samples: missed,
            note: String::new(),
        }),
    }
    Ok(())
}

/// A plane with so many flows that both sides have sent in, and packets of
/// them. By policy none of these would pass.
fn established(count: usize) -> Result<(Plane, Driver)> {
    let image = image_of(&policy("Allow"))?;
    let mut plane = Plane::load(&format!("flows-{count}"), &image, |options| {
        options.tables.confirmed = ROOM;
    })?;
    let packets: Vec<Packet> = (0..count).map(packet).collect();
    for batch in packets.chunks(BATCH) {
        let dataplane = plane.dataplane()?;
        let opening = Driver::new(
            &Source::Table(batch.to_vec()),
            Then::Xdp,
            Template { flags: SYN },
        )?;
        let program = dataplane.program(PROGRAM_XDP).context(PROGRAM_XDP)?.fd()?;
        opening.run(program, INDEX_HERE, batch.len() as u32)?;
        let answers = batch.iter().copied().map(answer).collect();
        let answering = Driver::new(
            &Source::Table(answers),
            Then::Tc,
            Template { flags: SYN | ACK },
        )?;
        let program = dataplane
            .program(PROGRAM_TC_EGRESS)
            .context(PROGRAM_TC_EGRESS)?
            .fd()?;
        answering.run(program, INDEX_HERE, batch.len() as u32)?;
        // Who opened goes on.
        let going_on = Driver::new(
            &Source::Table(batch.to_vec()),
            Then::Xdp,
            Template { flags: ACK },
        )?;
        let program = dataplane.program(PROGRAM_XDP).context(PROGRAM_XDP)?.fd()?;
        going_on.run(program, INDEX_HERE, batch.len() as u32)?;
    }
    let denying = image_of(&policy("Deny"))?;
    plane.dataplane_mut()?.switch(&denying)?;
    // Spread over all flows.
    let step = (count / TABLE).max(1);
    let of_all = packets.into_iter().step_by(step).take(TABLE).collect();
    let driver = Driver::new(&Source::Table(of_all), Then::Xdp, Template { flags: ACK })?;
    cost::ask(&plane, &driver, |_| true).context("packets of established flows")?;
    Ok((plane, driver))
}
