//! The packets that a rule set is measured with.

use std::collections::HashSet;

use super::{
    RuleSet,
    rng::Rng,
    rule::{Net, Packet, Protocol, Rule},
};

/// Address of the node that everything is sent to.
pub const NODE: u32 = u32::from_be_bytes([10, 9, 0, 1]);

/// The network between the node and who sends: no rule's.
pub(super) const WIRE: Net = Net {
    address: u32::from_be_bytes([10, 9, 0, 0]),
    length: 16,
};

/// The first destination port of a flood: no rule names it or those above.
pub const FLOOD_PORTS: u16 = 0xc000;

/// Odd, so that each counter has a product of its own: 2^32 over the golden
/// ratio.
pub const FLOOD_FACTOR: u32 = 0x9e37_79b1;

/// Bits of the product that become the source address: every octet is even, the
/// first from 64 to 126.
pub const FLOOD_MASK: u32 = 0x3efe_fefe;

/// What is set in the source address in any case.
pub const FLOOD_BASE: u32 = 0x4000_0000;

/// Packet number `counter` of a flood. All 2^32 are different, and none but the
/// last rule of a rule set matches any of them.
///
/// The source's octets are even, while each network of a rule that asks for no
/// port has an odd octet ([`beside_flood`]); so the sources come close to the
/// rules' networks at any length.
#[must_use]
pub const fn flood(counter: u32) -> Packet {
    let product = counter.wrapping_mul(FLOOD_FACTOR);
    // What the mask takes from the source goes to the port: bits 0, 8, 16, 24,
    // 30 and 31.
    let mut rest = product & 0x0101_0101;
    rest |= rest >> 7;
    rest |= rest >> 14;
    let rest = (rest & 0xf) | (product >> 30) << 4;
    Packet {
        source: product & FLOOD_MASK | FLOOD_BASE,
        destination: NODE,
        protocol: Protocol::Udp,
        source_port: (product >> 8) as u16,
        destination_port: FLOOD_PORTS | rest as u16 | (((product >> 5) & 0xff) << 6) as u16,
    }
}

/// The network, moved such that it holds no source of a [`flood`]: of the octets
/// that the prefix covers, the last is odd. The length is at least 8.
#[must_use]
pub const fn beside_flood(address: u32, length: u8) -> Net {
    let bit = 32 - (length / 8 * 8) as u32;
    Net::of(address | 1 << bit, length)
}

/// An address that somebody can have: not this network's, not loopback, not
/// multicast. Half of them are where floods come from.
pub(super) fn address(rng: &mut Rng) -> u32 {
    loop {
        let top = if rng.chance(50) {
            rng.between(64, 126)
        } else {
            rng.between(1, 223)
        };
        let address = top << 24 | rng.below(1 << 24);
        if top != 127 && !WIRE.holds(address) {
            return address;
        }
    }
}

impl RuleSet {
    /// So many different packets, each with its source, its destination and its
    /// service from three different rules, if there are three; what a rule does
    /// not ask for is anything.
    #[must_use]
    pub fn random(&self, count: usize, seed: u64) -> Vec<Packet> {
        let mut rng = Rng::new(seed ^ 0x7261_6e64);
        let rules = &self.rules[..self.rules.len() - 1];
        let mut known = HashSet::with_capacity(count);
        let mut packets = Vec::with_capacity(count);
        while packets.len() < count {
            let from = rng.below(rules.len() as u32) as usize;
            let step = |rng: &mut Rng, least: u32| {
                let many = rules.len() as u32;
                if many < 3 {
                    0
                } else {
                    rng.between(least, many / 2) as usize
                }
            };
            let to = (from + step(&mut rng, 1)) % rules.len();
            // Half way round at most, and back by at most half: never `from`.
            let service = (to + step(&mut rng, 1)) % rules.len();
            if rules.len() >= 3 && service == from {
                continue;
            }
            let (protocol, destination_port) = service_of(&rules[service], &mut rng);
            let packet = Packet {
                source: source_of(&rules[from], &mut rng),
                destination: match &rules[to].destinations[..] {
                    [] => NODE,
                    nets => rng.pick(nets).sample(&mut rng),
                },
                protocol,
                source_port: rng.below(1 << 16) as u16,
                destination_port,
            };
            if known.insert(packet) {
                packets.push(packet);
            }
        }
        packets
    }
}

/// A source that the rule matches, most likely.
pub(super) fn source_of(rule: &Rule, rng: &mut Rng) -> u32 {
    match &rule.sources[..] {
        [] => address(rng),
        nets => rng.pick(nets).sample(rng),
    }
}

/// A protocol and port that the rule matches, most likely.
pub(super) fn service_of(rule: &Rule, rng: &mut Rng) -> (Protocol, u16) {
    let protocol = rule.protocol.unwrap_or_else(|| *rng.pick(&Protocol::ALL));
    let port = match &rule.ports[..] {
        [] => rng.between(1, 0xffff) as u16,
        ports => rng.pick(ports).sample(rng),
    };
    (protocol, port)
}
