//! Seeded rule sets in three shapes, none with a shadowed rule, and the packets
//! that they are measured with.

pub mod cidrs;
mod generate;
mod packets;
mod resources;
mod rng;
mod rule;
#[cfg(test)]
mod tests;

pub use self::{
    cidrs::Net6,
    packets::{FLOOD_BASE, FLOOD_FACTOR, FLOOD_MASK, FLOOD_PORTS, NODE, beside_flood, flood},
    resources::{host_endpoint, network_set},
    rng::Rng,
    rule::{Net, Packet, Ports, Protocol, Rule},
};

/// What a rule set looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Some hundred policies: a few sources or any, one to five ports, some
    /// negations, a few wide denies.
    Cluster,
    /// Prefixes of mixed length for source and destination, exact ports and
    /// ranges; each side is anything in one rule of eight.
    Acl,
    /// Half any source with port ranges of their own, half any port with
    /// sources of their own.
    Half,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Acl, Self::Half];

    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Acl => "acl",
            Self::Half => "half",
        }
    }
}

/// Numbers of rules that the benchmarks step through.
pub const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// A large set of networks, which rules name by a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// IPv4.
    V4(Vec<Net>),
    /// IPv6.
    V6(Vec<Net6>),
}

impl Set {
    /// Its networks as text.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::V4(nets) => nets.iter().map(ToString::to_string).collect(),
            Self::V6(nets) => nets.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Rules in order, the last of which denies all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// In the order in which they are to be tried.
    pub rules: Vec<Rule>,
    /// For each rule, a packet that it matches and no rule before it. Of a rule
    /// with [`from_set`](Rule::from_set), any packet.
    pub witnesses: Vec<Packet>,
    /// How many rules each policy holds.
    pub policies: Vec<usize>,
    /// What the rules with [`from_set`](Rule::from_set) mean.
    pub set: Option<Set>,
}

impl RuleSet {
    /// The rule set of this shape, with so many rules; the same for the same
    /// seed.
    #[must_use]
    pub fn new(shape: Shape, count: usize, seed: u64) -> Self {
        let (rules, witnesses) = generate::rules(shape, count, seed);
        let mut rng = Rng::new(seed ^ 0x706f_6c69);
        let mut policies = Vec::new();
        // The last rule has a policy of its own.
        let mut left = rules.len() - 1;
        while left > 0 {
            let size = match shape {
                Shape::Cluster => rng.between(6, 60) as usize,
                // A policy holds at most 1,024 rules in a direction.
                Shape::Acl | Shape::Half => 1_000,
            };
            policies.push(size.min(left));
            left -= size.min(left);
        }
        policies.push(1);
        Self {
            rules,
            witnesses,
            policies,
            set: None,
        }
    }

    /// The same with a rule ahead of all others that allows what comes from the
    /// set.
    #[must_use]
    pub fn with_set(mut self, set: Set) -> Self {
        self.rules.insert(
            0,
            Rule {
                allow: true,
                from_set: true,
                ..Rule::default()
            },
        );
        self.witnesses.insert(0, flood(0));
        self.policies.insert(0, 1);
        self.set = Some(set);
        self
    }

    /// The first rule that matches. The set's rule is left out: only who knows
    /// where the source came from can tell.
    #[must_use]
    pub fn judge(&self, packet: &Packet) -> usize {
        self.rules
            .iter()
            .position(|rule| !rule.from_set && rule.matches(packet))
            .unwrap_or(self.rules.len() - 1)
    }
}
