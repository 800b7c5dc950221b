//! What staged policies would have done so far.
//!
//! The programs count by the numbers of a generation, so the counts of those
//! that are no longer in force are collected by name.

use std::collections::BTreeMap;

use hostfw_common::counter::StagedKey;

use crate::observe::{events::NameBook, status::StagedStatus};

/// Everything but the count, in the order of the status.
type Rule = (String, String, Option<String>, String, String, String);

/// Counts of generations that are no longer in force.
#[derive(Clone, Debug, Default)]
pub(super) struct StagedCounts {
    collected: BTreeMap<Rule, u64>,
}

impl StagedCounts {
    /// Takes in the counts of all generations but one, and gives their keys, which
    /// are to be forgotten. Where no name is known, an earlier agent's, there is
    /// nothing to be told of.
    pub(super) fn collect(
        &mut self,
        counts: &[(StagedKey, u64)],
        in_force: u64,
        names: &NameBook,
    ) -> Vec<StagedKey> {
        let in_force = in_force as u32;
        let past = counts.iter().filter(|(key, _)| key.generation != in_force);
        past.map(|(key, packets)| {
            if let Some(status) = names.describe_staged(key, *packets) {
                add(&mut self.collected, status);
            }
            *key
        })
        .collect()
    }

    /// What was collected, and these counts.
    pub(super) fn statuses(
        &self,
        counts: &[(StagedKey, u64)],
        names: &NameBook,
    ) -> Vec<StagedStatus> {
        let mut all = self.collected.clone();
        for (key, packets) in counts {
            if let Some(status) = names.describe_staged(key, *packets) {
                add(&mut all, status);
            }
        }
        let status = |(rule, packets): (Rule, u64)| {
            let (endpoint, stage, tier, policy, rule, would) = rule;
            StagedStatus {
                endpoint,
                stage,
                tier,
                policy,
                rule,
                would,
                packets,
            }
        };
        all.into_iter().map(status).collect()
    }
}

fn add(counts: &mut BTreeMap<Rule, u64>, status: StagedStatus) {
    let StagedStatus {
        endpoint,
        stage,
        tier,
        policy,
        rule,
        would,
        packets,
    } = status;
    *counts
        .entry((endpoint, stage, tier, policy, rule, would))
        .or_default() += packets;
}
