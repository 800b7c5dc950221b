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
