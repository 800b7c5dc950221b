//! Which rule is which: an unchanged rule that has moved is the same, one that says
//! something else is another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hostfw_common::verdict::Direction;

use crate::{
    compile::image::Names,
    model::{ObjectRef, Rule},
    validate::Object,
};

/// Stands for a rule as long as an agent runs; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleId(u64);

/// A policy in a tier, or a profile. One that moves to another tier is another.
type Subject = (ObjectRef, Option<String>);

/// The rules of what is enforced.
#[derive(Debug, Default)]
pub(super) struct Rules {
    last: u64,
    policies: BTreeMap<Subject, Policy>,
    tiers: BTreeMap<String, RuleId>,
}

#[derive(Debug)]
struct Policy {
    /// `None` of a profile that is missing.
    object: Option<Object>,
    /// By direction and index.
    ids: [Arc<[RuleId]>; 2],
    /// Of the denial that stands for a profile that is missing.
    missing: RuleId,
}

/// The rules behind the numbers of a generation.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    policies: Vec<Option<[Arc<[RuleId]>; 2]>>,
    missing: Vec<RuleId>,
    tiers: Vec<RuleId>,
}

impl Numbered {
    /// A rule of a policy, by their numbers.
    pub(super) fn rule(&self, policy: u32, direction: Direction, index: u16) -> Option<RuleId> {
        match self.policies.get(policy as usize)? {
            Some(ids) => ids[direction as usize].get(usize::from(index)).copied(),
            None => self.missing.get(policy as usize).copied(),
        }
    }

    /// The default of a tier, by its number.
    pub(super) fn tier(&self, tier: u32) -> Option<RuleId> {
        self.tiers.get(tier as usize).copied()
    }
}

impl Rules {
    /// Takes in what is to be enforced: the policies that have these names, as
    /// `object` gives them. What is not among them is forgotten. True: something
    /// was, or says something else.
    pub(super) fn update(
        &mut self,
        names: &Names,
        object: impl Fn(&ObjectRef) -> Option<Object>,
    ) -> (Numbered, bool) {
        let last = self.last;
        let mut before = std::mem::take(&mut self.policies);
        let mut changed = false;
        let mut numbered = Numbered {
            policies: Vec::with_capacity(names.policies.len()),
            missing: Vec::with_capacity(names.policies.len()),
            tiers: Vec::with_capacity(names.tiers.len()),
        };
        for policy in &names.policies {
            let tier = policy.tier.and_then(|tier| names.tier(tier));
            let subject = (policy.object.clone(), tier.map(str::to_owned));
            let now = object(&policy.object).filter(|_| !policy.missing);
            let known = before.remove(&subject);
            let known = match known {
                Some(known) if is_same(known.object.as_ref(), now.as_ref()) => known,
                known => {
                    changed = true;
                    self.changed(known, now)
                }
            };
            numbered
                .policies
                .push((!policy.missing).then(|| known.ids.clone()));
            numbered.missing.push(known.missing);
            self.policies.insert(subject, known);
        }
        let mut tiers = std::mem::take(&mut self.tiers);
        for tier in &names.tiers {
            let id = tiers.remove(tier).unwrap_or_else(|| self.fresh());
            numbered.tiers.push(id);
            self.tiers.insert(tier.clone(), id);
        }
        let changed = changed || last != self.last || !before.is_empty() || !tiers.is_empty();
        (numbered, changed)
    }

    /// All rules that are there.
    pub(super) fn alive(&self) -> BTreeSet<RuleId> {
        let policies = self.policies.values();
        policies
            .flat_map(|policy| policy.ids.iter().flat_map(|ids| ids.iter()))
            .chain(self.policies.values().map(|policy| &policy.missing))
            .chain(self.tiers.values())
            .copied()
            .collect()
    }

    fn changed(&mut self, known: Option<Policy>, now: Option<Object>) -> Policy {
        let mut ids = |direction| {
            let before = known.as_ref().map(|known| {
                let ids = Arc::clone(&known.ids[direction as usize]);
                (rules_of(known.object.as_ref(), direction), ids)
            });
            self.same(before, rules_of(now.as_ref(), direction))
        };
        let ids = Direction::ALL.map(&mut ids);
        let missing = known.map_or_else(|| self.fresh(), |known| known.missing);
        Policy {
            object: now,
            ids,
            missing,
        }
    }

    /// The rules of a policy, some of which were there before.
    fn same(&mut self, before: Option<(&[Rule], Arc<[RuleId]>)>, now: &[Rule]) -> Arc<[RuleId]> {
        let (rules, ids) = before.unwrap_or_default();
        if rules == now && ids.len() == now.len() {
            return ids;
        }
        let mut left: Vec<_> = rules.iter().zip(ids.iter().copied()).map(Some).collect();
        // Most come in the order in which they were: then each search is short.
        let mut begin = 0;
        now.iter()
            .map(|rule| {
                let from_here = (begin..left.len()).chain(0..begin);
                let found = from_here
                    .into_iter()
                    .find(|&at| left[at].is_some_and(|(other, _)| other == rule));
                match found.and_then(|at| Some((at, left[at].take()?))) {
                    Some((at, (_, id))) => {
                        begin = at + 1;
                        id
                    }
                    None => self.fresh(),
                }
            })
            .collect()
    }

    fn fresh(&mut self) -> RuleId {
        self.last += 1;
        RuleId(self.last)
    }
}

/// Whether an object says what it said.
fn is_same(known: Option<&Object>, now: Option<&Object>) -> bool {
    match (known, now) {
        (Some(known), Some(now)) => known == now,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The rules of an object, in one direction.
fn rules_of(object: Option<&Object>, direction: Direction) -> &[Rule] {
    match (object, direction) {
        (Some(Object::Policy(policy)), Direction::Ingress) => {
            policy.ingress.as_deref().unwrap_or_default()
        }
        (Some(Object::Policy(policy)), Direction::Egress) => {
            policy.egress.as_deref().unwrap_or_default()
        }
        (Some(Object::Profile(profile)), Direction::Ingress) => &profile.ingress,
        (Some(Object::Profile(profile)), Direction::Egress) => &profile.egress,
        (_, Direction::Ingress | Direction::Egress) => &[],
    }
}
