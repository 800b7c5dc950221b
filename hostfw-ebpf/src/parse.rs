//! From bytes to the headers that decide.

use core::ops::{Deref, DerefMut};

use hostfw_common::{conntrack::Address, endpoint::Family, limits::MAX_EXTENSION_HEADERS};

use crate::packet::{MAX_OFFSET, Source, Veil};

/// Protocol numbers (IANA).
pub(crate) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const UDPLITE: u8 = 136;
}

/// IPv6 extension headers (IANA) that Linux skips on its way to the transport
/// protocol. Mobility, HIP and Shim6 are not among them: to Linux they are what
/// the packet carries, whatever may follow.
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Bits of a VLAN tag that hold the VLAN; the rest is priority (IEEE 802.1Q).
pub(crate) const VLAN_ID: u16 = 0x0fff;
/// Priority tags that are looked behind. Linux takes off as many as there are;
/// what has more than one is made to deceive.
const MAX_PRIORITY_TAGS: usize = 2;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fragment {
    /// All of it.
    Whole,
    /// The first part, which holds the transport header.
    First,
    /// A later part.
    Later,
}

/// An address of a packet, where the programs can move it in two words: a word
/// that is read in other pieces than it was written in stalls the processor.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct WideAddress(Address);

impl WideAddress {
    /// From two words as they lie in memory. The first one is often the same,
    /// and the verifier is not to know it.
    #[inline(always)]
    fn new([high, low]: [u64; 2], veil: Veil) -> Self {
        // SAFETY: both have 16 bytes, and any bytes are valid integers.
        unsafe { core::mem::transmute::<[u64; 2], Self>([veil.draw_wide(high), low]) }
    }

    /// The address in words, as they lie in memory.
    #[inline(always)]
    pub(crate) const fn wide_words(self) -> [u64; 2] {
        // SAFETY: as above.
        unsafe { core::mem::transmute::<Self, [u64; 2]>(self) }
    }

    /// Whether this is an IPv4 address, mapped.
    #[inline(always)]
    fn is_mapped(self) -> bool {
        let [high, low] = self.wide_words();
        high == 0 && low as u32 == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }
}

impl Deref for WideAddress {
    type Target = Address;

    #[inline(always)]
    fn deref(&self) -> &Address {
        &self.0
    }
}

impl DerefMut for WideAddress {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Address {
        &mut self.0
    }
}

/// What decides about a packet.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Headers {
    pub(crate) source: WideAddress,
    pub(crate) destination: WideAddress,
    /// Identification of the datagram; only for fragments.
    pub(crate) identification: [u8; 4],
    /// Source port; for ICMP the identifier of a query. Otherwise 0.
    pub(crate) source_port: [u8; 2],
    /// Destination port; for ICMP type and code. Otherwise 0.
    pub(crate) destination_port: [u8; 2],
    /// Offset of the transport header.
    pub(crate) transport: u16,
    pub(crate) protocol: u8,
    pub(crate) hop_limit: u8,
    /// Flags of TCP; 0 if its header length is impossible.
    pub(crate) tcp_flags: u8,
    /// [`Family`] as a number.
    pub(crate) family: u8,
    /// [`Fragment`] as a number.
    fragment: u8,
    _pad: u8,
}

impl Headers {
    /// Nothing but zeros: an IPv4 packet that is whole. Made of words that the
    /// compiler does not know, for which it would call a function.
    #[inline(always)]
    pub(crate) fn empty(veil: Veil) -> Self {
        // SAFETY: as large, of integers; any bytes are valid.
        unsafe { core::mem::transmute::<[u64; 6], Self>([veil.draw_wide(0); 6]) }
    }

    /// The address family.
    #[inline(always)]
    pub(crate) fn family(&self) -> Family {
        if self.family == Family::V4 as u8 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// Which part of its datagram the packet is.
    #[inline(always)]
    pub(crate) fn fragment(&self) -> Fragment {
        if self.fragment == Fragment::Whole as u8 {
            Fragment::Whole
        } else if self.fragment == Fragment::First as u8 {
            Fragment::First
        } else {
            Fragment::Later
        }
    }

    /// Makes the verifier forget by which way the headers were filled in. Of
    /// the rest it knows nothing anyway.
    #[inline(always)]
    fn draw(&mut self, veil: Veil) {
        let byte = |value: u8| veil.draw(u32::from(value)) as u8;
        let pair =
            |value: [u8; 2]| (veil.draw(u32::from(u16::from_ne_bytes(value))) as u16).to_ne_bytes();
        self.source_port = pair(self.source_port);
        self.destination_port = pair(self.destination_port);
        self.transport = veil.draw(u32::from(self.transport)) as u16;
        self.protocol = byte(self.protocol);
        self.tcp_flags = byte(self.tcp_flags);
        self.family = byte(self.family);
        self.fragment = byte(self.fragment);
    }

    /// Whether the protocol has ports.
    #[inline(always)]
    pub(crate) const fn has_ports(&self) -> bool {
        matches!(
            self.protocol,
            protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP
        )
    }

    /// ICMP or ICMPv6 in the family that it belongs to.
    #[inline(always)]
    pub(crate) fn is_icmp(&self) -> bool {
        match self.family() {
            Family::V4 => self.protocol == protocol::ICMP,
            Family::V6 => self.protocol == protocol::ICMPV6,
        }
    }
}

/// What parsing came to. A number, since it crosses from one BPF function to
/// another.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Parsed {
    /// The headers are filled in.
    Ip,
    /// Not IP, or of another VLAN.
    NotIp,
    /// The bytes at hand end too early.
    Truncated,
    /// No more bytes would help.
    Malformed,
}

#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct Ethernet {
    addresses: [u8; 12],
    ethertype: [u8; 2],
}

#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u16; 2],
    destination: [u16; 2],
}

#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct Ipv6 {
    version: u8,
    class_label: [u8; 3],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u16; 8],
    destination: [u16; 8],
}

#[derive(Clone, Copy)]
#[repr(C, packed(2))]
struct FragmentHeader {
    next_header: u8,
    reserved: u8,
    offset_flags: [u8; 2],
    identification: [u8; 4],
}

const MORE_FRAGMENTS_V4: u16 = 0x2000;
const FRAGMENT_OFFSET_V4: u16 = 0x1fff;
const MORE_FRAGMENTS_V6: u16 = 0x0001;
const FRAGMENT_OFFSET_V6: u16 = 0xfff8;

/// [`parse`], apart from its caller: for packets that are rare, and where the stack
/// is short.
#[inline(never)]
pub(crate) fn parse_apart(
    packet: &impl Source,
    link_header: bool,
    headers: &mut Headers,
) -> Parsed {
    parse(packet, link_header, headers)
}

/// Parses a packet from its link header, or from its IP header if the
/// interface has none.
#[inline(always)]
pub(crate) fn parse(packet: &impl Source, link_header: bool, headers: &mut Headers) -> Parsed {
    let parsed = match link(packet, link_header) {
        Link::Ipv4(offset) => parse_ipv4(packet, offset, true, headers),
        Link::Ipv6(offset) => parse_ipv6(packet, offset, true, headers),
        Link::Other(parsed) => return parsed,
    };
    headers.draw(packet.veil());
    parsed
}

/// What lies behind the link header, and where.
enum Link {
    Ipv4(usize),
    Ipv6(usize),
    Other(Parsed),
}

#[inline(always)]
fn link(packet: &impl Source, link_header: bool) -> Link {
    if !link_header {
        // Two bytes where one would do: of `start + 1 > end` the compiler makes
        // `end > start`, from which the verifier learns nothing.
        return match packet.read::<[u8; 2]>(0) {
            None => Link::Other(Parsed::Truncated),
            Some([first, _]) => match first >> 4 {
                4 => Link::Ipv4(0),
                6 => Link::Ipv6(0),
                _ => Link::Other(Parsed::NotIp),
            },
        };
    }
    let Some(ethernet) = packet.read::<Ethernet>(0) else {
        return Link::Other(Parsed::Truncated);
    };
    let mut ethertype = u16::from_be_bytes(ethernet.ethertype);
    let mut offset = size_of::<Ethernet>();
    for _ in 0..MAX_PRIORITY_TAGS {
        if !is_tag(ethertype) {
            break;
        }
        let Some([tag, inner]) = packet.read::<[[u8; 2]; 2]>(offset) else {
            return Link::Other(Parsed::Truncated);
        };
        // The frame is the VLAN interface's, which has its own endpoint if
        // any; only a priority tag leaves it with this one.
        if u16::from_be_bytes(tag) & VLAN_ID != 0 {
            return Link::Other(Parsed::NotIp);
        }
        ethertype = u16::from_be_bytes(inner);
        offset += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 => Link::Ipv4(offset),
        ETHERTYPE_IPV6 => Link::Ipv6(offset),
        _ if is_tag(ethertype) => Link::Other(Parsed::Malformed),
        _ => Link::Other(Parsed::NotIp),
    }
}

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ)
}

/// Parses the packet that an ICMP error quotes: at least its IP header and
/// eight bytes of its transport header (RFC 792, RFC 4443 section 2.4).
#[inline(never)]
pub(crate) fn parse_quoted(packet: &impl Source, error: &Headers, headers: &mut Headers) -> Parsed {
    // The ICMP header has eight bytes in front of what it quotes.
    let offset = usize::from(error.transport) + 8;
    let parsed = match error.family() {
        Family::V4 => parse_ipv4(packet, offset, false, headers),
        Family::V6 => parse_ipv6(packet, offset, false, headers),
    };
    headers.draw(packet.veil());
    parsed
}

#[inline(always)]
fn parse_ipv4(packet: &impl Source, offset: usize, whole: bool, headers: &mut Headers) -> Parsed {
    let Some(ip) = packet.read::<Ipv4>(offset) else {
        return Parsed::Truncated;
    };
    let header_length = usize::from(ip.version_ihl & 0x0f) * 4;
    if ip.version_ihl >> 4 != 4 || header_length < size_of::<Ipv4>() {
        return Parsed::Malformed;
    }
    let total_length = usize::from(u16::from_be_bytes(ip.total_length));
    // 0 in a packet that the kernel will cut into segments and that is longer
    // than the field can say (BIG TCP).
    if total_length != 0 && total_length < header_length {
        return Parsed::Malformed;
    }
    // Options are not looked at, but they must be there.
    if header_length > size_of::<Ipv4>() && packet.read::<u8>(offset + header_length - 1).is_none()
    {
        return Parsed::Truncated;
    }
    headers.family = Family::V4 as u8;
    headers.source = WideAddress::new(mapped(ip.source), packet.veil());
    headers.destination = WideAddress::new(mapped(ip.destination), packet.veil());
    headers.protocol = ip.protocol;
    headers.hop_limit = ip.ttl;
    headers.transport = (offset + header_length) as u16;
    headers.identification = [ip.identification[0], ip.identification[1], 0, 0];
    let fragment = u16::from_be_bytes(ip.fragment);
    let position = fragment & FRAGMENT_OFFSET_V4;
    if position != 0 {
        headers.fragment = Fragment::Later as u8;
        // Would overwrite the flags of a TCP header that lies in the first
        // fragment (RFC 3128).
        if position == 1 && ip.protocol == protocol::TCP {
            return Parsed::Malformed;
        }
        return Parsed::Ip;
    }
    headers.fragment = if fragment & MORE_FRAGMENTS_V4 != 0 {
        Fragment::First as u8
    } else {
        Fragment::Whole as u8
    };
    let payload = if total_length == 0 {
        usize::MAX
    } else {
        total_length - header_length
    };
    parse_transport(packet, offset + header_length, payload, whole, headers)
}

#[inline(always)]
fn parse_ipv6(packet: &impl Source, offset: usize, whole: bool, headers: &mut Headers) -> Parsed {
    let Some(ip) = packet.read::<Ipv6>(offset) else {
        return Parsed::Truncated;
    };
    if ip.version >> 4 != 6 {
        return Parsed::Malformed;
    }
    headers.family = Family::V6 as u8;
    headers.source = WideAddress::new(address(ip.source), packet.veil());
    headers.destination = WideAddress::new(address(ip.destination), packet.veil());
    // On no wire (draft-itojun-v6ops-v4mapped-harmful): to conntrack the packet
    // would be one of an IPv4 flow.
    if headers.source.is_mapped() || headers.destination.is_mapped() {
        return Parsed::Malformed;
    }
    headers.hop_limit = ip.hop_limit;
    headers.fragment = Fragment::Whole as u8;
    let payload_length = usize::from(u16::from_be_bytes(ip.payload_length));
    let start = offset + size_of::<Ipv6>();
    let mut next = ip.next_header;
    let mut at = start;
    let mut extensions = 0;
    let mut fragment_headers = 0;
    // One round more than there may be extension headers: the last one sees
    // that a transport header follows.
    while extensions <= MAX_EXTENSION_HEADERS {
        let length = match next {
            extension::HOP_BY_HOP | extension::ROUTING | extension::DESTINATION => {
                let Some([following, units]) = packet.read::<[u8; 2]>(at) else {
                    return Parsed::Truncated;
                };
                next = following;
                (usize::from(units) + 1) * 8
            }
            extension::AUTHENTICATION => {
                let Some([following, units]) = packet.read::<[u8; 2]>(at) else {
                    return Parsed::Truncated;
                };
                next = following;
                // In units of four bytes, less two (RFC 4302 section 2.2).
                (usize::from(units) + 2) * 4
            }
            extension::FRAGMENT => {
                let Some(fragment) = packet.read::<FragmentHeader>(at) else {
                    return Parsed::Truncated;
                };
                // One within another is made to deceive: which of the two would
                // later ones follow?
                fragment_headers = packet.veil().draw(fragment_headers + 1);
                if fragment_headers != 1 {
                    return Parsed::Malformed;
                }
                next = fragment.next_header;
                let offset_flags = u16::from_be_bytes(fragment.offset_flags);
                headers.identification = fragment.identification;
                if offset_flags & FRAGMENT_OFFSET_V6 != 0 {
                    headers.fragment = Fragment::Later as u8;
                    headers.protocol = next;
                    return Parsed::Ip;
                }
                // An atomic fragment (RFC 6946) is a whole datagram.
                if offset_flags & MORE_FRAGMENTS_V6 != 0 {
                    headers.fragment = Fragment::First as u8;
                }
                size_of::<FragmentHeader>()
            }
            _ => {
                headers.protocol = next;
                headers.transport = at as u16;
                // Of an extension header only the beginning was read.
                if extensions != 0 && packet.read::<[u8; 2]>(at - 2).is_none() {
                    return Parsed::Truncated;
                }
                let skipped = at - start;
                // 0: longer than the field can say (RFC 2675, BIG TCP).
                let payload = if payload_length == 0 {
                    usize::MAX
                } else if payload_length < skipped {
                    return Parsed::Malformed;
                } else {
                    payload_length - skipped
                };
                return parse_transport(packet, at, payload, whole, headers);
            }
        };
        at += length;
        if at > MAX_OFFSET {
            return Parsed::Malformed;
        }
        at = packet.veil().draw(at as u32) as usize & MAX_OFFSET;
        extensions += 1;
    }
    Parsed::Malformed
}

/// `payload`: bytes behind the IP headers by the IP header's own account, which
/// padding of the frame does not add to. `whole`: all of the transport header
/// must be there, not only the eight bytes that an ICMP error quotes.
#[inline(always)]
fn parse_transport(
    packet: &impl Source,
    at: usize,
    payload: usize,
    whole: bool,
    headers: &mut Headers,
) -> Parsed {
    headers.source_port = [0; 2];
    headers.destination_port = [0; 2];
    headers.tcp_flags = 0;
    match headers.protocol {
        protocol::TCP => {
            // A first fragment without the flags is an attempt to slip past
            // rules (RFC 1858): too short counts as malformed there, too.
            if payload < if whole { 20 } else { 8 } {
                return Parsed::Malformed;
            }
            let Some([source, destination]) = packet.read::<[[u8; 2]; 2]>(at) else {
                return Parsed::Truncated;
            };
            headers.source_port = source;
            headers.destination_port = destination;
            if whole {
                let Some([offset, flags]) = packet.read::<[u8; 2]>(at + 12) else {
                    return Parsed::Truncated;
                };
                if offset >> 4 >= 5 {
                    headers.tcp_flags = flags;
                }
            }
        }
        protocol::UDP | protocol::UDPLITE | protocol::DCCP | protocol::SCTP => {
            if payload < 8 {
                return Parsed::Malformed;
            }
            let Some([source, destination, ..]) = packet.read::<[[u8; 2]; 4]>(at) else {
                return Parsed::Truncated;
            };
            headers.source_port = source;
            headers.destination_port = destination;
        }
        protocol::ICMP | protocol::ICMPV6 => {
            if payload < 8 {
                return Parsed::Malformed;
            }
            let Some([kind_code, _, identifier, _]) = packet.read::<[[u8; 2]; 4]>(at) else {
                return Parsed::Truncated;
            };
            headers.source_port = identifier;
            headers.destination_port = kind_code;
        }
        _ => {}
    }
    Parsed::Ip
}

/// An IPv4 address, mapped, in words as they lie in memory.
#[inline(always)]
fn mapped([high, low]: [u16; 2]) -> [u64; 2] {
    let [a, b] = high.to_ne_bytes();
    let [c, d] = low.to_ne_bytes();
    [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
}

#[inline(always)]
fn address(words: [u16; 8]) -> [u64; 2] {
    // SAFETY: both are 16 bytes in the same order.
    unsafe { core::mem::transmute::<[u16; 8], [u64; 2]>(words) }
}
