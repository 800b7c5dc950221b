//! Rules of policies and profiles.

use hostfw_common::verdict::Direction;

use super::{Findings, http, metadata, net, protocol, selector, service};
use crate::{
    model::{Entity, IpVersion, Protocol, Rule, RuleAction},
    resource::{self, Action, EntityRule, NumberOrText},
};

/// Longest list of rules (Calico: api/pkg/apis/projectcalico/v3).
const MOST_RULES: usize = 1024;

/// Checks the rules of one direction.
pub(super) fn list(
    direction: Direction,
    rules: &[resource::Rule],
    findings: &mut Findings,
) -> Vec<Rule> {
    let field = match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    };
    if !findings.within_limit(field, rules.len(), MOST_RULES, "rules") {
        return Vec::new();
    }
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| convert(&format!("{field}[{index}]"), direction, rule, findings))
        .collect()
}

fn convert(
    path: &str,
    direction: Direction,
    rule: &resource::Rule,
    findings: &mut Findings,
) -> Rule {
    let at = |field: &str| format!("{path}.{field}");
    let ip_version = match rule.ip_version {
        None => None,
        Some(4) => Some(IpVersion::V4),
        Some(6) => Some(IpVersion::V6),
        Some(other) => {
            findings.invalid(at("ipVersion"), "4 or 6", other.to_string());
            None
        }
    };
    let mut checked_protocol = |field: &str, value: &Option<_>| {
        let value = value.as_ref()?;
        let protocol = protocol::protocol(&at(field), value, findings)?;
        let only = protocol::only_version(protocol.number);
        if let (Some(given), Some(only)) = (ip_version, only)
            && given != only
        {
            findings.invalid(
                at("ipVersion"),
                format!("{}, for {field} is {}", digit(only), protocol::show(value)),
                digit(given),
            );
        }
        Some(protocol)
    };
    let protocol = checked_protocol("protocol", &rule.protocol);
    let not_protocol = checked_protocol("notProtocol", &rule.not_protocol);

    let icmp = rule.icmp.as_ref().and_then(|fields| {
        if !protocol
            .is_some_and(|protocol| matches!(protocol.number, protocol::ICMP | protocol::ICMPV6))
        {
            findings.invalid(
                at("icmp"),
                "protocol ICMP or ICMPv6 beside it",
                shown_protocol(rule),
            );
        }
        // `icmp: {}` asks for nothing; so does `notICMP: {}`.
        protocol::icmp(&at("icmp"), fields, findings)
    });
    let not_icmp = rule
        .not_icmp
        .as_ref()
        .and_then(|fields| protocol::icmp(&at("notICMP"), fields, findings));

    if let Some(http) = &rule.http {
        http::check(&at("http"), http, rule, (direction, protocol), findings);
    }
    if let Some(metadata) = &rule.metadata {
        metadata::annotations(&at("metadata.annotations"), &metadata.annotations, findings);
    }
    let mut side = |name: &str, given: &EntityRule| {
        let path = at(name);
        let mut entity = entity(&path, given, protocol, rule, findings);
        entity.service = service::convert(&path, direction, given, findings);
        entity
    };
    let source = side("source", &rule.source);
    let destination = side("destination", &rule.destination);
    check_families(path, ip_version, &source, &destination, findings);
    Rule {
        action: match rule.action {
            Action::Allow => RuleAction::Allow,
            Action::Deny => RuleAction::Deny,
            Action::Log => RuleAction::Log,
            Action::Pass => RuleAction::Pass,
        },
        ip_version,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source,
        destination,
    }
}

pub(super) fn shown_protocol(rule: &resource::Rule) -> String {
    rule.protocol.as_ref().map_or_else(
        || "no protocol".to_owned(),
        |protocol| format!("protocol {}", protocol::show(protocol)),
    )
}

fn entity(
    path: &str,
    entity: &EntityRule,
    protocol: Option<Protocol>,
    rule: &resource::Rule,
    findings: &mut Findings,
) -> Entity {
    let at = |field: &str| format!("{path}.{field}");
    let mut ports = |name: &str, written: &[NumberOrText]| {
        let (numbers, names) = protocol::ports(&at(name), written, findings);
        let fits = match protocol {
            Some(protocol) => protocol::has_ports(protocol.number),
            // A name brings its protocol along. One that is no protocol has its
            // own finding.
            None => rule.protocol.is_some() || numbers.is_empty(),
        };
        let given = !numbers.is_empty() || !names.is_empty();
        if given && !fits {
            findings.invalid(
                at(name),
                "protocol TCP, UDP or SCTP beside them",
                shown_protocol(rule),
            );
        }
        (numbers, names)
    };
    let (numbers, names) = ports("ports", &entity.ports);
    let (not_numbers, not_names) = ports("notPorts", &entity.not_ports);

    let not_nets = net::nets(&at("notNets"), &entity.not_nets, findings);
    if let Some(index) = not_nets.iter().position(|net| net.prefix_len() == 0) {
        findings.invalid(
            at("notNets"),
            "nets that leave some address over",
            not_nets[index].to_string(),
        );
    }
    let (selector, not_selector) = selector::of_entity(path, entity, findings);
    Entity {
        nets: net::nets(&at("nets"), &entity.nets, findings),
        not_nets,
        ports: numbers,
        named_ports: names,
        not_ports: not_numbers,
        not_named_ports: not_names,
        service: None,
        selector,
        not_selector,
    }
}

/// All nets of a rule are of one family, and that is the rule's `ipVersion`.
fn check_families(
    path: &str,
    ip_version: Option<IpVersion>,
    source: &Entity,
    destination: &Entity,
    findings: &mut Findings,
) {
    let mut reference = ip_version.map(|version| (version, "ipVersion".to_owned()));
    for (side, entity) in [("source", source), ("destination", destination)] {
        for (name, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
            for net in nets {
                let version = net::version_of(net);
                match &reference {
                    None => reference = Some((version, format!("{side}.{name}"))),
                    Some((first, _)) if *first == version => {}
                    Some((first, by)) => {
                        findings.invalid(
                            format!("{path}.{side}.{name}"),
                            format!("IPv{} nets alone, as {by} says", digit(*first)),
                            net.to_string(),
                        );
                        return;
                    }
                }
            }
        }
    }
}

fn digit(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "4",
        IpVersion::V6 => "6",
    }
}
