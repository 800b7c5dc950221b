//! h: what established traffic gets, with hostfw, with programs that do nothing
//! at the same hooks, and with none.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use hostfw_bench::shapes::{NODE, RuleSet, Shape};
use hostfw_tests::bpf::{
    ATTACH_NETFILTER, ATTACH_XDP, F_XDP_HAS_FRAGS, PROG_TYPE_NETFILTER, PROG_TYPE_SCHED_CLS,
    PROG_TYPE_XDP, load_constant,
};

use super::{Effort, SEED};
use crate::{
    bpf::{self, TC_ACT_UNSPEC, XDP_PASS},
    contender::hostfw::{Hook, Plane, image, with_netfilter},
    record::{Bound, Measure, Record, median},
    wire::{HERE, Wire},
};

const RULES: usize = 1_000;

/// Who is at the hooks.
enum Held {
    Hostfw(Box<Plane>),
    Empty(
        Wire,
        #[expect(dead_code, reason = "attached until dropped")] Empty,
    ),
    None(Wire),
}

impl Held {
    fn wire(&self) -> Result<&Wire> {
        match self {
            Self::Hostfw(plane) => plane.wire().context("no wire"),
            Self::Empty(wire, _) | Self::None(wire) => Ok(wire),
        }
    }
}

const HOSTFW: &str = "hostfw";
const EMPTY: &str = "empty programs";
const NOBODY: &str = "no programs";

type Rate = fn(&Wire, f64) -> Result<f64>;

const RATES: [(&str, &str, Rate); 3] = [
    ("TCP throughput", "Gbit/s", throughput),
    ("requests and answers", "1/s", requests),
    ("connections", "1/s", connections),
];

pub(crate) fn measure(effort: &Effort, record: &mut Record) -> Result<()> {
    // Shorter ones are ruled by how a connection begins.
    let seconds = effort.seconds.max(0.3);
    for (mode, hook) in [("native XDP", Hook::XdpNative), ("TCX", Hook::Tcx)] {
        let mut rules = RuleSet::new(Shape::Cluster, RULES, SEED);
        // Connections are opened by the last rule, past all others.
        if let Some(last) = rules.rules.last_mut() {
            last.allow = true;
        }
        let image = with_netfilter(image(&rules)?);
        let mut plane = Plane::attach(&format!("h-{hook:?}"), &image, hook, Wire::up("hostfw")?)?;
        plane.netfilter().context("netfilter hooks")?;
        let empty = Wire::up("empty")?;
        let programs = Empty::attach(&empty, hook).context("empty programs")?;
        let all = [
            (HOSTFW, Held::Hostfw(Box::new(plane))),
            (EMPTY, Held::Empty(empty, programs)),
            (NOBODY, Held::None(Wire::up("none")?)),
        ];
        for (_, held) in &all {
            // What is closed is to leave its port to the next.
            for namespace in [&held.wire()?.host, &held.wire()?.sender] {
                namespace.sysctl(&[
                    ("ipv4/tcp_max_tw_buckets", "1"),
                    ("ipv4/ip_local_port_range", "2000 65000"),
                ])?;
            }
        }
        for (what, unit, rate) in RATES {
            let scenario = format!("{what}, {mode}");
            for round in 0..effort.rounds {
                for (name, held) in &all {
                    let rate = rate(held.wire()?, seconds)
                        .with_context(|| format!("{scenario}: {name}"))?;
                    record.add(&scenario, (name, RULES), unit, round, rate);
                }
            }
            results(record, &scenario, unit);
        }
    }
    Ok(())
}

fn results(record: &mut Record, scenario: &str, unit: &str) {
    let value = |name| median(&record.of(scenario, (name, RULES))).unwrap_or(f64::NAN);
    let note = format!(
        "{:.2} against {:.2} and {:.2} {unit}",
        value(HOSTFW),
        value(EMPTY),
        value(NOBODY)
    );
    for (other, bound) in [(EMPTY, Some(Bound::AtLeast(0.95))), (NOBODY, None)] {
        record.measure(Measure {
            id: "h",
            name: format!("{scenario}: hostfw against {other}"),
            unit: "×",
            bound,
            samples: record.ratios(scenario, (HOSTFW, RULES), (other, RULES)),
            note: note.clone(),
        });
    }
}

/// Programs that let everything pass, at the hooks that hostfw would have.
struct Empty {
    _classifiers: Vec<SchedClassifier>,
    _netfilter: Vec<OwnedFd>,
}

impl Empty {
    fn attach(wire: &Wire, hook: Hook) -> Result<Self> {
        let pin = format!("/sys/fs/bpf/empty-{hook:?}");
        if hook == Hook::XdpNative {
            let program =
                load_constant(PROG_TYPE_XDP, F_XDP_HAS_FRAGS, ATTACH_XDP, XDP_PASS as i32)?;
            bpf::pin(&program, &pin).context("pinning")?;
            wire.attach_native(&pin)?;
            std::fs::remove_file(&pin).context("pin")?;
        }
        let sides: &[TcAttachType] = match hook {
            Hook::XdpNative => &[TcAttachType::Egress],
            Hook::XdpGeneric | Hook::Tcx => &[TcAttachType::Ingress, TcAttachType::Egress],
        };
        let mut classifiers = Vec::new();
        for side in sides {
            let program = load_constant(PROG_TYPE_SCHED_CLS, 0, 0, TC_ACT_UNSPEC)?;
            bpf::pin(&program, &pin).context("pinning")?;
            let mut classifier = SchedClassifier::from_pin(&pin)?;
            std::fs::remove_file(&pin).context("pin")?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            wire.host.run(|| {
                classifier
                    .attach_with_options(HERE, *side, options)
                    .map(drop)
            })??;
            classifiers.push(classifier);
        }
        /// linux/netfilter.h: NF_ACCEPT, NF_INET_LOCAL_IN, NF_INET_FORWARD,
        /// NFPROTO_IPV4, NFPROTO_IPV6.
        const ACCEPT: i32 = 1;
        const HOOKS: [u32; 2] = [1, 2];
        const FAMILIES: [u32; 2] = [2, 10];
        let program = load_constant(PROG_TYPE_NETFILTER, 0, ATTACH_NETFILTER, ACCEPT)?;
        let mut netfilter = Vec::new();
        for family in FAMILIES {
            for hook in HOOKS {
                let attach = || bpf::attach_netfilter(&program, family, hook, -151);
                netfilter.push(wire.host.run(attach)?.context("netfilter")?);
            }
        }
        Ok(Self {
            _classifiers: classifiers,
            _netfilter: netfilter,
        })
    }
}

/// Gigabits of a TCP connection that arrive in a second.
fn throughput(wire: &Wire, seconds: f64) -> Result<f64> {
    let address = Ipv4Addr::from(NODE).to_string();
    // Sender and receiver on a CPU each; what the wire costs is on the
    // sender's.
    bpf::pin_to_cpu(Some(1)).or_else(|_| bpf::pin_to_cpu(Some(0)))?;
    let server = wire
        .host
        .command("iperf3")
        .args(["--server", "--one-off", "--bind", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    bpf::pin_to_cpu(Some(0))?;
    let server = KillOnDrop(server.context("iperf3 (package iperf3)")?);
    let give_up = Instant::now() + Duration::from_secs(5);
    let result = loop {
        // It does not say when it listens.
        thread::sleep(Duration::from_millis(30));
        let output = wire
            .sender
            .command("iperf3")
            .args(["--client", &address, "--json"])
            .args(["--time", &format!("{:.0}", seconds.max(1.0))])
            .output()
            .context("iperf3")?;
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("output of iperf3")?;
        match value["error"].as_str() {
            None => break value,
            Some(error) => ensure!(Instant::now() < give_up, "iperf3: {error}"),
        }
    };
    drop(server);
    let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.context("no result in the output of iperf3")? / 1e9)
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listen(wire: &Wire) -> Result<TcpListener> {
    wire.host
        .run(|| TcpListener::bind((Ipv4Addr::from(NODE), 0)))?
        .context("listening")
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Octets that go there and back in a second, one after the other.
fn requests(wire: &Wire, seconds: f64) -> Result<f64> {
    let listener = listen(wire)?;
    let to = listener.local_addr()?;
    thread::scope(|scope| {
        // Sockets stay in the namespace where they were made.
        let server = scope.spawn(|| -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut octet = [0];
            while stream.read(&mut octet)? == 1 {
                stream.write_all(&octet)?;
            }
            Ok(())
        });
        let count = wire.sender.run(|| -> Result<f64> {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut octet = [0];
            let begin = Instant::now();
            let mut count = 0;
            while begin.elapsed().as_secs_f64() < seconds {
                stream.write_all(&octet)?;
                stream.read_exact(&mut octet)?;
                count += 1;
            }
            Ok(f64::from(count) / begin.elapsed().as_secs_f64())
        })?;
        if count.is_err() {
            // SAFETY: the listener is open; accept returns then.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        let server = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let count = count?;
        server?;
        Ok(count)
    })
}

/// Connections that are opened and closed in a second, one after the other.
fn connections(wire: &Wire, seconds: f64) -> Result<f64> {
    let listener = listen(wire)?;
    let to = listener.local_addr()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::SeqCst) {
                drop(listener.accept()?);
            }
            Ok(())
        });
        // Waits for the other's end: who is faster than the server only fills
        // its queue.
        let connect = || -> Result<()> {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ensure!(stream.read(&mut [0])? == 0, "the server has sent something");
            Ok(())
        };
        let rate = wire.sender.run(|| -> Result<f64> {
            let begin = Instant::now();
            let mut count = 0;
            let mut result = Ok(());
            while result.is_ok() && begin.elapsed().as_secs_f64() < seconds {
                result = connect();
                count += 1;
            }
            let elapsed = begin.elapsed().as_secs_f64();
            stop.store(true, Ordering::SeqCst);
            // Wakes the server, if it waits; it may have gone already.
            let last = TcpStream::connect_timeout(&to, PATIENCE).map(drop);
            result?;
            last?;
            Ok(f64::from(count) / elapsed)
        })?;
        // A server that waits for who cannot connect would wait for ever.
        if rate.is_err() {
            // SAFETY: the listener is open; accept returns then.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        let server = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let rate = rate?;
        server?;
        Ok(rate)
    })
}
