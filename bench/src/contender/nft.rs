//! The rules for nftables: one by one, and by sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Display, Write as _},
};

use anyhow::{Result, ensure};
use hostfw_bench::shapes::{Net, Ports, Protocol, Rule, RuleSet};

use super::Place;
use crate::wire::HERE;

/// Table and chain up to the first rule.
fn head(place: Place) -> (&'static str, String) {
    match place {
        Place::Early => (
            "netdev",
            format!("type filter hook ingress device {HERE} priority 0;\n"),
        ),
        Place::Input => (
            "inet",
            format!(
                "type filter hook input priority 0;\niifname != {HERE} accept\nct state established,related accept\n"
            ),
        ),
    }
}

fn table(place: Place, sets: &str, rules: &str) -> String {
    let (family, head) = head(place);
    format!("table {family} bench {{\n{sets}chain bench {{\n{head}{rules}drop\n}}\n}}\n")
}

/// A set's definition, by the addresses alone.
fn listed(set: &RuleSet) -> String {
    set.set.as_ref().map_or_else(String::new, |set| {
        format!(
            "set listed {{\ntype ipv4_addr; flags interval; auto-merge;\nelements = {{ {} }}\n}}\n",
            set.texts().join(", ")
        )
    })
}

fn verdict(rule: &Rule) -> &'static str {
    if rule.allow { "accept" } else { "drop" }
}

/// One line for each rule, with anonymous sets for its lists.
pub(super) fn linear(set: &RuleSet, place: Place) -> String {
    let mut text = String::new();
    for rule in &set.rules[..set.rules.len() - 1] {
        text += &line(rule);
    }
    table(place, &listed(set), &text)
}

fn line(rule: &Rule) -> String {
    let mut text = String::new();
    if rule.from_set {
        text += "ip saddr @listed ";
    }
    for (field, operator, nets) in [
        ("saddr", "", &rule.sources),
        ("saddr", "!= ", &rule.not_sources),
        ("daddr", "", &rule.destinations),
    ] {
        if !nets.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "ip {field} {operator}{} ", braces(nets.iter()));
        }
    }
    if let Some(protocol) = rule.protocol {
        let name = protocol.name();
        if rule.ports.is_empty() && rule.not_ports.is_empty() {
            let _ = write!(text, "meta l4proto {name} ");
        }
        for (operator, ports) in [("", &rule.ports), ("!= ", &rule.not_ports)] {
            if !ports.is_empty() {
                let ports = ports.iter().map(|ports| ports.text('-'));
                let _ = write!(text, "{name} dport {operator}{} ", braces(ports));
            }
        }
    }
    text + verdict(rule) + "\n"
}

fn braces<T: Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    match &items[..] {
        [item] => item.clone(),
        items => format!("{{ {} }}", items.join(", ")),
    }
}

/// Rules of the same action that follow each other, as look-ups: by protocol
/// and port, by source, and by all three.
#[derive(Default)]
struct Run {
    services: BTreeSet<(Protocol, u16)>,
    sources: Vec<Net>,
    /// Sources by service: then what contains what can be told.
    exact: BTreeMap<(Protocol, u16), Vec<Net>>,
    ranges: Vec<(Net, Protocol, Ports)>,
}

/// As few rules as it takes: a verdict map for each kind of look-up in each run
/// of rules of the same action. Negations are written as what they leave.
pub(super) fn sets(set: &RuleSet, place: Place) -> Result<String> {
    let rules = &set.rules[..set.rules.len() - 1];
    let mut definitions = listed(set);
    let mut lines = String::new();
    for (number, chunk) in rules
        .chunk_by(|a, b| a.allow == b.allow && !a.from_set && !b.from_set)
        .enumerate()
    {
        if chunk[0].from_set {
            lines += &line(&chunk[0]);
            continue;
        }
        let mut run = Run::default();
        for rule in chunk {
            run.add(rule)?;
        }
        run.write(number, verdict(&chunk[0]), &mut definitions, &mut lines);
    }
    Ok(table(place, &definitions, &lines))
}

impl Run {
    fn add(&mut self, rule: &Rule) -> Result<()> {
        ensure!(
            rule.destinations.is_empty(),
            "a rule with destinations is not translated to sets"
        );
        let sources = super::left(&rule.sources, &rule.not_sources);
        match (rule.protocol, &rule.ports[..], &rule.not_ports[..]) {
            (None, [], []) => self.sources.extend(sources),
            (Some(protocol), ports, []) if !ports.is_empty() => {
                for ports in ports {
                    ensure!(ports.first == ports.last, "a range with others' ports");
                    if rule.sources.is_empty() {
                        self.services.insert((protocol, ports.first));
                    } else {
                        let nets = self.exact.entry((protocol, ports.first)).or_default();
                        nets.extend(&sources);
                    }
                }
            }
            (Some(protocol), [], not) if !rule.sources.is_empty() => {
                for ports in complement(not) {
                    self.ranges
                        .extend(sources.iter().map(|net| (*net, protocol, ports)));
                }
            }
            _ => anyhow::bail!("{rule:?} is not translated to sets"),
        }
        Ok(())
    }

    fn write(self, number: usize, verdict: &str, definitions: &mut String, lines: &mut String) {
        let mut map = |name: String, kind: &str, flags: &str, key: &str, elements: &[String]| {
            if elements.is_empty() {
                return;
            }
            let elements: Vec<String> = elements
                .iter()
                .map(|element| format!("{element} : {verdict}"))
                .collect();
            let _ = write!(
                definitions,
                "map {name} {{\ntype {kind} : verdict;{flags}\nelements = {{ {} }}\n}}\n",
                elements.join(", ")
            );
            let _ = writeln!(lines, "{key} vmap @{name}");
        };
        let services: Vec<String> = self
            .services
            .iter()
            .map(|(protocol, port)| format!("{} . {port}", protocol.name()))
            .collect();
        map(
            format!("services{number}"),
            "inet_proto . inet_service",
            "",
            "meta l4proto . th dport",
            &services,
        );
        let sources: Vec<String> = outermost(self.sources)
            .iter()
            .map(ToString::to_string)
            .collect();
        map(
            format!("sources{number}"),
            "ipv4_addr",
            INTERVAL,
            "ip saddr",
            &sources,
        );
        let mut exact = Vec::new();
        for ((protocol, port), nets) in self.exact {
            for net in outermost(nets) {
                exact.push(format!("{net} . {} . {port}", protocol.name()));
            }
        }
        let concatenated = "ipv4_addr . inet_proto . inet_service";
        let key = "ip saddr . meta l4proto . th dport";
        map(
            format!("exact{number}"),
            concatenated,
            INTERVAL,
            key,
            &exact,
        );
        for (part, elements) in apart(self.ranges).iter().enumerate() {
            let elements: Vec<String> = elements
                .iter()
                .map(|(net, protocol, ports)| {
                    format!("{net} . {} . {}", protocol.name(), ports.text('-'))
                })
                .collect();
            map(
                format!("ranges{number}x{part}"),
                concatenated,
                INTERVAL,
                key,
                &elements,
            );
        }
    }
}

/// Of a set whose elements are more than one value.
const INTERVAL: &str = " flags interval;";

/// The ports that are in none of these.
fn complement(ports: &[Ports]) -> Vec<Ports> {
    let mut left = Vec::new();
    let mut first = 0u32;
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    for gap in ports {
        if first < u32::from(gap.first) {
            left.push(Ports {
                first: first as u16,
                last: gap.first - 1,
            });
        }
        first = first.max(u32::from(gap.last) + 1);
    }
    if first <= 0xffff {
        left.push(Ports {
            first: first as u16,
            last: 0xffff,
        });
    }
    left
}

/// Without those that others cover.
fn outermost(mut nets: Vec<Net>) -> Vec<Net> {
    // What covers comes before what is covered, and nothing comes between
    // that is not covered as well.
    nets.sort_unstable();
    nets.dedup_by(|next, kept| kept.covers(*next));
    nets
}

type Range = (Net, Protocol, Ports);

/// In as many sets as it takes for no two of a set to overlap, which nftables
/// does not take.
fn apart(ranges: Vec<Range>) -> Vec<Vec<Range>> {
    let overlap = |a: &Range, b: &Range| {
        a.1 == b.1
            && (a.0.covers(b.0) || b.0.covers(a.0))
            && a.2.first <= b.2.last
            && b.2.first <= a.2.last
    };
    let mut sets: Vec<Vec<Range>> = Vec::new();
    for range in ranges {
        let fits = |set: &&mut Vec<Range>| !set.iter().any(|other| overlap(other, &range));
        match sets.iter_mut().find(fits) {
            Some(set) => set.push(range),
            None => sets.push(vec![range]),
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_left_are_all_but_those() {
        let not = [Ports::one(443), Ports { first: 0, last: 9 }];
        let left = complement(&not);
        for port in 0..=0xffffu16 {
            let holders = left.iter().filter(|ports| ports.holds(port)).count();
            let excluded = not.iter().any(|ports| ports.holds(port));
            assert_eq!(holders, usize::from(!excluded), "{port}");
        }
        assert_eq!(
            complement(&[Ports {
                first: 0,
                last: 0xffff
            }]),
            []
        );
    }

    #[test]
    fn nets_within_others_are_left_out() {
        let net = |a: u8, b: u8, length| Net::of(u32::from_be_bytes([a, b, 0, 0]), length);
        let nets = vec![
            net(11, 0, 16),
            net(10, 1, 16),
            net(10, 0, 8),
            net(10, 1, 24),
        ];
        assert_eq!(outermost(nets), [net(10, 0, 8), net(11, 0, 16)]);
    }

    #[test]
    fn what_overlaps_goes_to_another_set() {
        let net = Net::of(0x0a00_0000, 8);
        let inner = Net::of(0x0a01_0000, 16);
        let ports = |first, last| Ports { first, last };
        let sets = apart(vec![
            (net, Protocol::Tcp, ports(0, 9)),
            (inner, Protocol::Tcp, ports(5, 20)),
            (inner, Protocol::Udp, ports(5, 20)),
            (inner, Protocol::Tcp, ports(10, 20)),
        ]);
        assert_eq!(sets.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn a_rule_is_a_line() {
        let rule = Rule {
            allow: true,
            protocol: Some(Protocol::Udp),
            sources: vec![Net::of(0x0a00_0000, 8)],
            ports: vec![
                Ports::one(53),
                Ports {
                    first: 60,
                    last: 69,
                },
            ],
            ..Rule::default()
        };
        assert_eq!(
            line(&rule),
            "ip saddr 10.0.0.0/8 udp dport { 53, 60-69 } accept\n"
        );
    }
}
