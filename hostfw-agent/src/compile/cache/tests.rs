use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hostfw_common::{stage::List, verdict::Direction};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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
    allowed_from(image, Ipv4Addr::from_bits(source).into(), port)
}

fn allowed_from(image: &Image, source: IpAddr, port: u16) -> bool {
    let destination = match source {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let question = Question {
        interface: "eth2".to_owned(),
        direction: Direction::Ingress,
        path: Path::Local,
        protocol: 6,
        source,
        source_port: 40000,
        destination,
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

/// A made-up network of either family, so that many of a few thousand nest.
fn net(random: &mut Numbers) -> IpNet {
    let bits = random.next();
    if random.below(2) == 0 {
        let length = 9 + random.below(24) as u8;
        let address = Ipv4Addr::from_bits(bits as u32 & 0x0fff_ff0f);
        return Ipv4Net::new(address, length).unwrap().trunc().into();
    }
    let length = 20 + random.below(109) as u8;
    let address = Ipv6Addr::from_bits(u128::from(bits & 0x0fff_ffff_ffff_ff0f) << 64 | 7);
    Ipv6Net::new(address, length).unwrap().trunc().into()
}

/// The prefixes of all tables of addresses, without the numbers that depend on
/// what was compiled before.
fn prefixes(image: &Image) -> BTreeSet<Vec<(u32, IpAddr)>> {
    let v4 = image.prefixes_v4.values().map(|table| {
        let prefixes = table.iter();
        let prefixes = prefixes.map(|of| (of.length, IpAddr::from(of.key.address)));
        prefixes.collect()
    });
    let v6 = image.prefixes_v6.values().map(|table| {
        let prefixes = table.iter();
        let prefixes = prefixes.map(|of| (of.length, IpAddr::from(of.key.address)));
        prefixes.collect()
    });
    v4.chain(v6).collect()
}

#[test]
fn a_large_set_that_changes_a_little_is_as_if_made_anew() {
    let mut random = Numbers::new(12);
    let mut cache = Cache::default();
    let mut members: Vec<BTreeSet<IpNet>> = (0..2)
        .map(|_| (0..3000).map(|_| net(&mut random)).collect())
        .collect();
    let mut replaced = 0;
    for round in 0..25 {
        let mut changed = Vec::new();
        for _ in 0..random.below(6) {
            let set = &mut members[random.below(2)];
            let removed = set.iter().nth(random.below(set.len())).copied().unwrap();
            // Sometimes what is above many others.
            let short = [9, 12, 20][random.below(3)];
            let added = match net(&mut random) {
                IpNet::V4(net) if random.below(3) == 0 => {
                    Ipv4Net::new(net.addr(), short).unwrap().trunc().into()
                }
                net @ (IpNet::V4(_) | IpNet::V6(_)) => net,
            };
            if random.below(2) == 0 {
                set.remove(&removed);
                changed.push(removed);
            } else {
                set.insert(added);
                changed.push(added);
            }
        }
        let [a, b] = [0, 1].map(|set| members[set].iter().copied().collect::<Arc<[IpNet]>>());
        let mut both = of_members(RuleAction::Allow, Arc::clone(&a));
        both.source.not_members = Arc::clone(&b);
        let mut near = rule(RuleAction::Deny);
        near.source.nets = ["10.0.0.0/9".parse().unwrap(), "::/12".parse().unwrap()].into();
        let mut but = rule(RuleAction::Deny);
        but.source.not_members = a;
        let selected = with(vec![both, near, but, of_members(RuleAction::Allow, b)]);

        let before = cache.index.lines().clone();
        let image = compile_with(&selected, &mut cache).unwrap();
        let alone = compile(&selected).unwrap();
        assert_eq!(prefixes(&image), prefixes(&alone), "{round}");
        let written = before.iter().zip(image.index.iter());
        replaced += usize::from(written.filter(|(a, b)| a != b).count() < 200);
        let sets = members.iter().flat_map(|set| {
            let some = set.iter().skip(round).step_by(97).copied();
            some.collect::<Vec<_>>()
        });
        for net in sets.chain(changed) {
            let [first, last] = [net.network(), net.broadcast()];
            for source in [first, last] {
                let found = allowed_from(&image, source, 80);
                assert_eq!(found, allowed_from(&alone, source, 80), "{round}: {source}");
            }
        }
    }
    assert!(replaced > 15, "{replaced} small changes of the index");
    compile_with(&with(Vec::new()), &mut cache).unwrap();
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

#[test]
fn prefixes_of_all_lists_are_as_many_as_there_can_be_and_not_one_more() {
    // One for each source, one for all others, and one for all destinations.
    let mut cache = Cache::default();
    cache.prefixes[0] = Limit::Prefixes.value() - 102;
    compile_with(&many(100), &mut cache).unwrap();
    let mut cache = Cache::default();
    cache.prefixes[0] = Limit::Prefixes.value() - 101;
    let error = compile_with(&many(100), &mut cache).unwrap_err();
    assert_eq!(error.limit, Limit::Prefixes);
    assert_eq!(error.found, Limit::Prefixes.value() + 1);
}
