//! The rules for iptables, as `iptables-restore` takes them, and for ipset.

use std::fmt::Write as _;

use hostfw_bench::shapes::{Ports, Rule, RuleSet};

use super::Place;
use crate::wire::HERE;

/// A line for each rule and source; ports by the match multiport.
pub(super) fn rules(set: &RuleSet, place: Place) -> String {
    let (table, chain) = match place {
        Place::Early => ("raw", "PREROUTING"),
        Place::Input => ("filter", "INPUT"),
    };
    let mut text = format!("*{table}\n");
    if place == Place::Input {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "-A {chain} -i {HERE} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        );
    }
    for rule in &set.rules {
        for matches in lines(rule) {
            let target = if rule.allow { "ACCEPT" } else { "DROP" };
            let _ = writeln!(text, "-A {chain} -i {HERE}{matches} -j {target}");
        }
    }
    text + "COMMIT\n"
}

fn lines(rule: &Rule) -> Vec<String> {
    let ports = |ports: &[Ports]| -> String {
        let ports: Vec<String> = ports.iter().map(|ports| ports.text(':')).collect();
        ports.join(",")
    };
    let mut rest = String::new();
    if rule.from_set {
        rest += " -m set --match-set listed src";
    }
    if let Some(protocol) = rule.protocol {
        let _ = write!(rest, " -p {}", protocol.name());
    }
    if !rule.ports.is_empty() {
        let _ = write!(rest, " -m multiport --dports {}", ports(&rule.ports));
    }
    if !rule.not_ports.is_empty() {
        let _ = write!(rest, " -m multiport ! --dports {}", ports(&rule.not_ports));
    }
    let sources: Vec<String> = match super::left(&rule.sources, &rule.not_sources) {
        sources if rule.sources.is_empty() && sources.is_empty() => vec![String::new()],
        sources => sources.iter().map(|net| format!(" -s {net}")).collect(),
    };
    let destinations: Vec<String> = match &rule.destinations[..] {
        [] => vec![String::new()],
        nets => nets.iter().map(|net| format!(" -d {net}")).collect(),
    };
    sources
        .iter()
        .flat_map(|source| {
            destinations
                .iter()
                .map(|destination| format!("{source}{destination}{rest}"))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The set, as `ipset restore` takes it.
pub(super) fn ipset(set: &RuleSet) -> String {
    let mut text = String::from("create listed hash:net family inet maxelem 1048576\n");
    for net in set.set.iter().flat_map(|set| set.texts()) {
        let _ = writeln!(text, "add listed {net}");
    }
    text
}

#[cfg(test)]
mod tests {
    use hostfw_bench::shapes::{Net, Protocol};

    use super::*;

    #[test]
    fn a_rule_is_a_line_for_each_source() {
        let rule = Rule {
            protocol: Some(Protocol::Tcp),
            sources: vec![Net::of(0x0a00_0000, 8), Net::of(0x0b00_0000, 8)],
            not_sources: vec![Net::of(0x0b80_0000, 9)],
            not_ports: vec![Ports { first: 1, last: 9 }],
            ..Rule::default()
        };
        assert_eq!(
            lines(&rule),
            [
                " -s 10.0.0.0/8 -p tcp -m multiport ! --dports 1:9",
                " -s 11.0.0.0/9 -p tcp -m multiport ! --dports 1:9"
            ]
        );
        assert_eq!(lines(&Rule::default()), [""]);
    }
}
