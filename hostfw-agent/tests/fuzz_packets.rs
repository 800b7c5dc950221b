//! The seeds of the fuzz target for packets, and small changes of them, through
//! the parser of the programs, built for this machine.

#[path = "fuzz/changes.rs"]
mod changes;
#[allow(dead_code, reason = "the programs use more of it")]
#[path = "../../hostfw-ebpf/src/packet.rs"]
mod packet;
#[path = "../../fuzz/src/packets.rs"]
#[expect(
    unreachable_pub,
    reason = "it is a module of another crate for the fuzzer"
)]
mod packets;
#[allow(dead_code, reason = "the programs use more of it")]
#[path = "../../hostfw-ebpf/src/parse.rs"]
mod parse;

#[test]
fn packets() {
    for seed in changes::seeds("fuzz/seeds/packet") {
        changes::changes(&seed, changes::NASTY.len()).for_each(|input| packets::packet(&input));
    }
}
