//! Where resources come from: a folder of YAML and JSON files.

pub mod follow;
