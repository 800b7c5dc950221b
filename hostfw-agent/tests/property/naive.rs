//! The meaning of rules, read straight from them: no tables, no prefixes, no
//! bits.

use std::net::IpAddr;

use hostfw_agent::{
    compile::evaluate::{Addresses, Packet},
    model::{Failsafe, IcmpMatch, IpVersion, PortRange, RuleAction},
    select::{Governed, SelectedEntity, SelectedRule, Selection},
};
use hostfw_common::verdict::{Direction, Reason};
use ipnet::IpNet;

/// What is decided about a packet, rules named by policy and index.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) reason: Reason,
    pub(crate) rule: Option<(String, usize)>,
    pub(crate) logged: Vec<(String, usize)>,
}

struct Facts {
    source: IpAddr,
    destination: IpAddr,
    version: IpVersion,
    protocol: u8,
    ports: Option<(u16, u16)>,
    /// Type and code, if the packet is ICMP of its own family.
    icmp: Option<(u8, u8)>,
}

impl Facts {
    fn of(packet: &Packet) -> Self {
        let (source, destination, version): (IpAddr, IpAddr, _) = match packet.addresses {
            Addresses::V4 {
                source,
                destination,
            } => (source.into(), destination.into(), IpVersion::V4),
            Addresses::V6 {
                source,
                destination,
            } => (source.into(), destination.into(), IpVersion::V6),
        };
        let has_ports = matches!(packet.protocol, 6 | 17 | 33 | 132 | 136);
        let is_icmp = match version {
            IpVersion::V4 => packet.protocol == 1,
            IpVersion::V6 => packet.protocol == 58,
        };
        let [kind, code] = packet.destination_port.to_be_bytes();
        Self {
            source,
            destination,
            version,
            protocol: packet.protocol,
            ports: has_ports.then_some((packet.source_port, packet.destination_port)),
            icmp: is_icmp.then_some((kind, code)),
        }
    }
}

pub(crate) fn decide(
    selection: &Selection,
    governed: &Governed,
    direction: Direction,
    packet: &Packet,
) -> Decision {
    let facts = Facts::of(packet);
    let (failsafes, remote, policies, default) = match direction {
        Direction::Ingress => (
            &selection.failsafe_inbound,
            facts.source,
            &governed.pre_dnat,
            Reason::NoMatch,
        ),
        Direction::Egress => (
            &selection.failsafe_outbound,
            facts.destination,
            &governed.egress,
            Reason::EndpointDefault,
        ),
    };
    let mut logged = Vec::new();
    if failsafes.iter().any(|f| is_failsafe(f, &facts, remote)) {
        return Decision {
            reason: Reason::Failsafe,
            rule: None,
            logged,
        };
    }
    for policy in policies {
        for (index, rule) in policy.rules.iter().enumerate() {
            if !matches_rule(rule, &facts) {
                continue;
            }
            let this = (policy.name.clone(), index);
            let reason = match rule.action {
                RuleAction::Allow => Reason::RuleAllow,
                RuleAction::Deny => Reason::RuleDeny,
                RuleAction::Log => {
                    logged.push(this);
                    continue;
                }
            };
            return Decision {
                reason,
                rule: Some(this),
                logged,
            };
        }
    }
    Decision {
        reason: default,
        rule: None,
        logged,
    }
}

fn is_failsafe(failsafe: &Failsafe, facts: &Facts, remote: IpAddr) -> bool {
    failsafe.protocol == facts.protocol
        && facts.ports.is_some_and(|(_, port)| port == failsafe.port)
        && failsafe.net.is_none_or(|net| net.contains(&remote))
}

fn matches_rule(rule: &SelectedRule, facts: &Facts) -> bool {
    if rule
        .ip_version
        .is_some_and(|version| version != facts.version)
    {
        return false;
    }
    if let Some(protocol) = rule.protocol
        && (protocol.number != facts.protocol
            || protocol
                .implied_version
                .is_some_and(|version| version != facts.version))
    {
        return false;
    }
    if rule
        .not_protocol
        .is_some_and(|protocol| protocol.number == facts.protocol)
    {
        return false;
    }
    let is = |message: IcmpMatch, (kind, code): (u8, u8)| {
        message.kind == kind && message.code.is_none_or(|wanted| wanted == code)
    };
    if let Some(wanted) = rule.icmp
        && facts.icmp.is_none_or(|message| !is(wanted, message))
    {
        return false;
    }
    if let Some(unwanted) = rule.not_icmp
        && facts.icmp.is_none_or(|message| is(unwanted, message))
    {
        return false;
    }
    matches_entity(
        &rule.source,
        facts.source,
        facts.ports.map(|(source, _)| source),
    ) && matches_entity(
        &rule.destination,
        facts.destination,
        facts.ports.map(|(_, destination)| destination),
    )
}

fn matches_entity(entity: &SelectedEntity, address: IpAddr, port: Option<u16>) -> bool {
    let in_any = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
    let of_family = |nets: &[IpNet]| {
        nets.iter()
            .any(|net| net.addr().is_ipv4() == address.is_ipv4())
    };
    for list in [&entity.nets, &entity.not_nets] {
        if !list.is_empty() && !of_family(list) {
            return false;
        }
    }
    if !entity.nets.is_empty() && !in_any(&entity.nets) {
        return false;
    }
    if in_any(&entity.not_nets) || in_any(&entity.not_members) {
        return false;
    }
    if let Some(members) = &entity.members
        && !in_any(members)
    {
        return false;
    }
    let within = |ranges: &[PortRange], port: u16| {
        ranges
            .iter()
            .any(|range| (range.first..=range.last).contains(&port))
    };
    match port {
        None => entity.ports.is_empty() && entity.not_ports.is_empty(),
        Some(port) => {
            (entity.ports.is_empty() || within(&entity.ports, port))
                && !within(&entity.not_ports, port)
        }
    }
}
