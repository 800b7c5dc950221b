//! `FelixConfiguration`, as far as verdicts depend on it: field by field what
//! `node.<name>` says, else what `default` says, else Calico's default
//! (semantics section 1).

use std::net::IpAddr;

use ipnet::IpNet;
use regex_lite::Regex;
use serde_json::Value;

use super::{
    packet::{End, Family, Packet, SCTP, TCP, UDP},
    world,
};

const IPIP: u8 = 4;

/// TCP and UDP ports that no policy closes, where nothing else is said.
const INBOUND: (&[u16], &[u16]) = (&[22, 179, 2379, 2380, 5473, 6443, 6666, 6667], &[68]);
const OUTBOUND: (&[u16], &[u16]) = (&[179, 2379, 2380, 5473, 6443, 6666, 6667], &[53, 67]);

/// A port that no policy closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failsafe {
    protocol: u8,
    port: u16,
    pub(super) net: Option<IpNet>,
}

/// Fail-safe ports of one direction.
#[derive(Debug)]
pub(super) struct Failsafes(Vec<Failsafe>);

impl Failsafes {
    fn defaults((tcp, udp): (&[u16], &[u16])) -> Self {
        let entries = |protocol, ports: &[u16]| {
            ports
                .iter()
                .map(|&port| Failsafe {
                    protocol,
                    port,
                    net: None,
                })
                .collect::<Vec<_>>()
        };
        Self([entries(TCP, tcp), entries(UDP, udp)].concat())
    }

    fn read(list: &Value) -> Option<Self> {
        let entry = |entry: &Value| {
            let protocol = match entry.get("protocol")?.as_str()? {
                "TCP" => TCP,
                "UDP" => UDP,
                "SCTP" => SCTP,
                _ => return None,
            };
            let port = u16::try_from(entry.get("port")?.as_u64()?).ok()?;
            let net = match entry.get("net").and_then(Value::as_str) {
                Some(text) if !text.is_empty() => Some(world::net(text)?),
                Some(_) | None => None,
            };
            Some(Failsafe {
                protocol,
                port,
                net,
            })
        };
        list.as_array()?
            .iter()
            .map(entry)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The entry by which the port is open to the peer.
    pub(super) fn open(&self, packet: &Packet, port: u16, peer: End) -> Option<&Failsafe> {
        self.0.iter().find(|entry| {
            packet.has_ports()
                && entry.protocol == packet.protocol
                && entry.port == port
                && entry.net.is_none_or(|net| net.contains(&peer.address))
        })
    }
}

/// What holds on one node.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) inbound: Failsafes,
    pub(super) outbound: Failsafes,
    /// Packets that connection tracking finds invalid are dropped.
    pub(super) check_invalid: bool,
    workload_prefixes: Vec<String>,
    excluded: Vec<String>,
    vxlan: u16,
    geneve: Option<u16>,
    /// IPv4, IPv6.
    wireguard: [u16; 2],
}

impl Settings {
    /// `layers` are the specs that count, the more specific one first.
    pub(super) fn new(layers: &[Value]) -> Self {
        let field = |name: &str| {
            layers
                .iter()
                .filter_map(|spec| spec.get(name))
                .find(|value| !value.is_null())
        };
        let names = |name: &str, default: &str| {
            let text = field(name).and_then(Value::as_str).unwrap_or(default);
            text.split(',').map(str::to_owned).collect()
        };
        let port = |name: &str, default| {
            let value = field(name).and_then(Value::as_u64);
            value
                .and_then(|value| u16::try_from(value).ok())
                .unwrap_or(default)
        };
        Self {
            inbound: field("failsafeInboundHostPorts")
                .and_then(Failsafes::read)
                .unwrap_or_else(|| Failsafes::defaults(INBOUND)),
            outbound: field("failsafeOutboundHostPorts")
                .and_then(Failsafes::read)
                .unwrap_or_else(|| Failsafes::defaults(OUTBOUND)),
            check_invalid: field("disableConntrackInvalidCheck").and_then(Value::as_bool)
                != Some(true),
            workload_prefixes: names("interfacePrefix", "cali"),
            excluded: names("interfaceExclude", "kube-ipvs0"),
            vxlan: port("vxlanPort", 4789),
            geneve: Some(port("genevePort", 0)).filter(|port| *port != 0),
            wireguard: [
                port("wireguardListeningPort", 51820),
                port("wireguardListeningPortV6", 51821),
            ],
        }
    }

    /// Whether the spec can be read.
    pub(super) fn is_readable(spec: &Value) -> bool {
        ["failsafeInboundHostPorts", "failsafeOutboundHostPorts"]
            .iter()
            .filter_map(|name| spec.get(name))
            .all(|list| list.is_null() || Failsafes::read(list).is_some())
    }

    pub(super) fn is_workload(&self, interface: &str) -> bool {
        self.workload_prefixes.iter().any(|prefix| {
            let is_pattern = prefix.contains('*') || prefix.contains('?');
            let pattern: Vec<char> = prefix.chars().collect();
            let name: Vec<char> = interface.chars().collect();
            if is_pattern {
                is_like(&pattern, &name)
            } else {
                name.starts_with(&pattern)
            }
        })
    }

    pub(super) fn is_excluded(&self, interface: &str) -> bool {
        self.excluded.iter().any(|name| {
            let expression = name
                .strip_prefix('/')
                .and_then(|rest| rest.strip_suffix('/'))
                .and_then(|text| Regex::new(text).ok());
            match expression {
                Some(expression) => expression.is_match(interface),
                None => name == interface,
            }
        })
    }

    /// Whether the packet is a tunnel's, from node to node (semantics 12.9).
    pub(super) fn is_tunnel(&self, packet: &Packet, nodes: &[IpAddr]) -> bool {
        let port = packet.destination.port;
        let family = packet.family();
        let tunnel = match packet.protocol {
            IPIP => family == Family::V4,
            UDP => {
                port == self.vxlan
                    || port == self.wireguard[family as usize]
                    || Some(port) == self.geneve
            }
            _ => false,
        };
        tunnel
            && nodes.contains(&packet.source.address)
            && nodes.contains(&packet.destination.address)
    }
}

/// `*` stands for any characters, `?` for one.
fn is_like(pattern: &[char], name: &[char]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else {
        return name.is_empty();
    };
    // Several stars say what one says, and would be tried in every combination.
    if *first == '*' && pattern.first() == Some(&'*') {
        return is_like(pattern, name);
    }
    if *first == '*' && is_like(pattern, name) {
        return true;
    }
    let Some((character, name)) = name.split_first() else {
        return false;
    };
    match first {
        '*' => is_like(&[&['*'], pattern].concat(), name),
        '?' => is_like(pattern, name),
        _ => first == character && is_like(pattern, name),
    }
}
