//! The loop that brings the kernel to what the store says.
