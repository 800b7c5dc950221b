use std::{net::Ipv4Addr, sync::Arc};

use hostfw_common::{stage::List, verdict::Direction};
use ipnet::{IpNet, Ipv4Net};

use crate::{
    compile::{
        CompileError, compile, compile_with,
        evaluate::answer,
        fixture::{Numbers, governed_by, in_default_tier, numbered, policy, rule, selection},
        image::Image,
    },
    model::{PortRange, RuleAction},
    question::{Path, Question, State},
    select::{SelectedRule, Selection},
};

use super::{Cache, Limit};

fn nets(addresses: impl IntoIterator<Item = u32>) -> Arc<[IpNet]> {
    addresses
        .into_iter()
        .map(|bits| Ipv4Net::from(Ipv4Addr::from_bits(bits)).into())
        .collect()
}

fn of_members(action: RuleAction, members: Arc<[IpNet]>) -> SelectedRule {
    let mut of_members = rule(action);
    of_members.source.members = Some(members);
    of_members
}

fn with(rules: Vec<SelectedRule>) -> Selection {
    let list = in_default_tier(List::NormalIn, vec![policy("p", rules)]);
    selection(vec![governed_by(2, "e", vec![list])])
}

/// Whether TCP from there to a port is let in.
fn allowed(image: &Image, source: u32, port: u16) -> bool {
    let question = Question {
        interface: "eth2".to_owned(),
        direction: Direction::Ingress,
        path: Path::Local,
        protocol: 6,
        source: Ipv4Addr::from_bits(source).into(),
        source_port: 40000,
        destination: [10, 240, 0, 11].into(),
        destination_port: port,
        icmp: None,
        translated: None,
        state: State::New,
    };
    answer(image, 2, &question).allowed
}

#[test]
fn a_change_of_members_changes_what_they_decide() {
    let mut cache = Cache::default();
    for members in [&[1, 2][..], &[1, 2, 3], &[3], &[], &[1, 2]] {
        let rules = vec![of_members(RuleAction::Allow, nets(members.iter().copied()))];
        let image = compile_with(&with(rules), &mut cache).unwrap();
        for source in 0..5 {
            assert_eq!(allowed(&image, source, 80), members.contains(&source));
        }
    }
}

#[test]
fn what_did_not_change_is_the_same_allocation_with_the_same_numbers() {
    let mut cache = Cache::default();
    let large = nets((0..3000).map(|n| n << 16 | n));
    let other = |members| {
        let mut other = of_members(RuleAction::Allow, members);
        other.protocol = Some(numbered(6));
        other
    };
    let both = |members| {
        let mut second = with(vec![other(members)]).governed.remove(0);
        second.interface.index = 3;
        second.endpoint = "f".to_owned();
        let mut all = with(vec![of_members(RuleAction::Deny, Arc::clone(&large))]);
        all.governed.push(second);
        all
    };
    let before = compile_with(&both(nets([1, 2, 3])), &mut cache).unwrap();
    let same = compile_with(&both(nets([1, 2, 3])), &mut cache).unwrap();
    assert_eq!(same, before);
    let after = compile_with(&both(nets([1, 2, 3, 4])), &mut cache).unwrap();
    assert_ne!(after, before);
    let kept = before
        .prefixes_v4
        .iter()
        .filter(|(table, classes)| {
            let now = after.prefixes_v4.get(table);
            now.is_some_and(|now| Arc::ptr_eq(now, classes))
        })
        .map(|(_, classes)| classes.len())
        .max();
    assert!(kept > Some(2900), "{kept:?}");
    let written = before
        .index
        .iter()
        .zip(after.index.iter())
        .filter(|(before, after)| before != after)
        .count();
    let added = after.index.len() - before.index.len();
    assert!(written + added < 40, "{written} and {added}");
}

#[test]
fn one_image_after_another_means_what_it_means_alone() {
    let mut random = Numbers::new(11);
    let mut cache = Cache::default();
    let sets: Vec<_> = (0..6)
        .map(|_| {
            let members = (0..random.below(40)).map(|_| random.next() as u32 & 0xff);
            nets(members.collect::<Vec<_>>())
        })
        .collect();
    let mut rules: Vec<SelectedRule> = Vec::new();
    for round in 0..150 {
        let action = [RuleAction::Allow, RuleAction::Deny][random.below(2)];
        let mut new = of_members(action, Arc::clone(&sets[random.below(6)]));
        if random.below(2) == 0 {
            new.source.not_members = nets([random.next() as u32 & 0xff]);
            new.source.members = None;
        }
        new.protocol = Some(numbered(6));
        let first = random.below(20) as u16 + 1;
        let last = first + random.below(9) as u16;
        new.destination.ports = vec![PortRange { first, last }];
        match random.below(3) {
            0 if !rules.is_empty() => drop(rules.remove(random.below(rules.len()))),
            _ => rules.insert(random.below(rules.len() + 1), new),
        }
        let selected = with(rules.clone());
        let image = compile_with(&selected, &mut cache).unwrap();
        let alone = compile(&selected).unwrap();
        for _ in 0..20 {
            let source = random.next() as u32 & 0xff;
            let port = random.below(32) as u16;
            let found = allowed(&image, source, port);
            assert_eq!(found, allowed(&alone, source, port), "{round}");
        }
    }
    compile_with(&with(Vec::new()), &mut cache).unwrap();
    // The record of all base rows, and that of the tier's default.
    assert!(cache.rows.live() <= 1 + 1 + 4, "{}", cache.rows.live());
    assert_eq!(cache.index.live(), 0);
}

/// One rule for each address.
fn many(count: u32) -> Selection {
    with(
        (0..count)
            .map(|n| of_members(RuleAction::Allow, nets([n << 8])))
            .collect(),
    )
}

fn refused(result: Result<Image, CompileError>) -> Limit {
    let error = result.unwrap_err();
    assert!(error.found > error.limit.value());
    error.limit
}

#[test]
fn an_array_that_would_be_too_long_is_refused_and_the_next_image_is_whole() {
    // The base record; a record and a line for each address; the list.
    let lines = |count| 1 + 2 * count as usize + 5;
    let mut cache = Cache::with_limits(1 << 20, lines(100));
    compile_with(&many(100), &mut cache).unwrap();
    let mut cache = Cache::with_limits(1 << 20, lines(100) - 1);
    let result = compile_with(&many(100), &mut cache);
    assert_eq!(refused(result), Limit::RowLines);
    // What was there before is in nobody's way.
    let mut cache = Cache::with_limits(1 << 20, lines(100));
    compile_with(&many(90), &mut cache).unwrap();
    compile_with(&many(100), &mut cache).unwrap();

    // The same for the index: two nodes below the root lead to each address.
    let mut cache = Cache::default();
    compile_with(&many(100), &mut cache).unwrap();
    let needed = cache.index.lines().len();
    let mut cache = Cache::with_limits(needed, 1 << 20);
    compile_with(&many(100), &mut cache).unwrap();
    let mut cache = Cache::with_limits(needed - 1, 1 << 20);
    let result = compile_with(&many(100), &mut cache);
    assert_eq!(refused(result), Limit::IndexLines);
    let image = compile_with(&many(3), &mut cache).unwrap();
    assert!(allowed(&image, 2 << 8, 1) && !allowed(&image, 3 << 8, 1));
}
