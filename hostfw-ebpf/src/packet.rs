//! Checked access to the bytes of a packet.

use core::{hint::black_box, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_dynptr_read;
use hostfw_common::layout::CALL_DYNPTR_FROM_SKB;

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

/// `struct bpf_dynptr` of linux/bpf.h: the kernel's own view of the bytes of a
/// packet, which it checks as they are read.
#[repr(C, align(8))]
pub(crate) struct Dynptr([u64; 2]);

/// The bytes of a socket buffer from its network header on, wherever they lie.
/// For programs that may not read them directly.
pub(crate) struct SocketBuffer<'a> {
    dynptr: &'a Dynptr,
    veil: Veil,
}

impl<'a> SocketBuffer<'a> {
    /// `packet` is the kernel's `struct sk_buff`, `length` its length;
    /// `dynptr` lies on the stack, as the verifier wants it.
    #[inline(always)]
    pub(crate) fn new(
        packet: usize,
        length: u32,
        dynptr: &'a mut MaybeUninit<Dynptr>,
    ) -> Option<Self> {
        // SAFETY: the agent puts the kernel function in the place of this
        // number before it loads the program.
        let from_packet = unsafe {
            core::mem::transmute::<
                usize,
                unsafe extern "C" fn(packet: usize, flags: u64, dynptr: *mut Dynptr) -> i32,
            >(CALL_DYNPTR_FROM_SKB as usize)
        };
        // SAFETY: the kernel fills the dynptr, also when it fails.
        if unsafe { from_packet(packet, 0, dynptr.as_mut_ptr()) } != 0 {
            return None;
        }
        Some(Self {
            // SAFETY: filled just now.
            dynptr: unsafe { dynptr.assume_init_ref() },
            veil: Veil::new(length),
        })
    }
}

impl Source for SocketBuffer<'_> {
    #[inline(always)]
    fn veil(&self) -> Veil {
        self.veil
    }

    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes as many bytes as the value has, or fails
        // where the packet ends before.
        let result = unsafe {
            bpf_dynptr_read(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                (&raw const *self.dynptr).cast_mut().cast(),
                offset as u32,
                0,
            )
        };
        // SAFETY: written just now; any bytes are valid integers.
        (result == 0).then(|| unsafe { value.assume_init() })
    }
}
