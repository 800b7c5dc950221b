use super::Order;

/// A `Tier`: policies that are evaluated together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// `metadata.name`.
    pub name: String,
    /// Lower first.
    pub order: Order,
    /// What becomes of a packet that no rule of the tier decides.
    pub default_action: TierDefault,
}

/// What becomes of a packet that no rule of a tier decides, if a policy of the
/// tier applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierDefault {
    /// It is dropped.
    Deny,
    /// The next tier is looked at.
    Pass,
}

impl Tier {
    /// The tier of policies that name none.
    pub const DEFAULT: &str = "default";

    /// The tiers that are always there, and cannot be otherwise (Calico:
    /// api/pkg/apis/projectcalico/v3/tier.go).
    #[must_use]
    pub fn always_there() -> [Self; 3] {
        let tier = |name: &str, order, default_action| Self {
            name: name.to_owned(),
            order: Order::new(order).unwrap_or(Order::LAST),
            default_action,
        };
        [
            tier("kube-admin", 1_000.0, TierDefault::Pass),
            tier(Self::DEFAULT, 1_000_000.0, TierDefault::Deny),
            tier("kube-baseline", 10_000_000.0, TierDefault::Pass),
        ]
    }
}
