//! What a rule asks of each dimension, for one address family.

use hostfw_common::endpoint::Family;
use ipnet::IpNet;

use super::{dimension::Criteria, prefix::Prefix};
use crate::{
    model::{IcmpMatch, IpVersion, PortRange},
    select::{SelectedEntity, SelectedRule},
};

/// IANA protocol numbers.
pub(super) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const UDP_LITE: u8 = 136;

    /// The protocols whose headers begin with source and destination port.
    pub(crate) const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDP_LITE];
}

/// A rule's criteria by dimension.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) source: Criteria,
    pub(super) destination: Criteria,
    pub(super) service: Criteria,
    pub(super) source_port: Criteria,
}

/// `None` if the rule does not apply to the family: its IP version or the name
/// of its protocol says so, or one of its net lists, negative ones included,
/// has entries of the other family only (Calico: felix/rules/policy.go,
/// FilterRuleToIPVersion).
pub(super) fn dimensions(rule: &SelectedRule, family: Family) -> Option<Dimensions> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    // A negated protocol is a plain negation: an IPv6 packet is not ICMP.
    let stated = [
        rule.ip_version,
        rule.protocol.and_then(|protocol| protocol.implied_version),
    ];
    if stated.into_iter().flatten().any(|stated| stated != version) {
        return None;
    }
    let (source, destination) = (&rule.source, &rule.destination);
    Some(Dimensions {
        source: addresses(source, family)?,
        destination: addresses(destination, family)?,
        service: service(rule, family),
        source_port: source_port(source),
    })
}

fn addresses(entity: &SelectedEntity, family: Family) -> Option<Criteria> {
    let mut criteria = Criteria::default();
    if !entity.nets.is_empty() {
        criteria.any_of.push(some_of_family(&entity.nets, family)?);
    }
    // Unlike nets, a set without addresses of the family is no reason to skip
    // the rule: nothing of this family belongs to it.
    if let Some(members) = &entity.members {
        criteria.any_of.push(of_family(members, family));
    }
    if !entity.not_nets.is_empty() {
        criteria.none_of = some_of_family(&entity.not_nets, family)?;
    }
    criteria
        .none_of
        .extend(of_family(&entity.not_members, family));
    Some(criteria)
}

fn of_family(nets: &[IpNet], family: Family) -> Vec<Prefix> {
    nets.iter()
        .filter_map(|net| Prefix::net(net, family))
        .collect()
}

fn some_of_family(nets: &[IpNet], family: Family) -> Option<Vec<Prefix>> {
    let found = of_family(nets, family);
    (!found.is_empty()).then_some(found)
}

/// Protocol, destination port, ICMP type and code.
fn service(rule: &SelectedRule, family: Family) -> Criteria {
    let mut criteria = Criteria::default();
    if let Some(protocol) = rule.protocol {
        criteria
            .any_of
            .push(vec![Prefix::protocol(protocol.number)]);
    }
    if let Some(protocol) = rule.not_protocol {
        criteria.none_of.push(Prefix::protocol(protocol.number));
    }

    let icmp = match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    };
    let message = |IcmpMatch { kind, code }| Prefix::icmp(icmp, kind, code);
    criteria
        .any_of
        .extend(rule.icmp.map(|icmp| vec![message(icmp)]));
    if let Some(not) = rule.not_icmp {
        criteria.any_of.push(vec![Prefix::protocol(icmp)]);
        criteria.none_of.push(message(not));
    }

    let (source, destination) = (&rule.source, &rule.destination);
    // A port criterion, even a negative one, is only met by what has ports.
    let port_lists = [
        &source.ports,
        &source.not_ports,
        &destination.ports,
        &destination.not_ports,
    ];
    let with_ports: Vec<u8> = match rule.protocol {
        Some(only) => protocol::WITH_PORTS
            .into_iter()
            .filter(|&number| number == only.number)
            .collect(),
        None => protocol::WITH_PORTS.to_vec(),
    };
    if port_lists.iter().any(|list| !list.is_empty()) {
        criteria
            .any_of
            .push(with_ports.iter().copied().map(Prefix::protocol).collect());
    }
    let of_all = |ranges: &[PortRange]| -> Vec<Prefix> {
        with_ports
            .iter()
            .flat_map(|&number| port_prefixes(number, ranges))
            .collect()
    };
    if !destination.ports.is_empty() {
        criteria.any_of.push(of_all(&destination.ports));
    }
    criteria.none_of.extend(of_all(&destination.not_ports));
    criteria
}

/// The source port, which stands behind protocol 0 in its table. That the
/// protocol has ports is for [`service`] to ask.
fn source_port(source: &SelectedEntity) -> Criteria {
    let mut criteria = Criteria::default();
    if !source.ports.is_empty() {
        criteria.any_of.push(port_prefixes(0, &source.ports));
    }
    criteria.none_of = port_prefixes(0, &source.not_ports);
    criteria
}

fn port_prefixes(protocol: u8, ranges: &[PortRange]) -> Vec<Prefix> {
    ranges
        .iter()
        .flat_map(|range| Prefix::ports(protocol, range.first, range.last))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::fixture::{named, numbered, rule},
        model::RuleAction,
    };

    fn families(rule: &SelectedRule) -> Vec<Family> {
        Family::ALL
            .into_iter()
            .filter(|&family| dimensions(rule, family).is_some())
            .collect()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_without_criteria_accepts_everything_of_both_families() {
        let any = rule(RuleAction::Allow);
        for family in Family::ALL {
            assert_eq!(dimensions(&any, family), Some(Dimensions::default()));
        }
    }

    #[test]
    fn ip_version_and_named_protocols_choose_the_family() {
        let mut v6 = rule(RuleAction::Allow);
        v6.ip_version = Some(IpVersion::V6);
        assert_eq!(families(&v6), [Family::V6]);

        let mut icmp = rule(RuleAction::Allow);
        icmp.protocol = Some(named(1, IpVersion::V4));
        assert_eq!(families(&icmp), [Family::V4]);
        // Given as a number it says nothing about the version.
        icmp.protocol = Some(numbered(1));
        assert_eq!(families(&icmp), Family::ALL);

        let mut not_icmp = rule(RuleAction::Deny);
        not_icmp.not_protocol = Some(named(1, IpVersion::V4));
        assert_eq!(families(&not_icmp), Family::ALL);
    }

    #[test]
    fn a_net_list_without_the_family_skips_it_even_if_negative() {
        let mut not_ten = rule(RuleAction::Deny);
        not_ten.source.not_nets = vec![net("10.0.0.0/8")];
        assert_eq!(families(&not_ten), [Family::V4]);

        let mut mixed = rule(RuleAction::Allow);
        mixed.source.nets = vec![net("10.0.0.0/8"), net("fd00::/8")];
        assert_eq!(families(&mixed), Family::ALL);
        mixed.destination.nets = vec![net("fd00::/8")];
        assert_eq!(families(&mixed), [Family::V6]);
    }

    #[test]
    fn sets_of_members_do_not_choose_the_family() {
        let mut selected = rule(RuleAction::Allow);
        selected.destination.members = Some(vec![net("10.240.0.11/32")]);
        selected.source.not_members = vec![net("10.240.0.12/32")];
        let v6 = dimensions(&selected, Family::V6).unwrap();
        assert_eq!(v6.destination.any_of, [vec![]]);
        assert_eq!(v6.source, Criteria::default());
        let v4 = dimensions(&selected, Family::V4).unwrap();
        assert_eq!(v4.destination.any_of[0].len(), 1);
        assert_eq!(v4.source.none_of.len(), 1);
    }

    #[test]
    fn ports_ask_for_a_protocol_with_ports() {
        let mut source_only = rule(RuleAction::Allow);
        source_only.source.not_ports = vec![PortRange { first: 1, last: 1 }];
        let found = dimensions(&source_only, Family::V4).unwrap();
        assert_eq!(found.service.any_of[0].len(), protocol::WITH_PORTS.len());
        assert_eq!(found.source_port.none_of.len(), 1);

        // GRE has none: the rule matches nothing.
        source_only.protocol = Some(numbered(47));
        let found = dimensions(&source_only, Family::V4).unwrap();
        assert_eq!(found.service.any_of[1], []);
    }

    #[test]
    fn not_icmp_is_limited_to_the_families_icmp() {
        let mut not_echo = rule(RuleAction::Allow);
        not_echo.not_icmp = Some(IcmpMatch {
            kind: 8,
            code: None,
        });
        for (family, number) in [(Family::V4, 1), (Family::V6, 58)] {
            let found = dimensions(&not_echo, family).unwrap().service;
            assert_eq!(found.any_of, [[Prefix::protocol(number)]]);
            assert_eq!(found.none_of, [Prefix::icmp(number, 8, None)]);
        }
    }
}
