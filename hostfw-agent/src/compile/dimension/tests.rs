use std::collections::BTreeSet;

use hostfw_common::endpoint::Family;

use super::*;
use crate::compile::fixture::Numbers;

fn nets(texts: &[&str]) -> Set {
    texts
        .iter()
        .map(|text| Prefix::net(&text.parse().unwrap(), Family::V4).unwrap())
        .collect()
}

fn criteria(any_of: &[&[&str]], none_of: &[&[&str]]) -> Criteria {
    Criteria {
        any_of: any_of.iter().map(|texts| nets(texts)).collect(),
        none_of: none_of.iter().map(|texts| nets(texts)).collect(),
    }
}

fn asked(rules: &[Criteria]) -> Asked {
    let mut asked = Asked::default();
    for (number, criteria) in (0..).zip(rules) {
        asked.add(number, criteria);
    }
    asked
}

fn classify(rules: &[Criteria]) -> Classes<Narrow> {
    asked(rules).classify(Narrow::of, usize::MAX).unwrap()
}

/// The rules that each class accepts.
fn accepted<K>(classes: &Classes<K>, rules: &[Criteria]) -> Vec<Vec<usize>> {
    classes
        .differences()
        .map(|difference| {
            let differs = |rule: usize| {
                let mut words = difference.iter();
                words.any(|&(word, bits)| {
                    usize::from(word) == rule / 64 && bits >> (rule % 64) & 1 == 1
                })
            };
            (0..rules.len())
                .filter(|&rule| rules[rule].are_wide() != differs(rule))
                .collect()
        })
        .collect()
}

/// `prefix` with the numbers of the rules that accept it.
fn table(rules: &[Criteria]) -> Vec<(String, Vec<usize>)> {
    let classes = classify(rules);
    let accepted = accepted(&classes, rules);
    classes
        .prefixes
        .iter()
        .map(|&(key, class)| {
            let address = std::net::Ipv4Addr::from_bits(key.first());
            (
                format!("{address}/{}", key.len()),
                accepted[class as usize].clone(),
            )
        })
        .collect()
}

fn entry(prefix: &str, rules: &[usize]) -> (String, Vec<usize>) {
    (prefix.to_owned(), rules.to_vec())
}

#[test]
fn without_rules_the_table_has_its_entry_all_the_same() {
    assert_eq!(table(&[]), [entry("0.0.0.0/0", &[])]);
}

#[test]
fn nested_prefixes_of_several_rules() {
    let rules = [
        criteria(&[&["10.0.0.0/8"]], &[&["10.1.0.0/16"]]),
        Criteria::default(),
        criteria(&[&["10.1.2.0/24", "192.0.2.0/24"]], &[]),
        criteria(&[], &[&["192.0.2.7/32"]]),
    ];
    assert_eq!(
        table(&rules),
        [
            entry("0.0.0.0/0", &[1, 3]),
            entry("10.0.0.0/8", &[0, 1, 3]),
            entry("10.1.0.0/16", &[1, 3]),
            entry("10.1.2.0/24", &[1, 2, 3]),
            entry("192.0.2.0/24", &[1, 2, 3]),
            entry("192.0.2.7/32", &[1, 2]),
        ]
    );
}

#[test]
fn every_any_of_set_must_be_hit() {
    let rules = [criteria(
        &[&["10.0.0.0/8"], &["10.1.0.0/16", "0.0.0.0/4"]],
        &[],
    )];
    assert_eq!(
        table(&rules),
        // All of 0.0.0.0/4 is in the second set, but only the 10.0.0.0/8 in it
        // is in the first; 10.1.0.0/16 changes nothing.
        [entry("0.0.0.0/0", &[]), entry("10.0.0.0/8", &[0])]
    );
    let never = [criteria(&[&["0.0.0.0/0"], &[]], &[])];
    assert_eq!(table(&never), [entry("0.0.0.0/0", &[])]);
}

#[test]
fn a_none_of_wins_and_sets_may_repeat() {
    let rules = [criteria(
        &[&["10.0.0.0/8"], &["10.0.0.0/8"]],
        &[&["10.0.0.0/16"], &["10.0.0.0/16", "10.9.0.0/16"]],
    )];
    assert_eq!(
        table(&rules),
        [
            entry("0.0.0.0/0", &[]),
            entry("10.0.0.0/8", &[0]),
            entry("10.0.0.0/16", &[]),
            entry("10.9.0.0/16", &[]),
        ]
    );
    let denied = [criteria(&[], &[&["0.0.0.0/0"]])];
    assert_eq!(table(&denied), [entry("0.0.0.0/0", &[])]);
    // A set that is asked for and refused at once.
    let both = [criteria(&[&["10.0.0.0/8"]], &[&["10.0.0.0/8"]])];
    assert_eq!(table(&both), [entry("0.0.0.0/0", &[])]);
}

#[test]
fn criteria_accept_what_every_set_has_and_no_exception() {
    let criteria = criteria(
        &[&["10.0.0.0/8", "192.0.2.1/32"], &["0.0.0.0/1"]],
        &[&["10.1.0.0/16"]],
    );
    let accepts = |address: &str| criteria.accept(nets(&[address])[0]);
    assert!(accepts("10.2.0.1/32"));
    assert!(!accepts("10.1.0.1/32"), "an exception");
    assert!(!accepts("192.0.2.1/32"), "in one set only");
    assert!(!accepts("172.16.0.1/32"), "in no set");
    assert!(Criteria::default().accept(Prefix::ALL));
}

#[test]
fn equal_classes_are_one_wherever_they_are() {
    let rules = [
        criteria(&[&["10.0.0.0/8", "192.0.2.0/24"]], &[]),
        criteria(&[&["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"]], &[]),
    ];
    let classes = classify(&rules);
    let numbers: Vec<u32> = classes.prefixes.iter().map(|&(_, class)| class).collect();
    assert_eq!(numbers, [0, 1, 1, 2]);
    let distinct: BTreeSet<_> = classes.differences().map(<[_]>::to_vec).collect();
    assert_eq!(distinct.len(), 3);
}

#[test]
fn too_many_words_are_refused() {
    let rules: Vec<_> = (0..100)
        .map(|n| criteria(&[&[&format!("10.0.{n}.0/24")]], &[]))
        .collect();
    let classify = |words| asked(&rules).classify(Narrow::of, words).map(|_| ());
    assert_eq!(classify(100), Ok(()));
    assert_eq!(classify(99), Err(TooManyWords));
}

/// Made-up criteria, many of which share sets, and prefixes of them that nest.
fn random_rules(random: &mut Numbers) -> Vec<Criteria> {
    let mut sets = Vec::new();
    for _ in 0..random.below(12) + 1 {
        let count = random.below(6);
        let set: Set = (0..count)
            .map(|_| {
                // Few distinct bits, so that prefixes meet.
                let bits = random.next() as u32 & 0xc300_01c3;
                let length = [0, 1, 2, 7, 8, 9, 15, 16, 23, 24, 31, 32][random.below(12)];
                let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc();
                Prefix::net(&net.into(), Family::V4).unwrap()
            })
            .collect();
        sets.push(set);
    }
    let some = |random: &mut Numbers, most: usize| -> Vec<Set> {
        let count = random.below(most + 1);
        (0..count)
            .map(|_| sets[random.below(sets.len())].clone())
            .collect()
    };
    (0..random.below(150))
        .map(|_| Criteria {
            any_of: some(random, 2),
            none_of: some(random, 1),
        })
        .collect()
}

#[test]
fn classes_accept_what_the_rules_do_around_every_boundary() {
    let mut random = Numbers::new(7);
    let mut differing = 0;
    for round in 0..300 {
        let rules = random_rules(&mut random);
        let classes = classify(&rules);
        let accepted = accepted(&classes, &rules);
        differing += accepted.len();
        let mut values = BTreeSet::from([0, u32::MAX]);
        for set in rules
            .iter()
            .flat_map(|rule| rule.any_of.iter().chain(&rule.none_of))
        {
            for key in set.iter().copied().map(Narrow::of) {
                for edge in [key.first(), key.last()] {
                    values.extend([edge.wrapping_sub(1), edge, edge.wrapping_add(1)]);
                }
            }
        }
        for value in values {
            let net = ipnet::Ipv4Net::from(std::net::Ipv4Addr::from_bits(value));
            let value = Prefix::net(&net.into(), Family::V4).unwrap();
            let key = Narrow::of(value);
            let longest = classes.prefixes.iter().rfind(|(p, _)| p.contains(key));
            let (_, class) = longest.unwrap();
            let expected: Vec<usize> = (0..rules.len())
                .filter(|&rule| rules[rule].accept(value))
                .collect();
            assert_eq!(accepted[*class as usize], expected, "round {round}, {net}");
        }
    }
    assert!(differing > 2000, "{differing} classes are too few to tell");
}
