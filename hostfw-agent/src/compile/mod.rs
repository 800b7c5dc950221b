//! From a selection to the contents of maps.

pub mod image;
