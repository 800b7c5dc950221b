//! Rules with action Log, staged policies and denials: from ring-buffer records to
//! log lines and reports.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{MapData, RingBuf};
use hostfw_common::{
    conntrack::Address,
    counter::{Outcome, StagedKey},
    endpoint::Family,
    event::Event,
    policy::Action,
    stage::List,
    verdict::{Direction, Reason},
};
use tokio::io::unix::AsyncFd;
use tracing::{error, info, warn};

use super::{
    counters::direction_name,
    reports::{RecentReports, Report},
    status::StagedStatus,
};
use crate::{adopt, compile::image::Names};

/// Generations whose names are remembered: an event that is reported while a
/// generation is switched carries the number of the one before.
const REMEMBERED: usize = 16;

/// The names behind the numbers in events. Clones share their contents.
#[derive(Clone, Debug, Default)]
pub struct NameBook(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    /// Latest last.
    generations: VecDeque<(u64, Arc<Names>)>,
    interfaces: BTreeMap<u32, String>,
    log_prefix: String,
}

impl NameBook {
    /// Notes the names of a generation.
    pub fn add_generation(&self, generation: u64, names: impl Into<Arc<Names>>) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.generations.len() == REMEMBERED {
            pages.generations.pop_front();
        }
        pages.generations.push_back((generation, names.into()));
    }

    /// Notes the names of all interfaces, by index.
    pub fn set_interfaces(&self, interfaces: BTreeMap<u32, String>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .interfaces = interfaces;
    }

    /// Notes what the events of rules with action Log begin with, in which
    /// specifiers stand for names ([`LogEvent::prefix`]).
    pub fn set_log_prefix(&self, prefix: &str) {
        prefix.clone_into(
            &mut self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .log_prefix,
        );
    }

    /// Puts a count of packets into words; `None` if the generation is not known
    /// any more, or the numbers are none of it.
    #[must_use]
    pub fn describe_staged(&self, key: &StagedKey, packets: u64) -> Option<StagedStatus> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, names) = pages
            .generations
            .iter()
            .find(|(generation, _)| *generation as u32 == key.generation)?;
        let list = *List::ALL.get(usize::from(key.list))?;
        Some(StagedStatus {
            endpoint: names.endpoint(key.endpoint)?.name.clone(),
            stage: list.stage().name().to_owned(),
            tier: names.tier_of(key.policy).map(str::to_owned),
            policy: names.policy(key.policy)?.name.clone(),
            rule: rule_path(list.direction() as u8, key.index),
            would: would(key.action)?.to_owned(),
            packets,
        })
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
        let reason = Reason::from_number(event.reason);
        let enforced = event.outcome == Outcome::Enforced as u8;
        let Decider {
            tier,
            kind,
            policy,
            rule,
        } = Decider::of(event, reason, names.map(|names| &**names));
        let interface = pages
            .interfaces
            .get(&event.interface)
            .cloned()
            .unwrap_or_else(|| format!("#{}", event.interface));
        let name = policy.as_deref().unwrap_or_default();
        LogEvent {
            time: event.time,
            direction: direction(event.direction),
            prefix: expand(&pages.log_prefix, tier.as_deref(), kind, name),
            endpoint,
            interface,
            stage: List::ALL
                .get(usize::from(event.list))
                .filter(|_| reason.is_none_or(is_of_a_stage))
                .map(|list| list.stage().name()),
            tier,
            kind,
            policy,
            rule,
            denied: reason.is_some() && enforced,
            would: match reason {
                Some(_) => (!enforced).then_some("deny"),
                None => would(event.rule.action),
            },
            reason: reason.map(Reason::name),
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

/// What an event is about, in words.
#[derive(Default)]
struct Decider {
    tier: Option<String>,
    kind: Option<&'static str>,
    policy: Option<String>,
    rule: Option<String>,
}

impl Decider {
    /// `reason`: why the packet was dropped, if it was, or would have been.
    fn of(event: &Event, reason: Option<Reason>, names: Option<&Names>) -> Self {
        match reason {
            None | Some(Reason::RuleDeny | Reason::UntrackedDeny) => {}
            // The number is the tier's.
            Some(Reason::TierDefault) => {
                let number = event.rule.policy.number;
                let tier = names.and_then(|names| names.tiers.get(number as usize));
                return Self {
                    tier: Some(tier.map_or_else(|| format!("#{number}"), Clone::clone)),
                    ..Self::default()
                };
            }
            Some(_) => return Self::default(),
        }
        let id = event.rule.policy;
        let object = names.and_then(|names| names.policy(id));
        Self {
            tier: names.and_then(|names| names.tier_of(id)).map(str::to_owned),
            kind: object.map(|object| object.kind.name()),
            policy: Some(
                object.map_or_else(|| format!("#{}", id.number), |object| object.name.clone()),
            ),
            rule: Some(rule_path(event.rule.direction, event.rule.index)),
        }
    }
}

/// Whether it is a stage that finds this reason, and not what comes ahead of all.
fn is_of_a_stage(reason: Reason) -> bool {
    !matches!(reason, Reason::Undecodable | Reason::OrphanFragment)
}

/// A rule as a path in its policy's spec: `ingress[0]`.
fn rule_path(direction: u8, index: u16) -> String {
    format!("{}[{index}]", direction_name(self::direction(direction)))
}

fn direction(number: u8) -> Direction {
    if number == Direction::Ingress as u8 {
        Direction::Ingress
    } else {
        Direction::Egress
    }
}

/// What a rule of a staged policy would do; `None` for one that only logs.
fn would(action: u8) -> Option<&'static str> {
    match Action::from_number(action)? {
        Action::StagedAllow => Some("allow"),
        Action::StagedDeny => Some("deny"),
        Action::StagedPass => Some("pass"),
        Action::Allow
        | Action::Deny
        | Action::Log
        | Action::Pass
        | Action::TierDeny
        | Action::Skip => None,
    }
}

/// Puts names in place of the specifiers of a `logPrefix` (Calico:
/// felix/rules/policy.go): `%t` the tier, `%k` the kind, `%n` the name, `%p`
/// the name with the namespace in front, if there is one. Anything else stays.
fn expand(prefix: &str, tier: Option<&str>, kind: Option<&str>, policy: &str) -> String {
    let mut expanded = String::with_capacity(prefix.len());
    let mut rest = prefix;
    while let Some((before, specifier)) = rest.split_once('%') {
        expanded.push_str(before);
        let name = match specifier.chars().next() {
            Some('t') => tier.unwrap_or_default(),
            Some('k') => kind.unwrap_or_default(),
            // Nothing that holds rules for hosts lives in a namespace.
            Some('n' | 'p') => policy,
            _ => {
                expanded.push('%');
                rest = specifier;
                continue;
            }
        };
        expanded.push_str(name);
        rest = &specifier[1..];
    }
    expanded.push_str(rest);
    expanded
}

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// `logPrefix`, with names in place of the specifiers `%t` (tier), `%k`
    /// (kind), `%n` and `%p` (name).
    pub prefix: String,
    /// Name of the endpoint.
    pub endpoint: String,
    /// Name of the interface.
    pub interface: String,
    /// Which way the packet crosses it.
    pub direction: Direction,
    /// The stage whose list holds the rule. `None` if the packet did not come as
    /// far as any.
    pub stage: Option<&'static str>,
    /// Name of the policy's tier; `None` for a profile.
    pub tier: Option<String>,
    /// Kind of the policy or profile.
    pub kind: Option<&'static str>,
    /// Its name. `None` if no rule has dropped the packet, or would have.
    pub policy: Option<String>,
    /// The rule as a path in the policy's spec: `ingress[0]`.
    pub rule: Option<String>,
    /// The packet was dropped.
    pub denied: bool,
    /// What would happen if the policy were not staged, or if policy were
    /// enforced; `None` for a rule with action Log, and for what was dropped.
    pub would: Option<&'static str>,
    /// [`Reason::name`] of what has dropped the packet, or would have, had policy
    /// been enforced.
    pub reason: Option<&'static str>,
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
        let icmp = self.icmp();
        let message = if self.reason.is_some() {
            "packet would have been denied"
        } else if self.would.is_some() {
            "packet matched a rule of a staged policy"
        } else {
            "packet matched a Log rule"
        };
        info!(
            target: "hostfw::rule",
            prefix = self.would.is_none().then_some(&*self.prefix),
            endpoint = self.endpoint,
            interface = self.interface,
            stage = self.stage,
            tier = self.tier,
            kind = self.kind,
            policy = self.policy,
            rule = self.rule,
            would = self.would,
            reason = self.reason,
            protocol = self.protocol,
            source = %self.source.ip(),
            source_port = icmp.is_none().then(|| self.source.port()),
            destination = %self.destination.ip(),
            destination_port = icmp.is_none().then(|| self.destination.port()),
            icmp_type = icmp.map(|(kind, _)| kind),
            icmp_code = icmp.map(|(_, code)| code),
            "{message}"
        );
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

/// Logs events as they come, and keeps the last ones, until the ring buffer fails.
/// What is dropped is kept and not logged: that is most of what comes from outside.
///
/// # Errors
///
/// If the ring buffer cannot be waited for.
pub async fn follow(
    ring: RingBuf<MapData>,
    names: NameBook,
    reports: RecentReports,
) -> io::Result<()> {
    // SAFETY: a `RingBuf` keeps the descriptor of its map open until it is
    // dropped, and nothing here closes it.
    let mut ring = unsafe { AsyncFd::register(ring) }?;
    loop {
        let mut guard = ring.readable_mut().await?;
        while let Some(record) = guard.get_inner_mut().next() {
            match decode(&record) {
                Some(event) => {
                    let event = names.describe(&event);
                    if !event.denied {
                        event.log();
                    }
                    reports.add(Report::of(&event, adopt::now()));
                }
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

/// Logs and keeps events in a task of the current runtime.
pub fn spawn(ring: RingBuf<MapData>, names: NameBook, reports: RecentReports) {
    tokio::spawn(async move {
        if let Err(error) = follow(ring, names, reports).await {
            error!(%error, "packets are no longer reported");
        }
    });
}

#[cfg(test)]
mod tests {
    use hostfw_common::{
        endpoint::EndpointId,
        event::NO_REASON,
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
            list: List::PreDnat as u8,
            reason: NO_REASON,
            outcome: Outcome::Enforced as u8,
            _pad: [0; 2],
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
        book.set_log_prefix("%t %k %n|%p 100%");
        book
    }

    #[test]
    fn numbers_become_names() {
        assert_eq!(
            book().describe(&event()),
            LogEvent {
                time: 1,
                direction: Direction::Ingress,
                prefix: "default GlobalNetworkPolicy drop-other-ingress|drop-other-ingress 100%"
                    .to_owned(),
                endpoint: "node1-eth0".to_owned(),
                interface: "eth0".to_owned(),
                stage: Some("preDNAT"),
                tier: Some("default".to_owned()),
                kind: Some("GlobalNetworkPolicy"),
                policy: Some("drop-other-ingress".to_owned()),
                rule: Some("ingress[3]".to_owned()),
                denied: false,
                would: None,
                reason: None,
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
                described.policy.as_deref(),
                &*described.interface
            ),
            ("#0", Some("#1"), "#9")
        );
        assert_eq!((described.tier, described.kind), (None, None));
        assert_eq!(described.prefix, "  #1|#1 100%");
    }

    #[test]
    fn only_specifiers_of_a_prefix_are_replaced() {
        let expanded = |prefix| expand(prefix, Some("t"), Some("k"), "n");
        for (prefix, expected) in [
            ("", ""),
            ("calico-packet", "calico-packet"),
            ("%t", "t"),
            ("%%t%x%", "%t%x%"),
            ("é%né", "éné"),
        ] {
            assert_eq!(expanded(prefix), expected, "{prefix}");
        }
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
            list: List::NormalOut as u8,
            rule: RuleEntry::new(
                PolicyId { number: 1 },
                3,
                Action::StagedDeny,
                Direction::Egress,
            ),
            ..event()
        });
        assert_eq!(described.icmp(), Some((128, 0)));
        assert_eq!(described.stage, Some("normal"));
        assert_eq!(described.would, Some("deny"));
        assert_eq!(described.rule.as_deref(), Some("egress[3]"));
        assert_eq!(described.source.ip(), "fd00::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_has_dropped_a_packet_or_would_have_is_named() {
        let describe = |reason: Reason, number, outcome: Outcome| {
            book().describe(&Event {
                reason: reason as u8,
                outcome: outcome as u8,
                rule: RuleEntry::new(PolicyId { number }, 3, Action::Deny, Direction::Ingress),
                ..event()
            })
        };
        let would = |reason: Reason, number| {
            let described = describe(reason, number, Outcome::Observed);
            assert_eq!((described.would, described.denied), (Some("deny"), false));
            assert_eq!(described.reason, Some(reason.name()));
            let enforced = describe(reason, number, Outcome::Enforced);
            assert_eq!((enforced.would, enforced.denied), (None, true));
            assert_eq!(enforced.policy, described.policy);
            assert_eq!(enforced.reason, described.reason);
            (described.tier, described.policy, described.rule)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            would(Reason::RuleDeny, 1),
            (
                some("default"),
                some("drop-other-ingress"),
                some("ingress[3]")
            )
        );
        assert_eq!(
            would(Reason::UntrackedDeny, 0),
            (some("default"), some("a"), some("ingress[3]"))
        );
        // The number is the tier's then.
        assert_eq!(would(Reason::TierDefault, 0), (some("default"), None, None));
        assert_eq!(would(Reason::TierDefault, 7), (some("#7"), None, None));
        assert_eq!(would(Reason::EndpointDefault, 0), (None, None, None));
        assert_eq!(would(Reason::Invalid, 0), (None, None, None));
        let stage = |reason| describe(reason, 0, Outcome::Enforced).stage;
        assert_eq!(stage(Reason::Invalid), Some("preDNAT"));
        for reason in [Reason::Undecodable, Reason::OrphanFragment] {
            assert_eq!(stage(reason), None);
        }
    }

    #[test]
    fn counts_of_staged_rules_have_names() {
        let key = StagedKey {
            generation: 4,
            policy: PolicyId { number: 1 },
            index: 2,
            list: List::PreDnat as u8,
            action: Action::StagedDeny as u8,
            ..StagedKey::default()
        };
        assert_eq!(
            book().describe_staged(&key, 5),
            Some(StagedStatus {
                endpoint: "node1-eth0".to_owned(),
                stage: "preDNAT".to_owned(),
                tier: Some("default".to_owned()),
                policy: "drop-other-ingress".to_owned(),
                rule: "ingress[2]".to_owned(),
                would: "deny".to_owned(),
                packets: 5,
            })
        );
        let unknown = StagedKey {
            generation: 3,
            ..key
        };
        assert_eq!(book().describe_staged(&unknown, 5), None);
    }

    #[test]
    fn old_generations_are_forgotten_first() {
        let book = book();
        for generation in 5..5 + REMEMBERED as u64 {
            book.add_generation(generation, Names::default());
        }
        assert_eq!(book.describe(&event()).policy.as_deref(), Some("#1"));
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
