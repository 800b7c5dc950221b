//! Which of the planted faults shows: woven into the copy of the workspace that
//! `cargo xtask test --only mutants` builds, and part of nothing that is shipped.
//!
//! Programs of the host learn it from their environment; they tell the BPF
//! programs by a constant when they load them, so that the verifier sees those
//! with this one fault and without all others.

/// The number of the fault; 0 for none.
#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
static PLANTED: u32 = 0;

/// Whether this is the fault that shows.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn is(number: u32) -> bool {
    // SAFETY: reads a static. Volatile, because the loader changes it.
    unsafe { core::ptr::read_volatile(&raw const PLANTED) == number }
}

#[cfg(not(target_arch = "bpf"))]
extern crate std;

/// Whether this is the fault that shows.
#[cfg(not(target_arch = "bpf"))]
pub fn is(number: u32) -> bool {
    *self::number() == number
}

/// The number of the fault; 0 for none.
#[cfg(not(target_arch = "bpf"))]
pub fn number() -> &'static u32 {
    static NUMBER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    NUMBER.get_or_init(|| match std::env::var("HOSTFW_PLANTED") {
        Ok(number) => number.parse().expect("HOSTFW_PLANTED is a number"),
        Err(_) => 0,
    })
}
