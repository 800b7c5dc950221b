//! Takes over the flows that the kernel knows before hostfw judges.
