//! Rules of a policy.

use super::{Findings, net, policy, protocol};
use crate::{
    model::{Entity, IpVersion, Protocol, Rule, RuleAction},
    resource::{self, Action, EntityRule, quote},
};

pub(super) fn convert(path: &str, rule: &resource::Rule, findings: &mut Findings) -> Rule {
    let at = |field: &str| format!("{path}.{field}");
    let action = match rule.action {
        Action::Allow => RuleAction::Allow,
        Action::Deny => RuleAction::Deny,
        Action::Log => RuleAction::Log,
        Action::Pass => {
            findings.not_enforced(at("action"), "Pass", "Allow, Deny or Log", "Pass");
            RuleAction::Log
        }
    };
    if rule.http.is_some() {
        findings.not_enforced(at("http"), "http", "nothing", "HTTP criteria");
    }
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
        // `icmp: {}` asks for nothing.
        protocol::icmp(&at("icmp"), fields, findings)
    });
    let not_icmp = rule.not_icmp.as_ref().and_then(|fields| {
        if fields.kind.is_none() && fields.code.is_none() {
            findings.invalid(at("notICMP"), "a type", "nothing");
        }
        protocol::icmp(&at("notICMP"), fields, findings)
    });

    let source = entity(&at("source"), &rule.source, protocol, rule, findings);
    let destination = entity(
        &at("destination"),
        &rule.destination,
        protocol,
        rule,
        findings,
    );
    check_families(path, ip_version, &source, &destination, findings);
    Rule {
        action,
        ip_version,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source,
        destination,
    }
}

fn shown_protocol(rule: &resource::Rule) -> String {
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
    for (name, found) in [
        (
            "namespaceSelector",
            entity
                .namespace_selector
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(quote),
        ),
        (
            "serviceAccounts",
            entity
                .service_accounts
                .as_ref()
                .map(|_| "service accounts".to_owned()),
        ),
        (
            "services",
            entity.services.as_ref().map(|_| "a service".to_owned()),
        ),
    ] {
        if let Some(found) = found {
            findings.not_enforced(at(name), name, "nothing", found);
        }
    }

    let ports = protocol::ports(&at("ports"), &entity.ports, findings);
    let not_ports = protocol::ports(&at("notPorts"), &entity.not_ports, findings);
    for (name, given) in [
        ("ports", !ports.is_empty()),
        ("notPorts", !not_ports.is_empty()),
    ] {
        if given && !protocol.is_some_and(|protocol| protocol::has_ports(protocol.number)) {
            findings.invalid(
                at(name),
                "protocol TCP, UDP or SCTP beside them",
                shown_protocol(rule),
            );
        }
    }

    let not_nets = net::nets(&at("notNets"), &entity.not_nets, findings);
    if let Some(index) = not_nets.iter().position(|net| net.prefix_len() == 0) {
        findings.invalid(
            at("notNets"),
            "nets that leave some address over",
            not_nets[index].to_string(),
        );
    }
    let mut selector = |name: &str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty())?;
        policy::selector(&at(name), text, findings)
    };
    let (selector, not_selector) = (
        selector("selector", &entity.selector),
        selector("notSelector", &entity.not_selector),
    );
    Entity {
        nets: net::nets(&at("nets"), &entity.nets, findings),
        not_nets,
        ports,
        not_ports,
        named_ports: Vec::new(),
        not_named_ports: Vec::new(),
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
