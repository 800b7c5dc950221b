//! Rules with action Log: from ring-buffer records to log lines.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{MapData, RingBuf};
use hostfw_common::{conntrack::Address, endpoint::Family, event::Event, verdict::Direction};
use tokio::io::unix::AsyncFd;
use tracing::{error, info, warn};

use super::counters::direction_name;
use crate::compile::image::Names;

/// Generations whose names are remembered: an event that is reported while a
/// generation is switched carries the number of the one before.
const REMEMBERED: usize = 16;

/// The names behind the numbers in events. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct NameBook(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    /// Latest last.
    generations: VecDeque<(u64, Names)>,
    interfaces: BTreeMap<u32, String>,
}

impl NameBook {
    /// Notes the names of a generation.
    pub fn add_generation(&self, generation: u64, names: Names) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.generations.len() == REMEMBERED {
            pages.generations.pop_front();
        }
        pages.generations.push_back((generation, names));
    }

    /// Notes the names of all interfaces, by index.
    pub fn set_interfaces(&self, interfaces: BTreeMap<u32, String>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .interfaces = interfaces;
    }

    /// Puts an event into words.
    #[must_use]
    pub fn describe(&self, event: &Event) -> LogEvent {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = pages
            .generations
            .iter()
            .find(|(generation, _)| *generation == event.generation)
            .map(|(_, names)| names);
        // The numbers are still worth something where the names are not known:
        // an earlier agent's generation.
        let endpoint = names
            .and_then(|names| names.endpoint(event.endpoint))
            .map_or_else(
                || format!("#{}", event.endpoint.number),
                |object| object.name.clone(),
            );
        let policy = names
            .and_then(|names| names.policy(event.rule.policy))
            .map_or_else(
                || format!("#{}", event.rule.policy.number),
                |object| object.name.clone(),
            );
        let interface = pages
            .interfaces
            .get(&event.interface)
            .cloned()
            .unwrap_or_else(|| format!("#{}", event.interface));
        let direction = if event.direction == Direction::Ingress as u8 {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        LogEvent {
            endpoint,
            interface,
            stage: match direction {
                Direction::Ingress => "pre-dnat",
                Direction::Egress => "normal",
            },
            policy,
            rule: format!("{}[{}]", direction_name(direction), event.rule.index),
            protocol: event.protocol,
            source: SocketAddr::new(
                address(event.family, event.source),
                u16::from_be_bytes(event.source_port),
            ),
            destination: SocketAddr::new(
                address(event.family, event.destination),
                u16::from_be_bytes(event.destination_port),
            ),
        }
    }
}

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of the interface.
    pub interface: String,
    /// Where on its way the packet was seen: `pre-dnat` or `normal`.
    pub stage: &'static str,
    /// Name of the policy.
    pub policy: String,
    /// The rule as a path in the policy's spec: `ingress[0]`.
    pub rule: String,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Where the packet comes from; the port is 0 if there is none.
    pub source: SocketAddr,
    /// Where it goes. In place of the port ICMP has `type * 256 + code`.
    pub destination: SocketAddr,
}

impl LogEvent {
    /// ICMP or ICMPv6 type and code.
    #[must_use]
    pub fn icmp(&self) -> Option<(u8, u8)> {
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        let [kind, code] = self.destination.port().to_be_bytes();
        matches!(self.protocol, ICMP | ICMPV6).then_some((kind, code))
    }

    /// Writes the event to the log.
    pub fn log(&self) {
        if let Some((kind, code)) = self.icmp() {
            info!(
                target: "hostfw::rule",
                endpoint = self.endpoint,
                interface = self.interface,
                stage = self.stage,
                tier = "default",
                policy = self.policy,
                rule = self.rule,
                protocol = self.protocol,
                source = %self.source.ip(),
                destination = %self.destination.ip(),
                icmp_type = kind,
                icmp_code = code,
                "packet matched a Log rule"
            );
        } else {
            info!(
                target: "hostfw::rule",
                endpoint = self.endpoint,
                interface = self.interface,
                stage = self.stage,
                tier = "default",
                policy = self.policy,
                rule = self.rule,
                protocol = self.protocol,
                source = %self.source.ip(),
                source_port = self.source.port(),
                destination = %self.destination.ip(),
                destination_port = self.destination.port(),
                "packet matched a Log rule"
            );
        }
    }
}

fn address(family: u8, address: Address) -> IpAddr {
    if family == Family::V4 as u8 {
        IpAddr::from(address.v4())
    } else {
        IpAddr::V6(Ipv6Addr::from(address.bytes))
    }
}

/// Decodes a record of the ring buffer; `None` if it has another size.
#[must_use]
pub fn decode(record: &[u8]) -> Option<Event> {
    if record.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: as many bytes as an `Event` has, which is plain data that any
    // bytes are valid for (it is `aya::Pod`). A record is aligned to 8 bytes
    // only by the kernel's word, so the read does not rely on it.
    Some(unsafe { record.as_ptr().cast::<Event>().read_unaligned() })
}

/// Logs events as they come, until the ring buffer fails.
///
/// # Errors
///
/// If the ring buffer cannot be waited for.
pub async fn follow(ring: RingBuf<MapData>, names: NameBook) -> io::Result<()> {
    // SAFETY: a `RingBuf` keeps the descriptor of its map open until it is
    // dropped, and nothing here closes it.
    let mut ring = unsafe { AsyncFd::register(ring) }?;
    loop {
        let mut guard = ring.readable_mut().await?;
        while let Some(record) = guard.get_inner_mut().next() {
            match decode(&record) {
                Some(event) => names.describe(&event).log(),
                None => warn!(
                    bytes = record.len(),
                    expected = size_of::<Event>(),
                    "an event of unexpected size"
                ),
            }
        }
        guard.clear_ready();
    }
}

/// Logs events in a task of the current runtime.
pub fn spawn(ring: RingBuf<MapData>, names: NameBook) {
    tokio::spawn(async move {
        if let Err(error) = follow(ring, names).await {
            error!(%error, "events of Log rules are no longer reported");
        }
    });
}

#[cfg(test)]
mod tests {
    use hostfw_common::{
        endpoint::EndpointId,
        policy::{Action, PolicyId, RuleEntry},
    };

    use super::*;
    use crate::{
        compile::image::NamedPolicy,
        model::{Kind, ObjectRef},
    };

    fn event() -> Event {
        Event {
            time: 1,
            generation: 4,
            interface: 2,
            endpoint: EndpointId { number: 0 },
            rule: RuleEntry::new(PolicyId { number: 1 }, 3, Action::Log, Direction::Ingress),
            source: Address::from_v4([192, 0, 2, 7]),
            destination: Address::from_v4([10, 240, 0, 1]),
            source_port: 40_000u16.to_be_bytes(),
            destination_port: 31_852u16.to_be_bytes(),
            protocol: 6,
            family: Family::V4 as u8,
            direction: Direction::Ingress as u8,
            _pad: 0,
        }
    }

    fn book() -> NameBook {
        let object = |kind, name: &str| ObjectRef {
            kind,
            name: name.to_owned(),
        };
        let policy = |name| NamedPolicy {
            object: object(Kind::GlobalNetworkPolicy, name),
            tier: Some(0),
            missing: false,
        };
        let book = NameBook::default();
        book.add_generation(
            4,
            Names {
                endpoints: vec![object(Kind::HostEndpoint, "node1-eth0")],
                policies: vec![policy("a"), policy("drop-other-ingress")],
                tiers: vec!["default".to_owned()],
            },
        );
        book.set_interfaces(BTreeMap::from([(2, "eth0".to_owned())]));
        book
    }

    #[test]
    fn numbers_become_names() {
        assert_eq!(
            book().describe(&event()),
            LogEvent {
                endpoint: "node1-eth0".to_owned(),
                interface: "eth0".to_owned(),
                stage: "pre-dnat",
                policy: "drop-other-ingress".to_owned(),
                rule: "ingress[3]".to_owned(),
                protocol: 6,
                source: "192.0.2.7:40000".parse().unwrap(),
                destination: "10.240.0.1:31852".parse().unwrap(),
            }
        );
    }

    #[test]
    fn a_generation_that_is_not_known_keeps_its_numbers() {
        let described = book().describe(&Event {
            generation: 3,
            interface: 9,
            ..event()
        });
        assert_eq!(
            (
                &*described.endpoint,
                &*described.policy,
                &*described.interface
            ),
            ("#0", "#1", "#9")
        );
    }

    #[test]
    fn an_outgoing_ipv6_ping_has_type_and_code_and_the_normal_stage() {
        let described = book().describe(&Event {
            source: Address {
                bytes: "fd00::1".parse::<Ipv6Addr>().unwrap().octets(),
            },
            destination: Address {
                bytes: "fd00::2".parse::<Ipv6Addr>().unwrap().octets(),
            },
            source_port: [0, 0],
            destination_port: [128, 0],
            protocol: 58,
            family: Family::V6 as u8,
            direction: Direction::Egress as u8,
            ..event()
        });
        assert_eq!(described.icmp(), Some((128, 0)));
        assert_eq!(described.stage, "normal");
        assert_eq!(described.rule, "egress[3]");
        assert_eq!(described.source.ip(), "fd00::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn old_generations_are_forgotten_first() {
        let book = book();
        for generation in 5..5 + REMEMBERED as u64 {
            book.add_generation(generation, Names::default());
        }
        assert_eq!(book.describe(&event()).policy, "#1");
        assert_eq!(book.0.lock().unwrap().generations.len(), REMEMBERED);
    }

    #[test]
    fn a_record_is_read_byte_for_byte() {
        let event = event();
        // SAFETY: an `Event` is plain data without padding.
        let bytes = unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(&event).cast::<u8>(), size_of::<Event>())
        };
        assert_eq!(decode(bytes), Some(event));
        assert_eq!(decode(&bytes[1..]), None);
    }
}
