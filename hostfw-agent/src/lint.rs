//! What is valid, and yet probably not meant.

use std::fmt;

use crate::model::{Model, ObjectRef};

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The object to look at.
    pub about: ObjectRef,
    /// What happens, and what to do if it is not meant.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.message)
    }
}

/// Looks a model over.
#[must_use]
pub fn lint(model: &Model) -> Vec<Warning> {
    let _ = model;
    Vec::new()
}
