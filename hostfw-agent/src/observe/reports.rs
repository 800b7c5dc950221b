//! What rules have reported: the last packets, for whoever wants to see them.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{counters::direction_name, events::LogEvent};

/// Reports that are kept.
const KEPT: usize = 1024;
/// Reports that are taken in in a second: more are for nobody to read.
const PER_SECOND: u32 = 500;

/// A packet that a rule with action Log or of a staged policy has met, or that
/// would have been denied if anything were enforced.
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
    /// `logged`; of staged policies, and where nothing is enforced,
    /// `would-allow`, `would-deny` or `would-pass`.
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
    /// [`Reason::name`](hostfw_common::verdict::Reason::name) of what would have
    /// dropped the packet, where nothing is enforced.
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
            verdict: event
                .would
                .map_or_else(|| "logged".to_owned(), |would| format!("would-{would}")),
            stage: text(event.stage),
            tier: event.tier.clone(),
            kind: text(event.kind),
            policy: event.policy.clone(),
            rule: event.rule.clone(),
            reason: text(event.reason),
        }
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
}

/// The last reports. Clones share them.
#[derive(Clone, Debug)]
pub struct RecentReports(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// With their numbers.
    reports: VecDeque<(u64, Report)>,
    /// Number of the first report ever.
    begin: u64,
    /// Number of the next one, whether or not it will be kept.
    next: u64,
    /// When the current second has begun, and how many it has taken in.
    second: (Instant, u32),
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
            reports: VecDeque::new(),
            begin,
            next: begin,
            second: (Instant::now(), 0),
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
        if now.saturating_duration_since(kept.second.0) >= Duration::from_secs(1) {
            kept.second = (now, 0);
        }
        if kept.second.1 == PER_SECOND {
            return;
        }
        kept.second.1 += 1;
        if kept.reports.len() == KEPT {
            kept.reports.pop_front();
        }
        kept.reports.push_back((number, report));
    }

    /// Those from a number on, or all that are kept.
    #[must_use]
    pub fn since(&self, from: Option<u64>) -> Reports {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match from {
            Some(from) if from <= kept.next => from.max(kept.begin),
            // The clock was put back between two agents.
            Some(_) => kept.begin,
            None => kept
                .reports
                .front()
                .map_or(kept.next, |(number, _)| *number),
        };
        let reports: Vec<Report> = kept
            .reports
            .iter()
            .filter(|(number, _)| *number >= from)
            .map(|(_, report)| report.clone())
            .collect();
        Reports {
            lost: (kept.next - from).saturating_sub(reports.len() as u64),
            reports,
            next: kept.next,
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn numbered(number: u16) -> Report {
        Report {
            source_port: Some(number),
            ..Report::of(&event(), 0)
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
