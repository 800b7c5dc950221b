//! The dataplane on the real kernel: maps, links and flows, without packets.
//!
//! Every test has a network namespace and a pin root of its own.
#![allow(
    clippy::unwrap_used,
    reason = "in tests, and in what serves them, a panic is a failed test"
)]

mod kernel {
    mod adoption;
    mod attachments;
    mod bench;
    mod filter;
    mod flood;
    mod generations;
    mod netfilter;
    mod switching;
    mod takeover;
    mod wire;
}
