//! Policies as large as they can be, or larger: compiled, or refused by name. How
//! much memory that takes is in `tests/growth.rs`.

use super::*;

fn host(bits: u32) -> IpNet {
    Ipv4Net::from(Ipv4Addr::from_bits(bits)).into()
}

fn of_one_policy(rules: Vec<SelectedRule>) -> Selection {
    selection(vec![governed(2, "e", vec![policy("p", rules)], vec![])])
}

fn limit_of(selection: &Selection) -> Limit {
    let error = compile(selection).unwrap_err();
    assert!(error.found > error.limit.value(), "{error}");
    error.limit
}

/// The class of an address in the source dimension of the pre-DNAT list, and
/// how many prefixes that dimension has.
fn class_of_source(image: &Image, address: [u8; 4]) -> (u32, usize) {
    let table = table_of(image, 2, List::PreDnat, Family::V4).dimensions[0].table;
    let classes = &image.prefixes_v4[&table];
    let found = classes.iter().rfind(|class| {
        let net = Ipv4Net::new(class.key.address.into(), (class.length - TABLE_BITS) as u8);
        net.unwrap().contains(&Ipv4Addr::from(address))
    });
    (found.unwrap().class, classes.len())
}

#[test]
fn a_policy_with_a_thousand_rules_of_many_nets_and_ports() {
    let rules = (0..1024_u32)
        .map(|number| {
            let mut many = to_port(RuleAction::Allow, 1);
            many.source.nets = (0..256).map(|net| host(number << 16 | net << 4)).collect();
            many.destination.ports = (0..50)
                .map(|port| {
                    let port = (number % 1000 * 50 + port + 1) as u16;
                    PortRange {
                        first: port,
                        last: port,
                    }
                })
                .collect();
            many
        })
        .collect();
    let image = compile(&of_one_policy(rules)).unwrap();
    assert_eq!(image.rules.len(), 1024);
    // Each rule has one class of sources: a record and a line.
    let (class, prefixes) = class_of_source(&image, [3, 255, 0, 16]);
    assert_eq!(prefixes, 1 + 1024 * 256);
    assert_ne!(class, CLASS_BASE);
    assert!(image.rows.len() < 8 * 1024, "{}", image.rows.len());
}

#[test]
fn everything_beside_very_many_addresses() {
    let mut everything = from(RuleAction::Allow, "0.0.0.0/0");
    everything.destination.nets = vec![host(1)];
    let mut many = rule(RuleAction::Deny);
    many.source.members = Some((0..100_000).map(|n| host(n << 8 | 7)).collect());
    let image = compile(&of_one_policy(vec![everything, many])).unwrap();
    let (beside, prefixes) = class_of_source(&image, [0, 0, 5, 8]);
    let (member, _) = class_of_source(&image, [0, 0, 5, 7]);
    assert_eq!(prefixes, 1 + 100_000);
    assert_ne!(beside, member);
    assert_ne!(beside, CLASS_BASE, "a network of length 0 is a criterion");
}

#[test]
fn sets_that_overlap_have_a_class_for_each_way_they_do() {
    // Each set holds the addresses with one of ten bits set.
    let rules = (0..10)
        .map(|bit| {
            let mut member = rule(RuleAction::Allow);
            let members = (0..1024).filter(|n| n >> bit & 1 == 1);
            member.source.members = Some(members.map(|n| host(n << 3)).collect());
            member
        })
        .collect();
    let image = compile(&of_one_policy(rules)).unwrap();
    let table = table_of(&image, 2, List::PreDnat, Family::V4).dimensions[0].table;
    let classes: BTreeSet<u32> = image.prefixes_v4[&table].iter().map(|c| c.class).collect();
    assert_eq!(classes.len(), 1024);
}

#[test]
fn prefixes_of_one_list_are_refused_before_they_are_compiled() {
    let third = limits::MAX_PREFIXES / 3 + 1;
    let rules = (0..3)
        .map(|number| {
            let mut many = rule(RuleAction::Deny);
            let hosts = (0..third).map(|n| host(number << 24 | n));
            many.source.members = Some(hosts.collect());
            many
        })
        .collect();
    let selected = of_one_policy(rules);
    assert_eq!(limit_of(&selected), Limit::Prefixes);
    let error = compile(&selected).unwrap_err();
    assert_eq!(error.policy.unwrap().to_string(), "GlobalNetworkPolicy(p)");
}

#[test]
fn classes_with_too_many_lines_are_refused() {
    // Each address is in half of the sets, which are spread over all lines of
    // a row: so each class has all of them. With room for a hundredth of the lines
    // that there can be, a hundredth of the addresses will do.
    let room = limits::MAX_ROW_LINES as usize / 100;
    let addresses = 400_u32;
    let mut random = Numbers::new(1);
    let mut members = vec![Vec::new(); 32];
    for address in 0..addresses {
        let bits = random.next();
        for (bit, members) in members.iter_mut().enumerate() {
            if bits >> bit & 1 == 1 {
                members.push(host(address));
            }
        }
    }
    let members: Vec<Arc<[IpNet]>> = members.into_iter().map(Into::into).collect();
    let rules = (0..limits::MAX_RULES - 1)
        .map(|number| {
            let mut member = rule(RuleAction::Allow);
            member.source.members = Some(Arc::clone(&members[number as usize % 32]));
            member
        })
        .collect();
    let selected = of_one_policy(rules);
    let mut cache = Cache::with_limits(room, room);
    let error = compile_with(&selected, &mut cache).unwrap_err();
    assert_eq!(error.limit, Limit::RowLines);
    // There is room for them where there can be all.
    compile(&selected).unwrap();
}

#[test]
fn ipv6_sets_that_overlap_and_everything_beside_them() {
    let net = |number: u32, length| {
        let bits = 0x2001_0db8_u128 << 96 | u128::from(number) << 64;
        IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc())
    };
    let mut everything = from(RuleAction::Allow, "::/0");
    everything.destination.nets = vec!["fd00::1/128".parse().unwrap()];
    let mut rules = vec![everything];
    // Each length holds the ones behind it.
    for length in [40, 48, 56, 64, 128] {
        let mut member = rule(RuleAction::Deny);
        let nets = (0..4_000).map(|n| net(n << 12, length));
        member.source.members = Some(nets.collect());
        rules.push(member);
    }
    let image = compile(&of_one_policy(rules)).unwrap();
    let table = table_of(&image, 2, List::PreDnat, Family::V6).dimensions[0].table;
    let classes: BTreeSet<u32> = image.prefixes_v6[&table].iter().map(|c| c.class).collect();
    // In all of the sets that are as long, or in none.
    assert_eq!(classes.len(), 1 + 5);
}
