//! The programs at netfilter's hooks, and the order of their checks.
//!
//! Packets are here after routing and DNAT, and have been judged where they
//! came in from the wire. `hostfw_local_in` sees what is for a local process,
//! `hostfw_forward` what the host forwards, before SNAT.
//!
//! 1. Packets of interfaces whose endpoint does not want to be judged here pass.
//! 2. What cannot be parsed is dropped; a later fragment follows the first one;
//!    neighbour discovery passes.
//! 3. Established and related packets pass.
//! 4. What untracked or pre-DNAT policy has allowed on the wire passes, and so
//!    do tunnels for this host.
//! 5. What is for this host is judged by normal policy; what is forwarded by
//!    forward policy of the interface that it came in through.
//! 6. Forwarded packets are judged by forward policy of the interface that
//!    they go out through, too, whatever was allowed before.
//! 7. What passes opens a flow, under the addresses that it had on the wire.
//!
//! aya has no such programs: their section is that of others, and the agent
//! loads them itself.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext, Global,
    cty::c_void,
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel},
};
use aya_log_ebpf::debug;
use hostfw_common::{
    conntrack::Address,
    counter::Checkpoint,
    endpoint::{Endpoint, FLAG_NETFILTER, Family},
    layout::Layout,
    stage::List,
    verdict::{Direction, Reason, Verdict},
};

use crate::{
    conntrack::{self, Tracked},
    judge,
    maps::generation,
    packet::{SocketBuffer, Source as _},
    parse::{self, Fragment, Headers, Parsed},
    report::{self, Origin},
    trial,
};

/// See [`hostfw_common::names::LAYOUT`].
#[unsafe(no_mangle)]
static LAYOUT: Global<Layout> = Global::new(Layout {
    hook_state_in: 0,
    hook_state_out: 0,
    device_index: 0,
    packet_length: 0,
    packet_entry: 0,
    entry_tuples: 0,
    tuple_size: 0,
    source: 0,
    source_port: 0,
    destination: 0,
    destination_port: 0,
});

/// `NF_DROP` and `NF_ACCEPT` of linux/netfilter.h.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;

/// `struct bpf_nf_ctx` of linux/netfilter.h: all that the kernel passes in.
#[repr(C)]
struct Context {
    state: usize,
    packet: usize,
}

/// Judges what is for this host.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn hostfw_local_in(context: *mut Context) -> i32 {
    run(context, Checkpoint::LocalIn)
}

/// Judges what the host forwards.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn hostfw_forward(context: *mut Context) -> i32 {
    run(context, Checkpoint::Forward)
}

/// For the log.
struct LogContext(*mut Context);

impl EbpfContext for LogContext {
    fn as_ptr(&self) -> *mut c_void {
        self.0.cast()
    }
}

/// What the hook knows of a packet without looking into it.
struct Hook {
    checkpoint: Checkpoint,
    generation: u64,
    now: u64,
    in_interface: u32,
    out_interface: u32,
    bytes: u32,
    entry: Entry,
}

/// The entry that the kernel's own connection tracking has for the packet's
/// flow (`struct nf_conn`).
#[derive(Clone, Copy)]
struct Entry {
    /// 0: it has none, because no hook of the namespace tracks connections, or
    /// the packet belongs to none.
    address: usize,
    /// The packet goes the way of the flow's answers.
    is_reply: bool,
    /// The packet is an ICMP error about the flow.
    is_related: bool,
}

#[inline(always)]
fn run(context: *mut Context, checkpoint: Checkpoint) -> i32 {
    // SAFETY: the context is the one that the kernel passed in.
    let (state, packet) = unsafe { ((*context).state, (*context).packet) };
    let hook = Hook::new(checkpoint, state, packet);
    let coming = governed(hook.generation, hook.in_interface);
    let going = match checkpoint {
        Checkpoint::Forward => governed(hook.generation, hook.out_interface),
        Checkpoint::LocalIn | Checkpoint::WireIn | Checkpoint::WireOut => None,
    };
    if coming.is_none() && going.is_none() {
        return ACCEPT;
    }
    let mut headers = Headers::EMPTY;
    let reason = judge(&hook, packet, coming, going, &mut headers);
    report::count(checkpoint, reason, u64::from(hook.bytes));
    debug!(
        &LogContext(context),
        "netfilter: checkpoint {} interfaces {} {} protocol {} reason {}",
        checkpoint as u8,
        hook.in_interface,
        hook.out_interface,
        headers.protocol,
        reason as u8
    );
    match reason.verdict() {
        Verdict::Pass => ACCEPT,
        Verdict::Drop => DROP,
    }
}

/// The endpoint of an interface, if its packets are judged here.
#[inline(always)]
fn governed(generation: u64, interface: u32) -> Option<&'static Endpoint> {
    judge::endpoint(generation, interface).filter(|endpoint| endpoint.flags & FLAG_NETFILTER != 0)
}

#[inline(always)]
fn judge(
    hook: &Hook,
    packet: usize,
    coming: Option<&Endpoint>,
    going: Option<&Endpoint>,
    headers: &mut Headers,
) -> Reason {
    let mut dynptr = MaybeUninit::uninit();
    let Some(packet) = SocketBuffer::new(packet, hook.bytes, &mut dynptr) else {
        return Reason::Undecodable;
    };
    match parse::parse(&packet, false, headers) {
        Parsed::Ip => {}
        Parsed::NotIp => return Reason::NotIp,
        Parsed::Truncated | Parsed::Malformed => return Reason::Undecodable,
    }
    let now = hook.now;
    if matches!(headers.fragment(), Fragment::Later) {
        return if conntrack::follows_fragment(headers, hook.checkpoint, now) {
            Reason::Fragment
        } else {
            Reason::OrphanFragment
        };
    }
    if judge::is_neighbour_discovery(headers) {
        return Reason::NeighbourDiscovery;
    }
    let mut wire = hook.on_the_wire(headers);
    wire.draw(packet.veil());
    let mut opens = false;
    let mut reason = Reason::NoMatch;
    if let Some(endpoint) = coming {
        let (decided, invalid) = came_in(hook, &packet, endpoint, headers, &wire);
        reason = decided;
        opens = !invalid
            && !matches!(
                decided,
                Reason::Established | Reason::Related | Reason::UntrackedAllow | Reason::Tunnel
            );
    }
    if matches!(reason.verdict(), Verdict::Pass)
        && let Some(endpoint) = going
    {
        reason = goes_out(hook, &packet, endpoint, headers);
    }
    if matches!(reason.verdict(), Verdict::Pass) {
        if opens {
            conntrack::record(&wire, Direction::Ingress, now);
        }
        if matches!(headers.fragment(), Fragment::First) {
            conntrack::record_fragment(headers, hook.checkpoint, now);
        }
    }
    reason
}

/// Judges a packet by the endpoint of the interface that it came in through,
/// and says whether conntrack calls it invalid.
#[inline(always)]
fn came_in(
    hook: &Hook,
    packet: &SocketBuffer<'_>,
    endpoint: &Endpoint,
    headers: &Headers,
    wire: &Headers,
) -> (Reason, bool) {
    let invalid = match hook.known(packet, wire, Direction::Ingress) {
        Tracked::Established => return (Reason::Established, false),
        Tracked::Related => return (Reason::Related, false),
        Tracked::New => false,
        Tracked::Invalid => true,
    };
    let is_local = matches!(hook.checkpoint, Checkpoint::LocalIn);
    let origin = Origin {
        generation: hook.generation,
        now: hook.now,
        interface: hook.in_interface,
        endpoint: endpoint.id,
        list: if is_local {
            List::NormalIn
        } else {
            List::ForwardIn
        },
        quiet: false,
    };
    let reason = match judge::before_dnat(endpoint, wire, &origin) {
        Reason::NoMatch if is_local => judge::normal(endpoint, headers, invalid, &origin),
        // A tunnel that ends elsewhere is traffic like any other.
        Reason::NoMatch | Reason::Tunnel if !is_local => {
            judge::forward(endpoint, headers, invalid, &origin)
        }
        decided => decided,
    };
    (reason, invalid)
}

/// Judges a forwarded packet by the endpoint of the interface that it goes out
/// through. Its flow is recorded when it has gone, with the addresses that SNAT
/// gives it.
#[inline(never)]
fn goes_out(
    hook: &Hook,
    packet: &SocketBuffer<'_>,
    endpoint: &Endpoint,
    headers: &Headers,
) -> Reason {
    let mut wire = hook.on_the_way_out(headers);
    wire.draw(packet.veil());
    let invalid = match hook.known(packet, &wire, Direction::Egress) {
        Tracked::Established => return Reason::Established,
        Tracked::Related => return Reason::Related,
        Tracked::New => false,
        Tracked::Invalid => true,
    };
    let origin = Origin {
        generation: hook.generation,
        now: hook.now,
        interface: hook.out_interface,
        endpoint: endpoint.id,
        list: List::ForwardOut,
        quiet: false,
    };
    judge::forward(endpoint, headers, invalid, &origin)
}

impl Hook {
    #[inline(always)]
    fn new(checkpoint: Checkpoint, state: usize, packet: usize) -> Self {
        let layout = LAYOUT.load();
        let generation = generation();
        // SAFETY: takes nothing, gives a number. The same clock as that of the
        // other hooks, but for its exactness: this one has no other.
        let now = unsafe { bpf_ktime_get_ns() };
        if let Some(trial) = trial::given() {
            return Self {
                checkpoint,
                generation,
                now,
                in_interface: trial.in_interface,
                out_interface: trial.out_interface,
                bytes: read(packet, layout.packet_length),
                entry: Entry::NONE,
            };
        }
        Self {
            checkpoint,
            generation,
            now,
            in_interface: interface(state, layout.hook_state_in, layout.device_index),
            out_interface: interface(state, layout.hook_state_out, layout.device_index),
            bytes: read(packet, layout.packet_length),
            entry: Entry::of(packet, &layout),
        }
    }

    /// What hostfw knows of the packet's flow, or the kernel of an error: it
    /// translates the packet that an error quotes, too.
    #[inline(always)]
    fn known(&self, packet: &SocketBuffer<'_>, wire: &Headers, direction: Direction) -> Tracked {
        if self.entry.is_related && conntrack::quotes(wire) {
            return Tracked::Related;
        }
        conntrack::known(packet, wire, direction, self.now)
    }

    /// The packet's headers as they came in from the wire.
    #[inline(never)]
    fn on_the_wire(&self, headers: &Headers) -> Headers {
        let mut wire = *headers;
        if let Some(trial) = trial::given() {
            if trial.translated != 0 {
                wire.destination = trial.wire_destination;
                if !headers.is_icmp() {
                    wire.destination_port = trial.wire_destination_port;
                }
            }
            return wire;
        }
        if self.is_of_entry(headers) {
            let entry = self.entry;
            let tuple = entry.tuple(entry.is_reply, headers);
            wire.source = tuple.source;
            wire.destination = tuple.destination;
            if headers.is_icmp() {
                wire.source_port = tuple.source_port;
            } else if headers.has_ports() {
                wire.source_port = tuple.source_port;
                wire.destination_port = tuple.destination_port;
            }
        }
        wire
    }

    /// The packet's headers as they will go out to the wire, as far as that is
    /// known yet: of the first packet of a flow SNAT has not decided.
    #[inline(never)]
    fn on_the_way_out(&self, headers: &Headers) -> Headers {
        let mut wire = *headers;
        if self.is_of_entry(headers) {
            let entry = self.entry;
            let answer = entry.tuple(!entry.is_reply, headers);
            wire.source = answer.destination;
            wire.destination = answer.source;
            if headers.is_icmp() {
                wire.source_port = answer.source_port;
            } else if headers.has_ports() {
                wire.source_port = answer.destination_port;
                wire.destination_port = answer.source_port;
            }
        }
        wire
    }

    /// Whether the entry tells the packet's own addresses: not those of a packet
    /// that an error quotes.
    #[inline(always)]
    fn is_of_entry(&self, headers: &Headers) -> bool {
        self.entry.address != 0 && !conntrack::quotes(headers)
    }
}

/// One direction of an entry (`struct nf_conntrack_tuple`).
struct Tuple {
    source: Address,
    destination: Address,
    /// For ICMP queries the identifier.
    source_port: [u8; 2],
    destination_port: [u8; 2],
}

impl Entry {
    const NONE: Self = Self {
        address: 0,
        is_reply: false,
        is_related: false,
    };

    #[inline(always)]
    fn of(packet: usize, layout: &Layout) -> Self {
        /// The lowest bits of `_nfct` hold an `enum ip_conntrack_info`
        /// (linux/netfilter/nf_conntrack_common.h): the first three are of the
        /// direction of the flow's first packet, the others of the answers'.
        const INFO: usize = 7;
        const RELATED: usize = 1;
        const IS_REPLY: usize = 3;

        if layout.packet_entry == 0 {
            return Self::NONE;
        }
        let word: usize = read(packet, layout.packet_entry);
        let info = word & INFO;
        Self {
            address: word & !INFO,
            is_reply: info >= IS_REPLY,
            is_related: info == RELATED || info == RELATED + IS_REPLY,
        }
    }

    /// One direction of the entry, in which an answer's source is the first
    /// packet's destination.
    #[inline(always)]
    fn tuple(self, is_reply: bool, headers: &Headers) -> Tuple {
        let layout = LAYOUT.load();
        let at = self.address
            + layout.entry_tuples as usize
            + if is_reply {
                layout.tuple_size as usize
            } else {
                0
            };
        // The packet holds the entry: all of it can be read.
        let port = |offset| read::<[u8; 2]>(at, offset);
        Tuple {
            source: address(at, layout.source, headers),
            destination: address(at, layout.destination, headers),
            source_port: port(layout.source_port),
            destination_port: port(layout.destination_port),
        }
    }
}

#[inline(always)]
fn address(at: usize, offset: u32, headers: &Headers) -> Address {
    match headers.family() {
        Family::V4 => Address::from_v4(read(at, offset)),
        Family::V6 => Address {
            bytes: read(at, offset),
        },
    }
}

/// The index of the interface that a hook's state points to; 0 if it points to
/// none.
#[inline(always)]
fn interface(state: usize, field: u32, device_index: u32) -> u32 {
    // Of no device there is nothing to be read.
    read(read::<usize>(state, field), device_index)
}

/// Reads a field of one of the kernel's structs. The helper writes zeros where
/// nothing can be read, which is no case of its own here: the verifier would
/// follow it everywhere.
#[inline(always)]
fn read<T>(base: usize, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes as many bytes as the value has.
    let _ = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            (base + offset as usize) as *const c_void,
        )
    };
    // SAFETY: written just now, and `T` is made of integers.
    unsafe { value.assume_init() }
}
