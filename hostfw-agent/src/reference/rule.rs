//! Rules, read: a list of criteria and what to do.

use ipnet::IpNet;

use super::{
    criterion::{Criterion, Mismatch, Ports, Side},
    packet::{Family, ICMP, ICMPV6, Packet, SCTP, TCP, UDP, UDP_LITE},
    selector::{Dialect, Selector},
    world::{self, World},
};
use crate::resource::{self, Action, EntityRule, IcmpFields, NumberOrText};

/// A rule, read.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: Action,
    criteria: Vec<Criterion>,
    /// As it is written.
    pub(super) written: resource::Rule,
}

impl Rule {
    /// `None` if it is not one.
    pub(super) fn read(rule: &resource::Rule, world: &World) -> Option<Self> {
        let mut criteria = Vec::new();
        match rule.ip_version {
            None => {}
            Some(4) => criteria.push(Criterion::Version(Family::V4)),
            Some(6) => criteria.push(Criterion::Version(Family::V6)),
            Some(_) => return None,
        }
        if let Some(written) = &rule.protocol {
            let (number, family) = protocol(written)?;
            criteria.push(Criterion::Protocol(number, family));
        }
        if let Some(written) = &rule.not_protocol {
            criteria.push(Criterion::NotProtocol(protocol(written)?.0));
        }
        if let Some((kind, code)) = icmp(rule.icmp.as_ref())? {
            criteria.push(Criterion::Icmp(kind, code));
        }
        if let Some((kind, code)) = icmp(rule.not_icmp.as_ref())? {
            criteria.push(Criterion::NotIcmp(kind, code));
        }
        entity(Side::Source, &rule.source, world, &mut criteria)?;
        entity(Side::Destination, &rule.destination, world, &mut criteria)?;
        Some(Self {
            action: rule.action,
            criteria,
            written: rule.clone(),
        })
    }

    /// As above, of a list.
    pub(super) fn read_all(rules: &[resource::Rule], world: &World) -> Option<Vec<Self>> {
        rules.iter().map(|rule| Self::read(rule, world)).collect()
    }

    /// The first criterion that the packet does not meet; `None` if the rule
    /// matches it.
    pub(super) fn missed(&self, packet: &Packet) -> Option<Missed<'_>> {
        let criterion = self.criteria.iter().find(|c| !c.holds(packet))?;
        Some(Missed(criterion))
    }
}

/// The criterion that a packet does not meet.
pub(super) struct Missed<'a>(&'a Criterion);

impl Missed<'_> {
    pub(super) fn tell(&self, packet: &Packet) -> Mismatch {
        self.0.missed(packet)
    }
}

/// The number of a protocol, and the family that its name says.
pub(super) fn protocol(written: &NumberOrText) -> Option<(u8, Option<Family>)> {
    let plain = |number| Some((number, None));
    match written {
        NumberOrText::Number(number) => plain(u8::try_from(*number).ok()?),
        NumberOrText::Text(text) => match text.as_str() {
            "TCP" => plain(TCP),
            "UDP" => plain(UDP),
            "SCTP" => plain(SCTP),
            "UDPLite" => plain(UDP_LITE),
            "ICMP" => Some((ICMP, Some(Family::V4))),
            "ICMPv6" => Some((ICMPV6, Some(Family::V6))),
            digits => plain(digits.parse().ok()?),
        },
    }
}

/// Type and code, if a type is given; the outer `None` if they are not such.
#[expect(
    clippy::option_option,
    reason = "unreadable, no criterion and a criterion are three things"
)]
fn icmp(fields: Option<&IcmpFields>) -> Option<Option<(u8, Option<u8>)>> {
    let Some(IcmpFields {
        kind: Some(kind),
        code,
    }) = fields
    else {
        return Some(None);
    };
    let kind = u8::try_from(*kind).ok()?;
    let code = match code {
        Some(code) => Some(u8::try_from(*code).ok()?),
        None => None,
    };
    Some(Some((kind, code)))
}

fn entity(
    side: Side,
    entity: &EntityRule,
    world: &World,
    criteria: &mut Vec<Criterion>,
) -> Option<()> {
    let nets = |list: &[String]| {
        list.iter()
            .map(|text| world::net(text))
            .collect::<Option<Vec<IpNet>>>()
    };
    let (positive, negative) = selectors(entity)?;
    // Behind a selector, a notSelector picks among its objects; alone, it is a
    // criterion of its own.
    let (except, alone) = if positive.is_empty() {
        (None, negative)
    } else {
        (negative, None)
    };
    if !entity.nets.is_empty() {
        criteria.push(Criterion::Nets(side, nets(&entity.nets)?));
    }
    if !entity.not_nets.is_empty() {
        criteria.push(Criterion::NotNets(side, nets(&entity.not_nets)?));
    }
    if !positive.is_empty() {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let field = if given(&entity.selector) {
            "selector"
        } else if given(&entity.namespace_selector) {
            "namespaceSelector"
        } else {
            "serviceAccounts"
        };
        let members = world.addresses(&positive, except.as_ref());
        criteria.push(Criterion::Members(side, field, members));
    }
    if let Some(selector) = alone {
        let members = world.addresses(&[selector], None);
        criteria.push(Criterion::NotMembers(side, members));
    }
    let ports = |list: &[NumberOrText]| ports(list, &positive, except.as_ref(), world);
    if !entity.ports.is_empty() {
        criteria.push(Criterion::Ports(side, ports(&entity.ports)?));
    }
    if !entity.not_ports.is_empty() {
        criteria.push(Criterion::NotPorts(side, ports(&entity.not_ports)?));
    }
    if let Some(service) = &entity.services {
        let (nets, points) = world.service(service);
        criteria.push(Criterion::Service(side, nets, points));
    }
    Some(())
}

/// What the selectors of a side ask of an object: all of the first, and not
/// the second (semantics section 4, rule-side composition).
fn selectors(entity: &EntityRule) -> Option<(Vec<Selector>, Option<Selector>)> {
    const NAMESPACE: Dialect = Dialect {
        prefix: "pcns.",
        all: Some(world::NAMESPACE),
        global: Some(world::NAMESPACE),
    };
    const SERVICE_ACCOUNT: Dialect = Dialect {
        prefix: "pcsa.",
        all: None,
        global: None,
    };
    let accounts = entity.service_accounts.as_ref();
    let mut positive = Vec::new();
    for (text, dialect) in [
        (&entity.selector, Dialect::default()),
        (&entity.namespace_selector, NAMESPACE),
        (
            &accounts.and_then(|accounts| accounts.selector.clone()),
            SERVICE_ACCOUNT,
        ),
    ] {
        positive.extend(selector(text.as_ref(), dialect)?);
    }
    if let Some(accounts) = accounts.filter(|accounts| !accounts.names.is_empty()) {
        positive.push(Selector::In(
            "projectcalico.org/serviceaccount".to_owned(),
            accounts.names.clone(),
        ));
    }
    let mut negative = selector(entity.not_selector.as_ref(), Dialect::default())?;
    Some((positive, negative.pop()))
}

/// The selector, if there is one; `None` if it cannot be read.
fn selector(text: Option<&String>, dialect: Dialect) -> Option<Vec<Selector>> {
    match text {
        Some(text) if !text.is_empty() => Some(vec![Selector::read(text, dialect)?]),
        Some(_) | None => Some(Vec::new()),
    }
}

fn ports(
    list: &[NumberOrText],
    positive: &[Selector],
    except: Option<&Selector>,
    world: &World,
) -> Option<Ports> {
    let mut ports = Ports {
        ranges: Vec::new(),
        points: Vec::new(),
    };
    for written in list {
        let text = match written {
            NumberOrText::Number(number) => {
                let port = u16::try_from(*number).ok()?;
                ports.ranges.push((port, port));
                continue;
            }
            NumberOrText::Text(text) => text,
        };
        if let Some((first, last)) = text.split_once(':') {
            ports.ranges.push((first.parse().ok()?, last.parse().ok()?));
        } else if let Ok(port) = text.parse() {
            ports.ranges.push((port, port));
        } else {
            ports.points.extend(world.points(text, positive, except));
        }
    }
    Some(ports)
}
