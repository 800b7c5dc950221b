//! Untracked policies whose replies nothing allows.

use std::collections::BTreeMap;

use hostfw_common::verdict::Direction;

use super::{
    Warning,
    view::{Labelled, field_of, on, rules_of, rules_of_profile},
};
use crate::model::{InterfaceMatch, Model, Policy, Rule, RuleAction, Stage};

/// Finds untracked policies that allow one direction, on endpoints where no
/// rule allows the other: an untracked packet opens no way for its replies.
pub(super) fn without_replies(model: &Model, endpoints: &[Labelled<'_>]) -> Vec<Warning> {
    let enforced: Vec<(&Policy, Allowed)> = model
        .policies
        .iter()
        .map(|policy| &**policy)
        .filter(|policy| policy.staged.is_none() && policy.stage != Stage::PreDnat)
        .map(|policy| (policy, Direction::ALL.map(|d| allow(rules_of(policy, d)))))
        .collect();
    let is_untracked = |index: usize| enforced[index].0.stage == Stage::Untracked;
    if !(0..enforced.len()).any(is_untracked) {
        return Vec::new();
    }
    let mut found: BTreeMap<(usize, Direction), Vec<&str>> = BTreeMap::new();
    for labelled in endpoints {
        if labelled.endpoint.interface == InterfaceMatch::Wildcard || labelled.has_allow_all() {
            continue;
        }
        let applying: Vec<usize> = (0..enforced.len())
            .filter(|&index| labelled.is_meant_by(enforced[index].0))
            .collect();
        if !applying.iter().any(|&index| is_untracked(index)) {
            continue;
        }
        for direction in Direction::ALL {
            let back = direction.opposite();
            let allows = |index: usize, direction| enforced[index].1[direction as usize];
            let answers_pass = applying.iter().any(|&index| allows(index, back))
                || labelled
                    .profiles
                    .iter()
                    .any(|profile| allow(rules_of_profile(profile, back)));
            for &index in &applying {
                if !answers_pass && is_untracked(index) && allows(index, direction) {
                    let endpoints = found.entry((index, direction)).or_default();
                    endpoints.push(&labelled.endpoint.name);
                }
            }
        }
    }
    found
        .into_iter()
        .map(|((index, direction), endpoints)| Warning {
            about: enforced[index].0.object_ref(),
            message: format!(
                "{} allows packets without connection tracking, and no rule allows what answers \
                 them{}. Add rules for the answers to {}",
                field_of(direction),
                on(&endpoints),
                field_of(direction.opposite())
            ),
        })
        .collect()
}

/// Whether a policy allows anything, by direction.
type Allowed = [bool; 2];

fn allow(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| rule.action == RuleAction::Allow)
}
