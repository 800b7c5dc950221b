//! What an image holds, and that the limits hold. That images decide as the
//! rules say is tested against a naive matcher in `tests/property.rs`.

use std::{collections::BTreeSet, net::Ipv4Addr};

use hostfw_common::{index::CLASS_BASE, limits, policy::TableId, prefix::TABLE_BITS};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    fixture::{
        Numbers, governed, governed_by, in_default_tier, numbered, policy, rule, selection, staged,
    },
    *,
};
use crate::{
    model::{IpVersion, PortRange, RuleAction},
    select::{Point, SelectedRule},
};

mod large;
mod limits_hold;

fn to_port(action: RuleAction, port: u16) -> SelectedRule {
    let mut to_port = rule(action);
    to_port.protocol = Some(numbered(6));
    to_port.destination.ports = vec![PortRange {
        first: port,
        last: port,
    }];
    to_port
}

fn from(action: RuleAction, net: &str) -> SelectedRule {
    let mut from = rule(action);
    from.source.nets = vec![net.parse().unwrap()];
    from
}

fn table_of(image: &Image, interface: u32, list: List, family: Family) -> PolicyTable {
    let id = image.endpoints[&interface].lists[list as usize][family as usize];
    *image.list(id).unwrap()
}

#[test]
fn without_policy_only_the_normal_stage_denies() {
    let image = compile(&selection(vec![governed(2, "e", vec![], vec![])])).unwrap();
    let endpoint = image.endpoints[&2];
    for list in List::ALL {
        let denies = [List::NormalIn, List::NormalOut].contains(&list);
        let flags = if denies { TABLE_DEFAULT_DENY } else { 0 };
        for id in endpoint.lists[list as usize] {
            let table = image.list(id).unwrap();
            assert_eq!((table.rule_count, table.flags), (0, flags), "{list:?}");
        }
    }
    assert_eq!(endpoint.flags, FLAG_DROP_INVALID);
}

#[test]
fn flags_follow_interface_policies_and_settings() {
    let mut all = selection(vec![
        governed(2, "a", vec![policy("p", vec![])], vec![]),
        governed(3, "b", vec![], vec![]),
    ]);
    all.governed[1].interface.link_header = false;
    all.governed[1].workload = true;
    let image = compile(&all).unwrap();
    assert_eq!(
        image.endpoints[&2].flags,
        FLAG_DROP_INVALID_PRE_DNAT | FLAG_DROP_INVALID
    );
    assert_eq!(
        image.endpoints[&3].flags,
        FLAG_NO_LINK_HEADER | FLAG_DROP_INVALID | FLAG_WORKLOAD
    );
    all.disable_invalid_check = true;
    let image = compile(&all).unwrap();
    assert_eq!(image.endpoints[&2].flags, 0);
    assert_eq!(
        image.endpoints[&3].flags,
        FLAG_NO_LINK_HEADER | FLAG_WORKLOAD
    );

    let only_staged = vec![staged("s", vec![rule(RuleAction::Deny)])];
    let image = compile(&selection(vec![governed(2, "a", only_staged, vec![])])).unwrap();
    assert_eq!(image.endpoints[&2].flags, FLAG_DROP_INVALID);
}

#[test]
fn rules_are_numbered_within_their_policy_and_left_out_of_the_other_family() {
    let rules = vec![
        from(RuleAction::Allow, "10.0.0.0/8"),
        from(RuleAction::Log, "fd00::/8"),
        rule(RuleAction::Deny),
    ];
    let first = policy("first", vec![rule(RuleAction::Log)]);
    let second = policy("second", rules);
    let image = compile(&selection(vec![governed(
        2,
        "e",
        vec![first, second],
        vec![],
    )]))
    .unwrap();
    let listed = |family: Family| -> Vec<(String, u16, u8)> {
        let table = table_of(&image, 2, List::PreDnat, family);
        image
            .rules_of(&table)
            .unwrap()
            .iter()
            .map(|entry| {
                let name = image.names.policy(entry.policy).unwrap().name.clone();
                (name, entry.index, entry.action)
            })
            .collect()
    };
    let entry = |name: &str, index, action| (name.to_owned(), index, action);
    assert_eq!(
        listed(Family::V4),
        [
            entry("first", 0, 2),
            entry("second", 0, 0),
            entry("second", 2, 1)
        ]
    );
    assert_eq!(
        listed(Family::V6),
        [
            entry("first", 0, 2),
            entry("second", 1, 2),
            entry("second", 2, 1)
        ]
    );
}

#[test]
fn only_a_family_that_has_a_log_rule_is_flagged() {
    let mut log = rule(RuleAction::Log);
    log.ip_version = Some(IpVersion::V6);
    let egress = vec![policy("p", vec![log, rule(RuleAction::Allow)])];
    let image = compile(&selection(vec![governed(2, "e", vec![], egress)])).unwrap();
    let [v4, v6] = Family::ALL.map(|family| table_of(&image, 2, List::NormalOut, family));
    assert_eq!(v4.flags, TABLE_DEFAULT_DENY);
    assert_eq!(v6.flags, TABLE_DEFAULT_DENY | TABLE_HAS_LOG);
}

#[test]
fn every_dimension_has_a_table_with_an_entry_of_length_zero_of_its_own_number() {
    let rules = vec![
        from(RuleAction::Allow, "10.0.0.0/8"),
        rule(RuleAction::Deny),
    ];
    let image = compile(&selection(vec![
        governed(2, "a", vec![policy("p", rules.clone())], vec![]),
        governed(3, "b", vec![], vec![policy("q", rules)]),
    ]))
    .unwrap();
    let mut found = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut add = |table: TableId, key: bool, length| {
        assert!(key && length >= TABLE_BITS);
        numbers.insert(table);
        if length == TABLE_BITS {
            found.insert(table);
        }
    };
    for (&table, classes) in &image.prefixes_v4 {
        classes
            .iter()
            .for_each(|c| add(table, c.key.table == table, c.length));
    }
    for (&table, classes) in &image.prefixes_v6 {
        classes
            .iter()
            .for_each(|c| add(table, c.key.table == table, c.length));
    }
    for (&table, classes) in &image.services {
        classes
            .iter()
            .for_each(|c| add(table, c.key.table == table, c.length));
    }
    assert_eq!(found, numbers);
    let tries = [
        image.prefixes_v4.len(),
        image.prefixes_v6.len(),
        image.services.len(),
    ];
    assert_eq!(numbers.len(), tries.iter().sum::<usize>());
    for list in &image.lists[1..] {
        for dimension in &list.dimensions {
            assert!(list.rule_count == 0 || numbers.contains(&dimension.table));
        }
    }
}

#[test]
fn interfaces_with_the_same_policies_share_tables_rows_and_the_endpoint_number() {
    let policies = || vec![policy("p", vec![to_port(RuleAction::Allow, 80)])];
    let one = compile(&selection(vec![governed(2, "all", policies(), vec![])])).unwrap();
    let two = compile(&selection(vec![
        governed(2, "all", policies(), vec![]),
        governed(3, "all", policies(), vec![]),
    ]))
    .unwrap();
    assert_eq!(two.endpoints[&2], two.endpoints[&3]);
    assert_eq!(two.names.endpoints.len(), 1);
    assert_eq!((one.rules.len(), two.rules.len()), (2, 2));
    assert_eq!(one.services, two.services);
    // Of packets that go out, the same policies are another list, with the
    // tier's default.
    let both = compile(&selection(vec![governed(2, "all", policies(), policies())])).unwrap();
    assert_eq!(both.rules.len(), 2 + 4);
    // At the forward and the normal stage, it is the same but for what nothing
    // decides.
    let list = |list| in_default_tier(list, policies());
    let lists = [List::ForwardIn, List::ForwardOut, List::NormalIn];
    let three = selection(vec![governed_by(2, "all", lists.map(list).into())]);
    assert_eq!(compile(&three).unwrap().rules.len(), 3 * 4);
}

#[test]
fn equal_dimensions_are_one() {
    // What decides at the end differs, and the policy's name; what is asked of
    // the packet does not.
    let policies = |name: &str| vec![policy(name, vec![to_port(RuleAction::Allow, 80)])];
    let one = |policies| {
        let list = in_default_tier(List::NormalIn, policies);
        compile(&selection(vec![governed_by(2, "e", vec![list])])).unwrap()
    };
    let both = compile(&selection(vec![
        governed_by(2, "e", vec![in_default_tier(List::NormalIn, policies("p"))]),
        governed_by(3, "f", vec![in_default_tier(List::NormalIn, policies("q"))]),
    ]))
    .unwrap();
    let alone = one(policies("p"));
    assert_eq!(both.lists.len(), alone.lists.len() + 2);
    assert_eq!(both.services, alone.services);
    assert_eq!((&both.index, &both.rows), (&alone.index, &alone.rows));
    // Both families ask the same of the service: that and what packets of it
    // meet are there once.
    let [v4, v6] = Family::ALL.map(|family| table_of(&alone, 2, List::NormalIn, family));
    assert_eq!(v4.dimensions[2..], v6.dimensions[2..]);
    assert_eq!(v4.rows, v6.rows);
}

#[test]
fn classes_of_a_dimension_are_distinct_and_the_base_row_has_none() {
    let rules = (1..200)
        .map(|port| to_port(RuleAction::Allow, port))
        .collect();
    let all = selection(vec![governed(2, "e", vec![policy("p", rules)], vec![])]);
    let image = compile(&all).unwrap();
    // Each port has a record and one line; the record of the list has two
    // families in one, with a line for each base row; one list has no rules.
    assert_eq!(image.rows.len(), 1 + 199 * 2 + 5);
    let classes: BTreeSet<u32> = image
        .services
        .values()
        .flat_map(|t| t.iter().map(|c| c.class))
        .collect();
    assert_eq!(classes.len(), 199 + 1);
    let of_v4 = image
        .prefixes_v4
        .values()
        .flat_map(|t| t.iter().map(|c| c.class));
    assert!(of_v4.clone().count() > 0 && of_v4.clone().all(|class| class == CLASS_BASE));
}

#[test]
fn one_rule_too_many_names_endpoint_and_policy() {
    let many = |count| vec![rule(RuleAction::Deny); count];
    let fits = vec![policy("a", many(16_000)), policy("b", many(384))];
    compile(&selection(vec![governed(2, "e", fits.clone(), vec![])])).unwrap();

    let mut exceeds = fits;
    exceeds.push(policy("c", many(1)));
    exceeds.push(policy("d", many(1)));
    let error = compile(&selection(vec![governed(2, "e", exceeds, vec![])])).unwrap_err();
    assert_eq!((error.limit, error.found), (Limit::Rules, 16_386));
    assert_eq!(error.object.to_string(), "HostEndpoint(e)");
    assert_eq!(error.policy.unwrap().to_string(), "GlobalNetworkPolicy(c)");
}

#[test]
fn a_rule_with_too_many_named_ports_names_the_number_that_it_needs() {
    let point = |number: u32| Point {
        address: Ipv4Addr::from_bits(number).into(),
        protocol: 6,
        port: number as u16,
    };
    let mut named = rule(RuleAction::Allow);
    named.source.points = Some((1..=200).map(point).collect());
    named.destination.points = Some((1..=100).map(point).collect());
    let policies = vec![policy("p", vec![named, rule(RuleAction::Deny)])];
    let error = compile(&selection(vec![governed(2, "e", policies, vec![])])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "HostEndpoint(e), at GlobalNetworkPolicy(p): 20001 rule entries for one stage, \
         direction and address family, expected at most 16384 (MAX_RULES)"
    );
}

#[test]
fn too_many_prefixes_are_refused() {
    let nets = |count: u32| -> Vec<IpNet> {
        let net = |number| Ipv4Net::from(Ipv4Addr::from_bits(number)).into();
        (0..count).map(net).collect()
    };
    let mut many = rule(RuleAction::Allow);
    many.source.nets = nets(limits::MAX_PREFIXES / 2);
    let mut more = many.clone();
    more.source.nets.push("192.0.2.1/32".parse().unwrap());
    let policies = |name: &str, rule| vec![policy(name, vec![rule])];
    let all = selection(vec![
        governed(2, "a", policies("p", many), vec![]),
        governed(3, "b", policies("q", more), vec![]),
    ]);
    let error = compile(&all).unwrap_err();
    assert_eq!(error.limit, Limit::Prefixes);
    assert_eq!(error.object.to_string(), "HostEndpoint(b)");
    assert!(error.found > Limit::Prefixes.value());
}

#[test]
fn rules_of_the_other_family_do_not_count() {
    let mut rules = vec![from(RuleAction::Allow, "10.0.0.0/8"); 16_384];
    rules.extend(vec![from(RuleAction::Allow, "fd00::/8"); 16_384]);
    let policies = vec![policy("p", rules)];
    let image = compile(&selection(vec![governed(2, "e", policies, vec![])])).unwrap();
    assert_eq!(image.rules.len(), 2 * 16_384);
}

/// As many rules as a list can have, each with a source, a destination and
/// ports of its own.
fn largest() -> Vec<SelectedRule> {
    (0..limits::MAX_RULES)
        .map(|i| {
            let [_, _, high, low] = i.to_be_bytes();
            let mut one = to_port(RuleAction::Allow, i as u16 + 1);
            one.source.nets = vec![format!("10.{high}.{low}.0/24").parse().unwrap()];
            one.destination.nets = vec![format!("172.16.{high}.{low}/32").parse().unwrap()];
            one.destination.ports.push(PortRange {
                first: 30000,
                last: 32767,
            });
            one
        })
        .collect()
}

#[test]
fn the_largest_list_compiles() {
    let all = selection(vec![governed(2, "e", vec![policy("p", largest())], vec![])]);
    let image = compile(&all).unwrap();
    assert_eq!(image.rules.len(), limits::MAX_RULES as usize);
    let table = table_of(&image, 2, List::PreDnat, Family::V4);
    assert_eq!(table.lines(), 32);
    // A record and a line for each of most classes, and not whole rows.
    let classes = 3 * limits::MAX_RULES as usize;
    assert!(image.rows.len() < 3 * classes, "{}", image.rows.len());
}
