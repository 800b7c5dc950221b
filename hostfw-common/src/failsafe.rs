//! Ports that no policy can close, and tunnels between nodes.

use crate::boundary;

/// Bits of a fail-safe key in front of its address: class, protocol, port.
pub const FAILSAFE_BITS: u32 = 32;

/// Class of the entries for tunnels: an entry for the address of each node and
/// each tunnel's protocol and destination port (0 for protocols without). A
/// packet belongs to a tunnel if both of its addresses have one.
pub const CLASS_TUNNEL: u8 = 2;

/// IPv4 fail-safe: a longest-prefix-match key whose first [`FAILSAFE_BITS`]
/// are matched exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FailsafeV4 {
    /// [`Direction`](crate::verdict::Direction) as a number, or
    /// [`CLASS_TUNNEL`].
    pub class: u8,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Destination port, network byte order.
    pub port: [u8; 2],
    /// The other side's address: source of inbound, destination of outbound
    /// packets. Network byte order.
    pub remote: [u8; 4],
}

/// IPv6 fail-safe, like [`FailsafeV4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FailsafeV6 {
    /// [`Direction`](crate::verdict::Direction) as a number, or
    /// [`CLASS_TUNNEL`].
    pub class: u8,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Destination port, network byte order.
    pub port: [u8; 2],
    /// The other side's address, network byte order.
    pub remote: [u8; 16],
}

/// A set of classes with protocols and ports, which may hold more than was put
/// in: what it does not hold, the tries of the fail-safes do not list for any
/// address, so the programs need not look there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ListedPorts {
    bits: [u64; 8],
}

impl ListedPorts {
    /// The word and the bit in it of a class, a protocol and a port (network
    /// byte order).
    #[inline(always)]
    const fn place(class: u8, protocol: u8, [high, low]: [u8; 2]) -> (usize, u64) {
        /// 2^32 divided by the golden ratio: spreads neighbours (Knuth, The Art
        /// of Computer Programming, section 6.4).
        const SPREAD: u32 = 0x9e37_79b1;
        let number = u32::from_le_bytes([class, protocol, high, low]).wrapping_mul(SPREAD) >> 23;
        ((number >> 6) as usize, 1 << (number & 63))
    }

    /// Puts in a class, a protocol and a port, network byte order.
    pub const fn add(&mut self, class: u8, protocol: u8, port: [u8; 2]) {
        let (word, bit) = Self::place(class, protocol, port);
        self.bits[word] |= bit;
    }

    /// Whether these, port in network byte order, may have been put in.
    #[inline(always)]
    #[must_use]
    pub const fn may_hold(&self, class: u8, protocol: u8, port: [u8; 2]) -> bool {
        let (word, bit) = Self::place(class, protocol, port);
        self.bits[word] & bit != 0
    }
}

boundary!(ListedPorts = 64, FailsafeV4 = 8, FailsafeV6 = 20);
