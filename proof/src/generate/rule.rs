//! Rules, with every field that there is, that validation takes.

use hostfw_agent::resource::{
    Action, EntityRule, HttpMatch, IcmpFields, NumberOrText, Rule, RuleMetadata,
    ServiceAccountMatch, ServiceMatch,
};
use hostfw_common::verdict::Direction;

use super::{
    cluster::home,
    pools::{ACCOUNTS, MESSAGES, NETS_V4, NETS_V6, PORT_NAMES, PORTS, PROTOCOLS},
    selector,
};
use crate::random::Random;

/// The families that a rule may still speak of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Where a rule stands, which decides what it may hold.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) direction: Direction,
    /// In a profile: no named objects of a namespace.
    pub(super) profile: bool,
}

pub(super) fn rule(random: &mut Random, place: Place) -> Rule {
    let action = *random.one_of(&[
        Action::Allow,
        Action::Allow,
        Action::Allow,
        Action::Deny,
        Action::Deny,
        Action::Deny,
        Action::Log,
        Action::Pass,
    ]);
    // They are met less often than those of policies.
    let action = if place.profile && random.percent(40) {
        *random.one_of(&[Action::Log, Action::Pass, Action::Deny, Action::Deny])
    } else {
        action
    };
    let version = if random.percent(60) {
        Version::V4
    } else {
        Version::V6
    };
    let protocol = random.some(60, protocol);
    let number = protocol.as_ref().map(number_of);
    let not_protocol = random.some(12, protocol_to_avoid);
    let spoken = version_of(number).or(version_of(not_protocol.as_ref().map(number_of)));
    let conflicting = version_of(number).is_some_and(|one| {
        version_of(not_protocol.as_ref().map(number_of)).is_some_and(|other| one != other)
    });
    let is_icmp = matches!(number, Some(1 | 58));
    let named_only = number.is_none();
    let has_ports = matches!(number, Some(6 | 17 | 132));
    let ports = match (has_ports, named_only) {
        (true, _) => Ports::Any,
        (false, true) => Ports::Named,
        (false, false) => Ports::None,
    };
    let mut rule = Rule {
        action,
        // What a protocol says of the version must agree with it.
        ip_version: (!conflicting && random.percent(10)).then(|| match spoken.unwrap_or(version) {
            Version::V4 => 4,
            Version::V6 => 6,
        }),
        protocol,
        not_protocol,
        icmp: if is_icmp {
            random.some(70, |random| message(random, true))
        } else {
            None
        },
        not_icmp: {
            let percent = match (is_icmp, named_only) {
                (true, _) => 30,
                (false, true) => 6,
                (false, false) => 2,
            };
            random.some(percent, |random| message(random, false))
        },
        source: EntityRule::default(),
        destination: EntityRule::default(),
        http: None,
        metadata: None,
    };
    let version = match rule.ip_version {
        Some(4) => Version::V4,
        Some(_) => Version::V6,
        // A protocol of one version with nets of the other never matches.
        None if random.percent(90) => spoken.unwrap_or(version),
        None => version,
    };
    rule.source = entity(random, version, ports);
    rule.destination = entity(random, version, ports);
    // A destination is met with its ports: more of them, for some to match.
    let served = match place.direction {
        Direction::Ingress => 5,
        Direction::Egress => 9,
    };
    if !place.profile && random.percent(served) {
        service(random, &mut rule, place.direction);
    }
    if place.direction == Direction::Ingress
        && action == Action::Allow
        && matches!(number, None | Some(6))
        && random.percent(2)
    {
        rule.http = Some(HttpMatch {
            methods: vec!["GET".to_owned()],
            paths: Vec::new(),
        });
    }
    if random.percent(3) {
        rule.metadata = Some(RuleMetadata {
            annotations: [("note".to_owned(), "why".to_owned())].into(),
        });
    }
    rule
}

/// Which ports a rule's protocol permits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    Any,
    Named,
    None,
}

fn entity(random: &mut Random, version: Version, ports: Ports) -> EntityRule {
    let nets = |random: &mut Random| {
        let pool: &[&str] = match version {
            Version::V4 => &NETS_V4,
            Version::V6 => &NETS_V6,
        };
        (*random.one_of(pool)).to_owned()
    };
    let mut entity = EntityRule {
        nets: random.few(22, nets),
        not_nets: random.few(9, nets),
        ..EntityRule::default()
    };
    entity.not_nets.retain(|net| !net.ends_with("/0"));
    match ports {
        Ports::Any => {
            entity.ports = random.few(30, port);
            entity.not_ports = random.few(14, port);
        }
        Ports::Named => {
            entity.ports = random.few(13, named);
            entity.not_ports = random.few(4, named);
        }
        Ports::None => {}
    }
    let expression = |random: &mut Random| {
        if random.percent(4) {
            String::new()
        } else {
            selector::selector(random)
        }
    };
    entity.selector = random.some(12, expression);
    let percent = if entity.selector.is_some() { 45 } else { 8 };
    entity.not_selector = random.some(percent, expression);
    if random.percent(6) {
        entity.namespace_selector = Some(
            (*random.one_of(&[
                "all()",
                "global()",
                "has(team)",
                "role == 'web'",
                "!has(team)",
            ]))
            .to_owned(),
        );
    }
    if random.percent(3) {
        entity.service_accounts = Some(ServiceAccountMatch {
            names: random.subset(40, &ACCOUNTS.map(str::to_owned)),
            selector: random.some(60, |random| {
                (*random.one_of(&["!has(team)", "has(team)", "role != 'web'"])).to_owned()
            }),
        });
    }
    entity
}

/// On the side that services may stand on, which excludes most of the rest.
fn service(random: &mut Random, rule: &mut Rule, direction: Direction) {
    let service = Some(ServiceMatch {
        name: Some("web".to_owned()),
        namespace: Some(home(random)),
    });
    // Little more is asked, most of the time: a service has few ports.
    if random.percent(75) {
        rule.ip_version = None;
        (rule.protocol, rule.not_protocol) = (None, None);
        (rule.icmp, rule.not_icmp) = (None, None);
        (rule.source, rule.destination) = (EntityRule::default(), EntityRule::default());
    }
    match direction {
        Direction::Ingress => {
            rule.source = EntityRule {
                services: service,
                ports: std::mem::take(&mut rule.source.ports),
                ..EntityRule::default()
            };
        }
        Direction::Egress => {
            rule.destination = EntityRule {
                services: service,
                ..EntityRule::default()
            };
        }
    }
}

fn port(random: &mut Random) -> NumberOrText {
    let (one, other) = (*random.one_of(&PORTS), *random.one_of(&PORTS));
    match random.below(6) {
        0 => named(random),
        1 => NumberOrText::Text(one.to_string()),
        2 => NumberOrText::Text(format!("{one}:{one}")),
        3 | 4 => NumberOrText::Text(format!("{}:{}", one.min(other), one.max(other))),
        _ => NumberOrText::Number(one.into()),
    }
}

fn named(random: &mut Random) -> NumberOrText {
    NumberOrText::Text((*random.one_of(&PORT_NAMES)).to_owned())
}

fn protocol(random: &mut Random) -> NumberOrText {
    let number = match random.below(10) {
        0..=3 => 6,
        4 | 5 => 17,
        6 => 1,
        7 => 58,
        _ => *random.one_of(&PROTOCOLS),
    };
    written(random, number)
}

fn protocol_to_avoid(random: &mut Random) -> NumberOrText {
    let number = *random.one_of(&PROTOCOLS);
    written(random, number)
}

/// One of the ways in which the protocol can be written.
fn written(random: &mut Random, number: u8) -> NumberOrText {
    let name = match number {
        1 => Some("ICMP"),
        6 => Some("TCP"),
        17 => Some("UDP"),
        58 => Some("ICMPv6"),
        132 => Some("SCTP"),
        136 => Some("UDPLite"),
        _ => None,
    };
    match (random.below(4), name) {
        (0, _) | (1 | 2, None) => NumberOrText::Number(number.into()),
        (1 | 2, Some(name)) => NumberOrText::Text(name.to_owned()),
        _ => NumberOrText::Text(number.to_string()),
    }
}

/// The IANA number of a protocol as this module writes it.
pub(crate) fn number_of(protocol: &NumberOrText) -> u8 {
    match protocol {
        NumberOrText::Number(number) => u8::try_from(*number).unwrap_or(0),
        NumberOrText::Text(text) => match text.as_str() {
            "ICMP" => 1,
            "TCP" => 6,
            "UDP" => 17,
            "ICMPv6" => 58,
            "SCTP" => 132,
            "UDPLite" => 136,
            number => number.parse().unwrap_or(0),
        },
    }
}

fn version_of(number: Option<u8>) -> Option<Version> {
    match number {
        Some(1) => Some(Version::V4),
        Some(58) => Some(Version::V6),
        _ => None,
    }
}

fn message(random: &mut Random, may_be_empty: bool) -> IcmpFields {
    let (kind, code) = *random.one_of(&MESSAGES);
    if may_be_empty && random.percent(4) {
        return IcmpFields::default();
    }
    IcmpFields {
        kind: Some(kind.into()),
        code: random.some(50, |_| code.into()),
    }
}
