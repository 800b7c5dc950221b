//! Makes up the rules of each shape.
//!
//! A rule is kept only if a packet is found that it matches and no rule before
//! it does: so none is shadowed, and each has its witness.

use std::collections::HashSet;

use super::{
    Shape,
    packets::{FLOOD_PORTS, NODE, WIRE, address, beside_flood, flood, service_of, source_of},
    rng::Rng,
    rule::{Net, Packet, Ports, Protocol, Rule},
};

/// Attempts to find a witness before the rule is made up anew.
const ATTEMPTS: usize = 16;

/// Rules, the last of which denies everything, and their witnesses.
pub(super) fn rules(shape: Shape, count: usize, seed: u64) -> (Vec<Rule>, Vec<Packet>) {
    let mut maker = Maker {
        rng: Rng::new(seed ^ (shape as u64) << 56 ^ (count as u64) << 32),
        count,
        taken: HashSet::new(),
        popular: Vec::new(),
        source_sets: Vec::new(),
        range_width: (FLOOD_PORTS as usize * 4 / count.max(1)).min(64) as u16,
    };
    maker.popular = (0..300).map(|_| maker.port()).collect();
    maker.taken = maker
        .popular
        .iter()
        .flat_map(|port| Protocol::ALL.map(|protocol| (protocol, *port)))
        .collect();
    let mut rules: Vec<Rule> = Vec::with_capacity(count);
    let mut witnesses = Vec::with_capacity(count);
    while rules.len() + 1 < count {
        let rule = match shape {
            Shape::Cluster => maker.cluster(rules.len()),
            Shape::Acl => maker.acl(),
            Shape::Half => maker.half(rules.len()),
        };
        if let Some(witness) = maker.witness(&rules, &rule) {
            rules.push(rule);
            witnesses.push(witness);
        }
    }
    rules.push(Rule::default());
    witnesses.push(flood(0));
    (rules, witnesses)
}

struct Maker {
    rng: Rng,
    count: usize,
    /// Ports that a rule for any source has.
    taken: HashSet<(Protocol, u16)>,
    /// Ports that many rules have.
    popular: Vec<u16>,
    source_sets: Vec<Vec<Net>>,
    range_width: u16,
}

impl Maker {
    /// A packet that the rule matches and none of those before it.
    fn witness(&mut self, before: &[Rule], rule: &Rule) -> Option<Packet> {
        (0..ATTEMPTS).find_map(|_| {
            let (protocol, destination_port) = service_of(rule, &mut self.rng);
            let packet = Packet {
                source: source_of(rule, &mut self.rng),
                destination: match &rule.destinations[..] {
                    [] => NODE,
                    nets => self.rng.pick(nets).sample(&mut self.rng),
                },
                protocol,
                source_port: self.rng.below(1 << 16) as u16,
                destination_port,
            };
            let fits = rule.matches(&packet) && !before.iter().any(|rule| rule.matches(&packet));
            fits.then_some(packet)
        })
    }

    /// A port that no flood is for.
    fn port(&mut self) -> u16 {
        self.rng.between(1, u32::from(FLOOD_PORTS) - 1) as u16
    }

    fn protocol(&mut self) -> Protocol {
        if self.rng.chance(75) {
            Protocol::Tcp
        } else {
            Protocol::Udp
        }
    }

    /// Somebody's network, of mixed length.
    fn net(&mut self) -> Net {
        loop {
            let length = match self.rng.below(100) {
                0..35 => 32,
                35..70 => 24,
                70..85 => self.rng.between(25, 31),
                _ => self.rng.between(16, 23),
            };
            let net = Net::of(address(&mut self.rng), length as u8);
            if !net.covers(WIRE) && !WIRE.covers(net) {
                return net;
            }
        }
    }

    /// As [`net`](Self::net), but no flood comes from it.
    fn quiet_net(&mut self) -> Net {
        loop {
            let net = self.net();
            let net = beside_flood(net.address, net.length);
            if !net.covers(WIRE) && !WIRE.covers(net) {
                return net;
            }
        }
    }

    /// What policies of a cluster have: mostly a few sources and a few ports.
    fn cluster(&mut self, position: usize) -> Rule {
        // A few wide ones, however many rules there are.
        let wide = (self.count / 60).clamp(1, 6);
        if position % (self.count / (wide + 1)).max(2) == 1 && position / 2 < self.count / 2 {
            let length = self.rng.between(9, 12) as u8;
            return Rule {
                sources: vec![beside_flood(address(&mut self.rng), length)],
                ..Rule::default()
            };
        }
        let protocol = self.protocol();
        let how_many = self.rng.between(1, 5) as usize;
        let rule = Rule {
            allow: true,
            protocol: Some(protocol),
            ..Rule::default()
        };
        match self.rng.below(100) {
            0..20 => Rule {
                ports: self.ports_of_its_own(protocol, how_many),
                ..rule
            },
            20..23 => Rule {
                sources: (0..how_many.min(2)).map(|_| self.quiet_net()).collect(),
                not_ports: self.popular_ports(2),
                ..rule
            },
            23..28 => {
                let length = self.rng.between(12, 20) as u8;
                let outer = Net::of(address(&mut self.rng), length);
                let inner = Net::of(outer.sample(&mut self.rng), length + 6);
                Rule {
                    sources: vec![outer],
                    not_sources: vec![inner],
                    ports: self.popular_ports(how_many),
                    ..rule
                }
            }
            _ => Rule {
                sources: self.source_set(),
                ports: self.popular_ports(how_many),
                ..rule
            },
        }
    }

    /// Networks that several rules share.
    fn source_set(&mut self) -> Vec<Net> {
        if !self.source_sets.is_empty() && self.rng.chance(50) {
            return self.rng.pick(&self.source_sets).clone();
        }
        let how_many = self.rng.between(1, 4);
        let set: Vec<Net> = (0..how_many).map(|_| self.net()).collect();
        self.source_sets.push(set.clone());
        set
    }

    fn popular_ports(&mut self, how_many: usize) -> Vec<Ports> {
        let mut ports: Vec<Ports> = (0..how_many)
            .map(|_| Ports::one(*self.rng.pick(&self.popular)))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Ports that no other rule has.
    fn ports_of_its_own(&mut self, protocol: Protocol, how_many: usize) -> Vec<Ports> {
        let mut ports = Vec::with_capacity(how_many);
        while ports.len() < how_many {
            let port = self.port();
            if self.taken.insert((protocol, port)) {
                ports.push(Ports::one(port));
            }
        }
        ports.sort_unstable();
        ports
    }

    /// What routers have: a source, a destination, a service, each of which may
    /// be anything.
    fn acl(&mut self) -> Rule {
        const WIDE: u32 = 12;
        let from_any = self.rng.chance(WIDE);
        let to_any = self.rng.chance(WIDE);
        let protocol = self.protocol();
        let ports = match self.rng.below(100) {
            _ if from_any && to_any => self.ports_of_its_own(protocol, 1),
            0..55 => vec![Ports::one(self.port())],
            55..75 => {
                let (a, b) = (self.port(), self.port());
                vec![Ports {
                    first: a.min(b),
                    last: a.max(b),
                }]
            }
            _ => Vec::new(),
        };
        // What asks for no port must not match a flood by its addresses.
        let source = match (from_any, ports.is_empty()) {
            (true, _) => None,
            (false, true) => Some(self.quiet_net()),
            (false, false) => Some(self.net()),
        };
        let destination = (!to_any).then(|| self.net());
        Rule {
            allow: self.rng.chance(70),
            protocol: (!ports.is_empty() || self.rng.chance(80)).then_some(protocol),
            sources: source.into_iter().collect(),
            destinations: destination.into_iter().collect(),
            ports,
            ..Rule::default()
        }
    }

    /// Half any source with a port range of its own, half any port with a
    /// source of its own.
    fn half(&mut self, position: usize) -> Rule {
        let allow = self.rng.chance(70);
        if position.is_multiple_of(2) {
            return Rule {
                allow,
                sources: vec![self.quiet_net()],
                ..Rule::default()
            };
        }
        let number = (position / 2) as u16;
        // All ranges of one protocol, then those of the other.
        let slots = (FLOOD_PORTS - 1) / self.range_width;
        let protocol = Protocol::ALL[usize::from(number / slots) % 2];
        let first = 1 + number % slots * self.range_width;
        let last = first + self.rng.below(u32::from(self.range_width)) as u16;
        Rule {
            allow,
            protocol: Some(protocol),
            ports: vec![Ports { first, last }],
            ..Rule::default()
        }
    }
}
