//! The agent: from what an administrator writes to what the kernel enforces.
//!
//! Data flows one way:
//!
//! ```text
//! source -> resource -> validate -> model -> select -> compile -> maps -> BPF
//! ```
//!
//! and imports point against it: a module uses only modules that come before
//! it in this file. `cargo xtask layers` holds that.

pub mod sorted;

pub mod selector;

pub mod model;

pub mod question;

pub mod resource;

pub mod crd;

pub mod source;

pub mod validate;

pub mod lint;

pub mod accept;

pub mod reference;

pub mod select;

pub mod compile;

pub mod maps;

pub mod interfaces;

pub mod attach;

pub mod adopt;

pub mod judge;

pub mod observe;

pub mod publish;

pub mod ctl;

pub mod reconcile;
