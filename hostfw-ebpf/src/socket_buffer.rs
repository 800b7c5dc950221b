//! The bytes of a packet for programs that may not read them directly.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_dynptr_read;
use hostfw_common::layout::CALL_DYNPTR_FROM_SKB;

use crate::packet::{MAX_OFFSET, Source, Veil};

/// `struct bpf_dynptr` of linux/bpf.h: the kernel's own view of the bytes of a
/// packet, which it checks as they are read.
#[repr(C, align(8))]
pub(crate) struct Dynptr([u64; 2]);

/// Room for what is read at once, which would crowd the stack.
pub(crate) type Buffer = [u64; 8];

/// The bytes of a socket buffer from its network header on, wherever they lie.
pub(crate) struct SocketBuffer<'a> {
    dynptr: &'a Dynptr,
    buffer: *mut Buffer,
    veil: Veil,
}

impl<'a> SocketBuffer<'a> {
    /// `packet` is the kernel's `struct sk_buff`, `length` its length;
    /// `dynptr` lies on the stack, as the verifier wants it, and `buffer` does
    /// not.
    #[inline(always)]
    pub(crate) fn new(
        packet: usize,
        length: u32,
        dynptr: &'a mut MaybeUninit<Dynptr>,
        buffer: *mut Buffer,
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
            buffer,
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
        const { assert!(size_of::<T>() <= size_of::<Buffer>()) };
        const { assert!(align_of::<T>() <= align_of::<Buffer>()) };
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: the helper writes as many bytes as the value has, for which
        // there is room, or fails where the packet ends before.
        let result = unsafe {
            bpf_dynptr_read(
                self.buffer.cast(),
                size_of::<T>() as u32,
                (&raw const *self.dynptr).cast_mut().cast(),
                offset as u32,
                0,
            )
        };
        // SAFETY: written just now; any bytes are valid integers.
        (result == 0).then(|| unsafe { *self.buffer.cast::<T>() })
    }
}
