//! At each limit, and one past it. Those of lines and of all prefixes are in
//! `cache/tests.rs`, that of fail-safes in `failsafes.rs`.

use super::*;

fn refused(selection: &Selection) -> (Limit, usize) {
    let error = compile(selection).unwrap_err();
    assert!(error.to_string().contains(error.limit.name()), "{error}");
    (error.limit, error.found)
}

#[test]
fn rules_of_a_list() {
    let with = |count| {
        let rules = vec![rule(RuleAction::Deny); count];
        selection(vec![governed(2, "e", vec![policy("p", rules)], vec![])])
    };
    let most = limits::MAX_RULES as usize;
    let image = compile(&with(most)).unwrap();
    // For either family.
    assert_eq!(image.rules.len(), 2 * most);
    assert_eq!(refused(&with(most + 1)), (Limit::Rules, most + 1));
}

#[test]
fn prefixes_of_a_list() {
    // Refused before anything is made of them; that as many as there can be are
    // not is for `flatten` to say.
    let hosts = |count: u32| (0..count).map(|n| Ipv4Net::from(Ipv4Addr::from_bits(n)).into());
    let flat = |count| {
        let mut many = rule(RuleAction::Deny);
        many.source.nets = hosts(count).collect();
        let all = selection(vec![governed(
            2,
            "e",
            vec![policy("p", vec![many])],
            vec![],
        )]);
        let list = all.governed[0].list(List::PreDnat);
        let mut cache = Cache::default();
        let mut numbers = super::super::Numbers::default();
        let direction = Direction::Ingress;
        let flat = flatten(list, direction, Family::V4, &mut numbers, &mut cache.sets);
        flat.exceeded()
    };
    assert_eq!(flat(limits::MAX_PREFIXES), None);
    let more = limits::MAX_PREFIXES + 1;
    assert_eq!(flat(more), Some((Limit::Prefixes, more as usize)));
}

#[test]
fn interfaces() {
    let with = |count| {
        let all = (0..count).map(|i| governed(i, "all", vec![], vec![]));
        selection(all.collect())
    };
    let most = limits::MAX_ENDPOINTS;
    assert_eq!(compile(&with(most)).unwrap().endpoints.len(), most as usize);
    assert_eq!(
        refused(&with(most + 1)),
        (Limit::Endpoints, most as usize + 1)
    );
}

#[test]
fn rules_over_all_endpoints() {
    // Beside those of other endpoints, two of which are made for each family.
    let run = |others: u32| {
        let rules = vec![rule(RuleAction::Deny); 2];
        let all = selection(vec![governed(2, "last", vec![policy("p", rules)], vec![])]);
        let mut cache = Cache::default();
        let mut compiler = Compiler::new(&mut cache);
        compiler.rules = vec![RuleEntry::default(); others as usize];
        compiler.run(&all).map(|image| image.rules.len())
    };
    let most = limits::MAX_RULE_ENTRIES;
    assert_eq!(run(most - 4), Ok(most as usize));
    let error = run(most - 3).unwrap_err();
    assert_eq!(
        (error.limit, error.found),
        (Limit::RuleEntries, most as usize + 1)
    );
    assert_eq!(error.object.name, "last");
}
