//! What was reported of packets: the last ones, for whoever wants to see them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{counters::direction_name, events::LogEvent};

/// Reports that are kept of denials, and of all others.
const KEPT: usize = 1024;
/// Reports of each that are taken in in a second: more are for nobody to read.
const PER_SECOND: u32 = 500;
/// Of them, denials of one kind, for a flood not to crowd out all others.
const DENIALS_OF_A_KIND: u32 = PER_SECOND / 5;

/// The verdict on what was dropped.
const DENIED: &str = "denied";

/// A packet that a rule with action Log or of a staged policy has met, or that was
/// denied, or would have been if anything were enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When, as in RFC 3339, in UTC.
    pub time: String,
    /// Name of the interface at the wire.
    pub interface: String,
    /// Name of the endpoint that governs it.
    pub endpoint: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Where the packet comes from.
    pub source: IpAddr,
    /// Its port; not of ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Where it goes.
    pub destination: IpAddr,
    /// Its port; not of ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Type and code of ICMP or ICMPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// `denied`; `logged` by a rule with action Log; of staged policies, and where
    /// nothing is enforced, `would-allow`, `would-deny` or `would-pass`.
    pub verdict: String,
    /// [`Stage::name`](hostfw_common::stage::Stage::name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The policy's tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Kind of the policy or profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The rule as a path in the policy's spec: `ingress[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// [`Reason::name`](hostfw_common::verdict::Reason::name) of what has dropped
    /// the packet, or would have, where nothing is enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Report {
    /// Of an event; `now` is the monotonic clock's, in nanoseconds.
    #[must_use]
    pub fn of(event: &LogEvent, now: u64) -> Self {
        let icmp = event.icmp();
        let ago = Duration::from_nanos(now.saturating_sub(event.time));
        let time = SystemTime::now().checked_sub(ago);
        let time = Timestamp::try_from(time.unwrap_or(SystemTime::UNIX_EPOCH));
        let text = |text: Option<&'static str>| text.map(str::to_owned);
        let port = |port: u16| icmp.is_none().then_some(port);
        Self {
            // Milliseconds do: the clocks are no better.
            time: format!("{:.3}", time.unwrap_or_default()),
            interface: event.interface.clone(),
            endpoint: event.endpoint.clone(),
            direction: direction_name(event.direction).to_owned(),
            protocol: event.protocol,
            source: event.source.ip(),
            source_port: port(event.source.port()),
            destination: event.destination.ip(),
            destination_port: port(event.destination.port()),
            icmp,
            verdict: match event.would {
                Some(would) => format!("would-{would}"),
                None if event.denied => DENIED.to_owned(),
                None => "logged".to_owned(),
            },
            stage: text(event.stage),
            tier: event.tier.clone(),
            kind: text(event.kind),
            policy: event.policy.clone(),
            rule: event.rule.clone(),
            reason: text(event.reason),
        }
    }

    fn is_denial(&self) -> bool {
        self.verdict == DENIED
    }

    /// A number that reports of the same kind share: by what, where, and which
    /// service was asked for.
    fn kind(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.endpoint, &self.interface, &self.direction).hash(&mut hasher);
        (&self.stage, &self.tier, &self.policy, &self.rule).hash(&mut hasher);
        (&self.reason, self.protocol, self.destination_port).hash(&mut hasher);
        hasher.finish()
    }
}

/// Some reports, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// In the order in which they came.
    pub reports: Vec<Report>,
    /// What to ask for next.
    pub next: u64,
    /// Reports since what was asked for that are not kept.
    pub lost: u64,
    /// Packets that were dropped since the kernel's maps were made, and of which it
    /// did not report. An agent of before this was counted says nothing.
    #[serde(default)]
    pub hidden: u64,
}

/// The last reports. Clones share them.
#[derive(Clone, Debug)]
pub struct RecentReports(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// Number of the first report ever.
    begin: u64,
    /// Number of the next one, whether or not it will be kept.
    next: u64,
    denials: Last,
    others: Last,
}

/// The last reports of denials, or of all others: neither push out the others.
#[derive(Debug, Default)]
struct Last {
    /// With their numbers and kinds.
    reports: VecDeque<(u64, u64, Report)>,
    /// How many of each kind there are.
    kinds: HashMap<u64, usize>,
    /// When the current second has begun.
    second: Option<Instant>,
    /// How many it has taken in, of all kinds and of each.
    taken: u32,
    taken_of: HashMap<u64, u32>,
}

impl Last {
    /// Keeps a report, unless there were too many in this second.
    fn add(&mut self, number: u64, report: Report, now: Instant) {
        let since = |begin| now.saturating_duration_since(begin);
        if self
            .second
            .is_none_or(|begin| since(begin) >= Duration::from_secs(1))
        {
            self.second = Some(now);
            self.taken = 0;
            self.taken_of.clear();
        }
        let kind = report.kind();
        let of_kind = self.taken_of.entry(kind).or_default();
        if self.taken == PER_SECOND || report.is_denial() && *of_kind == DENIALS_OF_A_KIND {
            return;
        }
        self.taken += 1;
        *of_kind += 1;
        if self.reports.len() == KEPT {
            self.make_room();
        }
        *self.kinds.entry(kind).or_default() += 1;
        self.reports.push_back((number, kind, report));
    }

    /// Forgets the oldest report of those kinds that most are of.
    fn make_room(&mut self) {
        let most = self.kinds.values().copied().max();
        let place = self
            .reports
            .iter()
            .position(|(_, kind, _)| self.kinds.get(kind).copied() == most);
        let Some((_, kind, _)) = place.and_then(|place| self.reports.remove(place)) else {
            return;
        };
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&kind);
            }
        }
    }
}

impl Default for RecentReports {
    fn default() -> Self {
        // By the clock: who asks for what follows a report of an earlier agent
        // gets all of this one's.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::beginning(since.map_or(0, |since| since.as_micros() as u64))
    }
}

impl RecentReports {
    fn beginning(begin: u64) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            begin,
            next: begin,
            denials: Last::default(),
            others: Last::default(),
        })))
    }

    /// Keeps a report, unless there were too many in this second.
    pub fn add(&self, report: Report) {
        self.add_at(report, Instant::now());
    }

    fn add_at(&self, report: Report, now: Instant) {
        // It is whole after every statement.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = kept.next;
        kept.next += 1;
        let last = if report.is_denial() {
            &mut kept.denials
        } else {
            &mut kept.others
        };
        last.add(number, report, now);
    }

    /// Those from a number on, or all that are kept.
    #[must_use]
    pub fn since(&self, from: Option<u64>) -> Reports {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = from.map(|from| match from {
            from if from <= kept.next => from.max(kept.begin),
            // The clock was put back between two agents.
            _ => kept.begin,
        });
        let mut numbered: Vec<(u64, &Report)> = [&kept.denials, &kept.others]
            .into_iter()
            .flat_map(|last| &last.reports)
            .map(|(number, _, report)| (*number, report))
            .filter(|(number, _)| from.is_none_or(|from| *number >= from))
            .collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        let reports: Vec<Report> = numbered
            .iter()
            .map(|(_, report)| (*report).clone())
            .collect();
        Reports {
            // Who has not asked before has lost nothing.
            lost: from.map_or(0, |from| {
                (kept.next - from).saturating_sub(reports.len() as u64)
            }),
            reports,
            next: kept.next,
            hidden: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hostfw_common::verdict::Direction;

    use super::*;

    fn event() -> LogEvent {
        LogEvent {
            time: 5_000_000_000,
            prefix: "calico-packet".to_owned(),
            endpoint: "node1-eth0".to_owned(),
            interface: "eth0".to_owned(),
            direction: Direction::Ingress,
            stage: Some("normal"),
            tier: Some("default".to_owned()),
            kind: Some("GlobalNetworkPolicy"),
            policy: Some("look".to_owned()),
            rule: Some("ingress[0]".to_owned()),
            denied: false,
            would: None,
            reason: None,
            protocol: 6,
            source: "192.0.2.7:40000".parse().unwrap(),
            destination: "10.240.0.1:22".parse().unwrap(),
        }
    }

    #[test]
    fn an_event_becomes_a_report_with_its_time() {
        let report = Report::of(&event(), 5_000_000_000);
        assert_eq!(report.verdict, "logged");
        assert_eq!(report.direction, "ingress");
        assert_eq!(
            (report.source_port, report.destination_port),
            (Some(40_000), Some(22))
        );
        assert_eq!(report.icmp, None);
        let time: Timestamp = report.time.parse().unwrap();
        let early = Report::of(&event(), 3_605_000_000_000).time;
        let early: Timestamp = early.parse().unwrap();
        let between = time.as_second() - early.as_second();
        assert!((3590..=3610).contains(&between), "{between}");
        assert_eq!(report.time.len(), "2026-01-01T00:00:00.000Z".len());
    }

    #[test]
    fn icmp_has_type_and_code_and_staged_policies_their_verdict() {
        let report = Report::of(
            &LogEvent {
                protocol: 1,
                source: "192.0.2.7:0".parse().unwrap(),
                destination: "10.240.0.1:2048".parse().unwrap(),
                would: Some("deny"),
                ..event()
            },
            0,
        );
        assert_eq!(report.icmp, Some((8, 0)));
        assert_eq!((report.source_port, report.destination_port), (None, None));
        assert_eq!(report.verdict, "would-deny");
    }

    fn denied(port: u16) -> Report {
        let event = LogEvent {
            denied: true,
            reason: Some("rule-deny"),
            destination: SocketAddr::new("10.240.0.1".parse().unwrap(), port),
            ..event()
        };
        timeless(&event)
    }

    /// Two of the same event are equal.
    fn timeless(event: &LogEvent) -> Report {
        Report {
            time: String::new(),
            ..Report::of(event, 0)
        }
    }

    #[test]
    fn what_was_dropped_is_denied() {
        let report = denied(22);
        assert_eq!(report.verdict, "denied");
        assert_eq!(report.reason.as_deref(), Some("rule-deny"));
        assert_eq!(report.policy.as_deref(), Some("look"));
    }

    #[test]
    fn a_flood_of_denials_leaves_what_is_not_of_it() {
        let recent = RecentReports::beginning(0);
        let mut now = Instant::now();
        recent.add_at(numbered(7), now);
        recent.add_at(denied(5432), now);
        for _ in 0..20 {
            for _ in 0..1000 {
                recent.add_at(denied(80), now);
            }
            // Another kind comes through in the middle of it.
            recent.add_at(denied(443), now);
            now += Duration::from_secs(1);
        }
        let told = recent.since(Some(0));
        let count = |report: &Report| told.reports.iter().filter(|one| *one == report).count();
        assert_eq!(count(&numbered(7)), 1);
        assert_eq!(count(&denied(5432)), 1);
        assert_eq!(count(&denied(443)), 20);
        assert_eq!(count(&denied(80)), KEPT - 21);
        assert_eq!(told.reports.len(), KEPT + 1);
        assert_eq!(told.lost, 2 + 20 * 1001 - (KEPT as u64 + 1));
        // In the order in which they came.
        assert_eq!(told.reports[0], numbered(7));
        assert_eq!(told.reports[1], denied(5432));
        // A second takes in so many of a kind.
        assert_eq!(recent.since(None).lost, 0);
        let few = RecentReports::beginning(0);
        for _ in 0..1000 {
            few.add_at(denied(80), now);
        }
        assert_eq!(few.since(None).reports.len(), DENIALS_OF_A_KIND as usize);
        // Of many kinds, too, it takes in no more than of others.
        for port in 0..1000 {
            few.add_at(denied(port), now);
        }
        assert_eq!(few.since(None).reports.len(), PER_SECOND as usize);
    }

    fn numbered(number: u16) -> Report {
        Report {
            source_port: Some(number),
            ..timeless(&event())
        }
    }

    #[test]
    fn who_follows_gets_each_report_once() {
        let recent = RecentReports::beginning(100);
        let now = Instant::now();
        assert_eq!(
            recent.since(None),
            Reports {
                next: 100,
                ..Reports::default()
            }
        );
        recent.add_at(numbered(1), now);
        recent.add_at(numbered(2), now);
        let first = recent.since(None);
        assert_eq!(first.reports, [numbered(1), numbered(2)]);
        assert_eq!((first.next, first.lost), (102, 0));
        recent.add_at(numbered(3), now);
        let second = recent.since(Some(first.next));
        assert_eq!(second.reports, [numbered(3)]);
        assert_eq!(recent.since(Some(second.next)).reports, []);
        // An earlier agent's number, and one of a clock that was put back.
        for other in [7, 1000] {
            let all = recent.since(Some(other));
            assert_eq!((all.reports.len(), all.lost), (3, 0), "{other}");
        }
    }

    #[test]
    fn a_flood_is_cut_and_what_is_lost_is_told() {
        let recent = RecentReports::beginning(0);
        let mut now = Instant::now();
        for _ in 0..PER_SECOND + 40 {
            recent.add_at(numbered(1), now);
        }
        let told = recent.since(Some(0));
        assert_eq!(told.reports.len(), PER_SECOND as usize);
        assert_eq!(told.lost, 40);
        for _ in 0..3 {
            now += Duration::from_secs(1);
            for _ in 0..PER_SECOND {
                recent.add_at(numbered(2), now);
            }
        }
        let told = recent.since(Some(told.next));
        assert_eq!(told.reports.len(), KEPT);
        assert_eq!(told.lost, u64::from(3 * PER_SECOND) - KEPT as u64);
        // Who has not asked before has lost nothing.
        assert_eq!(recent.since(None).lost, 0);
    }
}
