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
pub(super) fn without_replies(model: &Model) -> Vec<Warning> {
    let enforced: Vec<&Policy> = model
        .policies
        .iter()
        .filter(|policy| policy.staged.is_none() && policy.stage != Stage::PreDnat)
        .collect();
    if enforced
        .iter()
        .all(|policy| policy.stage != Stage::Untracked)
    {
        return Vec::new();
    }
    let mut found: BTreeMap<(usize, Direction), Vec<&str>> = BTreeMap::new();
    for labelled in Labelled::all(model) {
        if labelled.endpoint.interface == InterfaceMatch::Wildcard || labelled.has_allow_all() {
            continue;
        }
        let applying: Vec<usize> = (0..enforced.len())
            .filter(|&index| labelled.is_meant_by(enforced[index]))
            .collect();
        for direction in Direction::ALL {
            let back = direction.opposite();
            let replies_pass = applying
                .iter()
                .flat_map(|&index| rules_of(enforced[index], back))
                .chain(
                    labelled
                        .profiles
                        .iter()
                        .flat_map(|profile| rules_of_profile(profile, back)),
                )
                .any(allows);
            if replies_pass {
                continue;
            }
            for &index in &applying {
                let policy = enforced[index];
                if policy.stage == Stage::Untracked
                    && rules_of(policy, direction).iter().any(allows)
                {
                    let endpoints = found.entry((index, direction)).or_default();
                    endpoints.push(&labelled.endpoint.name);
                }
            }
        }
    }
    found
        .into_iter()
        .map(|((index, direction), endpoints)| Warning {
            about: enforced[index].object_ref(),
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

fn allows(rule: &Rule) -> bool {
    rule.action == RuleAction::Allow
}
