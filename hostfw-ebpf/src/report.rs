//! What the programs tell user space: counters, and events one by one.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
};
use hostfw_common::{
    counter::{self, Checkpoint, CounterBlock, Outcome, ReasonCounter, StagedKey},
    endpoint::EndpointId,
    event::NO_REASON,
    limits::DENIALS_PER_SECOND,
    policy::{Action, PolicyId, RuleEntry},
    stage::List,
    verdict::{Reason, Verdict},
};

use crate::{
    maps::{self, COUNTERS, EVENTS, STAGED},
    parse::{Headers, WideAddress},
    trial,
};

/// Counts a packet, reports it if it is dropped, and gives the reason for what is
/// to become of it: where nothing is enforced, it is dropped for none. If it is
/// dropped, `origin` says where.
#[inline(always)]
pub(crate) fn count(
    observes: bool,
    checkpoint: Checkpoint,
    reason: Reason,
    bytes: u64,
    origin: &Origin,
    headers: &Headers,
) -> Reason {
    trial::counted(checkpoint, reason);
    let (outcome, becomes) = match reason.verdict() {
        Verdict::Drop if observes => (Outcome::Observed, Reason::Observed),
        Verdict::Drop | Verdict::Pass => (Outcome::Enforced, reason),
    };
    if let Some(counter) = COUNTERS.get_ptr_mut(counter::slot(outcome, checkpoint, reason)) {
        // SAFETY: this CPU's own slot; programs at one hook do not interrupt
        // each other, and a count lost to another hook's does no harm.
        unsafe {
            (*counter).decided.packets += 1;
            (*counter).decided.bytes += bytes;
            if matches!(becomes.verdict(), Verdict::Drop) {
                dropped(&mut *counter, origin, headers, reason);
            }
        }
    }
    becomes
}

/// Reports a packet that is dropped, unless there are too many.
///
/// Most of a flood ends here, so that is decided by what has been counted just
/// now, and the clock is a word in memory: it is read once for each of its ticks.
#[inline(always)]
fn dropped(counter: &mut ReasonCounter, origin: &Origin, headers: &Headers, reason: Reason) {
    if counter.left == 0 && counter.jiffy == jiffy() && counter.kinds & kind(origin, headers) != 0 {
        counter.hidden += 1;
    } else {
        hostfw_dropped(counter, origin, headers, reason as u8);
    }
}

/// The lower half of the number of timer ticks; how long one lasts is the kernel's
/// affair. The kernel puts a load in the place of the call (Linux 5.6).
#[inline(always)]
fn jiffy() -> u32 {
    // SAFETY: takes nothing, gives a number.
    unsafe { bpf_jiffies64() as u32 }
}

/// The bit of a packet's kind. Those that differ in something that an
/// administrator looks for have different ones, mostly.
#[inline(always)]
fn kind(origin: &Origin, headers: &Headers) -> u64 {
    let port = u16::from_ne_bytes(headers.destination_port);
    let what = u64::from(origin.rule)
        | u64::from(headers.protocol) << 24
        | u64::from(port) << 32
        | u64::from(origin.interface) << 48;
    // As in `remember`: the highest bits depend on all others.
    1 << (what.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// [`dropped`], where the packet may have to be reported. Global: see
/// [`crate::judge`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_dropped(
    counter: *mut ReasonCounter,
    origin: *const Origin,
    headers: *const Headers,
    reason: u8,
) -> u32 {
    const SECOND: u64 = 1_000_000_000;
    // SAFETY: `dropped`, the only caller, hands in references.
    let (counter, origin, headers) =
        unsafe { (counter.as_mut(), origin.as_ref(), headers.as_ref()) };
    let (Some(counter), Some(origin), Some(headers)) = (counter, origin, headers) else {
        return 0;
    };
    let jiffy = jiffy();
    if counter.jiffy != jiffy {
        counter.jiffy = jiffy;
        // SAFETY: takes nothing, gives a number.
        let now = unsafe { bpf_ktime_get_ns() };
        if now.saturating_sub(counter.since) >= SECOND {
            counter.since = now;
            counter.kinds = 0;
            counter.left = DENIALS_PER_SECOND;
        }
    }
    let kind = kind(origin, headers);
    let shown = if counter.left > 0 {
        counter.left -= 1;
        true
    } else {
        counter.kinds & kind == 0
    };
    counter.kinds |= kind;
    if !shown || !event(origin, headers, decider(origin, reason), reason) {
        counter.hidden += 1;
    }
    0
}

/// Stands for no rule.
static NO_RULE: RuleEntry = RuleEntry {
    policy: PolicyId { number: 0 },
    index: 0,
    action: 0,
    direction: 0,
    next: 0,
    _pad: 0,
};

/// What has dropped a packet for a reason: the rule that decided last, if it is
/// one that a rule gives.
#[inline(always)]
fn decider(origin: &Origin, reason: u8) -> &'static RuleEntry {
    let by_a_rule = matches!(
        Reason::from_number(reason),
        Some(Reason::RuleDeny | Reason::UntrackedDeny | Reason::TierDefault)
    );
    if !by_a_rule {
        return &NO_RULE;
    }
    maps::rule(origin.generation, origin.rule).unwrap_or(&NO_RULE)
}

/// Where a list of rules is looked at.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Origin {
    pub(crate) generation: u64,
    pub(crate) interface: u32,
    pub(crate) endpoint: EndpointId,
    pub(crate) list: List,
    /// Asked by a netfilter program, not by one at the wire.
    pub(crate) at_netfilter: bool,
    /// An earlier hook has judged the same and told of it.
    pub(crate) quiet: bool,
    /// Nothing is enforced.
    pub(crate) observes: bool,
    /// Length of the packet.
    pub(crate) bytes: u32,
    /// Where the list's rules are counted: set when the list is asked.
    pub(crate) counters: CounterBlock,
    /// The number, among all rules of the generation, of the one that has decided
    /// in the list that was asked last; 0 if none has.
    pub(crate) rule: u32,
}

/// Reports that a rule matched that has something to tell: one with action Log
/// or of a staged policy, whose packets are counted, too.
#[inline(always)]
pub(crate) fn rule(origin: &Origin, headers: &Headers, rule: &RuleEntry) {
    hostfw_report(origin, headers, rule, NO_REASON);
}

/// Reports that the packet would have been dropped if policy were enforced; the
/// rule is the one that would have done it, if one would.
#[inline(always)]
pub(crate) fn denied(origin: &Origin, headers: &Headers, reason: Reason, rule: Option<&RuleEntry>) {
    let rule = rule.map_or(core::ptr::null(), core::ptr::from_ref);
    hostfw_report(origin, headers, rule, reason as u8);
}

/// [`rule`] and [`denied`], global: see [`crate::judge`]. Their callers have no
/// room on the stack for it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hostfw_report(
    origin: *const Origin,
    headers: *const Headers,
    rule: *const RuleEntry,
    reason: u8,
) -> u32 {
    // SAFETY: the two callers hand in references, and null for no rule.
    let (origin, headers, rule) = unsafe { (origin.as_ref(), headers.as_ref(), rule.as_ref()) };
    if let (Some(origin), Some(headers)) = (origin, headers) {
        let rule = rule.unwrap_or(&NO_RULE);
        if reason == NO_REASON && rule.action != Action::Log as u8 {
            count_staged(origin, rule);
        }
        event(origin, headers, rule, reason);
    }
    0
}

/// What a count begins with. Not on the stack, which has no room for it.
static FIRST: u64 = 1;

#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a value is one more on the stack"
)]
fn count_staged(origin: &Origin, rule: &RuleEntry) {
    let key = StagedKey {
        generation: origin.generation as u32,
        endpoint: origin.endpoint,
        policy: rule.policy,
        index: rule.index,
        list: origin.list as u8,
        action: rule.action,
    };
    if let Some(packets) = STAGED.get_ptr_mut(key) {
        // SAFETY: as in `count`.
        unsafe { *packets += 1 };
    } else {
        // Another CPU may be first: then this packet is lost to the count.
        let _ = STAGED.insert(key, &FIRST, u64::from(BPF_NOEXIST));
    }
}

/// Lost if nobody reads the ring buffer and it is full: then it says false.
#[inline(always)]
fn event(origin: &Origin, headers: &Headers, rule: &RuleEntry, reason: u8) -> bool {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return false;
    };
    let event = entry.as_mut_ptr();
    // Field by field, since the stack has no room for an event.
    // SAFETY: the reserved bytes are those of an event, and all of them are
    // written.
    unsafe {
        // Exact, and to be had in all programs: events are rare.
        (*event).time = bpf_ktime_get_ns();
        (*event).generation = origin.generation;
        (*event).interface = origin.interface;
        (*event).endpoint = origin.endpoint;
        (*event).rule = *rule;
        // In words: to copy bytes, the compiler calls a function.
        let words = |address: WideAddress| {
            let [high, low] = address.wide_words();
            [
                high as u32,
                (high >> 32) as u32,
                low as u32,
                (low >> 32) as u32,
            ]
        };
        let (source, destination) = (&raw mut (*event).source, &raw mut (*event).destination);
        source.cast::<[u32; 4]>().write(words(headers.source));
        destination
            .cast::<[u32; 4]>()
            .write(words(headers.destination));
        (*event).source_port = if headers.is_icmp() {
            [0; 2]
        } else {
            headers.source_port
        };
        (*event).destination_port = headers.destination_port;
        (*event).protocol = headers.protocol;
        (*event).family = headers.family;
        (*event).direction = origin.list.direction() as u8;
        (*event).list = origin.list as u8;
        (*event).reason = reason;
        (*event).outcome = if origin.observes {
            Outcome::Observed as u8
        } else {
            Outcome::Enforced as u8
        };
        (*event)._pad = [0; 2];
    }
    entry.submit(0);
    true
}
