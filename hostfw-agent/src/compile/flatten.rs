//! From tiers, policies and profiles to one list of entries, searched from the
//! front.
//!
//! What leads out of the list's order says where to: Pass behind its tier, a
//! rule of a staged policy behind its policy, an exception of a rule behind
//! the rule.

use std::collections::BTreeMap;

use hostfw_common::{
    endpoint::{EndpointId, Family},
    policy::{Action, Dim, PolicyId, RuleEntry},
    verdict::Direction,
};

use super::{
    cache::Exceeded,
    dimension::Asked,
    image::{NamedPolicy, Names},
    limits::Limit,
    rule::{Dimensions, Split},
    set::Sets,
};
use crate::{
    model::{ObjectRef, RuleAction, StagedAction},
    select::{SelectedList, SelectedPolicy},
};

/// The numbers of a generation's objects.
#[derive(Default)]
pub(super) struct Numbers<'a> {
    pub(super) names: Names,
    endpoints: BTreeMap<&'a str, EndpointId>,
    policies: BTreeMap<&'a ObjectRef, PolicyId>,
    tiers: BTreeMap<&'a str, u32>,
}

impl<'a> Numbers<'a> {
    pub(super) fn endpoint(&mut self, name: &'a str, object: &ObjectRef) -> EndpointId {
        let names = &mut self.names.endpoints;
        *self.endpoints.entry(name).or_insert_with(|| {
            names.push(object.clone());
            EndpointId {
                number: names.len() as u32 - 1,
            }
        })
    }

    fn tier(&mut self, name: &'a str) -> u32 {
        let names = &mut self.names.tiers;
        *self.tiers.entry(name).or_insert_with(|| {
            names.push(name.to_owned());
            names.len() as u32 - 1
        })
    }

    fn policy(&mut self, policy: &'a SelectedPolicy, tier: Option<u32>) -> PolicyId {
        let names = &mut self.names.policies;
        *self.policies.entry(&policy.object).or_insert_with(|| {
            names.push(NamedPolicy {
                object: policy.object.clone(),
                tier,
                missing: policy.missing,
            });
            PolicyId {
                number: names.len() as u32 - 1,
            }
        })
    }
}

/// A list of entries, and what each asks in each dimension.
#[derive(Default)]
pub(super) struct Flat<'a> {
    /// At most as many as a list can have.
    pub(super) entries: Vec<RuleEntry>,
    /// What they ask, by [`Dim`].
    pub(super) asked: [Asked; Dim::COUNT],
    /// How many entries there are to be; beyond the limit, they are counted
    /// and not made.
    pub(super) found: usize,
    /// The policy at which the limit was exceeded.
    pub(super) overflowing: Option<&'a ObjectRef>,
}

/// Puts a list in the order in which it is searched.
pub(super) fn flatten<'a>(
    selected: &'a SelectedList,
    direction: Direction,
    family: Family,
    numbers: &mut Numbers<'a>,
    sets: &mut Sets,
) -> Flat<'a> {
    let mut flat = Flat::default();
    for tier in &selected.tiers {
        let number = numbers.tier(&tier.name);
        let start = flat.entries.len();
        for policy in &tier.policies {
            let id = numbers.policy(policy, Some(number));
            flat.add_policy(policy, id, (direction, family), sets);
        }
        if tier.default_deny {
            let tier_as_policy = PolicyId { number };
            let entry = RuleEntry::new(tier_as_policy, 0, Action::TierDeny, direction);
            flat.add(entry, Dimensions::any);
            flat.note_overflow(tier.policies.last());
        }
        flat.land(start, &[Action::Pass]);
    }
    let start = flat.entries.len();
    for profile in &selected.profiles {
        let id = numbers.policy(profile, None);
        flat.add_policy(profile, id, (direction, family), sets);
    }
    flat.land(start, &[Action::Pass]);
    flat
}

impl<'a> Flat<'a> {
    /// Whether some entry's action is such.
    pub(super) fn has(&self, such: impl Fn(Action) -> bool) -> bool {
        let action = |entry: &RuleEntry| Action::from_number(entry.action);
        self.entries.iter().filter_map(action).any(such)
    }

    fn add_policy(
        &mut self,
        policy: &'a SelectedPolicy,
        id: PolicyId,
        (direction, family): (Direction, Family),
        sets: &mut Sets,
    ) {
        match policy.staged {
            // As it is not to be, or not yet, there is nothing to evaluate.
            Some(StagedAction::Delete | StagedAction::Ignore) => return,
            Some(StagedAction::Set | StagedAction::Learn) | None => {}
        }
        let start = self.entries.len();
        if policy.missing {
            let entry = RuleEntry::new(id, 0, Action::Deny, direction);
            self.add(entry, Dimensions::any);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            let Some(split) = Split::new(rule, family, sets) else {
                continue;
            };
            // A policy has at most 1024 rules in a direction.
            let index = index as u16;
            let entry = |action| RuleEntry::new(id, index, action, direction);
            let needed = split.len();
            if self.found + needed > Limit::Rules.value() {
                self.found += needed;
                continue;
            }
            if needed == 0 {
                continue;
            }
            let first = self.entries.len();
            for exception in split.exceptions() {
                self.add(entry(Action::Skip), || exception);
            }
            for dimensions in split.entries() {
                self.add(entry(action(rule.action, policy.staged)), || dimensions);
            }
            self.land(first, &[Action::Skip]);
        }
        self.land(
            start,
            &[Action::StagedAllow, Action::StagedDeny, Action::StagedPass],
        );
        self.note_overflow(Some(policy));
    }

    fn add(&mut self, entry: RuleEntry, dimensions: impl FnOnce() -> Dimensions) {
        self.found += 1;
        if self.exceeded().is_some() {
            return;
        }
        let dimensions = dimensions();
        let number = self.entries.len() as u32;
        self.entries.push(entry);
        for (asked, dimension) in self.asked.iter_mut().zip(Dim::ALL) {
            asked.add(number, dimensions.of(dimension));
        }
    }

    /// The most prefixes that are asked for in one dimension.
    fn prefixes(&self) -> usize {
        let prefixes = self.asked.iter().map(Asked::prefixes);
        prefixes.max().unwrap_or(0)
    }

    /// The limit that it exceeds, and what was found. Then it is not whole.
    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        let counts = [
            (Limit::Rules, self.found),
            (Limit::Prefixes, self.prefixes()),
        ];
        counts
            .into_iter()
            .find(|&(limit, found)| found > limit.value())
    }

    /// Lets what has one of the actions, from entry `start` on, lead to what
    /// comes next.
    fn land(&mut self, start: usize, actions: &[Action]) {
        let next = self.entries.len() as u16;
        for entry in &mut self.entries[start..] {
            if actions.iter().any(|&action| action as u8 == entry.action) {
                entry.next = next;
            }
        }
    }

    fn note_overflow(&mut self, at: Option<&'a SelectedPolicy>) {
        if self.exceeded().is_some() && self.overflowing.is_none() {
            self.overflowing = at.map(|policy| &policy.object);
        }
    }
}

const fn action(of_rule: RuleAction, staged: Option<StagedAction>) -> Action {
    match (of_rule, staged) {
        (RuleAction::Log, _) => Action::Log,
        (RuleAction::Allow, None) => Action::Allow,
        (RuleAction::Deny, None) => Action::Deny,
        (RuleAction::Pass, None) => Action::Pass,
        (RuleAction::Allow, Some(_)) => Action::StagedAllow,
        (RuleAction::Deny, Some(_)) => Action::StagedDeny,
        (RuleAction::Pass, Some(_)) => Action::StagedPass,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hostfw_common::stage::List;

    use super::*;
    use crate::{
        compile::fixture::{in_default_tier, numbered, policy, profile, rule, staged, tier},
        model::{
            PortRange,
            RuleAction::{Allow, Deny, Log, Pass},
        },
        select::{Point, SelectedRule},
    };

    fn rules(actions: &[RuleAction]) -> Vec<SelectedRule> {
        actions.iter().copied().map(rule).collect()
    }

    /// Action, what holds the rule, its index and where it leads, of the IPv4
    /// list.
    fn listed(selected: &SelectedList) -> Vec<(Action, String, u16, u16)> {
        let mut numbers = Numbers::default();
        let flat = flatten(
            selected,
            Direction::Ingress,
            Family::V4,
            &mut numbers,
            &mut Sets::default(),
        );
        assert_eq!(flat.found, flat.entries.len());
        assert_eq!(flat.overflowing, None);
        flat.entries
            .iter()
            .map(|entry| {
                let action = Action::from_number(entry.action).unwrap();
                let name = if action == Action::TierDeny {
                    numbers.names.tier(entry.policy.number).unwrap()
                } else {
                    &numbers.names.policy(entry.policy).unwrap().name
                };
                (action, name.to_owned(), entry.index, entry.next)
            })
            .collect()
    }

    fn entry(action: Action, name: &str, index: u16, next: u16) -> (Action, String, u16, u16) {
        (action, name.to_owned(), index, next)
    }

    #[test]
    fn pass_leads_behind_the_default_of_its_tier_or_to_the_end() {
        let selected = SelectedList {
            tiers: vec![
                tier("t", true, vec![policy("a", rules(&[Pass, Allow]))]),
                tier("u", false, vec![policy("b", rules(&[Log, Pass]))]),
            ],
            profiles: vec![profile("p", rules(&[Pass, Allow]))],
            default_deny: true,
        };
        assert_eq!(
            listed(&selected),
            [
                entry(Action::Pass, "a", 0, 3),
                entry(Action::Allow, "a", 1, 0),
                entry(Action::TierDeny, "t", 0, 0),
                entry(Action::Log, "b", 0, 0),
                entry(Action::Pass, "b", 1, 5),
                entry(Action::Pass, "p", 0, 7),
                entry(Action::Allow, "p", 1, 0),
            ]
        );
    }

    #[test]
    fn staged_rules_lead_behind_their_policy_and_log_stays_log() {
        let mut ignored = staged("ignored", rules(&[Deny]));
        ignored.staged = Some(StagedAction::Ignore);
        let policies = vec![
            staged("s", rules(&[Log, Allow, Deny, Pass])),
            ignored,
            policy("a", rules(&[Allow])),
        ];
        let (_, selected) = in_default_tier(List::NormalIn, policies);
        assert_eq!(
            listed(&selected),
            [
                entry(Action::Log, "s", 0, 0),
                entry(Action::StagedAllow, "s", 1, 4),
                entry(Action::StagedDeny, "s", 2, 4),
                entry(Action::StagedPass, "s", 3, 4),
                entry(Action::Allow, "a", 0, 0),
                entry(Action::TierDeny, "default", 0, 0),
            ]
        );
    }

    #[test]
    fn a_missing_profile_denies_everything_behind_it() {
        let mut missing = profile("gone", Vec::new());
        missing.missing = true;
        let selected = SelectedList {
            profiles: vec![missing, profile("p", rules(&[Allow]))],
            ..SelectedList::default()
        };
        assert_eq!(
            listed(&selected),
            [
                entry(Action::Deny, "gone", 0, 0),
                entry(Action::Allow, "p", 0, 0),
            ]
        );
    }

    fn points(count: u16) -> Vec<Point> {
        let point = |number: u16| Point {
            address: Ipv4Addr::from_bits(0x0a00_0000 | u32::from(number)).into(),
            protocol: 6,
            port: 1000 + number,
        };
        (0..count).map(point).collect()
    }

    #[test]
    fn an_exception_leads_behind_its_rule() {
        let mut but = rule(Allow);
        but.protocol = Some(numbered(6));
        but.destination.ports = vec![PortRange { first: 1, last: 9 }];
        but.destination.points = Some(points(2));
        but.source.not_points = Some(points(1));
        let rules = vec![rule(Log), but, rule(Deny)];
        let (_, selected) = in_default_tier(List::PreDnat, vec![policy("a", rules)]);
        assert_eq!(
            listed(&selected),
            [
                entry(Action::Log, "a", 0, 0),
                entry(Action::Skip, "a", 1, 5),
                entry(Action::Allow, "a", 1, 0),
                entry(Action::Allow, "a", 1, 0),
                entry(Action::Allow, "a", 1, 0),
                entry(Action::Deny, "a", 2, 0),
            ]
        );
    }

    #[test]
    fn entries_beyond_the_limit_are_counted_and_not_made() {
        let mut both = rule(Allow);
        both.source.points = Some(points(3000));
        both.destination.points = Some(points(3000));
        both.destination.not_points = Some(points(5));
        let policies = vec![
            policy("a", rules(&[Allow])),
            policy("b", vec![both]),
            policy("c", rules(&[Allow])),
        ];
        let (_, selected) = in_default_tier(List::NormalIn, policies);
        let mut numbers = Numbers::default();
        let flat = flatten(
            &selected,
            Direction::Ingress,
            Family::V4,
            &mut numbers,
            &mut Sets::default(),
        );
        // The last one is the default of the tier.
        assert_eq!(flat.found, 1 + 3000 * 3000 + 5 + 1 + 1);
        assert_eq!(flat.entries.len(), 1);
        assert_eq!(flat.overflowing.unwrap().name, "b");
    }
}
