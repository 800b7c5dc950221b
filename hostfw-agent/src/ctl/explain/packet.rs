//! A packet as it is given: by flags, or as a line of JSON. Both become a
//! [`Draft`], and that becomes a [`Question`] or tells what is wrong.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use hostfw_common::verdict::Direction;

use super::PacketError;
use crate::{
    question::{Path, Question, State},
    resource::quote,
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Source port where none is given, for protocols with ports.
const SOME_PORT: u16 = 49152;

/// Protocols that can be given by name.
const PROTOCOLS: [(&str, u8); 6] = [
    ("TCP", 6),
    ("UDP", 17),
    ("ICMP", ICMP),
    ("ICMPv6", ICMPV6),
    ("SCTP", 132),
    ("UDPLite", 136),
];

/// Protocols whose packets have ports, as the dataplane reads them.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Extension headers of IPv6 that the dataplane reads: what they hold has a
/// protocol of its own.
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// A packet by flags.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// Interface that the packet crosses.
    #[arg(long, value_name = "NAME", required_unless_present = "packets")]
    interface: Option<String>,
    /// The packet comes in through the interface.
    #[arg(
        long = "in",
        conflicts_with = "outgoing",
        required_unless_present_any = ["outgoing", "packets"]
    )]
    incoming: bool,
    /// The packet goes out through the interface.
    #[arg(long = "out")]
    outgoing: bool,
    /// Whether a process of this host sends or gets the packet, or it is
    /// routed through.
    #[arg(long, value_name = "PATH", required_unless_present = "packets")]
    path: Option<PathName>,
    /// TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number.
    #[arg(long, value_name = "PROTOCOL", required_unless_present = "packets")]
    protocol: Option<String>,
    /// Source address, and port for protocols with ports: 192.0.2.1:40000,
    /// [2001:db8::1]:40000. Without port: 49152.
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        required_unless_present = "packets"
    )]
    source: Option<String>,
    /// Destination address and port, as they are on the wire.
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        required_unless_present = "packets"
    )]
    destination: Option<String>,
    /// Type of an ICMP or ICMPv6 message. Without it: an echo request.
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<String>,
    /// Code of an ICMP or ICMPv6 message. Without it: 0.
    #[arg(long, value_name = "CODE", requires = "icmp_type")]
    icmp_code: Option<String>,
    /// What DNAT makes of the destination. Without port: the destination's.
    /// Packets that go out are judged behind DNAT, at all stages.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    translated_destination: Option<String>,
    /// What connection tracking says of the packet.
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PathName {
    /// A process of this host sends or gets the packet.
    Local,
    /// The packet is routed through this host.
    Forward,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateName {
    /// It may open a flow.
    New,
    /// It belongs to a flow that was allowed.
    Established,
    /// It can belong to no flow.
    Invalid,
}

impl Flags {
    /// Whether a flag of a packet is given.
    pub(super) const fn are_given(&self) -> bool {
        self.interface.is_some()
            || self.incoming
            || self.outgoing
            || self.path.is_some()
            || self.protocol.is_some()
            || self.source.is_some()
            || self.destination.is_some()
            || self.icmp_type.is_some()
            || self.icmp_code.is_some()
            || self.translated_destination.is_some()
            || self.state.is_some()
    }

    pub(super) fn question(&self) -> Result<Question, PacketError> {
        let number = |key: Key, text: &Option<String>| {
            text.as_deref().map(|text| byte(key, text)).transpose()
        };
        let end = |key: Key, text: &Option<String>| {
            text.as_deref().map(|text| end(key, text)).transpose()
        };
        let (source, source_port) = end(Key::Source, &self.source)?.unzip();
        let (destination, destination_port) = end(Key::Destination, &self.destination)?.unzip();
        let (translated, translated_port) =
            end(Key::TranslatedDestination, &self.translated_destination)?.unzip();
        Draft {
            interface: self.interface.clone(),
            direction: match (self.incoming, self.outgoing) {
                (true, _) => Some(Direction::Ingress),
                (false, true) => Some(Direction::Egress),
                (false, false) => None,
            },
            path: self.path.map(|path| match path {
                PathName::Local => Path::Local,
                PathName::Forward => Path::Forward,
            }),
            protocol: self.protocol.as_deref().map(Protocol::named).transpose()?,
            source,
            source_port: source_port.flatten(),
            destination,
            destination_port: destination_port.flatten(),
            icmp_type: number(Key::IcmpType, &self.icmp_type)?,
            icmp_code: number(Key::IcmpCode, &self.icmp_code)?,
            translated,
            translated_port: translated_port.flatten(),
            state: self.state.map(|state| match state {
                StateName::New => State::New,
                StateName::Established => State::Established,
                StateName::Invalid => State::Invalid,
            }),
        }
        .question()
    }
}

/// Something that is said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Interface,
    Direction,
    Path,
    Protocol,
    Source,
    SourcePort,
    Destination,
    DestinationPort,
    IcmpType,
    IcmpCode,
    TranslatedDestination,
    TranslatedDestinationPort,
    State,
}

impl Key {
    pub(super) const ALL: [Self; 13] = [
        Self::Interface,
        Self::Direction,
        Self::Path,
        Self::Protocol,
        Self::Source,
        Self::SourcePort,
        Self::Destination,
        Self::DestinationPort,
        Self::IcmpType,
        Self::IcmpCode,
        Self::TranslatedDestination,
        Self::TranslatedDestinationPort,
        Self::State,
    ];

    /// In a line of JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Direction => "direction",
            Self::Path => "path",
            Self::Protocol => "protocol",
            Self::Source => "source",
            Self::SourcePort => "sourcePort",
            Self::Destination => "destination",
            Self::DestinationPort => "destinationPort",
            Self::IcmpType => "icmpType",
            Self::IcmpCode => "icmpCode",
            Self::TranslatedDestination => "translatedDestination",
            Self::TranslatedDestinationPort => "translatedDestinationPort",
            Self::State => "state",
        }
    }

    /// As a flag.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Interface => "--interface",
            Self::Direction => "--in|--out",
            Self::Path => "--path",
            Self::Protocol => "--protocol",
            Self::Source | Self::SourcePort => "--source",
            Self::Destination | Self::DestinationPort => "--destination",
            Self::IcmpType => "--icmp-type",
            Self::IcmpCode => "--icmp-code",
            Self::TranslatedDestination | Self::TranslatedDestinationPort => {
                "--translated-destination"
            }
            Self::State => "--state",
        }
    }
}

/// A protocol, and how it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    number: u8,
    name: Option<&'static str>,
}

impl Protocol {
    pub(super) const fn numbered(number: u8) -> Self {
        Self { number, name: None }
    }

    /// By name, in whatever case, or by number.
    pub(super) fn named(text: &str) -> Result<Self, PacketError> {
        let known = PROTOCOLS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((name, number)) = known {
            return Ok(Self {
                number,
                name: Some(name),
            });
        }
        text.parse().map(Self::numbered).map_err(|_| {
            PacketError::new(
                Key::Protocol,
                "TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 0 to 255",
                quote(text),
            )
        })
    }

    fn show(self) -> String {
        self.name
            .map_or_else(|| self.number.to_string(), str::to_owned)
    }
}

/// A protocol as people know it.
pub(in crate::ctl) fn protocol_name(number: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(
            || format!("protocol {number}"),
            |(name, _)| (*name).to_owned(),
        )
}

pub(super) fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.contains(&protocol)
}

pub(super) const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

fn byte(key: Key, text: &str) -> Result<u8, PacketError> {
    text.parse()
        .map_err(|_| PacketError::new(key, "a number from 0 to 255", quote(text)))
}

/// An address, and the port behind it if there is one.
fn end(key: Key, text: &str) -> Result<(IpAddr, Option<u16>), PacketError> {
    if let Ok(both) = text.parse::<SocketAddr>() {
        return Ok((both.ip(), Some(both.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse() {
        Ok(address) => Ok((address, None)),
        Err(_) => Err(PacketError::new(
            key,
            "ADDRESS or ADDRESS:PORT (an IPv6 address in brackets, if a port follows)",
            quote(text),
        )),
    }
}

/// A packet of which anything may be missing.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) interface: Option<String>,
    pub(super) direction: Option<Direction>,
    pub(super) path: Option<Path>,
    pub(super) protocol: Option<Protocol>,
    pub(super) source: Option<IpAddr>,
    pub(super) source_port: Option<u16>,
    pub(super) destination: Option<IpAddr>,
    pub(super) destination_port: Option<u16>,
    pub(super) icmp_type: Option<u8>,
    pub(super) icmp_code: Option<u8>,
    pub(super) translated: Option<IpAddr>,
    pub(super) translated_port: Option<u16>,
    pub(super) state: Option<State>,
}

impl Draft {
    /// The question, if nothing is missing and nothing contradicts.
    pub(super) fn question(self) -> Result<Question, PacketError> {
        let interface = self.interface.as_deref();
        let interface = given(Key::Interface, "the name of an interface", interface)?.to_owned();
        if interface.is_empty() || interface.len() > 15 {
            return Err(PacketError::new(
                Key::Interface,
                "the name of an interface (1 to 15 characters)",
                quote(&interface),
            ));
        }
        let direction = given(Key::Direction, "in or out", self.direction)?;
        let path = given(Key::Path, "local or forward", self.path)?;
        let protocol = given(Key::Protocol, "a protocol", self.protocol)?;
        let source = given(Key::Source, "an address", self.source)?;
        let destination = given(Key::Destination, "an address", self.destination)?;
        same_family(Key::Destination, destination, source)?;
        on_a_wire(Key::Source, source)?;
        on_a_wire(Key::Destination, destination)?;
        self.check_protocol(protocol, source)?;

        let ports = has_ports(protocol.number);
        let port = if ports {
            given(
                Key::DestinationPort,
                &format!("a port, for protocol {} has ports", protocol.show()),
                self.destination_port,
            )?
        } else {
            0
        };
        let translated = self.translated(destination, port)?;
        // Packets that go out are judged behind DNAT.
        let ((destination, destination_port), translated) = match direction {
            Direction::Ingress => ((destination, port), translated),
            Direction::Egress => (translated.unwrap_or((destination, port)), None),
        };
        Ok(Question {
            interface,
            direction,
            path,
            protocol: protocol.number,
            source,
            source_port: self
                .source_port
                .unwrap_or(if ports { SOME_PORT } else { 0 }),
            destination,
            destination_port,
            icmp: is_icmp(protocol.number).then(|| {
                let request = if protocol.number == ICMP { 8 } else { 128 };
                let kind = self.icmp_type.unwrap_or(request);
                (kind, self.icmp_code.unwrap_or_default())
            }),
            translated,
            state: self.state.unwrap_or_default(),
        })
    }

    /// What is given for some protocols only.
    fn check_protocol(&self, protocol: Protocol, source: IpAddr) -> Result<(), PacketError> {
        let family = match protocol.name {
            Some("ICMP") => Some("IPv4"),
            Some("ICMPv6") => Some("IPv6"),
            Some(_) | None => None,
        };
        if let Some(family) = family.filter(|family| (*family == "IPv6") != source.is_ipv6()) {
            return Err(PacketError::new(
                Key::Source,
                &format!(
                    "an {family} address, for the protocol is {}",
                    protocol.show()
                ),
                source.to_string(),
            ));
        }
        if source.is_ipv6() && EXTENSION_HEADERS.contains(&protocol.number) {
            return Err(PacketError::new(
                Key::Protocol,
                "the protocol behind the extension headers of IPv6",
                protocol.show(),
            ));
        }
        for (key, port) in [
            (Key::SourcePort, self.source_port),
            (Key::DestinationPort, self.destination_port),
            (Key::TranslatedDestinationPort, self.translated_port),
        ] {
            if let Some(port) = port.filter(|&port| port != 0 && !has_ports(protocol.number)) {
                return Err(PacketError::new(
                    key,
                    &format!("no port, for protocol {} has none", protocol.show()),
                    port.to_string(),
                ));
            }
        }
        for (key, value) in [
            (Key::IcmpType, self.icmp_type),
            (Key::IcmpCode, self.icmp_code),
        ] {
            if let Some(value) = value.filter(|_| !is_icmp(protocol.number)) {
                return Err(PacketError::new(
                    key,
                    &format!("nothing, for the protocol is {}", protocol.show()),
                    value.to_string(),
                ));
            }
        }
        if self.icmp_code.is_some() {
            given(Key::IcmpType, "a type, for a code is given", self.icmp_type)?;
        }
        Ok(())
    }

    /// The destination behind DNAT, if there is DNAT.
    fn translated(
        &self,
        destination: IpAddr,
        port: u16,
    ) -> Result<Option<(IpAddr, u16)>, PacketError> {
        if self.translated.is_none() && self.translated_port.is_none() {
            return Ok(None);
        }
        let translated = self.translated.unwrap_or(destination);
        same_family(Key::TranslatedDestination, translated, destination)?;
        on_a_wire(Key::TranslatedDestination, translated)?;
        Ok(Some((translated, self.translated_port.unwrap_or(port))))
    }
}

fn given<T>(key: Key, expected: &str, value: Option<T>) -> Result<T, PacketError> {
    value.ok_or_else(|| PacketError::new(key, expected, "nothing".to_owned()))
}

/// No packet has an IPv4 address in IPv6 notation; the dataplane drops one that
/// does.
fn on_a_wire(key: Key, address: IpAddr) -> Result<(), PacketError> {
    match address.to_canonical() {
        own if own == address => Ok(()),
        own => Err(PacketError::new(
            key,
            &format!("an IPv4 address in its own notation, as {own}"),
            address.to_string(),
        )),
    }
}

fn same_family(key: Key, address: IpAddr, other: IpAddr) -> Result<(), PacketError> {
    if address.is_ipv4() == other.is_ipv4() {
        return Ok(());
    }
    let family = if other.is_ipv4() { "IPv4" } else { "IPv6" };
    Err(PacketError::new(
        key,
        &format!("an {family} address, as {other} is"),
        address.to_string(),
    ))
}
