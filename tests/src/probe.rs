//! Real connections, tried all at the same time, and what became of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Serialize, Serializer};

mod attempt;
mod target;

use attempt::Attempt;
pub use target::{Action, Target};

use crate::{
    insist::ROUNDS,
    topology::{Family, Host, Topology},
};

/// How long a probe waits for its answer at first. The same for all that are
/// tried together: how long one waits must not depend on what one hopes for.
/// More than one second, after which TCP repeats a lost SYN.
pub const PATIENCE: Duration = Duration::from_millis(1200);

/// How many connections a probe makes to a service with two backends: that
/// the random choice never falls on one of them happens once in 2^23 probes.
const SERVICE_ATTEMPTS: usize = 24;

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every attempt was answered, and everyone who should answer did.
    Open,
    /// No attempt was answered in any way.
    Closed,
    /// Every attempt was refused: by a RST or an ICMP message.
    Refused,
    /// Only these answered, correctly; all other attempts got no answer.
    Only(BTreeSet<String>),
    /// Anything else.
    Odd(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.pad("open"),
            Self::Closed => f.pad("closed"),
            Self::Refused => f.pad("refused"),
            Self::Only(names) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                f.pad(&format!("only {}", names.join(", ")))
            }
            Self::Odd(what) => f.pad(what),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Somebody tries something, in one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// IP version.
    pub family: Family,
    /// Who tries.
    pub from: Host,
    /// What it tries.
    pub action: Action,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family,
            from,
            action,
        } = self;
        f.pad(&format!("{family} {from} -> {action}"))
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answered(String),
    Refused,
    Silence,
    Failed(String),
}

/// Tries all of them at once, each with new connections. The outcomes are in
/// the probes' order.
///
/// # Errors
///
/// If a namespace cannot be entered.
pub fn try_all(topology: &Topology, probes: &[Probe]) -> Result<Vec<Outcome>> {
    try_within(topology, probes, PATIENCE)
}

/// As [`try_all`], with this patience.
pub(crate) fn try_within(
    topology: &Topology,
    probes: &[Probe],
    patience: Duration,
) -> Result<Vec<Outcome>> {
    let mut by_host: BTreeMap<Host, Vec<usize>> = BTreeMap::new();
    for (index, probe) in probes.iter().enumerate() {
        by_host.entry(probe.from).or_default().push(index);
    }
    let mut outcomes = vec![Outcome::Closed; probes.len()];
    let found = thread::scope(|scope| {
        let threads: Vec<_> = by_host
            .into_iter()
            .map(|(host, indices)| {
                scope.spawn(move || {
                    let namespace = topology.namespace(host);
                    namespace
                        .run(|| try_from_here(probes, indices, patience))
                        .with_context(|| format!("probes from {host}"))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("probing does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    for (index, outcome) in found.into_iter().flatten() {
        outcomes[index] = outcome;
    }
    Ok(outcomes)
}

fn try_from_here(
    probes: &[Probe],
    indices: Vec<usize>,
    patience: Duration,
) -> Vec<(usize, Outcome)> {
    let mut attempts = Vec::new();
    for index in &indices {
        let probe = probes[*index];
        for _ in 0..attempts_of(probe.action) {
            attempts.push((*index, Attempt::start(probe)));
        }
    }
    attempt::drive(
        attempts.iter_mut().map(|(_, attempt)| attempt),
        Instant::now() + patience,
    );
    indices
        .into_iter()
        .map(|index| {
            let ends = attempts
                .iter()
                .filter(|(of, _)| *of == index)
                .map(|(_, attempt)| attempt.end());
            (index, judge(probes[index].action, ends))
        })
        .collect()
}

fn attempts_of(action: Action) -> usize {
    if action.responders().len() > 1 {
        SERVICE_ATTEMPTS
    } else {
        1
    }
}

fn judge(action: Action, ends: impl Iterator<Item = End>) -> Outcome {
    let mut count: BTreeMap<End, usize> = BTreeMap::new();
    for end in ends {
        *count.entry(end).or_default() += 1;
    }
    let answered: BTreeSet<_> = count
        .keys()
        .filter_map(|end| match end {
            End::Answered(name) => Some(name.as_str()),
            End::Refused | End::Silence | End::Failed(_) => None,
        })
        .collect();
    let expected: BTreeSet<_> = action.responders().iter().map(|host| host.name()).collect();
    let others: Vec<_> = count
        .keys()
        .filter(|end| !matches!(end, End::Answered(_)))
        .collect();
    match (answered.len(), others.as_slice()) {
        (_, []) if answered == expected => Outcome::Open,
        (0, [End::Silence]) => Outcome::Closed,
        (0, [End::Refused]) => Outcome::Refused,
        (1.., [End::Silence]) if answered.is_subset(&expected) => {
            Outcome::Only(answered.into_iter().map(str::to_owned).collect())
        }
        _ => Outcome::Odd(
            count
                .iter()
                .map(|(end, times)| {
                    let what = match end {
                        End::Answered(name) => format!("answered by {name}"),
                        End::Refused => "refused".to_owned(),
                        End::Silence => "no answer".to_owned(),
                        End::Failed(error) => error.clone(),
                    };
                    format!("{times} x {what}")
                })
                .collect::<Vec<_>>()
                .join(", "),
        ),
    }
}

/// A connection that stays, to see whether what is established survives.
#[derive(Debug)]
pub struct Held {
    /// How it was opened.
    pub probe: Probe,
    attempt: Attempt,
}

impl Held {
    /// Opens them all, and exchanges data on each. What is not answered is
    /// opened again.
    ///
    /// # Errors
    ///
    /// If one of them does not open.
    pub fn open(topology: &Topology, probes: &[Probe]) -> Result<Vec<Self>> {
        let mut held = Vec::new();
        for probe in probes {
            let attempt = topology
                .namespace(probe.from)
                .run(|| Attempt::start(*probe))?;
            held.push(Self {
                probe: *probe,
                attempt,
            });
        }
        for round in 0..ROUNDS {
            let until = Instant::now() + PATIENCE * 2_u32.pow(round);
            attempt::drive(held.iter_mut().map(|one| &mut one.attempt), until);
            if round + 1 == ROUNDS {
                break;
            }
            for one in &mut held {
                if one.attempt.end() == End::Silence {
                    println!("{}: not answered, opened again", one.probe);
                    one.attempt = topology
                        .namespace(one.probe.from)
                        .run(|| Attempt::start(one.probe))?;
                }
            }
        }
        for one in &held {
            match one.attempt.end() {
                End::Answered(_) => {}
                other @ (End::Refused | End::Silence | End::Failed(_)) => {
                    bail!("cannot open {}: {other:?}", one.probe)
                }
            }
        }
        Ok(held)
    }

    /// Sends something new over those of these indices and waits for the
    /// answer.
    pub(crate) fn exchange_within(
        all: &mut [Self],
        which: &[usize],
        patience: Duration,
    ) -> Vec<Outcome> {
        let chosen = |(index, one)| which.contains(&index).then_some(one);
        let mut some: Vec<&mut Self> = all.iter_mut().enumerate().filter_map(chosen).collect();
        for one in &mut some {
            one.attempt.again();
        }
        let until = Instant::now() + patience;
        attempt::drive(some.iter_mut().map(|one| &mut one.attempt), until);
        some.iter()
            .map(|one| match one.attempt.end() {
                // Which backend it was opened to is the past's random choice.
                End::Answered(_) => Outcome::Open,
                End::Silence => Outcome::Closed,
                End::Refused => Outcome::Refused,
                End::Failed(error) => Outcome::Odd(error),
            })
            .collect()
    }
}

/// Something that no other message says: an answer must be to the question.
fn token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A source port (for a ping, its identifier) that no attempt had before,
/// until all have been used. The kernel's own choice may fall on the port of
/// an earlier attempt, whose flow conntrack still knows: policy would not be
/// asked.
fn source_address(family: Family) -> SocketAddr {
    /// Below the range that the kernel chooses from, above any service.
    const PORTS: std::ops::Range<u16> = 10_000..31_000;
    static NEXT: AtomicU16 = AtomicU16::new(PORTS.start);
    let next = |port| {
        Some(if port + 1 < PORTS.end {
            port + 1
        } else {
            PORTS.start
        })
    };
    let port = match NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
        Ok(port) | Err(port) => port,
    };
    match family {
        Family::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
        Family::V6 => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

fn end_of(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        End::Refused
    } else if error.raw_os_error() == Some(libc::ENOBUFS) {
        // So the kernel says that a program dropped it on its way out.
        End::Silence
    } else {
        End::Failed(error.to_string())
    }
}

fn socket_address(probe: Probe) -> SocketAddr {
    let (target, port) = (probe.action.target(), probe.action.port());
    SocketAddr::new(target.address(probe.family), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::kube_proxy::NODE_PORT;

    const SERVICE: Action = Action::Tcp(Target::Host(Host::Node1), NODE_PORT);

    fn answered(host: Host) -> End {
        End::Answered(host.name().to_owned())
    }

    #[test]
    fn a_service_is_open_only_if_every_backend_answers() {
        let both = [answered(Host::Pod1), answered(Host::Pod2)];
        assert_eq!(judge(SERVICE, both.into_iter()), Outcome::Open);
        let one = [answered(Host::Pod1), End::Silence];
        assert_eq!(
            judge(SERVICE, one.into_iter()),
            Outcome::Only(["pod1".to_owned()].into())
        );
        let lost = [answered(Host::Pod1), answered(Host::Pod2), End::Silence];
        assert_ne!(judge(SERVICE, lost.into_iter()), Outcome::Open);
    }

    #[test]
    fn the_wrong_host_answering_is_not_open() {
        let action = Action::Tcp(Target::Host(Host::Node1), 8080);
        let outcome = judge(action, [answered(Host::Node2)].into_iter());
        assert_eq!(outcome, Outcome::Odd("1 x answered by node2".to_owned()));
    }

    #[test]
    fn silence_and_refusal_are_told_apart() {
        let action = Action::Tcp(Target::Host(Host::Node1), 8080);
        assert_eq!(judge(action, [End::Silence].into_iter()), Outcome::Closed);
        assert_eq!(judge(action, [End::Refused].into_iter()), Outcome::Refused);
        let mixed = judge(SERVICE, [End::Silence, End::Refused].into_iter());
        assert!(matches!(mixed, Outcome::Odd(_)), "{mixed}");
    }
}
