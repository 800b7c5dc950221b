//! Packet counters, as the status shows them.

use hostfw_common::{
    counter::Counter,
    verdict::{Direction, Reason, Verdict},
};

use super::status::CounterStatus;

/// The name that status and logs use for a direction.
#[must_use]
pub const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Counters for the status, in the order in which they come; those that have
/// not counted anything are left out.
#[must_use]
pub fn counter_statuses(
    counters: impl IntoIterator<Item = (Direction, Reason, Counter)>,
) -> Vec<CounterStatus> {
    counters
        .into_iter()
        .filter(|(_, _, counter)| counter.packets != 0)
        .map(|(direction, reason, counter)| CounterStatus {
            direction: direction_name(direction).to_owned(),
            reason: reason.name().to_owned(),
            verdict: match reason.verdict() {
                Verdict::Pass => "pass",
                Verdict::Drop => "drop",
            }
            .to_owned(),
            packets: counter.packets,
            bytes: counter.bytes,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_counted_is_shown() {
        let counter = |packets| Counter {
            packets,
            bytes: packets * 60,
        };
        assert_eq!(
            counter_statuses([
                (Direction::Ingress, Reason::RuleDeny, counter(2)),
                (Direction::Ingress, Reason::RuleAllow, counter(0)),
                (Direction::Egress, Reason::Established, counter(1)),
            ]),
            [
                CounterStatus {
                    direction: "ingress".to_owned(),
                    reason: "rule-deny".to_owned(),
                    verdict: "drop".to_owned(),
                    packets: 2,
                    bytes: 120,
                },
                CounterStatus {
                    direction: "egress".to_owned(),
                    reason: "established".to_owned(),
                    verdict: "pass".to_owned(),
                    packets: 1,
                    bytes: 60,
                },
            ]
        );
    }
}
