//! On entries as a kernel (6.18) dumped them: the payload of its messages.

use super::*;

/// 10.9.0.1:54730 to 10.9.0.2:8080, TCP, established.
const TCP: &str = "020000003400018014000180080001000a090001080002000a0900021c00028005000100060000\
    0006000200d5ca0000060003001f9000003400028014000180080001000a090002080002000a0900011c00028005000\
    10006000000060002001f90000006000300d5ca0000080003000000000e080008000000000008000c00077ca4370800\
    0b0000000001080007000006977f300004802c0001800500010003000000050002000a000000050003000a000000060\
    00400230000000600050023000000";

/// fd09::1:45570 to fd09::2:8080, TCP, established.
const TCP_V6: &str = "0a0000004c0001802c00018014000300fd0900000000000000000000000000011400040\
    0fd0900000000000000000000000000021c000280050001000600000006000200b2020000060003001f9000004c0002\
    802c00018014000300fd09000000000000000000000000000214000400fd0900000000000000000000000000011c000\
    2800500010006000000060002001f90000006000300b2020000080003000000000e080008000000000008000c002c42\
    29e508000b0000000001080007000006977f300004802c0001800500010003000000050002000a000000050003000a0\
    0000006000400230000000600050023000000";

/// 10.9.0.1:60928 to 10.9.0.2:5353, UDP, no answer yet.
const UDP: &str = "020000003400018014000180080001000a090001080002000a0900021c00028005000100110000\
    0006000200ee0000000600030014e900003400028014000180080001000a090002080002000a0900011c00028005000\
    100110000000600020014e9000006000300ee0000000800030000000008080008000000000008000c0050d4cbae0800\
    0b0000000001080007000000001d";

/// An echo request of 10.9.0.1 to 10.9.0.2 with identifier 0x1234, answered.
const ICMP: &str = "020000003c00018014000180080001000a090001080002000a09000224000280050001000100\
    0000060004001234000005000500080000000500060000000000\
    3c00028014000180080001000a090002080002000a09000124000280050001000100000006000400123400000500050\
    00000000005000600000000000800030000\
    00000a080008000000000008000c006806e18a08000b0000000001080007000000001d";

/// An echo request of fd09::1 to fd09::2 with identifier 0x1235, answered.
const ICMP_V6: &str = "0a000000540001802c00018014000300fd0900000000000000000000000000011400040\
    0fd09000000000000000000000000000224000280050001003a00000006000700123500000500080080000000050009\
    0000000000540002802c00018014000300fd09000000000000000000000000000214000400fd0900000000000000000\
    0000000000124000280050001003a0000000600070012350000050008008100000005000900000000000800030000000\
    00a080008000000000008000c00c2977def08000b0000000001080007000000001d";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap())
        .collect()
}

fn v4(last: u8) -> Address {
    Address::from_v4([10, 9, 0, last])
}

fn v6(last: u8) -> Address {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfd, 0x09]);
    address[15] = last;
    Address { bytes: address }
}

fn key(
    (remote, remote_port): (Address, u16),
    (local, local_port): (Address, u16),
    protocol: u8,
) -> FlowKey {
    FlowKey {
        remote,
        local,
        remote_port: remote_port.to_be_bytes(),
        local_port: local_port.to_be_bytes(),
        protocol,
        ..FlowKey::default()
    }
}

/// Replaces the only place where `from` occurs in the hex text.
fn with(hex: &str, from: &str, to: &str) -> Vec<u8> {
    let hex: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
    assert_eq!(hex.matches(from).count(), 1, "{from}");
    bytes(&hex.replacen(from, to, 1))
}

#[test]
fn a_connection_has_a_key_for_either_side_of_the_wire() {
    let known = parse(&bytes(TCP)).unwrap();
    assert_eq!(
        known,
        Known {
            keys: vec![
                (key((v4(1), 54730), (v4(2), 8080), 6), Direction::Ingress),
                (key((v4(2), 8080), (v4(1), 54730), 6), Direction::Egress),
            ],
            confirmed: true,
            state: FLOW_ADOPTED,
        }
    );
}

#[test]
fn addresses_of_both_families_are_read() {
    let known = parse(&bytes(TCP_V6)).unwrap();
    assert_eq!(
        known.keys[0],
        (key((v6(1), 45570), (v6(2), 8080), 6), Direction::Ingress)
    );
    assert!(known.confirmed);
}

#[test]
fn what_is_not_answered_is_half_open() {
    let known = parse(&bytes(UDP)).unwrap();
    assert!(!known.confirmed);
    assert_eq!(
        known.keys[1],
        (key((v4(2), 5353), (v4(1), 60928), 17), Direction::Egress)
    );
}

#[test]
fn an_echo_has_the_identifier_at_the_asking_side_and_the_request_at_the_other() {
    let known = parse(&bytes(ICMP)).unwrap();
    assert_eq!(
        known.keys,
        [
            (key((v4(1), 0x1234), (v4(2), 8 << 8), 1), Direction::Ingress),
            (key((v4(2), 8 << 8), (v4(1), 0x1234), 1), Direction::Egress),
        ]
    );
    let known = parse(&bytes(ICMP_V6)).unwrap();
    assert_eq!(
        known.keys,
        [
            (
                key((v6(1), 0x1235), (v6(2), 128 << 8), 58),
                Direction::Ingress
            ),
            (
                key((v6(2), 128 << 8), (v6(1), 0x1235), 58),
                Direction::Egress
            ),
        ]
    );
}

#[test]
fn the_reply_tells_what_source_nat_made_of_the_flow() {
    // The reply goes to 10.9.0.99:1024: that is on the wire, 10.9.0.1 is not.
    let message = with(
        TCP,
        "0a090002080002000a0900011c0002800500010006000000060002001f90000006000300d5ca",
        "0a090002080002000a0900631c0002800500010006000000060002001f900000060003000400",
    );
    let known = parse(&message).unwrap();
    assert_eq!(
        known.keys[1],
        (key((v4(2), 8080), (v4(99), 1024), 6), Direction::Egress)
    );
    assert_eq!(
        known.keys[0],
        (key((v4(1), 54730), (v4(2), 8080), 6), Direction::Ingress)
    );
}

#[test]
fn a_connection_that_closes_is_adopted_as_one() {
    for (state, flags) in [
        ("04", FLOW_FIN_OPENER),
        ("05", FLOW_FIN_OPENER),
        ("07", FLOW_FIN_OPENER | FLOW_FIN_ANSWER),
        ("08", FLOW_RESET),
    ] {
        let message = with(
            TCP,
            "2c0001800500010003",
            &format!("2c00018005000100{state}"),
        );
        let known = parse(&message).unwrap();
        assert_eq!(known.state, FLOW_ADOPTED | flags, "state {state}");
    }
}

#[test]
fn loopback_is_left_out() {
    let message = bytes(
        &TCP.replace(char::is_whitespace, "")
            .replace("0a0900", "7f0000"),
    );
    assert_eq!(parse(&message), None);
}

#[test]
fn no_truncation_of_an_entry_panics() {
    let message = bytes(ICMP_V6);
    for length in 0..message.len() {
        let _ = parse(&message[..length]);
    }
    assert_eq!(parse(&message[..40]), None);
}
