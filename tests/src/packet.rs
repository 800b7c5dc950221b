//! Packets made by hand, as bytes from the Ethernet header on.
//!
//! Checksums are left 0 there: nothing that these are given to looks at them.
//! [`Packet::transport`] fills them in.

use std::net::{IpAddr, SocketAddr};

/// TCP flags (RFC 9293 section 3.1).
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;
}

/// An IP packet to be built.
#[derive(Clone, Debug)]
pub struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: Vec<u8>,
    hop_limit: u8,
    vlan: Option<u16>,
    link_header: bool,
    options: usize,
    extensions: Vec<(u8, usize)>,
    /// Offset in units of 8 bytes, whether more follow, identification.
    fragment: Option<(u16, bool, u32)>,
}

impl Packet {
    /// A packet of any protocol.
    ///
    /// # Panics
    ///
    /// On building, if the addresses are of two families.
    #[must_use]
    pub fn raw(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination,
            protocol,
            payload,
            hop_limit: 64,
            vlan: None,
            link_header: true,
            options: 0,
            extensions: Vec::new(),
            fragment: None,
        }
    }

    /// A TCP segment without data.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        let mut payload = ports(source, destination);
        payload.extend([0; 8]);
        payload.extend([5 << 4, flags]);
        payload.extend([0; 6]);
        Self::raw(source.ip(), destination.ip(), 6, payload)
    }

    /// A UDP datagram with eight bytes of data.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        let mut payload = ports(source, destination);
        payload.extend(16u16.to_be_bytes());
        payload.extend([0; 10]);
        Self::raw(source.ip(), destination.ip(), 17, payload)
    }

    /// An ICMP or ICMPv6 message with an identifier.
    #[must_use]
    pub fn icmp(source: IpAddr, destination: IpAddr, kind: u8, code: u8, identifier: u16) -> Self {
        let mut payload = vec![kind, code, 0, 0];
        payload.extend(identifier.to_be_bytes());
        payload.extend([0; 10]);
        let protocol = if source.is_ipv4() { 1 } else { 58 };
        Self::raw(source, destination, protocol, payload)
    }

    /// An ICMP or ICMPv6 error that quotes the beginning of a packet.
    #[must_use]
    pub fn icmp_error(
        source: IpAddr,
        destination: IpAddr,
        kind: u8,
        code: u8,
        quoted: &Self,
    ) -> Self {
        let mut packet = Self::icmp(source, destination, kind, code, 0);
        packet.payload.truncate(8);
        let quoted = quoted.clone().without_link_header().build();
        packet.payload.extend(&quoted);
        packet
    }

    /// With more bytes at the end.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        self.payload.extend(bytes);
        self
    }

    /// With another TTL or hop limit than 64.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// Within an 802.1Q tag.
    #[must_use]
    pub fn vlan(mut self, tag: u16) -> Self {
        self.vlan = Some(tag);
        self
    }

    /// From the IP header on, as on a tunnel interface.
    #[must_use]
    pub fn without_link_header(mut self) -> Self {
        self.link_header = false;
        self
    }

    /// With so many 32-bit words of IPv4 options.
    #[must_use]
    pub fn options(mut self, words: usize) -> Self {
        self.options = words;
        self
    }

    /// With one more IPv6 extension header of this type and length in bytes.
    #[must_use]
    pub fn extension(mut self, kind: u8, length: usize) -> Self {
        self.extensions.push((kind, length));
        self
    }

    /// As the fragment at an offset (in units of eight bytes).
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool, identification: u32) -> Self {
        self.fragment = Some((offset, more, identification));
        self
    }

    /// Source address.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// Destination address.
    #[must_use]
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// IANA number of the transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// TTL or hop limit.
    #[must_use]
    pub const fn hops(&self) -> u8 {
        self.hop_limit
    }

    /// Where in the bytes behind the IP header their checksum is.
    #[must_use]
    pub const fn checksum_at(&self) -> Option<usize> {
        match self.protocol {
            1 | 58 => Some(2),
            6 => Some(16),
            17 => Some(6),
            _ => None,
        }
    }

    /// The bytes behind the IP header, with the checksum of TCP, UDP, ICMP or
    /// ICMPv6.
    ///
    /// # Panics
    ///
    /// If there are too few bytes for the protocol's header.
    #[must_use]
    pub fn transport(&self) -> Vec<u8> {
        let Some(at) = self.checksum_at() else {
            return self.payload.clone();
        };
        let mut summed = Vec::new();
        // ICMP of IPv4 alone has no pseudo-header (RFC 9293 section 3.1, RFC
        // 8200 section 8.1). The sum does not depend on the order of words.
        if self.protocol != 1 {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => summed.extend(address.octets()),
                    IpAddr::V6(address) => summed.extend(address.octets()),
                }
            }
            let length = u16::try_from(self.payload.len()).expect("a length");
            summed.extend(length.to_be_bytes());
            summed.extend([0, self.protocol]);
        }
        summed.extend(&self.payload);
        let mut bytes = self.payload.clone();
        bytes[at..at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
        bytes
    }

    /// The bytes.
    ///
    /// # Panics
    ///
    /// If the addresses are of two families, or a length does not fit its
    /// field.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.link_header {
            bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            if let Some(tag) = self.vlan {
                bytes.extend([0x81, 0x00]);
                bytes.extend(tag.to_be_bytes());
            }
            let ethertype: u16 = if self.source.is_ipv4() {
                0x0800
            } else {
                0x86dd
            };
            bytes.extend(ethertype.to_be_bytes());
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let words = 5 + self.options;
                let total = words * 4 + self.payload.len();
                bytes.extend([0x40 | u8::try_from(words).expect("an IHL"), 0]);
                bytes.extend(u16::try_from(total).expect("a total length").to_be_bytes());
                let (offset, more, identification) = self.fragment.unwrap_or_default();
                bytes.extend((identification as u16).to_be_bytes());
                bytes.extend((offset | u16::from(more) << 13).to_be_bytes());
                bytes.extend([self.hop_limit, self.protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(vec![1; self.options * 4]);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
                if self.fragment.is_some() {
                    kinds.push(44);
                }
                kinds.push(self.protocol);
                let mut chain = Vec::new();
                for (position, (kind, length)) in self.extensions.iter().enumerate() {
                    // Authentication counts in other units (RFC 4302).
                    let units = if *kind == 51 {
                        length / 4 - 2
                    } else {
                        length / 8 - 1
                    };
                    chain.push(kinds[position + 1]);
                    chain.push(u8::try_from(units).expect("an extension's length"));
                    chain.extend(vec![0; length - 2]);
                }
                if let Some((offset, more, identification)) = self.fragment {
                    chain.extend([self.protocol, 0]);
                    chain.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    chain.extend(identification.to_be_bytes());
                }
                let length = chain.len() + self.payload.len();
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(u16::try_from(length).expect("a length").to_be_bytes());
                bytes.extend([kinds[0], self.hop_limit]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(chain);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("addresses of two families")
            }
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// The Internet checksum (RFC 1071).
#[must_use]
pub fn checksum(message: &[u8]) -> u16 {
    let sum: u32 = message
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    // Folding once may carry again.
    #[expect(clippy::cast_possible_truncation, reason = "folded twice: fits")]
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    !folded
}

fn ports(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut bytes = source.port().to_be_bytes().to_vec();
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_message_with_its_checksum_is_zero() {
        let mut message = b"\x08\0\0\0\0\0\0\x01odd".to_vec();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&message), 0);
    }
}
