//! Label selectors: which objects a policy or a rule means.
//!
//! The language (whitespace is space and tab only):
//!
//! ```text
//! selector = "" | or
//! or       = and ("||" and)*
//! and      = unit ("&&" unit)*
//! unit     = "!"* primary
//! primary  = "(" or ")" | "all()" | "global()" | "has(" label ")"
//!          | label ("==" | "!=" | "contains" | "starts with" | "ends with") string
//!          | label ("in" | "not in") "{" [string ("," string)* [","]] "}"
//! ```
//!
//! An object without the label matches `!=` and `not in`, and none of the
//! other operators.
//!
//! ```
//! use std::collections::BTreeMap;
//! use hostfw_agent::selector::Selector;
//!
//! let selector = Selector::parse("has(host-endpoint) && zone in {'a', 'b'}")?;
//! let labels = BTreeMap::from([
//!     ("host-endpoint".to_owned(), "ingress".to_owned()),
//!     ("zone".to_owned(), "b".to_owned()),
//! ]);
//! assert!(selector.matches(&labels));
//! # Ok::<(), hostfw_agent::selector::SelectorError>(())
//! ```

mod compose;
mod display;
mod lexer;
mod parser;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// How deep parentheses may nest. Bounds the recursion of parsing, matching
/// and dropping; far beyond what people write.
pub const MAX_DEPTH: usize = 64;

/// Longest label name, in bytes (Calico: libcalico-go/lib/selector/tokenizer).
pub const MAX_LABEL_LENGTH: usize = 512;

/// A parsed label selector.
///
/// `Display` gives a canonical text: one spelling for every selector, which
/// parses to an equal one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    root: Node,
}

/// Nesting is bounded by [`MAX_DEPTH`]: chains of `&&` and `||` are lists, and
/// of several `!` at most one remains.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    All,
    Global,
    Has(String),
    Compare(String, Comparison, String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
}

/// A text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at character {position}: expected {expected}, found {found}")]
pub struct SelectorError {
    /// Where, in characters; the first is 1.
    pub position: usize,
    /// What could stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl Selector {
    /// Parses a selector. Empty text, or nothing but spaces, means all
    /// objects.
    ///
    /// # Errors
    ///
    /// If the text is not in the language, or nests deeper than [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(|root| Self { root })
    }

    /// The selector that matches every object.
    #[must_use]
    pub const fn all() -> Self {
        Self { root: Node::All }
    }

    /// Whether this is `all()`, however it was written.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.root == Node::All
    }

    /// Whether an object with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.root.matches(labels)
    }
}

impl Node {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            // global() is about namespaces: endpoints have none.
            Self::All | Self::Global => true,
            Self::Has(label) => labels.contains_key(label),
            Self::Compare(label, comparison, operand) => {
                comparison.holds(labels.get(label).map(String::as_str), operand)
            }
            Self::In(label, set) => labels.get(label).is_some_and(|value| set.contains(value)),
            Self::NotIn(label, set) => labels.get(label).is_none_or(|value| !set.contains(value)),
            Self::Not(inner) => !inner.matches(labels),
            Self::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

impl Comparison {
    fn holds(self, value: Option<&str>, operand: &str) -> bool {
        match self {
            Self::Equal => value == Some(operand),
            Self::NotEqual => value != Some(operand),
            Self::Contains => value.is_some_and(|value| value.contains(operand)),
            Self::StartsWith => value.is_some_and(|value| value.starts_with(operand)),
            Self::EndsWith => value.is_some_and(|value| value.ends_with(operand)),
        }
    }
}
