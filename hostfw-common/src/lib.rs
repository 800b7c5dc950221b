//! The contract between the BPF programs and the agent.
//!
//! Everything that crosses the kernel boundary is defined here once: map names,
//! keys, values, limits, and the numbers that stand for verdicts and reasons.
//! The crate is `no_std` and holds no logic beyond checked decoding, so that
//! the same bytes mean the same on both sides.
//!
//! All types are `repr(C)`, without implicit padding, `usize`, `bool` or enums
//! with data. Addresses and ports are in network byte order; everything else
//! is in the byte order of the host.
//!
//! Start with [`endpoint`] (what governs an interface), then [`policy`] (how a
//! list of rules becomes tables) with [`index`], then [`conntrack`].

#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod conntrack;
pub mod counter;
pub mod endpoint;
pub mod event;
pub mod failsafe;
pub mod filter;
pub mod index;
pub mod layout;
pub mod limits;
pub mod names;
pub mod policy;
pub mod prefix;
pub mod stage;
pub mod trial;
pub mod verdict;

/// Version of everything in this crate that a pinned map or program of an
/// older agent could disagree about. It is part of the pin path, so that a new
/// agent never reads an old layout. Raise it with any change to a map.
pub const ABI_VERSION: u32 = 6;

/// Declares plain-old-data types that may cross the kernel boundary: proves at
/// compile time the size that the layout's author had in mind (so no implicit
/// padding crept in), and implements `aya::Pod` for user space.
macro_rules! boundary {
    ($($ty:ty = $size:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$ty>() == $size, "unexpected size");
        // SAFETY: repr(C), made of integers and arrays of integers only, and
        // the size assertion above leaves no room for implicit padding.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $ty {}
    )+};
}
pub(crate) use boundary;
