//! On sockets as a kernel (6.18) dumped them: the payload of its messages.

use super::*;

/// 10.9.0.1:54730 connected to 10.9.0.2:8080.
const V4: &str = "02010000d5ca1f900a0900010000000000000000000000000a09000200000000000000000000000\
    0000000010000000000000000000000000000000000000000000000da3f010005000800000000000800\
    0f00000000000c00150001000000000000000600160052000000";

/// fd09::1:45570 connected to fd09::2:8080.
const V6: &str = "0a010000b2021f90fd090000000000000000000000000001fd09000000000000000000000000000\
    200000000020000000000000000000000000000000000000000000000db3f0100050008000000000008000f0000\
    0000000c00150001000000000000000600160012000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap())
        .collect()
}

#[test]
fn a_socket_is_a_confirmed_flow_seen_from_its_side() {
    let known = parse(&bytes(V4)).unwrap();
    assert!(known.confirmed);
    assert_eq!(known.state, FLOW_ADOPTED);
    assert_eq!(
        known.keys,
        [(
            FlowKey {
                remote: Address::from_v4([10, 9, 0, 2]),
                local: Address::from_v4([10, 9, 0, 1]),
                remote_port: 8080_u16.to_be_bytes(),
                local_port: 54730_u16.to_be_bytes(),
                protocol: 6,
                ..FlowKey::default()
            },
            Direction::Egress
        )]
    );
}

#[test]
fn addresses_of_both_families_are_read() {
    let known = parse(&bytes(V6)).unwrap();
    let (key, _) = known.keys[0];
    assert_eq!(
        (
            key.local.bytes[15],
            key.remote.bytes[15],
            key.local.bytes[..2].to_vec()
        ),
        (1, 2, vec![0xfd, 0x09])
    );
    assert_eq!(key.local_port, 45570_u16.to_be_bytes());
}

#[test]
fn a_connection_that_closes_is_adopted_as_one() {
    let mut message = bytes(V4);
    message[1] = CLOSE_WAIT;
    assert_eq!(
        parse(&message).unwrap().state,
        FLOW_ADOPTED | FLOW_FIN_OPENER
    );
    // SYN_SENT: nobody has answered, so there is nothing to keep.
    message[1] = 2;
    assert_eq!(parse(&message), None);
}

#[test]
fn loopback_and_short_messages_are_left_out() {
    let message = bytes(V4);
    let mut loopback = message.clone();
    loopback[8] = 127;
    assert_eq!(parse(&loopback), None);
    for length in 0..40 {
        assert_eq!(parse(&message[..length]), None, "{length} bytes");
    }
}

#[test]
fn the_request_asks_for_connections_only() {
    let request = request(libc::AF_INET6 as u8);
    assert_eq!(request[..2], [libc::AF_INET6 as u8, 6]);
    let states = u32::from_ne_bytes(request[4..8].try_into().unwrap());
    assert_eq!(states, 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8);
}
