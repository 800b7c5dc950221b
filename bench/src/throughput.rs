//! What allowed connections get: where native XDP cannot be attached, generic
//! XDP and TCX stand to choice, and for large segments the former has to copy.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    Effort,
    contender::{Hook, Hostfw},
    policy,
    record::Record,
    wire::{ADDRESS_HERE, Wire},
};

const ALLOW: &str = "---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: allow}
spec:
  selector: all()
  preDNAT: true
  applyOnForward: true
  ingress:
    - {action: Allow}
";

pub(crate) fn measure(wire: &Wire, effort: &Effort, record: &mut Record) -> Result<()> {
    let image = policy::image_of(wire, ALLOW)?;
    let hooks = [Hook::XdpGeneric, Hook::Tcx, Hook::Clsact, Hook::XdpNative];
    for round in 0..effort.rounds {
        let rate = gigabits(wire, effort.seconds).context("no firewall")?;
        record.add("TCP, allowed", "no firewall", "Gbit/s", round, rate);
        for hook in hooks {
            let up = Hostfw::up(wire, hook, &image).with_context(|| hook.name())?;
            let rate = gigabits(wire, effort.seconds).with_context(|| hook.name())?;
            drop(up);
            record.add("TCP, allowed", hook.name(), "Gbit/s", round, rate);
        }
    }
    Ok(())
}

/// Of one connection from the sender to here.
fn gigabits(wire: &Wire, seconds: f64) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::from(ADDRESS_HERE), 0))?;
    let to = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            wire.sender.run(|| -> Result<()> {
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
                let chunk = vec![0; 1 << 17];
                // The receiver closes when it has seen enough.
                while stream.write_all(&chunk).is_ok() {}
                Ok(())
            })
        });
        let received = receive(&listener, seconds);
        sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
        received
    })
}

fn receive(listener: &TcpListener, seconds: f64) -> Result<f64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = vec![0; 1 << 18];
    let mut count = |limit: f64| -> Result<(u64, f64)> {
        let begin = Instant::now();
        let mut bytes = 0;
        while begin.elapsed().as_secs_f64() < limit {
            bytes += stream.read(&mut buffer)? as u64;
        }
        Ok((bytes, begin.elapsed().as_secs_f64()))
    };
    // Let the window open first.
    count(seconds / 5.0)?;
    let (bytes, elapsed) = count(seconds)?;
    Ok(bytes as f64 * 8.0 / 1e9 / elapsed)
}
