//! The order of checks that every hook shares.
//!
//! 1. What is no IP packet, and what IPv6 cannot do without, passes.
//! 2. What cannot be parsed is dropped.
//! 3. Conntrack speaks first: established and related packets pass.
//! 4. Forwarded packets on their way out are recorded and pass.
//! 5. Invalid packets are dropped, even those to fail-safe ports.
//! 6. Fail-safe ports pass.
//! 7. The rules of the stage decide, then its default.

use aya_ebpf::btf_maps::lpm_trie::Key;
use hostfw_common::{
    endpoint::{
        Endpoint, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_LEARNING,
        FLAG_NO_LINK_HEADER, Family,
    },
    failsafe::{FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    policy::{Action, PolicyTable, TABLE_DEFAULT_DENY},
    stage::List,
    verdict::{Direction, Reason, Verdict},
};

use crate::{
    classify::{Classified, classify},
    conntrack::{self, Tracked},
    maps::{ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, generation, slot},
    packet::Packet,
    parse::{self, Fragment, Headers, Parsed, protocol},
    report::{self, Origin},
};

/// What a hook knows of a packet without looking into it.
pub(crate) struct Hook {
    pub(crate) direction: Direction,
    /// The interface that the packet crosses.
    pub(crate) interface: u32,
    /// The packet came in through an interface and now goes out.
    pub(crate) forwarded: bool,
    /// The frame is of a VLAN, whose tag the kernel has taken off and keeps
    /// apart.
    pub(crate) of_vlan: bool,
    /// Length of the packet.
    pub(crate) bytes: u64,
}

/// Decides about a packet and counts it.
///
/// `pull` makes more bytes of the packet readable, if there are any.
#[inline(always)]
pub(crate) fn judge(
    hook: &Hook,
    packet: &Packet,
    headers: &mut Headers,
    pull: impl Fn() -> Option<Packet>,
) -> Reason {
    let generation = generation();
    let Some(endpoint) = endpoint(generation, hook.interface) else {
        return Reason::NoEndpoint;
    };
    let reason = judge_governed(hook, packet, headers, pull, generation, endpoint);
    report::count(hook.direction, reason, hook.bytes);
    reason
}

#[inline(always)]
fn endpoint(generation: u64, interface: u32) -> Option<&'static Endpoint> {
    let endpoints = ENDPOINTS.get(slot(generation))?;
    // SAFETY: the agent never changes the maps of a generation in force, and
    // waits until no program uses it before it fills the slot again.
    unsafe { endpoints.get(interface) }
}

#[inline(always)]
fn judge_governed(
    hook: &Hook,
    packet: &Packet,
    headers: &mut Headers,
    pull: impl Fn() -> Option<Packet>,
    generation: u64,
    endpoint: &Endpoint,
) -> Reason {
    if hook.of_vlan {
        return Reason::NotIp;
    }
    let direction = hook.direction;
    let link_header = endpoint.flags & FLAG_NO_LINK_HEADER == 0;
    let learning = endpoint.flags & FLAG_LEARNING != 0;
    let mut packet = *packet;
    let mut parsed = parse::parse(&packet, link_header, headers);
    if matches!(parsed, Parsed::Truncated)
        && let Some(longer) = pull()
    {
        packet = longer;
        parsed = parse::parse(&packet, link_header, headers);
    }
    match parsed {
        Parsed::Ip => {}
        Parsed::NotIp => return Reason::NotIp,
        Parsed::Truncated | Parsed::Malformed if learning => return Reason::Learning,
        Parsed::Truncated | Parsed::Malformed => return Reason::Undecodable,
    }
    let now = conntrack::now();
    if matches!(headers.fragment(), Fragment::Later) {
        return if hook.forwarded {
            Reason::Forwarded
        } else if learning {
            Reason::Learning
        } else if conntrack::follows_fragment(headers, direction, now) {
            Reason::Fragment
        } else {
            Reason::OrphanFragment
        };
    }
    if is_neighbour_discovery(headers) {
        return Reason::NeighbourDiscovery;
    }
    if conntrack::quotes(headers)
        && let Some(longer) = pull()
    {
        packet = longer;
    }
    let tracked = conntrack::track(&packet, headers, direction, now);
    let reason = match tracked {
        Tracked::Established => Reason::Established,
        Tracked::Related => Reason::Related,
        Tracked::New | Tracked::Invalid => {
            let invalid = matches!(tracked, Tracked::Invalid);
            let reason = if hook.forwarded {
                Reason::Forwarded
            } else if learning {
                Reason::Learning
            } else if invalid && endpoint.flags & drop_invalid(direction) != 0 {
                Reason::Invalid
            } else if is_failsafe(generation, headers, direction) {
                Reason::Failsafe
            } else {
                let origin = Origin {
                    generation,
                    now,
                    interface: hook.interface,
                    endpoint: endpoint.id,
                    direction,
                };
                apply_policy(endpoint, headers, &origin)
            };
            if matches!(reason.verdict(), Verdict::Pass) && !invalid {
                conntrack::record(headers, direction, now);
            }
            reason
        }
    };
    if matches!(headers.fragment(), Fragment::First) && matches!(reason.verdict(), Verdict::Pass) {
        conntrack::record_fragment(headers, direction, now);
    }
    reason
}

#[inline(always)]
const fn drop_invalid(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => FLAG_DROP_INVALID_PRE_DNAT,
        Direction::Egress => FLAG_DROP_INVALID,
    }
}

/// Neighbour discovery (RFC 4861: valid only with hop limit 255, which no
/// router leaves) and multicast listener messages (RFC 2710, RFC 3810): without
/// them IPv6 does not work at all.
#[inline(always)]
fn is_neighbour_discovery(headers: &Headers) -> bool {
    matches!(headers.family(), Family::V6)
        && headers.protocol == protocol::ICMPV6
        && match headers.destination_port[0] {
            130..=132 | 143 => true,
            133..=136 => headers.hop_limit == 255,
            _ => false,
        }
}

#[inline(never)]
fn is_failsafe(generation: u64, headers: &Headers, direction: Direction) -> bool {
    if headers.is_icmp() {
        return false;
    }
    let remote = match direction {
        Direction::Ingress => headers.source,
        Direction::Egress => headers.destination,
    };
    let class = direction as u8;
    let protocol = headers.protocol;
    let port = headers.destination_port;
    match headers.family() {
        Family::V4 => FAILSAFES_V4.get(slot(generation)).is_some_and(|trie| {
            let key = FailsafeV4 {
                class,
                protocol,
                port,
                remote: remote.v4(),
            };
            trie.get(&Key::new(FAILSAFE_BITS + 32, key)).is_some()
        }),
        Family::V6 => FAILSAFES_V6.get(slot(generation)).is_some_and(|trie| {
            let key = FailsafeV6 {
                class,
                protocol,
                port,
                remote: remote.bytes,
            };
            trie.get(&Key::new(FAILSAFE_BITS + 128, key)).is_some()
        }),
    }
}

/// A function of its own: keeps its tables' keys off its caller's stack.
#[inline(never)]
fn apply_policy(endpoint: &Endpoint, headers: &Headers, origin: &Origin) -> Reason {
    let tables = match origin.direction {
        Direction::Ingress => &endpoint.tables[List::PreDnat as usize],
        Direction::Egress => &endpoint.tables[List::NormalOut as usize],
    };
    let table: &PolicyTable = match headers.family() {
        Family::V4 => &tables[Family::V4 as usize],
        Family::V6 => &tables[Family::V6 as usize],
    };
    match classify(table, headers, origin) {
        Classified::Rule(rule) => match Action::from_number(rule.action) {
            Some(Action::Allow) => Reason::RuleAllow,
            Some(Action::Deny) => Reason::RuleDeny,
            // The rows that decide have no bits for rules that only log.
            Some(_) | None => Reason::BrokenTable,
        },
        Classified::NoMatch if table.flags & TABLE_DEFAULT_DENY != 0 => Reason::EndpointDefault,
        Classified::NoMatch => Reason::NoMatch,
        Classified::Broken => Reason::BrokenTable,
    }
}
