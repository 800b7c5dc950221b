//! Packet counters, as the status shows them.

use hostfw_common::{
    counter::{Checkpoint, Counter, Outcome},
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
/// not counted anything are left out. `outcome` is that of all of them.
#[must_use]
pub fn counter_statuses(
    counters: impl IntoIterator<Item = (Checkpoint, Reason, Counter)>,
    outcome: Outcome,
) -> Vec<CounterStatus> {
    counters
        .into_iter()
        .filter(|(_, _, counter)| counter.packets != 0)
        .map(|(checkpoint, reason, counter)| CounterStatus {
            checkpoint: checkpoint.name().to_owned(),
            reason: reason.name().to_owned(),
            verdict: match (reason.verdict(), outcome) {
                (Verdict::Pass, _) => "pass",
                (Verdict::Drop, Outcome::Enforced) => "drop",
                (Verdict::Drop, Outcome::Observed) => "would-drop",
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
            counter_statuses(
                [
                    (Checkpoint::WireIn, Reason::RuleDeny, counter(2)),
                    (Checkpoint::WireIn, Reason::RuleAllow, counter(0)),
                    (Checkpoint::WireOut, Reason::Established, counter(1)),
                ],
                Outcome::Enforced
            ),
            [
                CounterStatus {
                    checkpoint: "wire-in".to_owned(),
                    reason: "rule-deny".to_owned(),
                    verdict: "drop".to_owned(),
                    packets: 2,
                    bytes: 120,
                },
                CounterStatus {
                    checkpoint: "wire-out".to_owned(),
                    reason: "established".to_owned(),
                    verdict: "pass".to_owned(),
                    packets: 1,
                    bytes: 60,
                },
            ]
        );
    }

    #[test]
    fn what_passed_although_denied_says_so() {
        let counter = Counter {
            packets: 1,
            bytes: 60,
        };
        let counters = [(Checkpoint::Forward, Reason::TierDefault, counter)];
        let statuses = counter_statuses(counters, Outcome::Observed);
        assert_eq!(statuses[0].verdict, "would-drop");
        assert_eq!(statuses[0].reason, "tier-default");
    }
}
