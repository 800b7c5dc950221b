//! Selectors made of others.

use std::collections::BTreeSet;

use super::{Node, Selector};

impl Selector {
    /// Matches objects that have the label.
    #[must_use]
    pub fn has(label: &str) -> Self {
        Self {
            root: Node::Has(label.to_owned()),
        }
    }

    /// Matches objects whose label has one of the values.
    #[must_use]
    pub fn one_of(label: &str, values: impl IntoIterator<Item = String>) -> Self {
        Self {
            root: Node::In(label.to_owned(), BTreeSet::from_iter(values)),
        }
    }

    /// Matches objects that all of these match; `all()` if there are none.
    #[must_use]
    pub fn every(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut nodes: Vec<Node> = parts.into_iter().map(|part| part.root).collect();
        let root = match nodes.len() {
            0 => Node::All,
            1 => nodes.remove(0),
            _ => Node::And(nodes),
        };
        Self { root }
    }

    /// The same selector of labels whose keys begin with `prefix`.
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Self {
        let label = |label: &String| format!("{prefix}{label}");
        self.map(&|leaf| match leaf {
            Node::Has(key) => Node::Has(label(key)),
            Node::Compare(key, comparison, operand) => {
                Node::Compare(label(key), *comparison, operand.clone())
            }
            Node::In(key, values) => Node::In(label(key), values.clone()),
            Node::NotIn(key, values) => Node::NotIn(label(key), values.clone()),
            Node::All | Node::Global | Node::Not(_) | Node::And(_) | Node::Or(_) => leaf.clone(),
        })
    }

    /// The same selector in which `all()` stands for objects that have the
    /// label.
    #[must_use]
    pub fn with_all_as(&self, label: &str) -> Self {
        self.map(&|leaf| {
            if *leaf == Node::All {
                Node::Has(label.to_owned())
            } else {
                leaf.clone()
            }
        })
    }

    /// The same selector in which `global()` stands for objects that do not
    /// have the label.
    #[must_use]
    pub fn with_global_as_without(&self, label: &str) -> Self {
        self.map(&|leaf| {
            if *leaf == Node::Global {
                Node::Not(Box::new(Node::Has(label.to_owned())))
            } else {
                leaf.clone()
            }
        })
    }

    fn map(&self, leaf: &dyn Fn(&Node) -> Node) -> Self {
        Self {
            root: self.root.map(leaf),
        }
    }
}

impl Node {
    /// The same tree with other leaves.
    fn map(&self, leaf: &dyn Fn(&Self) -> Self) -> Self {
        let each = |parts: &[Self]| parts.iter().map(|part| part.map(leaf)).collect();
        match self {
            Self::Not(inner) => match inner.map(leaf) {
                // Of several `!` at most one remains.
                Self::Not(inner) => *inner,
                other @ (Self::All
                | Self::Global
                | Self::Has(_)
                | Self::Compare(..)
                | Self::In(..)
                | Self::NotIn(..)
                | Self::And(_)
                | Self::Or(_)) => Self::Not(Box::new(other)),
            },
            Self::And(parts) => Self::And(each(parts)),
            Self::Or(parts) => Self::Or(each(parts)),
            Self::All
            | Self::Global
            | Self::Has(_)
            | Self::Compare(..)
            | Self::In(..)
            | Self::NotIn(..) => leaf(self),
        }
    }
}
