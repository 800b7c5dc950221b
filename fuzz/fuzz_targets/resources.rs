#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostfw_fuzz::resources(data));
