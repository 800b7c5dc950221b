//! In which order tiers are evaluated, and what they do with what no rule
//! decides.

use std::collections::HashMap;

use crate::model::{Order, Tier, TierDefault};

/// The tiers, by name.
pub(super) struct Tiers(HashMap<String, (Order, TierDefault)>);

/// Where a tier stands: lower first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    /// A policy names the tier, and there is no such `Tier`: behind all that
    /// there are, those without an order included (Calico:
    /// felix/calc/policy_sorter.go, TierLess).
    missing: bool,
    order: Order,
    name: &'a str,
}

impl Tiers {
    /// With those that are always there.
    pub(super) fn new(tiers: &[Tier]) -> Self {
        Self(
            Tier::always_there()
                .iter()
                .chain(tiers)
                .map(|tier| (tier.name.clone(), (tier.order, tier.default_action)))
                .collect(),
        )
    }

    pub(super) fn rank<'n>(&self, name: &'n str) -> Rank<'n> {
        let known = self.0.get(name);
        Rank {
            missing: known.is_none(),
            order: known.map_or(Order::LAST, |&(order, _)| order),
            name,
        }
    }

    pub(super) fn denies(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_none_or(|&(_, default)| default == TierDefault::Deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::fixture::tier;

    #[test]
    fn order_then_name_and_tiers_without_an_object_last() {
        let given = [
            tier("a-last", f64::INFINITY, TierDefault::Deny),
            tier("b", 5.0, TierDefault::Deny),
            tier("a", 5.0, TierDefault::Deny),
            tier("after-default", 1_000_001.0, TierDefault::Deny),
        ];
        let tiers = Tiers::new(&given);
        let mut names = [
            "A-missing",
            "after-default",
            "kube-baseline",
            "a-last",
            "default",
            "b",
            "a",
            "kube-admin",
        ];
        names.sort_by_key(|name| tiers.rank(name));
        assert_eq!(
            names,
            [
                "a",
                "b",
                "kube-admin",
                "default",
                "after-default",
                "kube-baseline",
                "a-last",
                "A-missing"
            ]
        );
    }

    #[test]
    fn a_tier_denies_unless_it_says_that_it_passes() {
        let given = [
            tier("p", 1.0, TierDefault::Pass),
            tier("d", 1.0, TierDefault::Deny),
        ];
        let tiers = Tiers::new(&given);
        assert!(!tiers.denies("p") && tiers.denies("d"));
        assert!(tiers.denies("default") && tiers.denies("missing"));
        assert!(!tiers.denies("kube-admin") && !tiers.denies("kube-baseline"));
    }
}
