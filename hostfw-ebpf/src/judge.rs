//! The stages, each by itself: what its fail-safes, rules and default say.
//!
//! In which order a hook asks them is the hook's affair ([`crate::wire`]).

use core::hint::black_box;

use aya_ebpf::btf_maps::lpm_trie::Key;
use hostfw_common::{
    counter::CounterBlock,
    endpoint::{
        Endpoint, FLAG_DROP_INVALID, FLAG_DROP_INVALID_PRE_DNAT, FLAG_OBSERVE, FLAG_WORKLOAD,
        Family,
    },
    failsafe::{CLASS_TUNNEL, FAILSAFE_BITS, FailsafeV4, FailsafeV6},
    limits::MAX_RULE_ENTRIES,
    policy::{Action, ListId, PolicyTable, RuleEntry, TABLE_DEFAULT_DENY},
    stage::List,
    verdict::{Direction, Reason, Verdict},
};

use crate::{
    classify::{Classified, classify, go_on},
    maps::{ENDPOINTS, FAILSAFES_V4, FAILSAFES_V6, LISTS, slot},
    parse::{Headers, protocol},
    report::{self, Origin},
    trial,
};

/// What governs an interface.
#[inline(always)]
pub(crate) fn endpoint(generation: u64, interface: u32) -> Option<&'static Endpoint> {
    let endpoints = ENDPOINTS.get(slot(generation))?;
    // SAFETY: the agent never changes the maps of a generation in force, and
    // waits until no program uses it before it fills the slot again.
    unsafe { endpoints.get(interface) }
}

/// Neighbour discovery (RFC 4861: valid only with hop limit 255, which no
/// router leaves) and multicast listener messages (RFC 2710, RFC 3810): without
/// them IPv6 does not work at all.
#[inline(always)]
pub(crate) fn is_neighbour_discovery(headers: &Headers) -> bool {
    matches!(headers.family(), Family::V6)
        && headers.protocol == protocol::ICMPV6
        && match headers.destination_port[0] {
            130..=132 | 143 => true,
            133..=136 => headers.hop_limit == 255,
            _ => false,
        }
}

/// Whether the packet is a tunnel's between two nodes. The headers are those
/// on the wire.
#[inline(always)]
pub(crate) fn is_tunnel(endpoint: &Endpoint, generation: u64, headers: &Headers) -> bool {
    // No tunnel uses TCP: spares most packets the look-up.
    headers.protocol != protocol::TCP
        && is_listed(
            endpoint,
            generation,
            headers,
            CLASS_TUNNEL,
            Side::Source,
            Side::Destination,
        )
        && is_listed(
            endpoint,
            generation,
            headers,
            CLASS_TUNNEL,
            Side::Destination,
            Side::Destination,
        )
}

/// Untracked policy, ahead of connection tracking: [`Reason::UntrackedAllow`],
/// [`Reason::UntrackedDeny`], [`Reason::NoMatch`] or [`Reason::BrokenTable`].
#[inline(always)]
pub(crate) fn untracked(
    endpoint: &Endpoint,
    table: Option<&PolicyTable>,
    headers: &Headers,
    origin: &mut Origin,
) -> Reason {
    if is_empty(endpoint, headers, origin.list) || leads_around_untracked(endpoint, headers, origin)
    {
        trial::step(origin, Reason::NoMatch, None);
        return Reason::NoMatch;
    }
    let reason = decide(endpoint, table, headers, origin);
    if reason == Reason::RuleAllow {
        Reason::UntrackedAllow
    } else if reason == Reason::RuleDeny {
        Reason::UntrackedDeny
    } else {
        reason
    }
}

/// There is no connection tracking here, so fail-safe ports need their answers
/// let through, too.
#[inline(always)]
fn leads_around_untracked(endpoint: &Endpoint, headers: &Headers, origin: &Origin) -> bool {
    let direction = origin.list.direction();
    let remote = remote(direction);
    is_listed(
        endpoint,
        origin.generation,
        headers,
        direction as u8,
        remote,
        Side::Destination,
    ) || is_listed(
        endpoint,
        origin.generation,
        headers,
        direction.opposite() as u8,
        remote,
        Side::Source,
    )
}

/// Pre-DNAT policy: [`Reason::Invalid`], [`Reason::Failsafe`] (which only leads
/// around the stage), [`Reason::RuleAllow`], [`Reason::RuleDeny`],
/// [`Reason::NoMatch`] or [`Reason::BrokenTable`].
#[inline(always)]
pub(crate) fn pre_dnat(
    endpoint: &Endpoint,
    table: Option<&PolicyTable>,
    headers: &Headers,
    invalid: bool,
    origin: &mut Origin,
) -> Reason {
    let reason = if invalid && endpoint.flags & FLAG_DROP_INVALID_PRE_DNAT != 0 {
        Reason::Invalid
    } else if is_empty(endpoint, headers, origin.list) {
        Reason::NoMatch
    } else if is_failsafe(endpoint, headers, origin) {
        Reason::Failsafe
    } else {
        return decide(endpoint, table, headers, origin);
    };
    told(headers, origin, reason, None)
}

/// What the stages ahead of DNAT say of a packet that a later hook sees, asked
/// with the headers that it had on the wire. That the first of them let it
/// through is known; this is about what they found.
///
/// - By [`Reason::UntrackedAllow`] it is final, and no flow is to be recorded.
/// - By [`Reason::Tunnel`] pre-DNAT policy did not look at it.
/// - By [`Reason::EarlierAllow`] it is final.
/// - By [`Reason::NoMatch`] the later stages decide.
/// - By a reason to drop it, policy has changed while it was on its way.
///
/// The list of `origin` does not matter. It is as before on return, but for a
/// packet to be dropped: then it is the one that says so.
#[inline(always)]
pub(crate) fn before_dnat(endpoint: &Endpoint, wire: &Headers, origin: &mut Origin) -> Reason {
    let list = origin.list;
    origin.quiet = true;
    let reason = before_dnat_quietly(endpoint, wire, origin);
    if matches!(reason.verdict(), Verdict::Pass) {
        origin.list = list;
    }
    origin.quiet = false;
    reason
}

#[inline(always)]
fn before_dnat_quietly(endpoint: &Endpoint, wire: &Headers, origin: &mut Origin) -> Reason {
    origin.list = List::UntrackedIn;
    let reason = untracked(endpoint, None, wire, origin);
    if reason != Reason::NoMatch {
        return reason;
    }
    if is_tunnel(endpoint, origin.generation, wire) {
        return Reason::Tunnel;
    }
    origin.list = List::PreDnat;
    let reason = pre_dnat(endpoint, None, wire, false, origin);
    if reason == Reason::RuleAllow {
        Reason::EarlierAllow
    } else if reason == Reason::Failsafe {
        Reason::NoMatch
    } else {
        reason
    }
}

/// Forward policy, in or out: [`Reason::Invalid`], [`Reason::RuleAllow`],
/// [`Reason::RuleDeny`], [`Reason::TierDefault`], [`Reason::NoMatch`] or
/// [`Reason::BrokenTable`]. It has no fail-safes.
#[inline(always)]
pub(crate) fn forward(
    endpoint: &Endpoint,
    headers: &Headers,
    invalid: bool,
    origin: &mut Origin,
) -> Reason {
    if invalid && endpoint.flags & FLAG_DROP_INVALID != 0 {
        return told(headers, origin, Reason::Invalid, None);
    }
    decide(endpoint, None, headers, origin)
}

/// Normal policy, in or out: [`Reason::Workload`], [`Reason::Invalid`],
/// [`Reason::Failsafe`], [`Reason::RuleAllow`], [`Reason::RuleDeny`],
/// [`Reason::TierDefault`], [`Reason::EndpointDefault`] or
/// [`Reason::BrokenTable`].
#[inline(always)]
pub(crate) fn normal(
    endpoint: &Endpoint,
    table: Option<&PolicyTable>,
    headers: &Headers,
    invalid: bool,
    origin: &mut Origin,
) -> Reason {
    let reason = if endpoint.flags & FLAG_WORKLOAD != 0 {
        Reason::Workload
    } else if invalid && endpoint.flags & FLAG_DROP_INVALID != 0 {
        Reason::Invalid
    } else if is_failsafe(endpoint, headers, origin) {
        Reason::Failsafe
    } else {
        return decide(endpoint, table, headers, origin);
    };
    told(headers, origin, reason, None)
}

/// Whether [`told`] has something to tell of rules.
#[inline(always)]
pub(crate) fn tells(origin: &Origin) -> bool {
    origin.observes || trial::given().is_some()
}

/// Tells what a stage made of a packet, and gives it back.
#[inline(always)]
fn told(headers: &Headers, origin: &Origin, reason: Reason, rule: Option<&RuleEntry>) -> Reason {
    trial::step(origin, reason, rule);
    if origin.observes && !origin.quiet && matches!(reason.verdict(), Verdict::Drop) {
        report::denied(origin, headers, reason, rule);
    }
    reason
}

/// Whether what the endpoint's policy denies passes all the same.
#[inline(always)]
pub(crate) fn observes(endpoint: &Endpoint) -> bool {
    endpoint.flags & FLAG_OBSERVE != 0
}

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Side {
    Source = 0,
    Destination = 1,
}

/// The end that is not the node's.
#[inline(always)]
const fn remote(direction: Direction) -> Side {
    match direction {
        Direction::Ingress => Side::Source,
        Direction::Egress => Side::Destination,
    }
}

/// Whether the packet goes to a fail-safe port.
#[inline(always)]
fn is_failsafe(endpoint: &Endpoint, headers: &Headers, origin: &Origin) -> bool {
    let direction = origin.list.direction();
    is_listed(
        endpoint,
        origin.generation,
        headers,
        direction as u8,
        remote(direction),
        Side::Destination,
    )
}

/// Whether the fail-safes of a class list the address of one end with the port
/// of one end.
#[inline(always)]
fn is_listed(
    endpoint: &Endpoint,
    generation: u64,
    headers: &Headers,
    class: u8,
    address: Side,
    port: Side,
) -> bool {
    // For most packets that is all.
    endpoint
        .listed
        .may_hold(class, headers.protocol, port_of(headers, port))
        && hostfw_is_listed(generation, headers, class, address as u32, port as u32)
}

/// The port of one end.
#[inline(always)]
fn port_of(headers: &Headers, side: Side) -> [u8; 2] {
    match side {
        Side::Source => headers.source_port,
        Side::Destination => headers.destination_port,
    }
}

/// [`is_listed`], global: see [`hostfw_decide`]. Of a [`Side`] the compiler
/// would know that it is 0 or 1, and the verifier would not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_is_listed(
    generation: u64,
    headers: *const Headers,
    class: u8,
    address: u32,
    port: u32,
) -> bool {
    // SAFETY: `is_listed`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return false;
    };
    if headers.is_icmp() {
        return false;
    }
    let remote = if address == Side::Source as u32 {
        headers.source
    } else {
        headers.destination
    };
    let port = if port == Side::Source as u32 {
        headers.source_port
    } else {
        headers.destination_port
    };
    let protocol = headers.protocol;
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

/// The number of a list, by the packet's family, and where it is counted.
#[inline(always)]
fn number(endpoint: &Endpoint, headers: &Headers, list: List) -> Option<(ListId, CounterBlock)> {
    // The compiler knows that it is in bounds, and would leave out the check by
    // which the verifier learns it, too.
    let index = black_box(list as usize * 2 + headers.family() as usize);
    let number = *endpoint.lists.as_flattened().get(index)?;
    Some((number, *endpoint.counters.as_flattened().get(index)?))
}

/// Whether a list has nothing to say at all.
#[inline(always)]
fn is_empty(endpoint: &Endpoint, headers: &Headers, list: List) -> bool {
    number(endpoint, headers, list).is_some_and(|(list, _)| list == ListId::EMPTY)
}

/// What a list of rules, or else its default, says. `table` is the list, where it
/// is at hand.
#[inline(always)]
fn decide(
    endpoint: &Endpoint,
    table: Option<&PolicyTable>,
    headers: &Headers,
    origin: &mut Origin,
) -> Reason {
    let Some((list, counters)) = number(endpoint, headers, origin.list) else {
        return Reason::BrokenTable;
    };
    // What is asked once more was counted before.
    origin.counters = if origin.quiet {
        CounterBlock::NONE
    } else {
        counters
    };
    let table = table.map_or(core::ptr::null(), core::ptr::from_ref);
    // Not one inside the other: the stack would not do.
    let mut decision = hostfw_decide(list.number, table, headers, origin);
    if decision == GOES_ON {
        decision = hostfw_decide_further(list.number, table, headers, origin);
    }
    origin.rule = decision >> REASON_BITS;
    Reason::from_number(decision as u8).unwrap_or(Reason::BrokenTable)
}

/// Instead of a decision: the first rule that matches decides nothing.
const GOES_ON: u32 = u32::MAX;

/// Bits of a decision that hold the reason. Above them is the number of the rule
/// among all of the generation, if a rule decided.
const REASON_BITS: u32 = 8;
const _: () = assert!(MAX_RULE_ENTRIES <= 1 << (u32::BITS - REASON_BITS));

/// [`decide`], as far as the first rule that matches: a decision, or [`GOES_ON`].
///
/// A function with an exported name: to the verifier such a function is global.
/// It looks at it once and apart from its callers, instead of once for each way
/// to each call. It takes no pointer for valid there, and knows nothing of
/// numbers in memory.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_decide(
    list: u32,
    table: *const PolicyTable,
    headers: *const Headers,
    origin: *const Origin,
) -> u32 {
    // SAFETY: `decide`, the only caller, hands in references, and null for a
    // list that is not at hand.
    let (table, headers, origin) = unsafe { (table.as_ref(), headers.as_ref(), origin.as_ref()) };
    let (Some(headers), Some(origin)) = (headers, origin) else {
        return Reason::BrokenTable as u32;
    };
    let Some(table) = table.or_else(|| self::table(list, origin)) else {
        return Reason::BrokenTable as u32;
    };
    match classify(ListId { number: list }, table, headers, origin) {
        Some(classified) => found(classified, table, headers, origin),
        None => GOES_ON,
    }
}

/// The rest of [`decide`], behind [`hostfw_decide`] and like it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_decide_further(
    list: u32,
    table: *const PolicyTable,
    headers: *const Headers,
    origin: *const Origin,
) -> u32 {
    // SAFETY: as above.
    let (table, headers, origin) = unsafe { (table.as_ref(), headers.as_ref(), origin.as_ref()) };
    let (Some(headers), Some(origin)) = (headers, origin) else {
        return Reason::BrokenTable as u32;
    };
    let Some(table) = table.or_else(|| self::table(list, origin)) else {
        return Reason::BrokenTable as u32;
    };
    let classified = go_on(ListId { number: list }, table, headers, origin);
    found(classified, table, headers, origin)
}

/// The list of this number.
#[inline(always)]
fn table(list: u32, origin: &Origin) -> Option<&'static PolicyTable> {
    LISTS.get_value(slot(origin.generation), &list)
}

/// The decision that goes with what was found in a list.
#[inline(always)]
fn found(classified: Classified, table: &PolicyTable, headers: &Headers, origin: &Origin) -> u32 {
    let mut number = 0;
    let (reason, rule) = match classified {
        Classified::Rule(action, of_all, rule) => {
            number = of_all;
            let reason = match Action::from_number(action) {
                Some(Action::Allow) => Reason::RuleAllow,
                Some(Action::Deny) => Reason::RuleDeny,
                Some(Action::TierDeny) => Reason::TierDefault,
                // These do not decide.
                Some(
                    Action::Log
                    | Action::Pass
                    | Action::Skip
                    | Action::StagedAllow
                    | Action::StagedDeny
                    | Action::StagedPass,
                )
                | None => Reason::BrokenTable,
            };
            (reason, rule)
        }
        Classified::NoMatch if table.flags & TABLE_DEFAULT_DENY != 0 => {
            (Reason::EndpointDefault, None)
        }
        Classified::NoMatch => (Reason::NoMatch, None),
        Classified::Broken => (Reason::BrokenTable, None),
    };
    told(headers, origin, reason, rule) as u32 | number << REASON_BITS
}
