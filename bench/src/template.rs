//! The packets' bytes, but for what the programs of [`drive`](crate::drive)
//! write.

use hostfw_bench::shapes::{NODE, Packet};

/// Offsets from the Ethernet header on: IPv4 (RFC 791) without options, IPv6
/// (RFC 8200) without extensions.
pub(crate) const V4_PROTOCOL: i16 = 23;
pub(crate) const V4_CHECKSUM: i16 = 24;
pub(crate) const V4_SOURCE: i16 = 26;
pub(crate) const V4_PORTS: i16 = 34;
pub(crate) const V6_SOURCE: i16 = 22;
pub(crate) const V6_PORTS: i16 = 54;

/// Hardware addresses of both ends of a wire.
pub(crate) const MAC_HERE: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const MAC_THERE: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The node's IPv6 address.
pub(crate) const NODE_V6: u128 = 0xfd00_0009 << 96 | 1;

/// TCP flags (RFC 9293).
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// What packets have in common.
///
/// Behind the ports, the bytes are UDP's length (and no checksum) and TCP's
/// sequence number alike, and what follows is TCP's flags and UDP's payload, so
/// one template serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// In TCP packets.
    pub(crate) flags: u8,
}

impl Template {
    /// Packets that may open a flow.
    pub(crate) const NEW: Self = Self { flags: SYN };

    /// An IPv4 packet of UDP from 0.0.0.0 to the node, with no checksum: 64
    /// bytes.
    pub(crate) fn v4(self) -> Vec<u8> {
        let mut packet = ethernet(0x0800);
        let length: u16 = 50;
        packet.extend([0x45, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend([0; 4]);
        packet.extend(NODE.to_be_bytes());
        self.transport(&mut packet, length - 20);
        packet
    }

    /// The same with neither protocol nor destination, which are to be written
    /// and summed.
    pub(crate) fn v4_blank(self) -> Vec<u8> {
        let mut packet = self.v4();
        packet[V4_PROTOCOL as usize] = 0;
        packet[V4_SOURCE as usize + 4..][..4].fill(0);
        packet
    }

    /// A whole packet, but for its header checksum, which programs do not look
    /// at.
    pub(crate) fn of(self, packet: &Packet) -> Vec<u8> {
        let mut bytes = self.v4_blank();
        let mut write = |at: i16, value: &[u8]| {
            bytes[at as usize..][..value.len()].copy_from_slice(value);
        };
        write(V4_PROTOCOL, &[packet.protocol.number()]);
        write(V4_SOURCE, &packet.source.to_be_bytes());
        write(V4_SOURCE + 4, &packet.destination.to_be_bytes());
        write(V4_PORTS, &packet.source_port.to_be_bytes());
        write(V4_PORTS + 2, &packet.destination_port.to_be_bytes());
        bytes
    }

    /// An IPv6 packet of UDP from 2001:: to the node.
    pub(crate) fn v6(self) -> Vec<u8> {
        let mut packet = ethernet(0x86dd);
        let length: u16 = 30;
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend([17, 64]);
        packet.extend((0x2001u128 << 112).to_be_bytes());
        packet.extend(NODE_V6.to_be_bytes());
        self.transport(&mut packet, length);
        packet
    }

    fn transport(self, packet: &mut Vec<u8>, length: u16) {
        let end = packet.len() + usize::from(length);
        packet.extend([0; 4]);
        packet.extend(length.to_be_bytes());
        packet.extend([0; 2]);
        // Acknowledgement; header of five words; window.
        packet.extend([0, 0, 0, 1, 0x50, self.flags, 0x20, 0, 0, 0, 0, 0]);
        packet.resize(end, 0);
    }
}

fn ethernet(kind: u16) -> Vec<u8> {
    let mut packet = Vec::with_capacity(84);
    packet.extend(MAC_HERE);
    packet.extend(MAC_THERE);
    packet.extend(kind.to_be_bytes());
    packet
}

/// The sum of the words of a template's IPv4 header, as they lie in memory.
pub(crate) fn header_sum(packet: &[u8]) -> u32 {
    packet[14..34]
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])))
        .sum()
}
