//! The bytes of a socket buffer, for programs that have no direct access to
//! them.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_dynptr_read;
use hostfw_common::layout::CALL_DYNPTR_FROM_SKB;

use crate::packet::{MAX_OFFSET, Source, Veil};

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
