//! Arbitrary bytes before the parser of the programs. Its crate root has the
//! parser's modules, `packet` and `parse`, as hostfw-ebpf has.

use crate::{
    packet::{Packet, Source as _},
    parse::{self, Headers, Parsed},
};

/// A packet as bytes; the first says whether it has an Ethernet header. What is
/// found in it does not depend on what lies behind it.
///
/// # Panics
///
/// If it does, or lies outside of the packet.
pub fn packet(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    let link_header = first & 1 == 0;
    let Some(found) = headers(bytes, link_header) else {
        return;
    };
    let transport = usize::from(found.transport);
    assert!(transport <= bytes.len(), "{transport} of {}", bytes.len());
    let longer = headers(&[bytes, &[0xa5; 64]].concat(), link_header);
    let longer = longer.expect("more bytes do not hurt");
    assert_eq!(facts(&found), facts(&longer));
}

fn facts(headers: &Headers) -> impl PartialEq + std::fmt::Debug {
    (
        [*headers.source, *headers.destination],
        [headers.source_port, headers.destination_port],
        (headers.transport, headers.protocol, headers.family),
        (headers.hop_limit, headers.identification),
    )
}

/// The headers of a packet; and nothing happens to what they quote.
fn headers(bytes: &[u8], link_header: bool) -> Option<Headers> {
    // Headers are at even addresses, as in the kernel.
    let mut aligned = vec![0u16; bytes.len().div_ceil(2)];
    for (pair, bytes) in aligned.iter_mut().zip(bytes.chunks(2)) {
        let second = bytes.get(1).copied().unwrap_or_default();
        *pair = u16::from_ne_bytes([bytes[0], second]);
    }
    let start = aligned.as_ptr() as usize;
    let packet = Packet::new(start, start + bytes.len());
    let mut headers = Headers::empty(packet.veil());
    if !matches!(parse::parse(&packet, link_header, &mut headers), Parsed::Ip) {
        return None;
    }
    let mut quoted = Headers::empty(packet.veil());
    let _ = matches!(
        parse::parse_quoted(&packet, &headers, &mut quoted),
        Parsed::Ip
    );
    Some(headers)
}
