//! Label selectors.

/// A parsed label selector.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector;
