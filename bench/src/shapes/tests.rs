use std::collections::HashSet;

use super::{
    cidrs::{flood_v6, v4, v6},
    *,
};

fn sets() -> impl Iterator<Item = (Shape, RuleSet)> {
    Shape::ALL.into_iter().flat_map(|shape| {
        [(10, 1), (100, 2), (100, 3), (1_000, 4)]
            .map(|(count, seed)| (shape, RuleSet::new(shape, count, seed)))
    })
}

#[test]
fn no_rule_is_shadowed() {
    for (shape, set) in sets() {
        assert_eq!(set.rules.len(), set.witnesses.len());
        for (number, witness) in set.witnesses.iter().enumerate() {
            assert_eq!(set.judge(witness), number, "{shape:?}: {witness:?}");
        }
    }
}

#[test]
fn a_flood_is_denied_by_the_last_rule_only() {
    for (shape, set) in sets() {
        let mut rng = Rng::new(7);
        for round in 0..2_000 {
            let counter = if round < 1_000 {
                round
            } else {
                rng.next() as u32
            };
            let packet = flood(counter);
            assert_eq!(
                set.judge(&packet),
                set.rules.len() - 1,
                "{shape:?}: {packet:?}"
            );
        }
        assert!(!set.rules[set.rules.len() - 1].allow);
    }
}

#[test]
fn no_two_packets_of_a_flood_are_the_same() {
    // The product can be told from the packet, and the counter from it.
    let back = |packet: Packet| {
        let port = u32::from(packet.destination_port);
        packet.source & FLOOD_MASK
            | (port & 1)
            | (port >> 1 & 1) << 8
            | (port >> 2 & 1) << 16
            | (port >> 3 & 1) << 24
            | (port >> 4 & 3) << 30
    };
    let mut rng = Rng::new(1);
    for _ in 0..100_000 {
        let counter = rng.next() as u32;
        assert_eq!(back(flood(counter)), counter.wrapping_mul(FLOOD_FACTOR));
    }
    assert_eq!(FLOOD_FACTOR % 2, 1);
}

#[test]
fn the_same_seed_gives_the_same_rules() {
    for shape in Shape::ALL {
        assert_eq!(RuleSet::new(shape, 100, 5), RuleSet::new(shape, 100, 5));
        assert_ne!(RuleSet::new(shape, 100, 5), RuleSet::new(shape, 100, 6));
    }
}

#[test]
fn shapes_look_as_they_are_described() {
    let count = |rules: &[Rule], has: fn(&Rule) -> bool| rules.iter().filter(|r| has(r)).count();
    let cluster = RuleSet::new(Shape::Cluster, 1_000, 1);
    let rules = &cluster.rules[..999];
    assert!(
        (20..60).contains(&cluster.policies.len()),
        "{:?}",
        cluster.policies
    );
    assert_eq!(cluster.policies.iter().sum::<usize>(), 1_000);
    assert!((100..300).contains(&count(rules, |rule| rule.sources.is_empty())));
    assert!((10..60).contains(&count(rules, |rule| !rule.not_ports.is_empty())));
    assert!((20..90).contains(&count(rules, |rule| !rule.not_sources.is_empty())));
    assert!((1..10).contains(&count(rules, |rule| !rule.allow)));

    let acl = RuleSet::new(Shape::Acl, 1_000, 1).rules;
    for wide in [
        count(&acl, |rule| rule.sources.is_empty()),
        count(&acl, |rule| rule.destinations.is_empty()),
    ] {
        assert!((50..=200).contains(&wide), "{wide}");
    }

    let half = RuleSet::new(Shape::Half, 1_000, 1).rules;
    assert_eq!(count(&half[..999], |rule| rule.sources.is_empty()), 499);
    assert_eq!(count(&half[..999], |rule| rule.ports.is_empty()), 500);
}

#[test]
fn random_packets_are_distinct_and_take_each_field_from_a_rule() {
    for shape in Shape::ALL {
        for count in [10, 1_000] {
            let set = RuleSet::new(shape, count, 3);
            let packets = set.random(5_000, 9);
            assert_eq!(packets.iter().collect::<HashSet<_>>().len(), 5_000);
            let rules = &set.rules[..count - 1];
            for packet in &packets {
                let source = |rule: &Rule| {
                    rule.sources.is_empty()
                        || rule.sources.iter().any(|net| net.holds(packet.source))
                };
                let service = |rule: &Rule| {
                    rule.ports.is_empty()
                        || rule
                            .ports
                            .iter()
                            .any(|ports| ports.holds(packet.destination_port))
                };
                assert!(rules.iter().any(source) && rules.iter().any(service));
            }
        }
    }
}

#[test]
fn sets_are_distinct_of_mixed_lengths_and_beside_the_flood() {
    let nets = v4(2_000, 1);
    assert_eq!(nets.iter().collect::<HashSet<_>>().len(), 2_000);
    assert!(
        nets.iter()
            .map(|net| net.length)
            .collect::<HashSet<_>>()
            .len()
            >= 16
    );
    let wide = v6(2_000, 1);
    assert_eq!(wide.iter().collect::<HashSet<_>>().len(), 2_000);
    let lengths: HashSet<u8> = wide.iter().map(|net| net.length).collect();
    assert!(
        lengths.contains(&32) && lengths.contains(&128),
        "{lengths:?}"
    );
    for counter in 0..2_000 {
        let source = flood(counter).source;
        assert!(!nets.iter().any(|net| net.holds(source)));
        let source = flood_v6(counter);
        assert!(!wide.iter().any(|net| net.holds(source)));
    }
}

#[test]
fn a_network_without_another_is_what_is_left() {
    let outer = Net::of(0x0a00_0000, 8);
    let inner = Net::of(0x0a0b_0000, 16);
    let left = outer.without(inner);
    assert_eq!(left.len(), 8);
    let mut rng = Rng::new(1);
    for _ in 0..10_000 {
        let address = outer.sample(&mut rng) & 0x0a1f_ffff;
        let holders = left.iter().filter(|net| net.holds(address)).count();
        assert_eq!(holders, usize::from(!inner.holds(address)), "{address:x}");
    }
    assert_eq!(inner.without(outer), []);
    assert_eq!(inner.without(Net::of(0x0b00_0000, 8)), [inner]);
}

#[test]
fn resources_say_what_the_rules_say() {
    let rule = Rule {
        allow: true,
        protocol: Some(Protocol::Tcp),
        sources: vec![Net::of(0x0a00_0000, 8)],
        not_sources: vec![Net::of(0x0a01_0000, 16)],
        ports: vec![
            Ports::one(80),
            Ports {
                first: 90,
                last: 99,
            },
        ],
        ..Rule::default()
    };
    let set = RuleSet {
        rules: vec![rule],
        witnesses: Vec::new(),
        policies: vec![1],
        set: None,
    };
    let yaml = set.with_set(Set::V4(vec![Net::of(0x0c00_0000, 8)])).yaml();
    for line in [
        "    - {action: Allow, source: {selector: set == 'listed'}}",
        "    - {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16]}, destination: {ports: [80, '90:99']}}",
        "    - 12.0.0.0/8",
    ] {
        assert!(yaml.lines().any(|found| found == line), "{line}\n{yaml}");
    }
}
