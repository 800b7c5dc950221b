//! Protocols, ports, and ICMP types.

use super::Findings;
use crate::{
    model::{IcmpMatch, IpVersion, PortRange, Protocol},
    resource::{IcmpFields, NumberOrText, quote},
};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// Longest list of ports (Calico: api/pkg/apis/projectcalico/v3).
const MOST_PORTS: usize = 50;

/// Longest port name (RFC 6335, section 5.1).
const LONGEST_PORT_NAME: usize = 15;

/// Protocols that can be given by name, exactly so. Numbers: IANA.
const NAMES: [(&str, u8, Option<IpVersion>); 6] = [
    ("TCP", TCP, None),
    ("UDP", UDP, None),
    ("ICMP", ICMP, Some(IpVersion::V4)),
    ("ICMPv6", ICMPV6, Some(IpVersion::V6)),
    ("SCTP", SCTP, None),
    ("UDPLite", 136, None),
];

/// The protocols that have ports, as far as Calico's API goes.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// The IP version that a protocol can only be carried by.
pub(super) fn only_version(protocol: u8) -> Option<IpVersion> {
    match protocol {
        ICMP => Some(IpVersion::V4),
        ICMPV6 => Some(IpVersion::V6),
        _ => None,
    }
}

/// Checks `protocol` or `notProtocol`.
pub(super) fn protocol(
    field: &str,
    value: &NumberOrText,
    findings: &mut Findings,
) -> Option<Protocol> {
    match number(value) {
        Some(number) => Some(Protocol {
            number,
            implied_version: named(value).and_then(|(_, version)| version),
        }),
        None => {
            findings.invalid(
                field,
                "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255",
                show(value),
            );
            None
        }
    }
}

fn named(value: &NumberOrText) -> Option<(u8, Option<IpVersion>)> {
    let NumberOrText::Text(text) = value else {
        return None;
    };
    NAMES
        .iter()
        .find(|(name, ..)| name == text)
        .map(|&(_, number, version)| (number, version))
}

/// The number that a protocol stands for, by name or not.
pub(super) fn number(value: &NumberOrText) -> Option<u8> {
    if let Some((number, _)) = named(value) {
        return Some(number);
    }
    let number = match value {
        NumberOrText::Number(number) => Some(*number),
        NumberOrText::Text(text) => decimal(text),
    };
    u8::try_from(number?).ok().filter(|&number| number != 0)
}

/// Checks `ports` or `notPorts`: numbers and names.
pub(super) fn ports(
    field: &str,
    values: &[NumberOrText],
    findings: &mut Findings,
) -> (Vec<PortRange>, Vec<String>) {
    let (mut ranges, mut names) = (Vec::new(), Vec::new());
    if !findings.within_limit(field, values.len(), MOST_PORTS, "ports") {
        return (ranges, names);
    }
    for (index, value) in values.iter().enumerate() {
        match (range(value), value) {
            (Some(range), _) => ranges.push(range),
            (None, NumberOrText::Text(name)) if is_port_name(name) => names.push(name.clone()),
            (None, _) => findings.invalid(
                format!("{field}[{index}]"),
                "a port from 1 to 65535, a range as \"1000:2000\", lower port first, or the \
                 name of a port",
                show(value),
            ),
        }
    }
    (ranges, names)
}

fn range(value: &NumberOrText) -> Option<PortRange> {
    let (first, last) = match value {
        NumberOrText::Number(number) => (*number, *number),
        NumberOrText::Text(text) => match text.split_once(':') {
            Some((first, last)) => (decimal(first)?, decimal(last)?),
            None => {
                let number = decimal(text)?;
                (number, number)
            }
        },
    };
    let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
    (1 <= first && first <= last).then_some(PortRange { first, last })
}

/// Digits only: no sign, no space.
fn decimal(text: &str) -> Option<i64> {
    text.bytes()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// Whether a text can be the name of a port (RFC 6335, section 5.1): letters,
/// digits and single hyphens between them, at least one letter.
pub(super) fn is_port_name(text: &str) -> bool {
    (1..=LONGEST_PORT_NAME).contains(&text.len())
        && text
            .split('-')
            .all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric()))
        && text.bytes().any(|c| c.is_ascii_alphabetic())
}

/// Checks a single port number.
pub(super) fn port(field: &str, value: i64, findings: &mut Findings) -> Option<u16> {
    let port = u16::try_from(value).ok().filter(|&port| port != 0);
    if port.is_none() {
        findings.invalid(field, "a port from 1 to 65535", value.to_string());
    }
    port
}

/// Checks `icmp` or `notICMP`. `None` if nothing is given.
pub(super) fn icmp(field: &str, fields: &IcmpFields, findings: &mut Findings) -> Option<IcmpMatch> {
    let kind = icmp_number(&format!("{field}.type"), fields.kind, 254, findings);
    let code = icmp_number(&format!("{field}.code"), fields.code, 255, findings);
    if fields.code.is_some() && fields.kind.is_none() {
        findings.invalid(
            format!("{field}.type"),
            "a type from 0 to 254, for there is a code",
            "nothing",
        );
    }
    Some(IcmpMatch { kind: kind?, code })
}

fn icmp_number(
    field: &str,
    value: Option<i64>,
    highest: u8,
    findings: &mut Findings,
) -> Option<u8> {
    let value = value?;
    let number = u8::try_from(value).ok().filter(|&value| value <= highest);
    if number.is_none() {
        findings.invalid(
            field,
            format!("a number from 0 to {highest}"),
            value.to_string(),
        );
    }
    number
}

pub(super) fn show(value: &NumberOrText) -> String {
    match value {
        NumberOrText::Number(number) => number.to_string(),
        NumberOrText::Text(text) => quote(text),
    }
}
