//! Flows that were allowed, so that their later packets and their replies are.
//!
//! A flow is keyed by what is on the wire of the external interface, from the
//! node's side: the tuple that the ingress hook sees before DNAT and the
//! egress hook after SNAT is the same in both directions.
//!
//! A flow is half-open until a packet against the opening direction is seen;
//! until then each of its packets is judged anew. Then its packets pass without
//! policy until it times out.
//!
//! A flow that the node's side has opened is confirmed by the answer. One that
//! came from outside may have a forged sender, to whom an open port answers as
//! well: it is confirmed when the opener goes on after the answer, and stays
//! among the half-open ones until then, where only its like can push it out.

use crate::{boundary, verdict::Direction};

/// An IPv6 address, or an IPv4 one mapped into `::ffff:0:0/96`; network byte
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(4))]
pub struct Address {
    /// Network byte order.
    pub bytes: [u8; 16],
}

impl Address {
    /// Maps an IPv4 address (RFC 4291 section 2.5.5.2).
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(a: [u8; 4]) -> Self {
        Self {
            bytes: [
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3],
            ],
        }
    }

    /// Whether this is an IPv4 address, mapped.
    #[inline(always)]
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        let [a, b, c, _] = self.words();
        a | b == 0 && c == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    /// The address in words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u32; 4] {
        let a = &self.bytes;
        [
            u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
            u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
            u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
            u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
        ]
    }

    /// The IPv4 address, if the address is a mapped one.
    #[inline(always)]
    #[must_use]
    pub const fn v4(&self) -> [u8; 4] {
        [
            self.bytes[12],
            self.bytes[13],
            self.bytes[14],
            self.bytes[15],
        ]
    }
}

/// Key of [`HALF_OPEN`](crate::names::HALF_OPEN) and
/// [`CONFIRMED`](crate::names::CONFIRMED).
///
/// Protocols with ports (TCP, UDP, UDP-Lite, SCTP, DCCP) have them in the port
/// fields. ICMP queries have their identifier as the asking side's port and
/// the type of the request as the answering side's. Others have 0.
///
/// Made of whole words, in which the programs handle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Address of the other side.
    pub remote: Address,
    /// Address of the node's side.
    pub local: Address,
    /// Port of the other side, network byte order.
    pub remote_port: [u8; 2],
    /// Port of the node's side, network byte order.
    pub local_port: [u8; 2],
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Zero.
    pub _pad: [u8; 3],
}

impl FlowKey {
    /// A key from addresses in words, as they lie in memory, and the rest.
    ///
    /// What is written byte by byte and read in words, as the kernel does to
    /// hash a key, stalls the processor.
    #[inline(always)]
    #[must_use]
    pub const fn compose(
        [a, b]: [u64; 2],
        [c, d]: [u64; 2],
        remote_port: [u8; 2],
        local_port: [u8; 2],
        protocol: u8,
    ) -> Self {
        let rest = u64::from_ne_bytes([
            remote_port[0],
            remote_port[1],
            local_port[0],
            local_port[1],
            protocol,
            0,
            0,
            0,
        ]);
        // SAFETY: as large, of integers without padding; any bytes are valid.
        unsafe { core::mem::transmute::<[u64; 5], Self>([a, b, c, d, rest]) }
    }

    /// The key in words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 5] {
        // SAFETY: as above.
        unsafe { core::mem::transmute::<Self, [u64; 5]>(*self) }
    }
}

/// A FIN was seen from the side that opened the flow.
pub const FLOW_FIN_OPENER: u8 = 1 << 0;
/// A FIN was seen from the side that answered.
pub const FLOW_FIN_ANSWER: u8 = 1 << 1;
/// The other side sent a RST, and neither side anything since. It may be a
/// forged one, so whatever follows speaks against it.
pub const FLOW_RESET: u8 = 1 << 2;
/// The flow was taken over from the kernel's own tables, not seen to open.
pub const FLOW_ADOPTED: u8 = 1 << 3;
/// The node's side sent a RST, and nothing since. What the other side sends
/// does not speak against it.
pub const FLOW_RESET_HERE: u8 = 1 << 4;
/// Policy would have dropped what opened the flow, but nothing is enforced
/// ([`FLAG_OBSERVE`](crate::endpoint::FLAG_OBSERVE)). It never becomes
/// confirmed: its opener's packets are judged one by one, its answers are not.
pub const FLOW_DENIED: u8 = 1 << 5;

/// The flow, opened from outside and among the half-open ones, was answered.
pub const FLOW_ANSWERED: u8 = 1 << 6;

/// Value of [`HALF_OPEN`](crate::names::HALF_OPEN) and
/// [`CONFIRMED`](crate::names::CONFIRMED).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flow {
    /// Time of the last packet, at most [`STAMP_INTERVAL_NS`] too early.
    /// Nanoseconds of `CLOCK_MONOTONIC` (coarse).
    pub last_seen: u64,
    /// [`Direction`](crate::verdict::Direction) of the first packet, as a
    /// number.
    pub opened_by: u8,
    /// Bits `FLOW_*`.
    pub state: u8,
    /// Zero.
    pub _pad: [u8; 6],
}

impl Flow {
    /// A flow, in words as [`FlowKey::compose`] makes them. `opened_by` and
    /// `state` as the fields of these names.
    #[inline(always)]
    #[must_use]
    pub const fn new(last_seen: u64, opened_by: Direction, state: u8) -> Self {
        let rest = u64::from_ne_bytes([opened_by as u8, state, 0, 0, 0, 0, 0, 0]);
        // SAFETY: as large, of integers without padding; any bytes are valid.
        unsafe { core::mem::transmute::<[u64; 2], Self>([last_seen, rest]) }
    }

    /// How long the flow may be silent: its protocol says so, and what was seen
    /// of it.
    #[inline(always)]
    #[must_use]
    pub const fn idle(&self, protocol: u8, confirmed: bool) -> Idle {
        Idle::of(
            protocol,
            self.state,
            confirmed || self.state & FLOW_ANSWERED != 0,
        )
    }

    /// Whether the flow is not forgotten yet at `now` (`CLOCK_MONOTONIC`,
    /// nanoseconds), if it is after so many nanoseconds of silence.
    #[inline(always)]
    #[must_use]
    pub const fn is_alive(&self, timeout: u64, now: u64) -> bool {
        now.wrapping_sub(self.last_seen) < timeout
            // The coarse clock of another CPU may be a tick behind the stamp.
            || self.last_seen > now
    }
}

/// A flow's time stamp is written again once it is this old, not for every
/// packet. Nanoseconds.
pub const STAMP_INTERVAL_NS: u64 = 1_000_000_000;

const SECOND: u64 = 1_000_000_000;

/// Kinds of flows that may be silent for different times. The numbers index
/// [`Timeouts`] and are ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Idle {
    /// TCP, unanswered.
    TcpHalfOpen = 0,
    /// TCP, both directions seen.
    TcpEstablished = 1,
    /// TCP, a FIN was seen.
    TcpFin = 2,
    /// TCP, reset.
    TcpReset = 3,
    /// UDP and UDP-Lite, unanswered.
    UdpHalfOpen = 4,
    /// UDP and UDP-Lite, answered.
    UdpConfirmed = 5,
    /// ICMP and ICMPv6.
    Icmp = 6,
    /// SCTP, answered.
    SctpConfirmed = 7,
    /// Everything else.
    Generic = 8,
}

impl Idle {
    /// How many kinds there are.
    pub const COUNT: usize = 9;

    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TcpHalfOpen,
        Self::TcpEstablished,
        Self::TcpFin,
        Self::TcpReset,
        Self::UdpHalfOpen,
        Self::UdpConfirmed,
        Self::Icmp,
        Self::SctpConfirmed,
        Self::Generic,
    ];

    /// The kind of a flow with these `FLOW_*` bits; `confirmed`: both sides
    /// have sent in it.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u8, state: u8, confirmed: bool) -> Self {
        const ICMP_V4: u8 = 1;
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const ICMP_V6: u8 = 58;
        const SCTP: u8 = 132;
        const UDP_LITE: u8 = 136;
        match protocol {
            TCP if state & (FLOW_RESET | FLOW_RESET_HERE) != 0 => Self::TcpReset,
            TCP if state & (FLOW_FIN_OPENER | FLOW_FIN_ANSWER) != 0 => Self::TcpFin,
            TCP if confirmed => Self::TcpEstablished,
            TCP => Self::TcpHalfOpen,
            UDP | UDP_LITE if confirmed => Self::UdpConfirmed,
            UDP | UDP_LITE => Self::UdpHalfOpen,
            ICMP_V4 | ICMP_V6 => Self::Icmp,
            SCTP if confirmed => Self::SctpConfirmed,
            _ => Self::Generic,
        }
    }

    /// The name that settings and documentation use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpHalfOpen => "tcp-half-open",
            Self::TcpEstablished => "tcp-established",
            Self::TcpFin => "tcp-fin",
            Self::TcpReset => "tcp-reset",
            Self::UdpHalfOpen => "udp-half-open",
            Self::UdpConfirmed => "udp-confirmed",
            Self::Icmp => "icmp",
            Self::SctpConfirmed => "sctp-confirmed",
            Self::Generic => "generic",
        }
    }
}

/// Nanoseconds of silence after which flows are forgotten, by [`Idle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Timeouts(pub [u64; Idle::COUNT]);

impl Timeouts {
    /// The figures of [`timeout`].
    pub const DEFAULT: Self = Self([
        timeout::TCP_HALF_OPEN,
        timeout::TCP_ESTABLISHED,
        timeout::TCP_FIN,
        timeout::TCP_RESET,
        timeout::UDP_HALF_OPEN,
        timeout::UDP_CONFIRMED,
        timeout::ICMP,
        timeout::SCTP_CONFIRMED,
        timeout::GENERIC,
    ]);

    /// Nanoseconds of silence that a kind of flows may keep.
    #[must_use]
    pub const fn of(&self, idle: Idle) -> u64 {
        self.0[idle as usize]
    }
}

/// Idle times after which a flow is forgotten unless the agent is told others,
/// in nanoseconds. The figures are the defaults of Linux's own conntrack
/// (Documentation/networking/nf_conntrack-sysctl.rst).
pub mod timeout {
    use super::SECOND;

    /// TCP, both directions seen (nf_conntrack_tcp_timeout_established).
    pub const TCP_ESTABLISHED: u64 = 432_000 * SECOND;
    /// TCP, unanswered (nf_conntrack_tcp_timeout_syn_sent).
    pub const TCP_HALF_OPEN: u64 = 120 * SECOND;
    /// TCP, a FIN was seen (nf_conntrack_tcp_timeout_fin_wait, _time_wait).
    pub const TCP_FIN: u64 = 120 * SECOND;
    /// TCP, reset (nf_conntrack_tcp_timeout_close).
    pub const TCP_RESET: u64 = 10 * SECOND;
    /// UDP and UDP-Lite, unanswered (nf_conntrack_udp_timeout).
    pub const UDP_HALF_OPEN: u64 = 30 * SECOND;
    /// UDP and UDP-Lite, answered (nf_conntrack_udp_timeout_stream).
    pub const UDP_CONFIRMED: u64 = 120 * SECOND;
    /// ICMP and ICMPv6 (nf_conntrack_icmp_timeout).
    pub const ICMP: u64 = 30 * SECOND;
    /// SCTP, answered (nf_conntrack_sctp_timeout_established).
    pub const SCTP_CONFIRMED: u64 = 210 * SECOND;
    /// Everything else (nf_conntrack_generic_timeout).
    pub const GENERIC: u64 = 600 * SECOND;
    /// Fragments of a datagram (net.ipv4.ipfrag_time).
    pub const FRAGMENT: u64 = 30 * SECOND;
}

/// Key of [`FRAGMENTS`](crate::names::FRAGMENTS): RFC 791 section 3.2 and RFC
/// 8200 section 4.5 identify a datagram so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification as in the packet (IPv4: 16 bits in the first two bytes).
    pub identification: [u8; 4],
    /// Protocol number (IPv4), 0 (IPv6: later fragments need not repeat it).
    pub protocol: u8,
    /// The [`Checkpoint`](crate::counter::Checkpoint) that allowed the first
    /// fragment: each has its own say.
    pub checkpoint: u8,
    /// Zero.
    pub _pad: [u8; 2],
}

boundary!(
    Address = 16,
    FlowKey = 40,
    Flow = 16,
    FragmentKey = 40,
    Timeouts = 72
);
