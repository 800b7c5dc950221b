//! Packet in, verdict out: the loaded programs in test runs of the kernel,
//! with no interface and no traffic.
#![expect(
    clippy::unwrap_used,
    reason = "in what serves tests, a panic is a failed test"
)]

mod verdict {
    mod attacks;
    mod capacity;
    mod denials;
    mod flows;
    mod fragments;
    mod guard;
    mod lab;
    mod load;
    mod maps;
    mod observe;
    mod parsing;
    mod policy;
    mod random;
    mod remembered;
    mod stages;
}
