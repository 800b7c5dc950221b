#![no_main]

#[allow(dead_code, reason = "the programs use more of it")]
#[path = "../../hostfw-ebpf/src/packet.rs"]
mod packet;
#[path = "../src/packets.rs"]
mod packets;
#[allow(dead_code, reason = "the programs use more of it")]
#[path = "../../hostfw-ebpf/src/parse.rs"]
mod parse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| packets::packet(data));
