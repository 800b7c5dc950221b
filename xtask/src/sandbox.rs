//! `cargo xtask sandbox -- CMD`: a command where it can break nothing.
