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

boundary!(FailsafeV4 = 8, FailsafeV6 = 20);
