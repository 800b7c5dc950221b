//! Sandbox, topology, probes, and the tests that use the kernel.
