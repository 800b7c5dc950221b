//! The shapes that users write: serde types of `projectcalico.org/v3`.
