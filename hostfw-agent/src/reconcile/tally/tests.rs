use std::convert::Infallible;

use hostfw_common::endpoint::FLAG_NETFILTER;

use super::*;
use crate::{
    accept::{Accepted, accept},
    compile::compile,
    model::Interface,
    select::select,
    source::Snapshot,
};

const ENDPOINT: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: hep, labels: {host-endpoint: ''}}
spec: {node: node1, interfaceName: eth0}
";

fn policy(name: &str, order: u32, ingress: &[&str]) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{selector: has(host-endpoint), order: {order}, ingress: [{}]}}\n",
        ingress.join(", ")
    )
}

const SSH: &str = "{action: Allow, protocol: TCP, destination: {ports: [22]}}";
const WEB: &str = "{action: Allow, protocol: TCP, destination: {ports: [80]}}";
const UDP: &str = "{action: Deny, protocol: UDP}";

/// A tally, the counters that the programs would have, and the time.
struct Bench {
    tally: Tally,
    counters: Vec<Counter>,
    generation: u64,
    settled: bool,
    image: Image,
}

impl Bench {
    fn new(size: u32) -> Self {
        Self {
            tally: Tally::of(size),
            counters: vec![Counter::default(); MAX_RULE_COUNTERS as usize],
            generation: 0,
            settled: true,
            image: Image::default(),
        }
    }

    fn page(counters: &[Counter], page: u32) -> Result<Page, Infallible> {
        let first = (page * PAGE_COUNTERS) as usize;
        Ok(counters[first..first + PAGE_COUNTERS as usize]
            .try_into()
            .unwrap())
    }

    /// Puts policies in force, on eth0 alone.
    fn enforce(&mut self, policies: &[String]) {
        let texts: Vec<_> = policies.iter().enumerate().collect();
        let names: Vec<String> = texts.iter().map(|(at, _)| format!("{at}.yaml")).collect();
        let mut files = vec![("hep.yaml", ENDPOINT)];
        files.extend(
            names
                .iter()
                .map(String::as_str)
                .zip(policies.iter().map(String::as_str)),
        );
        let accepted = accept(&Snapshot::of_texts(&files), &Accepted::default());
        assert_eq!(accepted.problems, []);
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            link_header: true,
            loopback: false,
            up: true,
            master: None,
        };
        let mut image = compile(&select(&accepted.model(), "node1", &[interface])).unwrap();
        let Ok(()) = self.tally.collect(self.generation, self.settled, |page| {
            Self::page(&self.counters, page)
        });
        self.tally.prepare(&mut image, |object| {
            Some(accepted.object(object)?.object.clone())
        });
        self.owned_once();
        self.generation += 1;
        self.tally.switched(self.generation);
        self.image = image;
    }

    /// No counter is of two blocks.
    fn owned_once(&self) {
        let mut owned = BTreeSet::new();
        for block in &self.tally.blocks {
            for counter in (block.first..).take(block.entries.len()) {
                assert!(owned.insert(counter), "{counter} twice");
            }
        }
    }

    /// Packets of 100 bytes at an entry of the normal list for what comes in.
    fn packets(&mut self, image: &Image, family: Family, entry: u32, packets: u64) {
        let block = image.endpoints[&2].counters[List::NormalIn as usize][family as usize];
        let counter = block.counter(entry);
        if let Some(counter) = self.counters.get_mut(counter as usize) {
            counter.packets += packets;
            counter.bytes += 100 * packets;
        }
    }

    /// Policy, rule and packets of what comes in.
    fn counts(&self) -> Vec<(String, String, u64)> {
        let Ok(counts) = self.tally.counts(|page| Self::page(&self.counters, page));
        let mut told: Vec<_> = counts
            .rules
            .into_iter()
            .filter(|rule| rule.direction == "ingress")
            .map(|rule| {
                assert_eq!((&*rule.endpoint, &*rule.stage), ("hep", "normal"));
                assert_eq!(rule.bytes, 100 * rule.packets);
                (rule.name, rule.rule.unwrap_or_default(), rule.packets)
            })
            .collect();
        told.sort();
        told
    }

    fn sum_of(&self, policy: &str) -> u64 {
        let Ok(sums) = self
            .tally
            .by_policy(|page| Self::page(&self.counters, page));
        let of = sums.iter().filter(|sum| sum.policy == policy);
        of.map(|sum| sum.packets).sum()
    }
}

fn told(policy: &str, rule: &str, packets: u64) -> (String, String, u64) {
    (policy.to_owned(), rule.to_owned(), packets)
}

#[test]
fn families_count_together_and_go_on_while_nothing_changes() {
    let mut bench = Bench::new(64);
    let policies = [policy("a", 1, &[SSH, UDP])];
    bench.enforce(&policies);
    let first = bench.image.clone();
    bench.packets(&first, Family::V4, 0, 3);
    bench.packets(&first, Family::V6, 0, 4);
    bench.packets(&first, Family::V6, 2, 1);
    let expected = [
        told("a", "ingress[0]", 7),
        told("a", "ingress[1]", 0),
        told("default", "", 1),
    ];
    assert_eq!(bench.counts(), expected);
    bench.enforce(&policies);
    assert_eq!(bench.image.endpoints, first.endpoints);
    assert_eq!(bench.counts(), expected);
}

#[test]
fn a_rule_that_moves_keeps_its_count_and_one_that_changes_begins_anew() {
    let mut bench = Bench::new(64);
    bench.enforce(&[policy("a", 5, &[SSH, UDP]), policy("b", 6, &[WEB])]);
    let first = bench.image.clone();
    for (entry, packets) in [(0, 10), (1, 20), (2, 30)] {
        bench.packets(&first, Family::V4, entry, packets);
    }
    // A rule ahead, a policy ahead, and one of the rules says something else.
    bench.settled = false;
    let other = "{action: Deny, protocol: SCTP}";
    bench.enforce(&[
        policy("first", 1, &[WEB]),
        policy("a", 5, &[WEB, SSH, other]),
        policy("b", 6, &[WEB]),
    ]);
    let expected = |ssh, web| {
        [
            told("a", "ingress[0]", 0),
            told("a", "ingress[1]", ssh),
            told("a", "ingress[2]", 0),
            told("b", "ingress[0]", web),
            told("default", "", 0),
            told("first", "ingress[0]", 0),
        ]
    };
    assert_eq!(bench.counts(), expected(10, 30));
    // Packets that are judged by the generation before still count.
    bench.packets(&first, Family::V4, 0, 1);
    assert_eq!(bench.counts(), expected(11, 30));
    let second = bench.image.clone();
    bench.packets(&second, Family::V4, 2, 100);
    assert_eq!(bench.counts(), expected(111, 30));
    let Ok(()) = bench.tally.collect(bench.generation, true, |page| {
        Bench::page(&bench.counters, page)
    });
    assert_eq!(bench.counts(), expected(111, 30));
    // What the rule that is gone has counted stays with the policy.
    assert_eq!(bench.sum_of("a"), 111 + 20);
    bench.enforce(&[policy("a", 5, &[SSH])]);
    assert_eq!(bench.sum_of("a"), 111 + 20);
    assert_eq!(bench.sum_of("b"), 0);
    bench.enforce(&[policy("a", 5, &[SSH]), policy("b", 6, &[WEB])]);
    let expected = [
        told("a", "ingress[0]", 111),
        told("b", "ingress[0]", 0),
        told("default", "", 0),
    ];
    assert_eq!(bench.counts(), expected);
}

#[test]
fn a_rule_that_changes_in_its_place_begins_anew() {
    let mut bench = Bench::new(64);
    bench.enforce(&[policy("a", 5, &[SSH, UDP])]);
    let first = bench.image.clone();
    bench.packets(&first, Family::V4, 0, 10);
    bench.packets(&first, Family::V4, 1, 20);
    bench.enforce(&[policy("a", 5, &[SSH, WEB])]);
    let expected = [
        told("a", "ingress[0]", 10),
        told("a", "ingress[1]", 0),
        told("default", "", 0),
    ];
    assert_eq!(bench.counts(), expected);
}

#[test]
fn a_block_is_not_given_away_while_packets_may_count_there() {
    let mut bench = Bench::new(12);
    bench.settled = false;
    // Three entries in both families.
    bench.enforce(&[policy("a", 1, &[SSH, UDP])]);
    let first = bench.image.clone();
    bench.packets(&first, Family::V4, 0, 5);
    bench.enforce(&[policy("b", 1, &[SSH, UDP])]);
    let counters = |image: &Image| image.endpoints[&2].counters[List::NormalIn as usize];
    let (old, new) = (counters(&first), counters(&bench.image.clone()));
    assert!(
        old.iter().all(|block| !new.contains(block)),
        "{old:?} {new:?}"
    );
    // Nobody has waited yet for the packets of the first generation.
    let third = [policy("c", 1, &[SSH, UDP])];
    bench.enforce(&third);
    assert_eq!(counters(&bench.image.clone()), [CounterBlock::NONE; 2]);
    // The switch to the third has, so there is room again, which begins at zero.
    bench.enforce(&third);
    assert_eq!(counters(&bench.image.clone()), old);
    assert_eq!(
        bench.counts(),
        [
            told("c", "ingress[0]", 0),
            told("c", "ingress[1]", 0),
            told("default", "", 0)
        ]
    );
}

#[test]
fn what_there_is_no_room_for_is_told_and_counted_when_there_is() {
    let mut bench = Bench::new(4);
    bench.enforce(&[policy("a", 1, &[SSH, UDP])]);
    // One family has room.
    assert_eq!(bench.tally.not_counted(), 3);
    assert!(bench.tally.warning().is_some());
    let blocks = bench.image.endpoints[&2].counters[List::NormalIn as usize];
    assert_ne!(blocks[0], CounterBlock::NONE);
    assert_eq!(blocks[1], CounterBlock::NONE);
    bench.enforce(&[policy("a", 1, &[SSH])]);
    bench.enforce(&[policy("a", 1, &[SSH])]);
    assert_eq!(bench.tally.not_counted(), 0);
    assert!(bench.tally.warning().is_none());
}

#[test]
fn a_switch_that_fails_frees_nothing() {
    let mut bench = Bench::new(64);
    bench.enforce(&[policy("a", 1, &[SSH])]);
    let before = bench.image.clone();
    // Prepared, and not in force.
    let mut failed = before.clone();
    failed.endpoints.get_mut(&2).unwrap().flags |= FLAG_NETFILTER;
    failed.endpoints.get_mut(&2).unwrap().lists = Endpoint::default().lists;
    bench.tally.prepare(&mut failed, |_| None);
    bench.packets(&before, Family::V4, 0, 9);
    let Ok(()) = bench.tally.collect(bench.generation, true, |page| {
        Bench::page(&bench.counters, page)
    });
    bench.owned_once();
    assert_eq!(bench.tally.blocks.len(), 2);
}
