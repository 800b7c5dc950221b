//! Everything that a rule can ask of one dimension, as prefixes of bits.

use hostfw_common::{
    endpoint::Family,
    prefix::{PORT_BITS, PROTOCOL_BITS},
};
use ipnet::IpNet;

use super::{digest::Digester, dimension::Narrow};

/// The first `len` of at most 128 bits.
///
/// Two prefixes are nested or apart, never partly over each other. Sorted,
/// a prefix comes before those that it contains, and they come before all
/// others behind it: the order of a walk down the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    /// Left-aligned; zero behind `len` bits.
    bits: u128,
    len: u8,
}

impl Prefix {
    /// Contains everything.
    pub(super) const ALL: Self = Self { bits: 0, len: 0 };

    fn new(bits: u128, len: u32) -> Self {
        debug_assert!(len <= 128);
        Self {
            bits: bits & mask(len),
            len: len as u8,
        }
    }

    /// The network, if it is of the family.
    pub(super) fn net(net: &IpNet, family: Family) -> Option<Self> {
        match (net, family) {
            (IpNet::V4(net), Family::V4) => {
                let bits = u128::from(net.network().to_bits()) << 96;
                Some(Self::new(bits, net.prefix_len().into()))
            }
            (IpNet::V6(net), Family::V6) => {
                Some(Self::new(net.network().to_bits(), net.prefix_len().into()))
            }
            (IpNet::V4(_), Family::V6) | (IpNet::V6(_), Family::V4) => None,
        }
    }

    /// What [`to_v6`](Self::to_v6) and [`len`](Self::len) say.
    pub(super) fn of_v6(address: [u8; 16], len: u32) -> Self {
        Self::new(u128::from_be_bytes(address), len)
    }

    /// An IPv6 prefix of at most 32 bits.
    pub(super) fn of_front(front: Narrow) -> Self {
        Self::new(u128::from(front.first()) << 96, front.len())
    }

    /// A protocol, whatever its ports.
    pub(super) fn protocol(protocol: u8) -> Self {
        Self::service(protocol, 0, 0)
    }

    /// An ICMP type and perhaps code, which stand where ports do.
    pub(super) fn icmp(protocol: u8, kind: u8, code: Option<u8>) -> Self {
        match code {
            Some(code) => Self::service(protocol, u16::from_be_bytes([kind, code]), PORT_BITS),
            None => Self::service(protocol, u16::from_be_bytes([kind, 0]), 8),
        }
    }

    /// The ports `first` to `last` of a protocol, as the fewest prefixes.
    pub(super) fn ports(protocol: u8, first: u16, last: u16) -> impl Iterator<Item = Self> {
        let mut next = u32::from(first);
        let end = u32::from(last) + 1;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            // The largest block that begins at `next` and does not pass `end`.
            let aligned = next.trailing_zeros().min(PORT_BITS);
            let fitting = (end - next).ilog2();
            let free = aligned.min(fitting);
            let prefix = Self::service(protocol, next as u16, PORT_BITS - free);
            next += 1 << free;
            Some(prefix)
        })
    }

    /// `port_bits` of the port behind the protocol.
    fn service(protocol: u8, port: u16, port_bits: u32) -> Self {
        let bits = u32::from(protocol) << PORT_BITS | u32::from(port);
        Self::new(
            u128::from(bits) << (128 - PROTOCOL_BITS - PORT_BITS),
            PROTOCOL_BITS + port_bits,
        )
    }

    pub(super) fn contains(self, other: Self) -> bool {
        self.len <= other.len && other.bits & mask(self.len.into()) == self.bits
    }

    pub(super) fn digest(self, digester: &mut Digester) {
        let high = (self.bits >> 64) as u64;
        if self.len <= 32 {
            // Its bits leave room for the length.
            digester.word(high | u64::from(self.len));
        } else {
            // Begins as no short one does.
            digester.word(u64::MAX);
            digester.word(high);
            digester.word(self.bits as u64);
            digester.word(self.len.into());
        }
    }

    /// The first `len` bits of it, which has no fewer.
    pub(super) fn shortened(self, len: u32) -> Self {
        Self::new(self.bits, len)
    }

    /// Its first `len` bits, which are not all, and then these eight.
    pub(super) fn with_octet(self, len: u32, octet: u8) -> Self {
        let bits = self.bits & mask(len) | u128::from(octet) << (120 - len);
        Self::new(bits, len + 8)
    }

    /// The bits, the first one highest; zero behind the length.
    pub(super) const fn bits(self) -> u128 {
        self.bits
    }

    /// Length in bits.
    pub(super) fn len(self) -> u32 {
        self.len.into()
    }

    /// An IPv4 address, network byte order.
    pub(super) fn to_v4(self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.bits.to_be_bytes();
        [a, b, c, d]
    }

    /// An IPv6 address, network byte order.
    pub(super) fn to_v6(self) -> [u8; 16] {
        self.bits.to_be_bytes()
    }

    /// Protocol, and port in network byte order.
    #[cfg(test)]
    pub(super) fn to_service(self) -> (u8, [u8; 2]) {
        let [protocol, high, low, ..] = self.bits.to_be_bytes();
        (protocol, [high, low])
    }
}

/// The first `len` of 128 bits set.
fn mask(len: u32) -> u128 {
    u128::MAX.checked_shl(128 - len).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(first: u16, last: u16) -> Vec<(u16, u32)> {
        Prefix::ports(6, first, last)
            .map(|p| (u16::from_be_bytes(p.to_service().1), p.len() - 8))
            .collect()
    }

    #[test]
    fn port_ranges_become_the_fewest_prefixes() {
        assert_eq!(ports(80, 80), [(80, 16)]);
        assert_eq!(ports(0, 65535), [(0, 0)]);
        assert_eq!(ports(1024, 2047), [(1024, 6)]);
        assert_eq!(ports(79, 82), [(79, 16), (80, 15), (82, 16)]);
        assert_eq!(ports(65535, 65535), [(65535, 16)]);
        // The worst case: 15 lengths on either side.
        assert_eq!(ports(1, 65534).len(), 30);
    }

    #[test]
    fn port_ranges_cover_their_ports_once_and_no_others() {
        for (first, last) in [(1, 65535), (30000, 32767), (7, 4242), (49152, 65535)] {
            let prefixes: Vec<_> = Prefix::ports(17, first, last).collect();
            for port in 0..=u16::MAX {
                let this = Prefix::service(17, port, 16);
                let covers = prefixes.iter().filter(|p| p.contains(this)).count();
                assert_eq!(
                    covers,
                    usize::from((first..=last).contains(&port)),
                    "{port}"
                );
            }
        }
    }

    #[test]
    fn families_do_not_mix_and_bytes_are_in_network_order() {
        let v4: IpNet = "10.240.0.0/16".parse().unwrap();
        let v6: IpNet = "fd00:10:240::/64".parse().unwrap();
        assert_eq!(Prefix::net(&v4, Family::V6), None);
        assert_eq!(Prefix::net(&v6, Family::V4), None);
        let prefix = Prefix::net(&v4, Family::V4).unwrap();
        assert_eq!((prefix.to_v4(), prefix.len()), ([10, 240, 0, 0], 16));
        let prefix = Prefix::net(&v6, Family::V6).unwrap();
        assert_eq!(prefix.to_v6()[..6], [0xfd, 0, 0, 0x10, 0x02, 0x40]);
        assert_eq!(prefix.len(), 64);
        let (protocol, port) = Prefix::service(6, 0x1234, 16).to_service();
        assert_eq!((protocol, port), (6, [0x12, 0x34]));
        // ICMP: the type stands first.
        let echo = Prefix::icmp(1, 8, Some(3));
        assert_eq!((echo.to_service(), echo.len()), ((1, [8, 3]), 24));
        assert_eq!(Prefix::icmp(1, 8, None).len(), 16);
    }

    #[test]
    fn sorting_puts_what_contains_before_what_is_contained() {
        let net = |text: &str| Prefix::net(&text.parse().unwrap(), Family::V4).unwrap();
        let mut all = [
            net("10.1.0.0/16"),
            net("11.0.0.0/8"),
            net("10.0.0.0/32"),
            net("10.0.0.0/8"),
            Prefix::ALL,
        ];
        all.sort();
        assert_eq!(
            all,
            [
                Prefix::ALL,
                net("10.0.0.0/8"),
                net("10.0.0.0/32"),
                net("10.1.0.0/16"),
                net("11.0.0.0/8"),
            ]
        );
        assert!(net("10.0.0.0/8").contains(net("10.1.0.0/16")));
        assert!(!net("10.1.0.0/16").contains(net("10.0.0.0/8")));
        assert!(!net("10.0.0.0/8").contains(net("11.0.0.0/8")));
        assert!(Prefix::ALL.contains(Prefix::ALL));
    }
}
