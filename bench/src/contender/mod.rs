//! Who drops the packets, and whether they drop the right ones.

pub(crate) mod hostfw;
mod iptables;
mod nft;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use hostfw_agent::compile::image::Image;
use hostfw_bench::shapes::{NODE, Net, Packet, Rng, RuleSet, Set, cidrs, flood};
use hostfw_tests::{
    bpf::{ATTACH_XDP, F_XDP_HAS_FRAGS, PROG_TYPE_XDP, load_constant},
    netns,
};

use self::hostfw::{Hook, Plane};
use crate::{
    bpf::{self, XDP_DROP},
    drive::{Driver, Source, Then},
    template::Template,
    wire::{HERE, INDEX_THERE, Wire},
};

/// Where the rules of netfilter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// As early as can be: the best form. nftables: the netdev family's ingress
    /// hook. iptables: the table raw, ahead of nf_conntrack.
    Early,
    /// The common form: the chain INPUT of the table filter, behind a rule that
    /// accepts what nf_conntrack knows.
    Input,
}

/// Somebody who enforces a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// A native XDP program that drops everything: what no firewall can beat.
    Bare,
    Hostfw(Hook),
    /// A line for each rule.
    NftLinear(Place),
    /// Concatenated sets, interval sets and verdict maps.
    NftSets(Place),
    IptablesNft(Place),
    IptablesLegacy(Place),
    /// iptables-legacy, and ipset for the set.
    Ipset(Place),
}

impl Contender {
    pub(crate) const fn name(self) -> &'static str {
        use Place::{Early, Input};
        match self {
            Self::Bare => "bare XDP drop",
            Self::Hostfw(hook) => hook.name(),
            Self::NftLinear(Early) => "nft linear, netdev ingress (best)",
            Self::NftLinear(Input) => "nft linear, input (common)",
            Self::NftSets(Early) => "nft sets, netdev ingress (best)",
            Self::NftSets(Input) => "nft sets, input (common)",
            Self::IptablesNft(Early) => "iptables-nft, raw (best)",
            Self::IptablesNft(Input) => "iptables-nft, INPUT (common)",
            Self::IptablesLegacy(Early) => "iptables-legacy, raw (best)",
            Self::IptablesLegacy(Input) => "iptables-legacy, INPUT (common)",
            Self::Ipset(Early) => "iptables and ipset, raw (best)",
            Self::Ipset(Input) => "iptables and ipset, INPUT (common)",
        }
    }

    /// Whether it looks at rule after rule, so that many of them take too long
    /// to measure.
    pub(crate) const fn is_linear(self) -> bool {
        matches!(
            self,
            Self::NftLinear(_) | Self::IptablesNft(_) | Self::IptablesLegacy(_)
        )
    }
}

/// What is to be enforced: for who takes plain rules, and compiled.
pub(crate) struct Policy {
    pub(crate) set: RuleSet,
    pub(crate) image: Image,
}

impl Policy {
    pub(crate) fn new(set: RuleSet) -> Result<Self> {
        let image = hostfw::image(&set).context("compiling")?;
        Ok(Self { set, image })
    }
}

/// A contender on a wire of its own, with its rules in force.
pub(crate) struct Standing {
    pub(crate) contender: Contender,
    held: Held,
    flood: Driver,
    /// Frames that took long enough, the last time.
    frames: Cell<u32>,
}

/// Who holds the wire.
enum Held {
    Plane(Box<Plane>),
    Wire(Wire),
}

/// Frames of the first call, which only gives an idea.
const FIRST_FRAMES: u32 = 1 << 9;
/// Frames of any.
const MOST_FRAMES: f64 = 1e8;
/// Share of the time wanted that a measurement may stay below.
const ENOUGH: f64 = 0.7;
/// How many times as many frames are tried next: what the first calls take says
/// little of what a frame takes.
const MOST_AT_ONCE: f64 = 16.0;
/// Packets of each kind that a contender is tried with.
const SAMPLES: usize = 200;

impl Standing {
    /// Sets everything up; `name` is of this contender in this scenario alone.
    pub(crate) fn up(contender: Contender, policy: &Policy, name: &str) -> Result<Self> {
        let wire = Wire::up(name)?;
        let set = &policy.set;
        let restore = |program: &str, text: &str| {
            netns::run(wire.host.command(program).arg("--noflush"), Some(text)).map(drop)
        };
        match contender {
            Contender::Hostfw(_) => {}
            Contender::Bare => {
                let pin = format!("/sys/fs/bpf/bare-{name}");
                let program =
                    load_constant(PROG_TYPE_XDP, F_XDP_HAS_FRAGS, ATTACH_XDP, XDP_DROP as i32)?;
                bpf::pin(&program, &pin).context("pinning")?;
                wire.attach_native(&pin)?;
                std::fs::remove_file(&pin).context(pin)?;
            }
            Contender::NftLinear(place) => wire.host.nft(&nft::linear(set, place))?,
            Contender::NftSets(place) => wire.host.nft(&nft::sets(set, place)?)?,
            Contender::IptablesNft(place) => {
                restore("iptables-nft-restore", &iptables::rules(set, place))?;
            }
            Contender::IptablesLegacy(place) => {
                restore("iptables-legacy-restore", &iptables::rules(set, place))?;
            }
            Contender::Ipset(place) => {
                netns::run(
                    wire.host.command("ipset").arg("restore"),
                    Some(&iptables::ipset(set)),
                )?;
                restore("iptables-legacy-restore", &iptables::rules(set, place))?;
            }
        }
        let held = if let Contender::Hostfw(hook) = contender {
            let plane = Plane::attach(name, &policy.image, hook, wire)?;
            Held::Plane(Box::new(plane))
        } else {
            Held::Wire(wire)
        };
        let standing = Self {
            contender,
            held,
            flood: Driver::new(&Source::Flood, Then::Send, Template::NEW)?,
            frames: Cell::new(FIRST_FRAMES),
        };
        standing
            .check(set)
            .with_context(|| format!("{} with {} rules", contender.name(), set.rules.len()))?;
        Ok(standing)
    }

    fn wire(&self) -> Result<&Wire> {
        match &self.held {
            Held::Wire(wire) => Ok(wire),
            Held::Plane(plane) => plane.wire().context("no wire"),
        }
    }

    /// Tries packets whose verdict is known: a contender that lets pass what is
    /// to be dropped, or the other way about, has no figure.
    fn check(&self, set: &RuleSet) -> Result<()> {
        let (pass, deny) = samples(set);
        self.wire()?.host.nft(&format!(
            "table inet probe {{\nchain probe {{\ntype filter hook input priority 300;\niifname {HERE} meta l4proto {{ tcp, udp }} counter drop\n}}\n}}\n"
        ))?;
        let expected = if self.contender == Contender::Bare {
            0
        } else {
            pass.len()
        };
        for (what, packets, expected) in [("denied", deny, 0), ("allowed", pass, expected)] {
            let before = self.passed()?;
            let received = self.wire()?.received()?;
            let driver = Driver::new(&Source::Table(packets.clone()), Then::Send, Template::NEW)?;
            self.send(&driver, packets.len() as u32)?;
            let received = self.wire()?.received()? - received;
            let passed = self.passed()? - before;
            ensure!(
                received >= packets.len() as u64,
                "of {} packets {received} came to the interface",
                packets.len()
            );
            ensure!(
                passed == expected as u64,
                "of {} packets that are {what}, {passed} passed, expected {expected}",
                packets.len()
            );
        }
        self.wire()?.host.nft("delete table inet probe\n")
    }

    fn passed(&self) -> Result<u64> {
        let text = netns::run(
            self.wire()?
                .host
                .command("nft")
                .args(["-j", "list", "chain", "inet", "probe", "probe"]),
            None,
        )?;
        let value: serde_json::Value = serde_json::from_str(&text).context("output of nft")?;
        value["nftables"]
            .as_array()
            .and_then(|objects| {
                objects
                    .iter()
                    .filter_map(|object| object["rule"]["expr"].as_array())
                    .flatten()
                    .find_map(|expression| expression["counter"]["packets"].as_u64())
            })
            .context("no counter in the output of nft")
    }

    fn send(&self, driver: &Driver, frames: u32) -> Result<Duration> {
        self.wire()?.sender.run(|| -> Result<Duration> {
            let begin = Instant::now();
            driver.send(INDEX_THERE, frames)?;
            Ok(begin.elapsed())
        })?
    }

    /// Packets of a flood that it takes in a second, on one CPU with who sends
    /// them.
    pub(crate) fn rate(&self, seconds: f64) -> Result<f64> {
        let mut frames = self.frames.get();
        loop {
            let before = self.wire()?.received()?;
            let elapsed = self.send(&self.flood, frames)?.as_secs_f64();
            let received = self.wire()?.received()? - before;
            ensure!(
                received > 0,
                "of {frames} packets none came to the interface"
            );
            // A call costs milliseconds before its first frame and behind its
            // last, so the one that counts has to be long.
            if elapsed >= seconds * ENOUGH || f64::from(frames) >= MOST_FRAMES {
                self.frames.set(frames);
                return Ok(received as f64 / elapsed);
            }
            let more = (seconds / elapsed).clamp(1.2, MOST_AT_ONCE);
            frames = (f64::from(frames) * more).min(MOST_FRAMES) as u32;
        }
    }
}

/// Packets to the node that are allowed, and that are denied.
fn samples(set: &RuleSet) -> (Vec<Packet>, Vec<Packet>) {
    let mut rng = Rng::new(1);
    let mut pass = Vec::new();
    let mut deny: Vec<Packet> = (0..SAMPLES as u32)
        .map(|_| flood(rng.next() as u32))
        .collect();
    let step = (set.rules.len() / SAMPLES).max(1);
    for (number, rule) in set.rules.iter().enumerate() {
        let packet = set.witnesses[number];
        if rule.from_set || packet.destination != NODE || (rule.allow && number % step != 0) {
            continue;
        }
        match rule.allow {
            true => pass.push(packet),
            false => deny.push(packet),
        }
    }
    if let Some(set) = &set.set {
        // Where a set is, what else is denied may come from it.
        deny.truncate(SAMPLES);
        pass.extend(drawn(set, SAMPLES, &mut rng));
    }
    (pass, deny)
}

/// Packets of a flood, but for their sources, which are in the set.
pub(crate) fn drawn(set: &Set, count: usize, rng: &mut Rng) -> Vec<Packet> {
    match set {
        Set::V4(nets) => (0..count as u32)
            .map(|number| Packet {
                source: rng.pick(nets).sample(rng),
                ..flood(number)
            })
            .collect(),
        Set::V6(_) => Vec::new(),
    }
}

/// As [`drawn`], the sources alone.
pub(crate) fn drawn_v6(nets: &[cidrs::Net6], count: usize, rng: &mut Rng) -> Vec<u128> {
    (0..count).map(|_| rng.pick(nets).sample(rng)).collect()
}

/// What is left of some networks without others.
fn left(nets: &[Net], without: &[Net]) -> Vec<Net> {
    let mut left = nets.to_vec();
    for hole in without {
        left = left.iter().flat_map(|net| net.without(*hole)).collect();
    }
    left
}
