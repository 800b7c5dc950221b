//! From a rule to one with addresses in place of selectors.

use std::sync::Arc;

use super::{SelectedEntity, SelectedRule, addresses::Addresses};
use crate::model::{Entity, ObjectRef, Protocol, Rule};

/// One side of a packet.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// `asking` is the policy or profile that holds the rules.
pub(super) fn select_rules(
    rules: &[Rule],
    asking: &ObjectRef,
    addresses: &mut Addresses<'_>,
) -> Vec<SelectedRule> {
    rules
        .iter()
        .map(|rule| SelectedRule {
            action: rule.action,
            ip_version: rule.ip_version,
            protocol: rule.protocol,
            not_protocol: rule.not_protocol,
            icmp: rule.icmp,
            not_icmp: rule.not_icmp,
            source: select_entity(Side::Source, rule, asking, addresses),
            destination: select_entity(Side::Destination, rule, asking, addresses),
        })
        .collect()
}

fn select_entity(
    side: Side,
    rule: &Rule,
    asking: &ObjectRef,
    addresses: &mut Addresses<'_>,
) -> SelectedEntity {
    let entity = match side {
        Side::Source => &rule.source,
        Side::Destination => &rule.destination,
    };
    let (mut members, not_members) = match (&entity.selector, &entity.not_selector) {
        (Some(selector), except) => (
            Some(addresses.of(selector, except.as_ref(), asking)),
            Arc::default(),
        ),
        (None, Some(except)) => (None, addresses.of(except, None, asking)),
        (None, None) => (None, Arc::default()),
    };
    let mut named = |names: &[String]| {
        (!names.is_empty()).then(|| points(names, rule.protocol, entity, asking, addresses))
    };
    let mut points = named(&entity.named_ports);
    let not_points = named(&entity.not_named_ports);
    if let Some(service) = &entity.service {
        match side {
            Side::Source => members = Some(addresses.of_service(service)),
            Side::Destination => points = Some(addresses.points_of_service(service)),
        }
    }
    SelectedEntity {
        nets: entity.nets.clone(),
        not_nets: entity.not_nets.clone(),
        members,
        not_members,
        ports: entity.ports.clone(),
        points,
        not_ports: entity.not_ports.clone(),
        not_points,
    }
}

fn points(
    names: &[String],
    protocol: Option<Protocol>,
    entity: &Entity,
    asking: &ObjectRef,
    addresses: &mut Addresses<'_>,
) -> Vec<super::Point> {
    addresses.points(
        names,
        protocol.map(|protocol| protocol.number),
        entity.selector.as_ref(),
        entity.not_selector.as_ref(),
        asking,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{HostEndpoint, NamedPort, RuleAction, ServiceName},
        select::{
            Point,
            fixture::{addresses, asking, labelled, nets, rule},
        },
        selector::Selector,
    };

    fn selected(rule: &Rule, endpoints: &[HostEndpoint]) -> SelectedRule {
        let rules = std::slice::from_ref(rule);
        let mut addresses = addresses(endpoints);
        select_rules(rules, &asking("p"), &mut addresses).remove(0)
    }

    fn selector(text: &str) -> Option<Selector> {
        Some(Selector::parse(text).unwrap())
    }

    #[test]
    fn selectors_become_members_and_not_members() {
        let endpoints = [
            labelled("a", &["10.0.0.1"], &[("a", "")]),
            labelled("b", &["10.0.0.2"], &[("a", ""), ("b", "")]),
        ];
        let mut given = rule(RuleAction::Allow);
        given.source.not_selector = selector("has(b)");
        given.destination.selector = selector("has(a)");
        given.destination.not_selector = selector("has(b)");
        let found = selected(&given, &endpoints);
        assert_eq!(found.source.members, None);
        assert_eq!(*found.source.not_members, nets(&["10.0.0.2/32"]));
        let members = Some(nets(&["10.0.0.1/32"]).into());
        assert_eq!(found.destination.members, members);
        assert_eq!(*found.destination.not_members, []);

        given.destination.selector = selector("has(nobody)");
        // Matches nothing, which is not the same as no criterion.
        assert_eq!(
            selected(&given, &endpoints).destination.members,
            Some(Arc::default())
        );
    }

    #[test]
    fn named_ports_become_points_of_the_side_and_the_protocol() {
        let port = |name: &str, protocol, port| NamedPort {
            name: name.to_owned(),
            protocol,
            port,
        };
        let mut a = labelled("a", &["10.0.0.1"], &[("a", "")]);
        a.ports = vec![port("dns", 6, 53), port("dns", 17, 53), port("web", 6, 80)];
        let mut b = labelled("b", &["10.0.0.2"], &[("b", "")]);
        b.ports = vec![port("web", 6, 8080)];
        let endpoints = [a, b];
        let point = |address: &str, protocol, port| Point {
            address: address.parse().unwrap(),
            protocol,
            port,
        };

        let mut given = rule(RuleAction::Allow);
        given.destination.named_ports = vec!["dns".to_owned(), "web".to_owned()];
        given.source.not_named_ports = vec!["web".to_owned()];
        let found = selected(&given, &endpoints);
        let dns = [point("10.0.0.1", 6, 53), point("10.0.0.1", 17, 53)];
        let web = [point("10.0.0.1", 6, 80), point("10.0.0.2", 6, 8080)];
        assert_eq!(
            found.destination.points,
            Some(vec![dns[0], web[0], dns[1], web[1]])
        );
        assert_eq!(found.destination.not_points, None);
        assert_eq!(found.source.points, None);
        assert_eq!(found.source.not_points, Some(web.to_vec()));

        given.protocol = Some(Protocol {
            number: 17,
            implied_version: None,
        });
        let found = selected(&given, &endpoints);
        assert_eq!(found.destination.points, Some(vec![dns[1]]));
        // Names that stand for nothing are a criterion all the same.
        assert_eq!(found.source.not_points, Some(Vec::new()));

        given.protocol = None;
        given.destination.selector = selector("has(b)");
        let found = selected(&given, &endpoints);
        assert_eq!(found.destination.points, Some(vec![web[1]]));

        given.destination.selector = None;
        given.destination.not_selector = selector("has(b)");
        let found = selected(&given, &endpoints);
        assert_eq!(found.destination.points, Some(vec![dns[0], web[0], dns[1]]));
    }

    #[test]
    fn a_service_that_is_not_known_stands_for_nothing() {
        let service = Some(ServiceName {
            namespace: "web".to_owned(),
            name: "front".to_owned(),
        });
        let mut given = rule(RuleAction::Allow);
        given.source.service.clone_from(&service);
        let found = selected(&given, &[]);
        assert_eq!(found.source.members, Some(Arc::default()));
        assert_eq!(found.destination, SelectedEntity::default());

        let mut given = rule(RuleAction::Allow);
        given.destination.service = service;
        let found = selected(&given, &[]);
        assert_eq!(found.destination.points, Some(Vec::new()));
        assert_eq!(found.destination.members, None);
    }
}
