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
    btf_maps::PerCpuArray,
    cty::c_void,
    helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel},
    macros::btf_map,
};
use aya_log_ebpf::debug;
use hostfw_common::{
    counter::{Checkpoint, CounterBlock},
    endpoint::{Endpoint, EndpointId, FLAG_NETFILTER, Family},
    layout::Layout,
    stage::List,
    verdict::{Direction, Reason, Verdict},
};

use crate::{
    conntrack::{self, Denied, Opening, Tracked},
    judge,
    maps::generation,
    packet::Veil,
    parse::{self, Fragment, Headers, Parsed, protocol},
    report::{self, Origin},
    socket_buffer::{Buffer, SocketBuffer},
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

/// What the programs keep of a packet while they look at it: more than there is
/// room for on the stack.
///
/// One for each CPU: packets reach the hooks with bottom halves disabled, so no
/// program here interrupts another one on its CPU. An exception are those that a
/// process has held and gives back (NFQUEUE) at an earlier priority.
pub(crate) struct Work {
    hook: Hook,
    /// As the packet is now.
    headers: Headers,
    /// As it came in from the wire.
    wire: Headers,
    /// As it will go out to the wire.
    outgoing: Headers,
    origin: Origin,
    /// Time of the packet.
    now: u64,
    buffer: Buffer,
}

#[btf_map]
static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// What the hook knows of a packet without looking into it.
struct Hook {
    checkpoint: Checkpoint,
    in_interface: u32,
    out_interface: u32,
    bytes: u32,
    entry: Entry,
}

/// The entry that the kernel's own connection tracking has for the packet's
/// flow (`struct nf_conn`).
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
    let Some(work) = WORK.get_ptr_mut(0) else {
        return DROP;
    };
    // SAFETY: this CPU's own; see `Work`.
    let work = unsafe { &mut *work };
    // SAFETY: the context is the one that the kernel passed in.
    let (state, packet) = unsafe { ((*context).state, (*context).packet) };
    work.hook.fill(checkpoint, state, packet);
    let generation = generation();
    let coming = governed(generation, work.hook.in_interface);
    let going = match checkpoint {
        Checkpoint::Forward => governed(generation, work.hook.out_interface),
        Checkpoint::LocalIn | Checkpoint::WireIn | Checkpoint::WireOut => None,
    };
    if coming.is_none() && going.is_none() {
        return ACCEPT;
    }
    work.headers = Headers::empty(Veil::new(work.hook.bytes));
    // SAFETY: takes nothing, gives a number. The clock of the other hooks, but
    // more exact: netfilter programs have no other.
    work.now = unsafe { bpf_ktime_get_ns() };
    work.origin = Origin {
        generation,
        interface: if coming.is_some() {
            work.hook.in_interface
        } else {
            work.hook.out_interface
        },
        endpoint: coming
            .or(going)
            .map_or(EndpointId { number: 0 }, |endpoint| endpoint.id),
        list: match checkpoint {
            Checkpoint::LocalIn => List::NormalIn,
            Checkpoint::Forward if coming.is_none() => List::ForwardOut,
            Checkpoint::Forward | Checkpoint::WireIn | Checkpoint::WireOut => List::ForwardIn,
        },
        at_netfilter: true,
        quiet: false,
        observes: observes(coming, going),
        bytes: work.hook.bytes,
        counters: CounterBlock::NONE,
        rule: 0,
    };
    let reason = judge(work, packet, coming, going);
    let bytes = u64::from(work.hook.bytes);
    let reason = report::count(
        observes(coming, going),
        checkpoint,
        reason,
        bytes,
        &work.origin,
        &work.headers,
    );
    debug!(
        &LogContext(context),
        "netfilter: checkpoint {} interfaces {} {} protocol {} reason {}",
        checkpoint as u8,
        work.hook.in_interface,
        work.hook.out_interface,
        work.headers.protocol,
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

/// Whether what is denied passes all the same.
#[inline(always)]
fn observes(coming: Option<&Endpoint>, going: Option<&Endpoint>) -> bool {
    // It is the same for all of a generation.
    coming.or(going).is_some_and(judge::observes)
}

#[inline(always)]
fn judge(
    work: &mut Work,
    packet: usize,
    coming: Option<&Endpoint>,
    going: Option<&Endpoint>,
) -> Reason {
    let mut dynptr = MaybeUninit::uninit();
    let (length, buffer) = (work.hook.bytes, &raw mut work.buffer);
    let Some(packet) = SocketBuffer::new(packet, length, &mut dynptr, buffer) else {
        return Reason::Undecodable;
    };
    match parse::parse_apart(&packet, false, &mut work.headers) {
        Parsed::Ip => {}
        Parsed::NotIp => return Reason::NotIp,
        Parsed::Truncated | Parsed::Malformed => return Reason::Undecodable,
    }
    let (checkpoint, now) = (work.hook.checkpoint, work.now);
    if matches!(work.headers.fragment(), Fragment::Later) {
        return if conntrack::follows_fragment(&work.headers, checkpoint, now) {
            Reason::Fragment
        } else {
            Reason::OrphanFragment
        };
    }
    if judge::is_neighbour_discovery(&work.headers) {
        return Reason::NeighbourDiscovery;
    }
    let mut opens = false;
    let mut reason = Reason::NoMatch;
    if let Some(endpoint) = coming {
        on_the_wire(work);
        (reason, opens) = came_in(work, &packet, endpoint);
    }
    if matches!(reason.verdict(), Verdict::Pass)
        && reason != Reason::Observed
        && let Some(endpoint) = going
    {
        on_the_way_out(work);
        reason = goes_out(work, &packet, endpoint);
        // What answers opens nothing.
        opens &= reason != Reason::Observed;
    }
    if observes(coming, going) && would_deny(reason) {
        if opens {
            conntrack::record(&work.wire, Direction::Ingress, now, Opening::Denied);
        }
        if going.is_some() && (opens || reason != Reason::Observed) {
            conntrack::record(&work.headers, Direction::Egress, now, Opening::Denied);
        }
    } else if matches!(reason.verdict(), Verdict::Pass) {
        if opens {
            conntrack::record(&work.wire, Direction::Ingress, now, Opening::Allowed);
        }
        if matches!(work.headers.fragment(), Fragment::First) {
            conntrack::record_fragment(&work.headers, checkpoint, now);
        }
    }
    reason
}

/// Whether the packet would not have come further, and could open a flow.
#[inline(always)]
fn would_deny(reason: Reason) -> bool {
    reason == Reason::Observed
        || reason != Reason::Invalid && matches!(reason.verdict(), Verdict::Drop)
}

/// Judges a packet by the endpoint of the interface that it came in through,
/// and says whether it is to be recorded if it passes.
#[inline(always)]
fn came_in(work: &mut Work, packet: &SocketBuffer<'_>, endpoint: &Endpoint) -> (Reason, bool) {
    let observes = judge::observes(endpoint);
    // SNAT has changed what the wire shows of a flow that was recorded here.
    if observes && answers_denied(work) {
        return (Reason::Observed, false);
    }
    // Frames from port to port of a bridge cross no wire of the bridge itself,
    // where their answers would be known.
    if work.hook.in_interface == work.hook.out_interface {
        on_the_way_out(work);
        if matches!(known(work, packet, Direction::Egress), Tracked::Established) {
            return (Reason::Established, false);
        }
    }
    let invalid = match known(work, packet, Direction::Ingress) {
        Tracked::Established => return (Reason::Established, false),
        Tracked::Related => return (Reason::Related, false),
        Tracked::New => false,
        Tracked::Invalid => true,
        Tracked::Denied if observes => return (Reason::Observed, false),
        // From before anything was enforced.
        Tracked::Denied => conntrack::quotes(&work.wire),
    };
    let is_local = matches!(work.hook.checkpoint, Checkpoint::LocalIn);
    work.origin.endpoint = endpoint.id;
    let before = judge::before_dnat(endpoint, &work.wire, &mut work.origin);
    let reason = if before == Reason::NoMatch && is_local {
        judge::normal(endpoint, None, &work.headers, invalid, &mut work.origin)
    } else if before == Reason::NoMatch || before == Reason::Tunnel && !is_local {
        // A tunnel that ends elsewhere is traffic like any other.
        judge::forward(endpoint, &work.headers, invalid, &mut work.origin)
    } else {
        before
    };
    if observes && matches!(before.verdict(), Verdict::Drop) {
        // Told and counted where it came in.
        return (Reason::Observed, !invalid);
    }
    let opens = !invalid && !matches!(reason, Reason::UntrackedAllow | Reason::Tunnel);
    (reason, opens)
}

/// Whether the packet answers a flow whose forwarding policy would have denied.
#[inline(always)]
fn answers_denied(work: &Work) -> bool {
    let (headers, now) = (&work.headers, work.now);
    matches!(work.hook.checkpoint, Checkpoint::Forward)
        && conntrack::denied(headers, Direction::Ingress, now) == Denied::Answers
}

/// Judges a forwarded packet by the endpoint of the interface that it goes out
/// through. Its flow is recorded when it has gone, with the addresses that SNAT
/// gives it.
#[inline(always)]
fn goes_out(work: &mut Work, packet: &SocketBuffer<'_>, endpoint: &Endpoint) -> Reason {
    let observes = judge::observes(endpoint);
    // What it was first seen with, before SNAT: the answers that pass all the same
    // make the flow on the wire an established one.
    let again =
        observes && conntrack::denied(&work.headers, Direction::Egress, work.now) == Denied::Opens;
    let invalid = match known(work, packet, Direction::Egress) {
        Tracked::Established if again => false,
        Tracked::Established => return Reason::Established,
        Tracked::Related => return Reason::Related,
        Tracked::New => false,
        Tracked::Invalid => true,
        Tracked::Denied if observes => return Reason::Observed,
        // From before anything was enforced.
        Tracked::Denied => conntrack::quotes(&work.outgoing),
    };
    work.origin.interface = work.hook.out_interface;
    work.origin.endpoint = endpoint.id;
    work.origin.list = List::ForwardOut;
    let reason = judge::forward(endpoint, &work.headers, invalid, &mut work.origin);
    if again && matches!(reason.verdict(), Verdict::Pass) {
        conntrack::forgive(&work.headers, Direction::Egress);
    }
    reason
}

/// What hostfw knows of the packet's flow. Of an error it is the kernel who
/// knows, if it tracks connections: it translates what an error quotes, too.
#[inline(always)]
fn known(work: &Work, packet: &SocketBuffer<'_>, direction: Direction) -> Tracked {
    let wire = match direction {
        Direction::Ingress => &work.wire,
        Direction::Egress => &work.outgoing,
    };
    if work.hook.entry.is_related && conntrack::quotes(wire) {
        return Tracked::Related;
    }
    conntrack::known(packet, wire, direction, work.now)
}

/// Finds out with which headers the packet came in from the wire.
#[inline(never)]
fn on_the_wire(work: &mut Work) {
    let (wire, headers) = (&mut work.wire, &work.headers);
    *wire = *headers;
    if let Some(trial) = trial::given() {
        if trial.translated != 0 {
            *wire.destination = trial.wire_destination;
            if !headers.is_icmp() {
                wire.destination_port = trial.wire_destination_port;
            }
        }
        return;
    }
    let entry = &work.hook.entry;
    if entry.is_of(headers) {
        let (layout, at) = (LAYOUT.load(), entry.tuple(entry.is_reply));
        entry.read_address(&mut wire.source.bytes, at, layout.source, headers);
        entry.read_address(&mut wire.destination.bytes, at, layout.destination, headers);
        if headers.is_icmp() {
            wire.source_port = read(at, layout.source_port);
        } else if entry.has_ports(headers) {
            wire.source_port = read(at, layout.source_port);
            wire.destination_port = read(at, layout.destination_port);
        }
    }
}

/// Finds out with which headers the packet will go out to the wire, as far as
/// that is known yet: of the first packet of a flow SNAT has not decided.
///
/// They are those of an answer, the other way round.
#[inline(never)]
fn on_the_way_out(work: &mut Work) {
    let (wire, headers) = (&mut work.outgoing, &work.headers);
    *wire = *headers;
    let entry = &work.hook.entry;
    if entry.is_of(headers) {
        let (layout, at) = (LAYOUT.load(), entry.tuple(!entry.is_reply));
        entry.read_address(&mut wire.source.bytes, at, layout.destination, headers);
        entry.read_address(&mut wire.destination.bytes, at, layout.source, headers);
        if headers.is_icmp() {
            // The identifier.
            wire.source_port = read(at, layout.source_port);
        } else if entry.has_ports(headers) {
            wire.source_port = read(at, layout.destination_port);
            wire.destination_port = read(at, layout.source_port);
        }
    }
}

impl Hook {
    #[inline(always)]
    fn fill(&mut self, checkpoint: Checkpoint, state: usize, packet: usize) {
        let layout = LAYOUT.load();
        self.checkpoint = checkpoint;
        self.bytes = of_kernel(packet, layout.packet_length);
        if let Some(trial) = trial::given() {
            self.in_interface = trial.in_interface;
            self.out_interface = trial.out_interface;
            self.entry = Entry {
                address: 0,
                is_reply: false,
                is_related: false,
            };
        } else {
            self.in_interface = interface(state, layout.hook_state_in, layout.device_index);
            self.out_interface = interface(state, layout.hook_state_out, layout.device_index);
            self.entry = Entry::of(packet, &layout);
        }
    }
}

impl Entry {
    #[inline(always)]
    fn of(packet: usize, layout: &Layout) -> Self {
        /// The lowest bits of `_nfct` hold an `enum ip_conntrack_info`
        /// (linux/netfilter/nf_conntrack_common.h): the first three are of the
        /// direction of the flow's first packet, the others of the answers'.
        const INFO: usize = 7;
        const RELATED: usize = 1;
        const IS_REPLY: usize = 3;

        // 0 in a kernel that tracks no connections.
        let word: usize = if layout.packet_entry == 0 {
            0
        } else {
            of_kernel(packet, layout.packet_entry)
        };
        let info = word & INFO;
        Self {
            address: word & !INFO,
            is_reply: info >= IS_REPLY,
            is_related: info == RELATED || info == RELATED + IS_REPLY,
        }
    }

    /// Whether the entry tells the packet's own addresses: not those of a packet
    /// that an error quotes.
    #[inline(always)]
    fn is_of(&self, headers: &Headers) -> bool {
        self.address != 0 && !conntrack::quotes(headers)
    }

    /// Whether the entry tells the packet's own ports: not every kernel tracks
    /// those of DCCP, UDP-Lite and SCTP. Where they are not tracked, they are 0
    /// and nothing translates them.
    #[inline(always)]
    fn has_ports(&self, headers: &Headers) -> bool {
        let (layout, at) = (LAYOUT.load(), self.tuple(self.is_reply));
        headers.has_ports()
            && (matches!(headers.protocol, protocol::TCP | protocol::UDP)
                || read::<u16>(at, layout.source_port) != 0
                || read::<u16>(at, layout.destination_port) != 0)
    }

    /// Where one direction of the entry lies (`struct nf_conntrack_tuple_hash`).
    /// An answer's source is the first packet's destination, as it is after
    /// DNAT.
    #[inline(always)]
    fn tuple(&self, is_reply: bool) -> usize {
        let layout = LAYOUT.load();
        let index = usize::from(is_reply);
        self.address + layout.entry_tuples as usize + index * layout.tuple_size as usize
    }

    /// Reads an address of the packet's family over another one.
    #[inline(always)]
    fn read_address(&self, to: &mut [u8; 16], at: usize, offset: u32, headers: &Headers) {
        match headers.family() {
            // The rest is the same for all.
            Family::V4 => read_into(&raw mut to[12], 4, at, offset),
            Family::V6 => read_into(&raw mut to[0], 16, at, offset),
        }
    }
}

/// The index of the interface that a hook's state points to; 0 if it points to
/// none.
#[inline(always)]
fn interface(state: usize, field: u32, device_index: u32) -> u32 {
    // Of no device there is nothing to be read: the kernel gives 0.
    of_kernel(of_kernel::<usize>(state, field), device_index)
}

/// Loads a field of a struct to which the kernel has passed in a pointer, or has
/// one in a struct like that.
///
/// The verifier knows the type of these structs, looks the field up by its
/// offset, and has the kernel give 0 for what cannot be read. So this is one
/// instruction, where [`read`] is a call that checks the address.
#[inline(always)]
fn of_kernel<T: Copy>(base: usize, offset: u32) -> T {
    // SAFETY: as above; the verifier refuses anything else.
    unsafe { ((base + offset as usize) as *const T).read_volatile() }
}

/// Reads a field of one of the kernel's structs.
#[inline(always)]
fn read<T>(base: usize, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    read_into(
        value.as_mut_ptr().cast(),
        size_of::<T>() as u32,
        base,
        offset,
    );
    // SAFETY: written just now, and `T` is made of integers.
    unsafe { value.assume_init() }
}

/// The helper writes zeros where nothing can be read, which is no case of its
/// own here: the verifier would follow it everywhere.
#[inline(always)]
fn read_into(to: *mut u8, length: u32, base: usize, offset: u32) {
    // SAFETY: the callers' places have this length.
    let _ = unsafe {
        bpf_probe_read_kernel(to.cast(), length, (base + offset as usize) as *const c_void)
    };
}
