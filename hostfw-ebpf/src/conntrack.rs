//! Flows: which packets follow an earlier decision.
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "by value, keys would be copied, and the stack has no room"
)]

use aya_ebpf::{Global, bindings::BPF_ANY, helpers::generated::bpf_ktime_get_coarse_ns};
use hostfw_common::{
    conntrack::{
        FLOW_ANSWERED, FLOW_DENIED, FLOW_FIN_ANSWER, FLOW_FIN_OPENER, FLOW_RESET, FLOW_RESET_HERE,
        Flow, FlowKey, FragmentKey, Idle, STAMP_INTERVAL_NS, timeout,
    },
    counter::Checkpoint,
    endpoint::Family,
    trial::{TRACKED_ESTABLISHED, TRACKED_NEW},
    verdict::Direction,
};

use crate::{
    filter,
    maps::{CONFIRMED, FRAGMENTS, HALF_OPEN},
    packet::Source,
    parse::{self, Headers, Parsed, protocol},
    trial,
};

/// See [`hostfw_common::names::TIMEOUTS`]. One by one, since a program wants
/// only one of them.
#[unsafe(no_mangle)]
static TIMEOUTS: [Global<u64>; Idle::COUNT] = [const { Global::new(0) }; Idle::COUNT];

/// What conntrack knows of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Tracked {
    /// Of a flow that both sides have sent in.
    Established = 0,
    /// An ICMP error about a known flow.
    Related = 1,
    /// Of no flow that policy need not see.
    New = 2,
    /// Of no possible flow.
    Invalid = 3,
    /// An answer in a flow that policy would have prevented ([`FLOW_DENIED`]), or
    /// an ICMP error about it.
    Denied = 4,
}

/// Nanoseconds of the coarse monotonic clock: exact to a tick, and cheap.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: takes nothing, gives a number.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Whether a flow is not forgotten yet.
#[inline(always)]
fn is_alive(flow: &Flow, protocol: u8, confirmed: bool, now: u64) -> bool {
    let timeout = TIMEOUTS[flow.idle(protocol, confirmed) as usize].load();
    flow.is_alive(timeout, now)
}

mod tcp {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const ACK: u8 = 0x10;
    pub(super) const URG: u8 = 0x20;
    pub(super) const ECE: u8 = 0x40;
    pub(super) const CWR: u8 = 0x80;

    /// Whether a segment can have these flags: the combinations that Linux
    /// takes for valid (net/netfilter/nf_conntrack_proto_tcp.c,
    /// `tcp_valid_flags`).
    #[inline(always)]
    pub(super) fn valid(flags: u8) -> bool {
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        matches!(
            flags & !(PSH | ECE | CWR),
            SYN | SYN_URG | SYN_ACK | RST | RST_ACK | FIN_ACK | FIN_ACK_URG | ACK | ACK_URG
        )
    }
}

/// ICMP messages that are queries or their answers, as `(request, reply)`.
mod icmp {
    use hostfw_common::endpoint::Family;

    /// The request's type if `kind` is a query's, and whether it is the
    /// request (net/netfilter/nf_conntrack_proto_icmp.c and _icmpv6.c).
    #[inline(always)]
    pub(super) fn query(family: Family, kind: u8) -> Option<(u8, bool)> {
        match (family, kind) {
            (Family::V4, 8 | 13 | 15 | 17) | (Family::V6, 128) => Some((kind, true)),
            (Family::V4, 0) => Some((8, false)),
            (Family::V4, 14) => Some((13, false)),
            (Family::V4, 16) => Some((15, false)),
            (Family::V4, 18) => Some((17, false)),
            (Family::V6, 129) => Some((128, false)),
            _ => None,
        }
    }

    /// Whether the message is an error, which quotes a packet (RFC 1122
    /// section 3.2.2, RFC 4443 section 2.1).
    #[inline(always)]
    pub(super) fn is_error(family: Family, kind: u8) -> bool {
        match family {
            Family::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
            Family::V6 => kind < 128,
        }
    }
}

/// The key of a packet's flow; `None` if the packet is of a kind that makes no
/// flows.
#[inline(always)]
pub(crate) fn key(headers: &Headers, direction: Direction) -> Option<FlowKey> {
    let (source_port, destination_port) = if headers.is_icmp() {
        let (request, is_request) = icmp::query(headers.family(), headers.destination_port[0])?;
        if is_request {
            (headers.source_port, [request, 0])
        } else {
            ([request, 0], headers.source_port)
        }
    } else {
        (headers.source_port, headers.destination_port)
    };
    let (source, destination) = (
        headers.source.wide_words(),
        headers.destination.wide_words(),
    );
    let (remote, local, remote_port, local_port) = match direction {
        Direction::Ingress => (source, destination, source_port, destination_port),
        Direction::Egress => (destination, source, destination_port, source_port),
    };
    Some(FlowKey::compose(
        remote,
        local,
        remote_port,
        local_port,
        headers.protocol,
    ))
}

/// Whether the packet can be the first of its flow. All can but the answers to
/// ICMP queries.
#[inline(always)]
fn can_open(headers: &Headers) -> bool {
    !headers.is_icmp()
        || matches!(
            icmp::query(headers.family(), headers.destination_port[0]),
            Some((_, true))
        )
}

/// Whether the packet asks for a new connection.
#[inline(always)]
fn is_syn(headers: &Headers) -> bool {
    headers.protocol == protocol::TCP && headers.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Whether the packet ends a connection at once.
#[inline(always)]
fn is_reset(headers: &Headers) -> bool {
    headers.protocol == protocol::TCP && headers.tcp_flags & tcp::RST != 0
}

const RESET: u8 = FLOW_RESET | FLOW_RESET_HERE;
/// Some sign that the flow is about to end, or has ended.
const ENDING: u8 = FLOW_FIN_OPENER | FLOW_FIN_ANSWER | RESET;

/// Whether the packet asks for a new connection in the place of one that ends.
#[inline(always)]
fn replaces(headers: &Headers, flow: &Flow) -> bool {
    is_syn(headers) && flow.state & ENDING != 0
}

/// The state of a TCP flow after a segment from its opener or its answerer.
#[inline(always)]
fn next_state(state: u8, headers: &Headers, direction: Direction, from_opener: bool) -> u8 {
    if headers.protocol != protocol::TCP {
        return state;
    }
    let flags = headers.tcp_flags;
    if flags & tcp::RST != 0 {
        return state
            | match direction {
                Direction::Ingress => FLOW_RESET,
                Direction::Egress => FLOW_RESET_HERE,
            };
    }
    // A reset with a wrong sequence number ends nothing: if more follows, the
    // flow goes on. Unless it was the node's, which knows its own numbers: then
    // the other side cannot bring the flow back to life.
    let state = state
        & match direction {
            Direction::Ingress => !FLOW_RESET,
            Direction::Egress => !RESET,
        };
    if flags & tcp::FIN == 0 {
        state
    } else if from_opener {
        state | FLOW_FIN_OPENER
    } else {
        state | FLOW_FIN_ANSWER
    }
}

/// Whether the packet quotes another one, of which more bytes must be readable
/// than of the packet's own headers.
#[inline(always)]
pub(crate) fn quotes(headers: &Headers) -> bool {
    headers.is_icmp() && icmp::is_error(headers.family(), headers.destination_port[0])
}

/// What is known of the flow that an ICMP error is about; `None` if the packet
/// is none.
#[inline(always)]
pub(crate) fn quoted(
    packet: &impl Source,
    headers: &Headers,
    direction: Direction,
    now: impl Fn() -> u64,
) -> Option<Tracked> {
    quotes(headers).then(|| track_error(packet, headers, direction, now()))
}

/// Looks a packet up, and brings its flow up to date. `quoted` as the function
/// of that name says.
#[inline(always)]
pub(crate) fn track(headers: &Headers, quoted: Option<Tracked>, direction: Direction) -> Tracked {
    match (trial::tracked(), quoted) {
        (Some(tracked), _) => given(tracked),
        (None, Some(tracked)) => tracked,
        (None, None) => match untold(headers, direction) {
            Some(tracked) => tracked,
            None => hostfw_track_flow(headers, direction),
        },
    }
}

/// What is known of a packet without a look into the tables of flows; `None` if
/// they must be asked. Most packets of a flood have no flow: these are spared a
/// call.
#[inline(always)]
fn untold(headers: &Headers, direction: Direction) -> Option<Tracked> {
    if is_impossible(headers) {
        return Some(Tracked::Invalid);
    }
    match key(headers, direction) {
        Some(key) if filter::may_know(key.words()) => None,
        Some(_) | None => Some(Tracked::New),
    }
}

/// Whether the packet has flags that no segment can have.
#[inline(always)]
fn is_impossible(headers: &Headers) -> bool {
    headers.protocol == protocol::TCP && !tcp::valid(headers.tcp_flags)
}

/// Looks a packet up at a hook behind the one that brings its flow up to date:
/// changes nothing. The headers are those that the packet has on the wire.
#[inline(always)]
pub(crate) fn known(
    packet: &impl Source,
    headers: &Headers,
    direction: Direction,
    now: u64,
) -> Tracked {
    match (trial::tracked(), quoted(packet, headers, direction, || now)) {
        (Some(tracked), _) => given(tracked),
        (None, Some(tracked)) => tracked,
        (None, None) => hostfw_known_flow(headers, direction, now),
    }
}

/// What a test run is told of a packet's flow.
#[inline(always)]
const fn given(tracked: u8) -> Tracked {
    match tracked {
        TRACKED_NEW => Tracked::New,
        TRACKED_ESTABLISHED => Tracked::Established,
        _ => Tracked::Invalid,
    }
}

/// Whether a packet belongs to the flow that its key has found. ICMP queries
/// come from the side that opened it, and answers from the other: an
/// identifier may be any number, so also the one that stands for a request, and
/// then the keys of both sides' queries are the same.
#[inline(always)]
fn fits(headers: &Headers, from_opener: bool) -> bool {
    !headers.is_icmp() || can_open(headers) == from_opener
}

/// [`look_up`] of what is not [`untold`], global: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_track_flow(headers: *const Headers, direction: Direction) -> Tracked {
    // SAFETY: `track`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return Tracked::New;
    };
    look_up(headers, direction, now, true)
}

/// [`look_up`] that changes nothing, likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_known_flow(
    headers: *const Headers,
    direction: Direction,
    now: u64,
) -> Tracked {
    // SAFETY: `known`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return Tracked::New;
    };
    // What is judged at netfilter has passed the wire: the filter would know it.
    if is_impossible(headers) {
        return Tracked::Invalid;
    }
    look_up(headers, direction, || now, false)
}

/// `now` is asked only if there is a flow: most packets of a flood have none.
/// Netfilter programs have another clock than those at the wire.
#[inline(always)]
fn look_up(
    headers: &Headers,
    direction: Direction,
    now: impl Fn() -> u64,
    update: bool,
) -> Tracked {
    let Some(key) = key(headers, direction) else {
        return Tracked::New;
    };
    if let Some(flow) = CONFIRMED.get_ptr_mut(&key) {
        let now = now();
        // SAFETY: the pointer stays valid for the run of the program; that
        // other CPUs write the same words at the same time costs at worst a
        // time stamp.
        let flow = unsafe { &mut *flow };
        if !is_alive(flow, headers.protocol, true, now) {
            if update {
                let _ = CONFIRMED.remove(&key);
            }
            return Tracked::New;
        }
        // Somebody wants a new connection in the place of one that ends: for
        // policy to say. The old one stays if it says no, for SYN and what
        // looked like an end may both be forged.
        if replaces(headers, flow) {
            return Tracked::New;
        }
        let from_opener = flow.opened_by == direction as u8;
        if !fits(headers, from_opener) {
            return Tracked::New;
        }
        let state = next_state(flow.state, headers, direction, from_opener);
        // Writing makes the line travel between CPUs: only when needed.
        if update && (state != flow.state || now.wrapping_sub(flow.last_seen) > STAMP_INTERVAL_NS) {
            flow.state = state;
            flow.last_seen = now;
        }
        return Tracked::Established;
    }
    let Some(flow) = HALF_OPEN.get_ptr_mut(&key) else {
        return Tracked::New;
    };
    let now = now();
    // SAFETY: as above.
    let flow = unsafe { &mut *flow };
    let from_opener = flow.opened_by == direction as u8;
    let answered = flow.state & FLOW_ANSWERED != 0;
    if from_opener && !answered
        || answered && replaces(headers, flow)
        || !fits(headers, from_opener)
        || !is_alive(flow, headers.protocol, false, now)
    {
        return Tracked::New;
    }
    if flow.state & FLOW_DENIED != 0 {
        return Tracked::Denied;
    }
    if !update {
        return Tracked::Established;
    }
    let state = next_state(flow.state, headers, direction, from_opener);
    // An opener outside may have forged its address, and then does not go on
    // after the answer: it may send its SYN again, and the host whose address
    // it is may reset what it knows nothing of.
    let (proven, opener) = if from_opener {
        (!is_syn(headers) && !is_reset(headers), direction)
    } else {
        (
            matches!(direction, Direction::Ingress),
            direction.opposite(),
        )
    };
    if proven {
        let confirmed = Flow::new(now, opener, state & !FLOW_ANSWERED);
        filter::mark(&key);
        let _ = CONFIRMED.insert(&key, confirmed, u64::from(BPF_ANY));
        let _ = HALF_OPEN.remove(&key);
    } else {
        let state = state | FLOW_ANSWERED;
        if state != flow.state || now.wrapping_sub(flow.last_seen) > STAMP_INTERVAL_NS {
            flow.state = state;
            flow.last_seen = now;
        }
    }
    Tracked::Established
}

/// An ICMP error belongs to the flow of the packet that it quotes, which went
/// the other way: so it is for the one who sent that.
#[inline(never)]
fn track_error(packet: &impl Source, headers: &Headers, direction: Direction, now: u64) -> Tracked {
    let mut quoted = Headers::empty(packet.veil());
    match parse::parse_quoted(packet, headers, &mut quoted) {
        Parsed::Ip => {}
        Parsed::NotIp | Parsed::Truncated | Parsed::Malformed => return Tracked::Invalid,
    }
    if matches!(quoted.fragment(), parse::Fragment::Later)
        || quoted.source.words() != headers.destination.words()
    {
        return Tracked::Invalid;
    }
    let Some(key) = key(&quoted, direction.opposite()) else {
        return Tracked::Invalid;
    };
    // SAFETY: read only, while the program runs.
    let confirmed = unsafe { CONFIRMED.get(&key) };
    if confirmed.is_some_and(|flow| is_alive(flow, quoted.protocol, true, now)) {
        return Tracked::Related;
    }
    // SAFETY: as above.
    let half_open = unsafe { HALF_OPEN.get(&key) };
    match half_open {
        Some(flow)
            if (flow.opened_by == direction.opposite() as u8
                || flow.state & FLOW_ANSWERED != 0)
                && is_alive(flow, quoted.protocol, false, now) =>
        {
            if flow.state & FLOW_DENIED == 0 {
                Tracked::Related
            } else {
                Tracked::Denied
            }
        }
        Some(_) | None => Tracked::Invalid,
    }
}

/// What the packet that opens a flow is to be remembered for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Opening {
    /// Policy has allowed it.
    Allowed = 0,
    /// Policy would have denied it, but nothing is enforced.
    Denied = 1,
    /// The forward hook has judged it, and says whether it would have denied it.
    Judged = 2,
}

/// Remembers a packet that passes and opens a flow, so that an answer is known
/// as one.
#[inline(always)]
pub(crate) fn record(headers: &Headers, direction: Direction, now: u64, opening: Opening) -> u32 {
    hostfw_record(headers, direction, now, opening as u32)
}

/// [`record`], global: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_record(
    headers: *const Headers,
    direction: Direction,
    now: u64,
    opening: u32,
) -> u32 {
    // SAFETY: `record`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return 0;
    };
    if trial::tracked().is_some() {
        return 0;
    }
    let Some(key) = key(headers, direction) else {
        return 0;
    };
    if !can_open(headers) {
        return 0;
    }
    let denied = opening == Opening::Denied as u32;
    let may_be_known = filter::may_know_key(&key);
    if may_be_known
        && denied
        // SAFETY: read only, while the program runs.
        && unsafe { CONFIRMED.get(&key) }.is_some_and(|flow| !replaces(headers, flow))
    {
        // Untracked policy asks nobody whether there is a flow.
        return 0;
    }
    if may_be_known && is_syn(headers) {
        // Of a flow that ends, see `track_flow`: the new one is none of it.
        let _ = CONFIRMED.remove(&key);
    }
    let opened_by = direction as u8;
    let state = next_state(0, headers, direction, true) | if denied { FLOW_DENIED } else { 0 };
    if may_be_known && let Some(flow) = HALF_OPEN.get_ptr_mut(&key) {
        // SAFETY: the pointer stays valid for the run of the program.
        let flow = unsafe { &mut *flow };
        if flow.opened_by == opened_by {
            // What was seen of an earlier flow says nothing of this one.
            if denied && flow.state & FLOW_ANSWERED != 0 && !replaces(headers, flow) {
                // As above.
                return 0;
            }
            let anew = is_syn(headers) || !is_alive(flow, headers.protocol, false, now);
            let judged = if opening == Opening::Judged as u32 {
                flow.state & FLOW_DENIED
            } else {
                state & FLOW_DENIED
            };
            let state = if anew { state } else { flow.state };
            let state = state & !FLOW_DENIED | judged;
            if state != flow.state || now.wrapping_sub(flow.last_seen) > STAMP_INTERVAL_NS {
                flow.state = state;
                flow.last_seen = now;
            }
            return 0;
        }
    }
    let flow = Flow::new(now, direction, state);
    filter::mark(&key);
    let _ = HALF_OPEN.insert(&key, flow, u64::from(BPF_ANY));
    1
}

/// How a packet stands to a flow that policy would have prevented.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Denied {
    /// There is none.
    No = 0,
    /// It goes the way of the packet that opened it.
    Opens = 1,
    /// It goes the other way.
    Answers = 2,
}

/// Whether the packet's flow is one that policy would have prevented, whatever
/// else is known of it. The headers are those that it was recorded with.
#[inline(always)]
pub(crate) fn denied(headers: &Headers, direction: Direction, now: u64) -> Denied {
    match hostfw_denied(headers, direction, now) {
        1 => Denied::Opens,
        2 => Denied::Answers,
        _ => Denied::No,
    }
}

/// [`denied`], global: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_denied(headers: *const Headers, direction: Direction, now: u64) -> u32 {
    // SAFETY: `denied`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return Denied::No as u32;
    };
    let Some(key) = key(headers, direction) else {
        return Denied::No as u32;
    };
    if !filter::may_know_key(&key) {
        return Denied::No as u32;
    }
    // SAFETY: read only, while the program runs.
    let Some(flow) = (unsafe { HALF_OPEN.get(&key) }) else {
        return Denied::No as u32;
    };
    if flow.state & FLOW_DENIED == 0 || !is_alive(flow, headers.protocol, false, now) {
        Denied::No as u32
    } else if flow.opened_by == direction as u8 {
        Denied::Opens as u32
    } else {
        Denied::Answers as u32
    }
}

/// Forgets that policy would have prevented the packet's flow: now it allows it.
#[inline(always)]
pub(crate) fn forgive(headers: &Headers, direction: Direction) {
    if let Some(key) = key(headers, direction) {
        let _ = HALF_OPEN.remove(&key);
    }
}

#[inline(always)]
fn fragment_key(headers: &Headers, checkpoint: Checkpoint) -> FragmentKey {
    FragmentKey {
        source: *headers.source,
        destination: *headers.destination,
        identification: headers.identification,
        protocol: match headers.family() {
            Family::V4 => headers.protocol,
            Family::V6 => 0,
        },
        checkpoint: checkpoint as u8,
        _pad: [0; 2],
    }
}

/// Remembers that the first fragment of a datagram was allowed.
#[inline(always)]
pub(crate) fn record_fragment(headers: &Headers, checkpoint: Checkpoint, now: u64) -> u32 {
    hostfw_record_fragment(headers, checkpoint, now)
}

/// [`record_fragment`], global: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_record_fragment(
    headers: *const Headers,
    checkpoint: Checkpoint,
    now: u64,
) -> u32 {
    // SAFETY: `record_fragment`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return 0;
    };
    let key = fragment_key(headers, checkpoint);
    let _ = FRAGMENTS.insert(key, now, u64::from(BPF_ANY));
    0
}

/// Whether the first fragment of this later one's datagram was allowed.
#[inline(always)]
pub(crate) fn follows_fragment(headers: &Headers, checkpoint: Checkpoint, now: u64) -> bool {
    hostfw_follows_fragment(headers, checkpoint, now)
}

/// [`follows_fragment`], global: see [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_follows_fragment(
    headers: *const Headers,
    checkpoint: Checkpoint,
    now: u64,
) -> bool {
    // SAFETY: `follows_fragment`, the only caller, hands in a reference.
    let Some(headers) = (unsafe { headers.as_ref() }) else {
        return false;
    };
    let key = fragment_key(headers, checkpoint);
    // SAFETY: read only, while the program runs.
    let seen = unsafe { FRAGMENTS.get(key) };
    seen.is_some_and(|at| now.wrapping_sub(*at) < timeout::FRAGMENT || *at > now)
}
