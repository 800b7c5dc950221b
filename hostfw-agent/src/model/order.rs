use std::cmp::Ordering;

/// A policy's `order`: lower first, absent last (Calico:
/// felix/calc/policy_sorter.go).
///
/// Never NaN, so that it has a total order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order(f64);

impl Order {
    /// What an absent order means.
    pub const LAST: Self = Self(f64::INFINITY);

    /// `None` if the value is NaN.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (!value.is_nan()).then_some(Self(value))
    }

    /// The value; infinite if absent.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        // Not total_cmp: -0 and 0 are the same order.
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}
