//! Checked access to the bytes of a packet.
//!
//! Neither this nor [`parse`](crate::parse) needs anything of the kernel, so that
//! a fuzzer can run them where it runs.

use core::hint::black_box;

/// Where the bytes of a packet come from.
pub(crate) trait Source {
    /// Reads a value, or `None` if it does not lie within the packet whole, or
    /// begins behind [`MAX_OFFSET`].
    ///
    /// `T` is made of integers, with an alignment of at most two bytes: network
    /// headers are at even addresses, as Ethernet's 14 bytes leave them.
    fn read<T: Copy>(&self, offset: usize) -> Option<T>;

    /// See [`Veil`].
    fn veil(&self) -> Veil;
}

/// The linear bytes, which a program may read directly.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    start: usize,
    end: usize,
    veil: Veil,
}

/// A zero of which the verifier does not know that it is one.
///
/// The verifier follows every way through a program, and takes two ways for
/// one only where they meet with the same knowledge. Parsing leaves it knowing
/// much on each of its many ways (this one has TCP, that one a fragment), none
/// of which helps, and so it would follow all that comes after for each of
/// them. A value that was drawn over is a value that it knows nothing of.
#[derive(Clone, Copy)]
pub(crate) struct Veil(u32);

impl Veil {
    /// `unknown` is a value that the verifier cannot know.
    #[inline(always)]
    pub(crate) fn new(unknown: u32) -> Self {
        // The black boxes keep the compiler from seeing that both are the same.
        Self(black_box(unknown) ^ black_box(unknown))
    }

    /// Gives the value back, unknown to the verifier.
    #[inline(always)]
    pub(crate) const fn draw(self, value: u32) -> u32 {
        value | self.0
    }

    /// [`draw`](Self::draw) of 64 bits.
    #[inline(always)]
    pub(crate) const fn draw_wide(self, value: u64) -> u64 {
        value | self.0 as u64
    }
}

/// No header that is parsed begins behind this. The verifier wants a bound on
/// every offset, and headers that lie deeper are none that anybody needs.
pub(crate) const MAX_OFFSET: usize = 2047;

impl Packet {
    #[inline(always)]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end,
            veil: Veil::new((end - start) as u32),
        }
    }
}

impl Source for Packet {
    #[inline(always)]
    fn veil(&self) -> Veil {
        self.veil
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        const { assert!(align_of::<T>() <= 2) };
        if offset > MAX_OFFSET {
            return None;
        }
        let from = self.start + offset;
        if from + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the range lies within the packet, which the verifier checks
        // again, and any bytes are valid integers.
        Some(unsafe { *(from as *const T) })
    }
}
