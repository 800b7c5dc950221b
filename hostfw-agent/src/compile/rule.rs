//! What a rule asks of each dimension, for one address family.

use std::{collections::BTreeMap, sync::Arc};

use hostfw_common::{endpoint::Family, policy::Dim};
use ipnet::IpNet;

use super::{
    dimension::Criteria,
    points::{Group, group},
    prefix::Prefix,
    set::{Set, Sets},
};
use crate::{
    model::{IcmpMatch, IpVersion, PortRange},
    select::{Point, SelectedEntity, SelectedRule},
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

/// What one entry asks, by dimension. Entries of one rule share what is the
/// same for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) source: Arc<Criteria>,
    pub(super) destination: Arc<Criteria>,
    pub(super) service: Arc<Criteria>,
    pub(super) source_port: Arc<Criteria>,
}

impl Dimensions {
    /// Asks nothing.
    pub(super) fn any() -> Self {
        Self::default()
    }

    pub(super) fn of(&self, dimension: Dim) -> &Criteria {
        match dimension {
            Dim::Source => &self.source,
            Dim::Destination => &self.destination,
            Dim::Service => &self.service,
            Dim::SourcePort => &self.source_port,
        }
    }
}

/// A rule as entries of a table.
///
/// A port and an address are asked for apart from each other, so addresses
/// with ports need an entry for each group of them, on either side. A packet
/// meets at most one entry of a rule: what Log reports, it reports once.
#[derive(Debug)]
pub(super) struct Split<'a> {
    rule: &'a SelectedRule,
    family: Family,
    with_ports: Vec<u8>,
    source: Side,
    destination: Side,
}

/// What a rule asks of one side of a packet.
#[derive(Debug)]
struct Side {
    /// Of the address, unless a point is asked for.
    address: Arc<Criteria>,
    /// One of these must be met.
    ports: Vec<Ports>,
    /// None of these may be.
    not: Vec<Group>,
}

#[derive(Debug)]
enum Ports {
    /// Any, or those of the rule's numbers.
    Numbers,
    /// Those of addresses.
    Points(Group),
}

impl Ports {
    const fn protocol(&self) -> Option<u8> {
        match self {
            Self::Numbers => None,
            Self::Points(group) => Some(group.protocol),
        }
    }
}

impl<'a> Split<'a> {
    /// `None` if the rule does not apply to the family: its IP version or the
    /// name of its protocol says so, or one of its net lists, negative ones
    /// included, has entries of the other family only (Calico:
    /// felix/rules/policy.go, `FilterRuleToIPVersion`).
    pub(super) fn new(rule: &'a SelectedRule, family: Family, sets: &mut Sets) -> Option<Self> {
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
        let only = rule.protocol.map(|protocol| protocol.number);
        let except = rule.not_protocol.map(|protocol| protocol.number);
        let messages = rule.icmp.is_some() || rule.not_icmp.is_some();
        let with_ports: Vec<u8> = protocol::WITH_PORTS
            .into_iter()
            .filter(|_| !messages)
            .filter(|&number| only.is_none_or(|only| only == number) && except != Some(number))
            .collect();
        Some(Self {
            rule,
            family,
            source: Side::new(&rule.source, family, &with_ports, sets)?,
            destination: Side::new(&rule.destination, family, &with_ports, sets)?,
            with_ports,
        })
    }

    /// How many entries the rule needs, without making them.
    pub(super) fn len(&self) -> usize {
        let mut sources: BTreeMap<Option<u8>, usize> = BTreeMap::new();
        for ports in &self.source.ports {
            *sources.entry(ports.protocol()).or_default() += 1;
        }
        let all = self.source.ports.len();
        let numbers = sources.get(&None).copied().unwrap_or(0);
        let matching: usize = self
            .destination
            .ports
            .iter()
            .map(|ports| match ports.protocol() {
                None => all,
                Some(number) => numbers + sources.get(&Some(number)).copied().unwrap_or(0),
            })
            .sum();
        match matching {
            0 => 0,
            matching => matching + self.source.not.len() + self.destination.not.len(),
        }
    }

    /// Entries ahead of the others: what meets one does not meet the rule.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = Dimensions> {
        let source = self.source.not.iter().map(|not| Dimensions {
            source: Arc::new(of_any(not.addresses.clone())),
            service: Arc::new(of_any(vec![Prefix::protocol(not.protocol)])),
            source_port: Arc::new(of_any(single_ports(0, &not.ports))),
            ..Dimensions::any()
        });
        let destination = self.destination.not.iter().map(|not| Dimensions {
            destination: Arc::new(of_any(not.addresses.clone())),
            service: Arc::new(of_any(single_ports(not.protocol, &not.ports))),
            ..Dimensions::any()
        });
        source.chain(destination)
    }

    /// The entries that the rule's packets meet.
    pub(super) fn entries(&self) -> Vec<Dimensions> {
        let sources: Vec<_> = self
            .source
            .ports
            .iter()
            .map(|ports| {
                let port = Arc::new(self.source_port(ports));
                (ports.protocol(), self.source.address(ports), port)
            })
            .collect();
        let mut entries = Vec::new();
        for ports in &self.destination.ports {
            let destination = self.destination.address(ports);
            let mut services = BTreeMap::new();
            for (of_source, source, source_port) in &sources {
                let apart = |(one, other)| one != other;
                if of_source.zip(ports.protocol()).is_some_and(apart) {
                    continue;
                }
                let service = services
                    .entry(*of_source)
                    .or_insert_with(|| Arc::new(self.service(*of_source, ports)));
                entries.push(Dimensions {
                    source: Arc::clone(source),
                    destination: Arc::clone(&destination),
                    service: Arc::clone(service),
                    source_port: Arc::clone(source_port),
                });
            }
        }
        entries
    }

    /// Protocol, destination port, ICMP type and code. `of_source` is the
    /// protocol that a point of the source asks for.
    fn service(&self, of_source: Option<u8>, destination_ports: &Ports) -> Criteria {
        let rule = self.rule;
        match destination_ports {
            Ports::Numbers => {}
            Ports::Points(group) => return of_any(single_ports(group.protocol, &group.ports)),
        }
        let mut criteria = Criteria::default();
        let mut ask = |prefixes| criteria.any_of.push(Set::new(prefixes));
        let mut none_of = Vec::new();
        if let Some(protocol) = rule.protocol {
            ask(vec![Prefix::protocol(protocol.number)]);
        }
        if let Some(protocol) = rule.not_protocol {
            none_of.push(Prefix::protocol(protocol.number));
        }

        let icmp = match self.family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        };
        let message = |IcmpMatch { kind, code }| Prefix::icmp(icmp, kind, code);
        if let Some(icmp) = rule.icmp {
            ask(vec![message(icmp)]);
        }
        if let Some(not) = rule.not_icmp {
            ask(vec![Prefix::protocol(icmp)]);
            none_of.push(message(not));
        }

        // A port criterion, even a negative one, is only met by what has ports.
        if asks_for_ports(&rule.source) || asks_for_ports(&rule.destination) {
            let with_ports = self.with_ports.iter().copied();
            ask(with_ports.map(Prefix::protocol).collect());
        }
        if let Some(number) = of_source {
            ask(vec![Prefix::protocol(number)]);
        }
        let of_all = |ranges: &[PortRange]| -> Vec<Prefix> {
            self.with_ports
                .iter()
                .flat_map(|&number| port_prefixes(number, ranges))
                .collect()
        };
        if !rule.destination.ports.is_empty() {
            ask(of_all(&rule.destination.ports));
        }
        none_of.extend(of_all(&rule.destination.not_ports));
        criteria.none_of = some(none_of);
        criteria
    }

    /// The source port, which stands behind protocol 0 in its table. That the
    /// protocol has ports is for [`Self::service`] to ask.
    fn source_port(&self, ports: &Ports) -> Criteria {
        let source = &self.rule.source;
        match ports {
            Ports::Numbers => {}
            Ports::Points(group) => return of_any(single_ports(0, &group.ports)),
        }
        let mut criteria = Criteria::default();
        if !source.ports.is_empty() {
            let ports = port_prefixes(0, &source.ports);
            criteria.any_of.push(Set::new(ports));
        }
        criteria.none_of = some(port_prefixes(0, &source.not_ports));
        criteria
    }
}

impl Side {
    /// Points that fail the rule's other criteria are left out here, so that
    /// an entry for points asks for them and nothing else.
    fn new(
        entity: &SelectedEntity,
        family: Family,
        with_ports: &[u8],
        sets: &mut Sets,
    ) -> Option<Self> {
        let criteria = addresses(entity, family, sets)?;
        let mut ports = Vec::new();
        if entity.points.is_none() || !entity.ports.is_empty() {
            ports.push(Ports::Numbers);
        }
        let possible = |point: &Point| with_ports.contains(&point.protocol);
        let refused = |point: &Point| among(&entity.not_ports, point.port);
        if let Some(points) = &entity.points {
            // Points whose port is among the numbers need no entry either.
            let groups = group(points, family, |point, address| {
                possible(point)
                    && !refused(point)
                    && !among(&entity.ports, point.port)
                    && criteria.accept(address)
            });
            ports.extend(groups.into_iter().map(Ports::Points));
        }
        let not = entity.not_points.as_deref().unwrap_or_default();
        let not = group(not, family, |point, _| possible(point) && !refused(point));
        Some(Self {
            address: Arc::new(criteria),
            ports,
            not,
        })
    }

    /// What is asked of the address together with these ports.
    fn address(&self, ports: &Ports) -> Arc<Criteria> {
        match ports {
            Ports::Numbers => Arc::clone(&self.address),
            Ports::Points(group) => Arc::new(of_any(group.addresses.clone())),
        }
    }
}

fn among(ranges: &[PortRange], port: u16) -> bool {
    let within = |range: &PortRange| (range.first..=range.last).contains(&port);
    ranges.iter().any(within)
}

const fn asks_for_ports(entity: &SelectedEntity) -> bool {
    !entity.ports.is_empty()
        || !entity.not_ports.is_empty()
        || entity.points.is_some()
        || entity.not_points.is_some()
}

fn addresses(entity: &SelectedEntity, family: Family, sets: &mut Sets) -> Option<Criteria> {
    let mut criteria = Criteria::default();
    if !entity.nets.is_empty() {
        criteria.any_of.push(some_of_family(&entity.nets, family)?);
    }
    // Unlike nets, a set without addresses of the family is no reason to skip
    // the rule: nothing of this family belongs to it.
    if let Some(members) = &entity.members {
        criteria.any_of.push(sets.of(members, family));
    }
    if !entity.not_nets.is_empty() {
        criteria
            .none_of
            .push(some_of_family(&entity.not_nets, family)?);
    }
    let except = sets.of(&entity.not_members, family);
    if !except.is_empty() {
        criteria.none_of.push(except);
    }
    Some(criteria)
}

fn some_of_family(nets: &[IpNet], family: Family) -> Option<Set> {
    let found = Set::of_family(nets, family);
    (!found.is_empty()).then_some(found)
}

/// Any of the prefixes, and nothing else is asked.
fn of_any(prefixes: Vec<Prefix>) -> Criteria {
    Criteria {
        any_of: vec![Set::new(prefixes)],
        none_of: Vec::new(),
    }
}

/// A set of the prefixes, if there are any.
fn some(prefixes: Vec<Prefix>) -> Vec<Set> {
    if prefixes.is_empty() {
        return Vec::new();
    }
    vec![Set::new(prefixes)]
}

fn port_prefixes(protocol: u8, ranges: &[PortRange]) -> Vec<Prefix> {
    ranges
        .iter()
        .flat_map(|range| Prefix::ports(protocol, range.first, range.last))
        .collect()
}

fn single_ports(protocol: u8, ports: &[u16]) -> Vec<Prefix> {
    ports
        .iter()
        .flat_map(|&port| Prefix::ports(protocol, port, port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::fixture::{named, numbered, rule},
        model::RuleAction,
    };

    fn set<const N: usize>(prefixes: [Prefix; N]) -> Set {
        prefixes.into_iter().collect()
    }

    fn families(rule: &SelectedRule) -> Vec<Family> {
        Family::ALL
            .into_iter()
            .filter(|&family| Split::new(rule, family, &mut Sets::default()).is_some())
            .collect()
    }

    /// The entries of a rule that applies to the family.
    fn entries(rule: &SelectedRule, family: Family) -> Vec<Dimensions> {
        let split = Split::new(rule, family, &mut Sets::default()).unwrap();
        let entries = split.entries();
        assert_eq!(split.len(), entries.len() + split.exceptions().count());
        entries
    }

    fn dimensions(rule: &SelectedRule, family: Family) -> Dimensions {
        let mut entries = entries(rule, family);
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_without_criteria_accepts_everything_of_both_families() {
        let any = rule(RuleAction::Allow);
        for family in Family::ALL {
            assert_eq!(dimensions(&any, family), Dimensions::any());
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
        selected.destination.members = Some([net("10.240.0.11/32")].into());
        selected.source.not_members = [net("10.240.0.12/32")].into();
        let v6 = dimensions(&selected, Family::V6);
        assert_eq!(v6.destination.any_of, [set([])]);
        assert_eq!(*v6.source, Criteria::default());
        let v4 = dimensions(&selected, Family::V4);
        assert_eq!(v4.destination.any_of[0].len(), 1);
        assert_eq!(v4.source.none_of.len(), 1);
    }

    #[test]
    fn ports_ask_for_a_protocol_with_ports() {
        let mut source_only = rule(RuleAction::Allow);
        source_only.source.not_ports = vec![PortRange { first: 1, last: 1 }];
        let found = dimensions(&source_only, Family::V4);
        assert_eq!(found.service.any_of[0].len(), protocol::WITH_PORTS.len());
        assert_eq!(found.source_port.none_of.len(), 1);

        // GRE has none: the rule matches nothing.
        source_only.protocol = Some(numbered(47));
        let found = dimensions(&source_only, Family::V4);
        assert_eq!(found.service.any_of[1], set([]));
    }

    #[test]
    fn not_icmp_is_limited_to_the_families_icmp() {
        let mut not_echo = rule(RuleAction::Allow);
        not_echo.not_icmp = Some(IcmpMatch {
            kind: 8,
            code: None,
        });
        for (family, number) in [(Family::V4, 1), (Family::V6, 58)] {
            let found = dimensions(&not_echo, family).service;
            assert_eq!(found.any_of, [set([Prefix::protocol(number)])]);
            assert_eq!(found.none_of, [set([Prefix::icmp(number, 8, None)])]);
        }
    }

    fn point(address: &str, protocol: u8, port: u16) -> Point {
        Point {
            address: address.parse().unwrap(),
            protocol,
            port,
        }
    }

    #[test]
    fn named_ports_are_entries_beside_the_numbers() {
        let mut named = rule(RuleAction::Allow);
        named.destination.ports = vec![PortRange {
            first: 80,
            last: 90,
        }];
        named.destination.points = Some(vec![
            point("10.0.0.1", 6, 8080),
            point("10.0.0.1", 17, 8080),
            // Among the numbers.
            point("10.0.0.1", 6, 85),
            point("fd00::1", 6, 8080),
        ]);
        let v4 = entries(&named, Family::V4);
        assert_eq!(v4.len(), 3);
        assert_eq!(v4[0].destination.any_of, []);
        let address = Prefix::net(&net("10.0.0.1/32"), Family::V4).unwrap();
        for (entry, protocol) in v4[1..].iter().zip([6, 17]) {
            assert_eq!(entry.destination.any_of, [set([address])]);
            assert_eq!(*entry.service, of_any(single_ports(protocol, &[8080])));
        }
        assert_eq!(entries(&named, Family::V6).len(), 2);

        named.protocol = Some(numbered(17));
        assert_eq!(entries(&named, Family::V4).len(), 2);
        // Names that stand for nothing match nothing.
        named.destination.ports.clear();
        named.destination.points = Some(Vec::new());
        named.destination.not_points = Some(vec![point("10.0.0.1", 17, 1)]);
        let split = Split::new(&named, Family::V4, &mut Sets::default()).unwrap();
        assert_eq!((split.len(), split.entries().len()), (0, 0));
    }

    #[test]
    fn an_entry_for_points_asks_for_nothing_else() {
        let mut named = rule(RuleAction::Allow);
        named.destination.nets = vec![net("10.0.0.0/8")];
        named.destination.members = Some([net("10.0.0.0/24")].into());
        named.destination.not_nets = vec![net("10.0.0.4/31")];
        named.destination.not_ports = vec![PortRange {
            first: 80,
            last: 80,
        }];
        named.destination.points = Some(vec![
            point("10.0.0.1", 6, 8080),
            point("10.0.0.5", 6, 8080),
            point("10.0.0.1", 6, 80),
            point("10.0.1.1", 6, 8080),
            point("192.0.2.1", 6, 8080),
        ]);
        let only = dimensions(&named, Family::V4);
        let address = Prefix::net(&net("10.0.0.1/32"), Family::V4).unwrap();
        assert_eq!(*only.destination, of_any(vec![address]));
        assert_eq!(*only.service, of_any(single_ports(6, &[8080])));
    }

    #[test]
    fn points_of_both_sides_are_paired_by_protocol() {
        let mut both = rule(RuleAction::Allow);
        both.source.points = Some(vec![
            point("10.0.0.1", 6, 1),
            point("10.0.0.2", 6, 2),
            point("10.0.0.1", 17, 3),
        ]);
        both.destination.points = Some(vec![
            point("10.0.0.8", 6, 4),
            point("10.0.0.9", 6, 5),
            point("10.0.0.9", 132, 6),
        ]);
        assert_eq!(entries(&both, Family::V4).len(), 4);
        both.destination.ports = vec![PortRange { first: 9, last: 9 }];
        assert_eq!(entries(&both, Family::V4).len(), 4 + 3);
        assert_eq!(entries(&both, Family::V6), []);
    }

    #[test]
    fn negated_names_are_exceptions_and_ask_for_ports() {
        let mut but = rule(RuleAction::Deny);
        but.source.not_points = Some(vec![point("10.0.0.1", 6, 7)]);
        but.destination.not_points = Some(vec![point("10.0.0.2", 17, 8)]);
        let split = Split::new(&but, Family::V4, &mut Sets::default()).unwrap();
        let exceptions: Vec<_> = split.exceptions().collect();
        assert_eq!(exceptions.len(), 2);
        assert_eq!(*exceptions[0].source_port, of_any(single_ports(0, &[7])));
        assert_eq!(*exceptions[0].service, of_any(vec![Prefix::protocol(6)]));
        assert_eq!(*exceptions[1].service, of_any(single_ports(17, &[8])));
        assert_eq!(split.len(), 3);
        let service = &split.entries()[0].service;
        assert_eq!(service.any_of[0].len(), protocol::WITH_PORTS.len());

        // Even if the names stand for nothing.
        but.source.not_points = Some(Vec::new());
        but.destination.not_points = None;
        let only = dimensions(&but, Family::V4);
        assert_eq!(only.service.any_of[0].len(), protocol::WITH_PORTS.len());
    }
}
